package caddyhtpasswd

import "strings"

// nginxContext is where nginx has a directive or parameter.
type nginxContext string

const (
	nginxUpstream nginxContext = "upstream" // a line of an upstream block
	nginxServer   nginxContext = "server"   // a parameter of its lines `server`
	nginxProxy    nginxContext = "proxy"    // beside proxy_pass
	nginxAuth     nginxContext = "auth"     // what decides who gets in
)

// nginxDirective is a directive of nginx, or a parameter of one, that is
// written in another way here, or not at all.
type nginxDirective struct {
	context nginxContext
	name    string
	instead string // what to write: a phrase that ends an error
}

// nginxDirectives has what people who come from nginx may try in the blocks of
// htpasswd, upstream and proxy_pass. What is the same here is not in it.
var nginxDirectives = []nginxDirective{
	{nginxUpstream, "least_conn", "write 'balance least_conn' in the group"},
	{nginxUpstream, "least_time", "there is no such method here; write 'balance least_conn' in the group"},
	{nginxUpstream, "ip_hash", "write 'balance ip_hash' in the group"},
	{nginxUpstream, "hash", "write 'balance hash <key>' in the group"},
	{nginxUpstream, "random", "write 'balance random' in the group"},
	{nginxUpstream, "sticky", "write 'balance ip_hash', or 'balance hash <key>' with a key such as {cookie.session}, in the group"},
	{nginxUpstream, "queue", "write 'lb_try_duration <duration>', for which a request waits for a server"},
	{nginxUpstream, "fail_timeout", "write 'fail_duration <duration>'"},
	{nginxUpstream, "keepalive", "connections are kept open by default; to limit the idle ones write 'transport http { keepalive_idle_conns_per_host <n> }'"},
	{nginxUpstream, "keepalive_timeout", "write 'transport http { keepalive <duration> }'"},
	{nginxUpstream, "keepalive_requests", "leave it out; there is no such limit"},
	{nginxUpstream, "keepalive_time", "leave it out; there is no such limit"},
	{nginxUpstream, "resolver", "leave it out; the system's resolver is asked for each new connection"},
	{nginxUpstream, "resolver_timeout", "leave it out; to limit how long a connection may take write 'transport http { dial_timeout <duration> }'"},
	{nginxUpstream, "state", "write the servers into the group, and run 'caddy reload' after a change"},
	{nginxUpstream, "ntlm", "not supported; NTLM ties a login to a connection"},
	{nginxUpstream, "zone", "leave it out; Caddy is one process, which knows the state of every server"},

	{nginxServer, "max_fails", "write 'max_fails <n>' on a line of its own in the group, for all its servers"},
	{nginxServer, "fail_timeout", "write 'fail_duration <duration>' on a line of its own in the group, for all its servers"},
	{nginxServer, "slow_start", "write 'slow_start <duration>' on a line of its own in the group, for all its servers"},
	{nginxServer, "resolve", "leave it out; the name is looked up for each new connection"},
	{nginxServer, "service", "not supported in a group; for SRV records use reverse_proxy with 'dynamic srv'"},
	{nginxServer, "route", "leave it out; for sessions that stay with a server write 'balance hash {cookie.<name>}'"},
	{nginxServer, "drain", "leave it out; mark the server 'down' and run 'caddy reload', which lets requests under way finish"},

	{nginxProxy, "proxy_set_header", "write 'header_up <field> <value>'; Host and X-Forwarded-For are set by default"},
	{nginxProxy, "proxy_redirect", "write 'header_down Location <old> <new>'"},
	{nginxProxy, "proxy_http_version", "leave it out; connections are kept open, and WebSockets work"},
	{nginxProxy, "proxy_connect_timeout", "write 'transport http { dial_timeout <duration> }'"},
	{nginxProxy, "proxy_read_timeout", "write 'transport http { response_header_timeout <duration> }'"},
	{nginxProxy, "proxy_request_buffering", "write 'request_buffers <size>' for bodies that are to be buffered"},
	{nginxProxy, "proxy_next_upstream", "write 'lb_retry_match'; by default requests are repeated that are safe to send again"},
	{nginxProxy, "proxy_ssl_verify", "leave it out; the certificate is verified, by default with the system's authorities"},
	{nginxProxy, "proxy_ssl_trusted_certificate", "write 'transport http { tls_trust_pool file <path> }'"},
	{nginxProxy, "proxy_ssl_name", "write 'transport http { tls_server_name <name> }'"},

	{nginxAuth, "auth_basic", "write 'realm <text>'; for 'auth_basic off' write 'exempt <matcher>'"},
	{nginxAuth, "auth_basic_user_file", "write 'file <path>'"},
	{nginxAuth, "auth_delay", "leave it out; failed logins are limited, see 'throttle' in the global option htpasswd"},
	{nginxAuth, "allow", "write 'exempt remote_ip <address>' for addresses that need no password"},
	{nginxAuth, "deny", "write a 'handle' that refuses the addresses, before the one with htpasswd"},
	{nginxAuth, "satisfy", "leave it out; what 'exempt' names needs no password, as with 'satisfy any'"},
	{nginxAuth, "limit_except", "write 'exempt method <method>...'"},
}

// insteadOf says what to write for a directive of nginx, which may end with a
// semicolon.
func insteadOf(context nginxContext, name string) (instead string, found bool) {
	name = strings.TrimSuffix(name, ";")
	for _, d := range nginxDirectives {
		if d.context == context && d.name == name {
			return d.instead, true
		}
	}
	return "", false
}

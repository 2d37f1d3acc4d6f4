package caddyhtpasswd

import "strings"

// nginxContext is the context of a directive or parameter in nginx.
type nginxContext string

const (
	nginxUpstream nginxContext = "upstream" // in an upstream block
	nginxServer   nginxContext = "server"   // a parameter of server in an upstream block
	nginxProxy    nginxContext = "proxy"    // next to proxy_pass
	nginxAuth     nginxContext = "auth"     // access control
)

// nginxDirective is a directive or parameter of nginx for which something else is
// written in a Caddyfile, or nothing.
type nginxDirective struct {
	context nginxContext
	name    string
	instead string // what to write, as the end of an error
}

// nginxDirectives are the directives and parameters of nginx that users may try in the
// blocks of htpasswd, upstream and proxy_pass, without those that work unchanged.
var nginxDirectives = []nginxDirective{
	{nginxUpstream, "least_conn", "write 'balance least_conn' in the group"},
	{nginxUpstream, "least_time", "write 'balance least_time' in the group"},
	{nginxUpstream, "ip_hash", "write 'balance ip_hash' in the group"},
	{nginxUpstream, "hash", "write 'balance hash <key>' in the group"},
	{nginxUpstream, "random", "write 'balance random' in the group"},
	{nginxUpstream, "queue", "write 'lb_try_duration <duration>': how long a request waits for an available server"},
	{nginxUpstream, "fail_timeout", "write 'fail_duration <duration>'"},
	{nginxUpstream, "keepalive", "remove it; connections are kept alive by default, 'transport http { keepalive_idle_conns_per_host <n> }' limits the idle ones, and 'transport http { keepalive off }' closes them"},
	{nginxUpstream, "keepalive_timeout", "write 'transport http { keepalive <duration> }'"},
	{nginxUpstream, "keepalive_requests", "remove it; there is no such limit"},
	{nginxUpstream, "keepalive_time", "remove it; there is no such limit"},
	{nginxUpstream, "resolver", "remove it, because the system's resolver follows all names, or write 'transport http { resolvers <address> }'"},
	{nginxUpstream, "resolver_timeout", "remove it; a lookup that fails takes no server away"},
	{nginxUpstream, "state", "write the servers in the group, and run 'caddy reload' after a change"},
	{nginxUpstream, "ntlm", "not supported"},
	{nginxUpstream, "zone", "remove it; Caddy is one process, so no shared memory is needed"},

	{nginxServer, "max_fails", "write 'max_fails <n>' on a line of its own in the group, for all its servers"},
	{nginxServer, "fail_timeout", "write 'fail_duration <duration>' on a line of its own in the group, for all its servers"},
	{nginxServer, "slow_start", "write 'slow_start <duration>' on a line of its own in the group, for all its servers"},
	{nginxServer, "service", "not supported in a group; for SRV records use reverse_proxy with 'dynamic srv'"},

	{nginxProxy, "proxy_set_header", "write 'header_up <field> <value>'; Host and X-Forwarded-For are set by default"},
	{nginxProxy, "proxy_redirect", "write 'header_down Location <old> <new>'"},
	{nginxProxy, "proxy_http_version", "remove it; connections are kept alive, and WebSockets work"},
	{nginxProxy, "proxy_connect_timeout", "write 'transport http { dial_timeout <duration> }'"},
	{nginxProxy, "proxy_read_timeout", "write 'transport http { response_header_timeout <duration> }'"},
	{nginxProxy, "proxy_request_buffering", "write 'request_buffers <size>' to buffer request bodies"},
	{nginxProxy, "proxy_next_upstream", "write 'lb_retry_match'; by default, requests with idempotent methods are retried"},
	{nginxProxy, "proxy_next_upstream_tries", "write 'lb_retries <n>', with the number of tries after the first one"},
	{nginxProxy, "proxy_next_upstream_timeout", "write 'lb_try_duration <duration>', which also waits while no server is available"},
	{nginxProxy, "proxy_send_timeout", "write 'transport http { write_timeout <duration> }'"},
	{nginxProxy, "proxy_buffering", "write 'response_buffers <size>' to buffer responses; by default they are passed on as they arrive"},
	{nginxProxy, "proxy_bind", "write 'transport http { local_address <address> }'"},
	{nginxProxy, "proxy_pass_trailers", "remove it; trailers are passed on"},
	{nginxProxy, "proxy_ssl_verify", "remove it; certificates are verified by default, with the system's trust store"},
	{nginxProxy, "proxy_ssl_trusted_certificate", "write 'transport http { tls_trust_pool file <path> }'"},
	{nginxProxy, "proxy_ssl_name", "write 'transport http { tls_server_name <name> }'"},
	{nginxProxy, "proxy_ssl_server_name", "remove it; the name in the address of the server is sent"},
	{nginxProxy, "proxy_ssl_certificate", "write 'transport http { tls_client_auth <certificate> <key> }'"},
	{nginxProxy, "proxy_ssl_certificate_key", "write 'transport http { tls_client_auth <certificate> <key> }'"},
	{nginxProxy, "fastcgi_param", "write 'env <name> <value>' in the block of 'transport fastcgi'"},
	{nginxProxy, "fastcgi_split_path_info", "write 'split .php' in the block of 'transport fastcgi'"},
	{nginxProxy, "fastcgi_read_timeout", "write 'read_timeout <duration>' in the block of 'transport fastcgi'"},
	{nginxProxy, "grpc_set_header", "write 'header_up <field> <value>'"},

	{nginxAuth, "auth_basic", "write 'realm <text>'; for 'auth_basic off' write 'exempt <matcher>'"},
	{nginxAuth, "auth_basic_user_file", "write 'file <path>'"},
	{nginxAuth, "auth_delay", "remove it; failed logins are rate limited, see 'throttle' in the global option htpasswd"},
	{nginxAuth, "allow", "write 'exempt remote_ip <address>' for addresses that need no password"},
	{nginxAuth, "deny", "write a 'handle' that refuses these addresses, before the one with htpasswd"},
	{nginxAuth, "satisfy", "remove it; 'exempt' works like 'satisfy any': matching requests need no password"},
	{nginxAuth, "limit_except", "write 'exempt method <method>...'"},
}

// insteadOf returns what to write for a directive of nginx, which may end with a
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

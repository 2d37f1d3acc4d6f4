package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/e2e/internal/benchkit"
)

// plugin is the name of this plugin in the tables.
const plugin = "caddy-htpasswd"

// peer is a server that can be measured.
type peer struct {
	name    string
	program string   // "": the Caddy built from this repository
	formats []string // hash formats that it supports; nil: all
	most    int      // highest number of users; 0: no limit
	// config returns the configuration, and start the command that runs it in
	// the foreground.
	config func(b *bench, port int, https bool) string
	start  func(b *bench, config string) *exec.Cmd
}

var peers = []peer{
	{plugin, "", nil, 0, pluginConfig, runCaddy},
	{"Caddy's basic_auth", "", []string{"bcrypt"}, 0, basicAuthConfig, runCaddy},
	{"nginx", "nginx", nil, 0, nginxConfig, runNginx},
	{"Apache with mod_authn_socache", "apache2", nil, 0, apacheConfig, runApache},
	{"HAProxy", "haproxy", []string{"sha512crypt", "bcrypt"}, 1_000, haproxyConfig, runHAProxy},
	{"lighttpd", "lighttpd", nil, 0, lighttpdConfig, runLighttpd},
}

func (p peer) takes(f format, users int) bool {
	return (len(p.formats) == 0 || slices.Contains(p.formats, f.kind)) && (p.most == 0 || users <= p.most)
}

func (p peer) isHere() bool {
	_, err := exec.LookPath(benchkit.LookUp(p.program))
	return p.program == "" || err == nil
}

func (b *bench) start(p peer, https bool) (*benchkit.Server, error) {
	port, err := benchkit.FreePort()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, "config")
	if err := os.WriteFile(path, []byte(p.config(b, port, https)), 0o600); err != nil {
		return nil, err
	}
	return benchkit.Start(b.ctx, p.start(b, path), strings.ToLower(scheme(https)), port)
}

func (b *bench) certificate() string { return filepath.Join(b.dir, "cert.pem") }
func (b *bench) key() string         { return filepath.Join(b.dir, "key.pem") }
func (b *bench) both() string        { return filepath.Join(b.dir, "both.pem") }

// startApplication starts the upstream of all servers: an nginx that answers "ok".
func (b *bench) startApplication() (*benchkit.Server, int, error) {
	port, err := benchkit.FreePort()
	if err != nil {
		return nil, 0, err
	}
	path := filepath.Join(b.dir, "application.conf")
	text := b.nginxMain("application", fmt.Sprintf("server {\n\tlisten 127.0.0.1:%d;\n\tlocation / { return 200 ok; }\n}\n", port))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, 0, err
	}
	s, err := benchkit.Start(b.ctx, exec.Command(benchkit.LookUp("nginx"), "-c", path, "-p", b.dir), "http", port) //nolint:gosec // a program of this benchmark
	return s, port, err
}

func (b *bench) nginxMain(name, servers string) string {
	return strings.NewReplacer("{dir}", b.dir, "{name}", name, "{servers}", servers).Replace(`daemon off;
worker_processes auto;
error_log /dev/null crit;
pid {dir}/{name}.pid;
events { worker_connections 1024; }
http {
	access_log off;
	keepalive_requests 100000000;
	client_body_temp_path {dir}/{name}-body; proxy_temp_path {dir}/{name}-proxy; fastcgi_temp_path {dir}/{name}-fastcgi; uwsgi_temp_path {dir}/{name}-uwsgi; scgi_temp_path {dir}/{name}-scgi;
	{servers}
}
`)
}

func nginxConfig(b *bench, port int, https bool) string {
	listen := fmt.Sprintf("listen 127.0.0.1:%d;", port)
	if https {
		listen = fmt.Sprintf("listen 127.0.0.1:%d ssl;\n\tssl_certificate %s;\n\tssl_certificate_key %s;", port, b.certificate(), b.key())
	}
	return b.nginxMain("nginx", fmt.Sprintf(`upstream application {
	server 127.0.0.1:%d;
	keepalive 64;
}
server {
	%s
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	location /open { proxy_pass http://application; }
	location /private {
		auth_basic Restricted;
		auth_basic_user_file %s;
		proxy_pass http://application;
	}
}`, b.upstream, listen, b.usersFile()))
}

func runNginx(b *bench, config string) *exec.Cmd {
	return exec.Command(benchkit.LookUp("nginx"), "-c", config, "-p", b.dir) //nolint:gosec // a program of this benchmark
}

func pluginConfig(b *bench, port int, https bool) string {
	allow := "allow_http"
	if https {
		allow = ""
	}
	return b.caddyfile(port, https, fmt.Sprintf("upstream application {\n\tserver 127.0.0.1:%d\n}", b.upstream),
		fmt.Sprintf("htpasswd /private {\n\tfile %s\n\t%s\n}\nproxy_pass application", b.usersFile(), allow))
}

func basicAuthConfig(b *bench, port int, https bool) string {
	lines := strings.ReplaceAll(strings.Join(b.users, "\n"), ":", " ")
	return b.caddyfile(port, https, "", fmt.Sprintf("basic_auth /private {\n%s\n}\nreverse_proxy 127.0.0.1:%d", lines, b.upstream))
}

func (b *bench) caddyfile(port int, https bool, global, site string) string {
	scheme, certificate := "http", ""
	if https {
		scheme, certificate = "https", "tls "+b.certificate()+" "+b.key()
	}
	return fmt.Sprintf(`{
	admin off
	persist_config off
	storage file_system %s/storage
	auto_https disable_redirects
	log {
		level ERROR
	}
	servers {
		protocols h1
	}
	%s
}
%s://127.0.0.1:%d {
	%s
	%s
}
`, b.dir, global, scheme, port, certificate, site)
}

func runCaddy(b *bench, config string) *exec.Cmd {
	return exec.Command(b.caddy, "run", "--config", config, "--adapter", "caddyfile") //nolint:gosec // a program of this benchmark
}

func apacheConfig(b *bench, port int, https bool) string {
	modules := "mpm_event authn_core authn_file authn_socache socache_shmcb authz_core authz_user auth_basic proxy proxy_http"
	ssl := ""
	if https {
		modules += " ssl"
		ssl = fmt.Sprintf("SSLEngine on\nSSLCertificateFile %s\nSSLCertificateKeyFile %s\n", b.certificate(), b.key())
	}
	var load strings.Builder
	for name := range strings.FieldsSeq(modules) {
		fmt.Fprintf(&load, "LoadModule %s_module /usr/lib/apache2/modules/mod_%[1]s.so\n", name)
	}
	return fmt.Sprintf(`ServerRoot %[1]s
PidFile %[1]s/apache.pid
DefaultRuntimeDir %[1]s
ErrorLog /dev/null
ServerName localhost
Listen 127.0.0.1:%[2]d
%[3]sUser www-data
Group www-data
KeepAlive On
MaxKeepAliveRequests 0
AuthnCacheEnable
AuthnCacheSOCache shmcb
%[4]sProxyPass / http://127.0.0.1:%[5]d/ keepalive=On
<Location /private>
	AuthType Basic
	AuthName Restricted
	AuthBasicProvider socache file
	AuthnCacheProvideFor file
	AuthUserFile %[6]s
	Require valid-user
</Location>
`, b.dir, port, load.String(), ssl, b.upstream, b.usersFile())
}

func runApache(_ *bench, config string) *exec.Cmd {
	return exec.Command(benchkit.LookUp("apache2"), "-f", config, "-DFOREGROUND") //nolint:gosec // a program of this benchmark
}

func haproxyConfig(b *bench, port int, https bool) string {
	var users strings.Builder
	for _, line := range b.users {
		name, hash, _ := strings.Cut(line, ":")
		fmt.Fprintf(&users, "\tuser %s password %s\n", name, hash)
	}
	ssl := ""
	if https {
		ssl = " ssl crt " + b.both()
	}
	return fmt.Sprintf(`global
	nbthread 2
defaults
	mode http
	timeout client 60s
	timeout server 60s
	timeout connect 5s
userlist people
%sfrontend in
	bind 127.0.0.1:%d%s
	http-request auth realm Restricted if { path /private } !{ http_auth(people) }
	default_backend application
backend application
	server one 127.0.0.1:%d
`, users.String(), port, ssl, b.upstream)
}

func runHAProxy(_ *bench, config string) *exec.Cmd {
	return exec.Command(benchkit.LookUp("haproxy"), "-q", "-db", "-f", config) //nolint:gosec // a program of this benchmark
}

func lighttpdConfig(b *bench, port int, https bool) string {
	ssl := ""
	if https {
		ssl = fmt.Sprintf("server.modules += ( \"mod_openssl\" )\nssl.engine = \"enable\"\nssl.pemfile = %q\n", b.both())
	}
	return fmt.Sprintf(`server.document-root = %q
server.bind = "127.0.0.1"
server.port = %d
server.max-worker = 2
server.max-keep-alive-requests = 60000
server.modules = ( "mod_auth", "mod_authn_file", "mod_proxy" )
%sauth.backend = "htpasswd"
auth.backend.htpasswd.userfile = %q
auth.cache = ( "max-age" => "600" )
auth.require = ( "/private" => ( "method" => "basic", "realm" => "Restricted", "require" => "valid-user" ) )
proxy.server = ( "" => ( ( "host" => "127.0.0.1", "port" => %d ) ) )
`, b.dir, port, ssl, b.usersFile(), b.upstream)
}

func runLighttpd(_ *bench, config string) *exec.Cmd {
	return exec.Command(benchkit.LookUp("lighttpd"), "-D", "-f", config) //nolint:gosec // a program of this benchmark
}

package caddyhtpasswd

import (
	"strings"
	"testing"
)

func TestProtectedIsLogged(t *testing.T) {
	s := checkedServer(t)
	s.write("groups", "staff: alice\n")
	for _, test := range []struct {
		name, config string
		want         []string // fields of each line
	}{
		{"site", tlsSite("{htpasswd}"), []string{`"server":"srv0" "hosts":["localhost"] "requests":"all" "files":["{dir}/users"]`}},
		{"paths", tlsSite("htpasswd /admin/* {\nfile {dir}/users\n}"), []string{`"hosts":["localhost"] "requests":"path /admin/*"`}},
		{"encrypted requests", tlsSite("@tls protocol https\nhtpasswd @tls {\nfile {dir}/users\n}"), []string{`"requests":"protocol https"`}},
		{"handle with a matcher inside", tlsSite("handle /a/* {\nhtpasswd /a/b* {\nfile {dir}/users\n}\n}"), []string{`"requests":"path /a/*; path /a/b*"`}},
		{"groups and exemptions", tlsSite("htpasswd {\nfile {dir}/users\ngroup_file {dir}/groups\nexempt /x /y/*\nexempt remote_ip 192.0.2.1\n}"),
			[]string{`"group_files":["{dir}/groups"] "exempt":"path /x or path /y/* or remote_ip 192.0.2.1"`}},
		{"two of one site", tlsSite("htpasswd /a* {\nfile {dir}/users\n}\nhtpasswd /b* {\nfile {dir}/users\n}"), []string{`"requests":"path /a*"`, `"requests":"path /b*"`}},
		{"two sites", tlsSite("{htpasswd}") + "https://127.0.0.1:{https} {\n{htpasswd}\n}\n", []string{`"hosts":["localhost"]`, `"hosts":["127.0.0.1"]`}},
		{"named route, called twice", "&(p) {\n{htpasswd}\n}\n" + tlsSite("handle /a/* {\ninvoke p\n}\nhandle {\ninvoke p\n}"), []string{`"requests":"path /a/*"`}},
		{"paths that are handled before", tlsSite("handle /api* {\nrespond open\n}\nrespond /health ok\nhandle {\nhtpasswd {\nfile {dir}/users\n}\nrespond ok\n}"), []string{`"requests":"all" "except":"path /api*" "files"`}},
		{"paths that are answered before, in a route", tlsSite("route {\nrespond /open ok\nhtpasswd {\nfile {dir}/users\n}\nrespond ok\n}"), []string{`"requests":"all" "except":"path /open" "files"`}},
		{"errors", tlsSite("handle_errors {\n{htpasswd}\n}"), []string{`"server":"srv0"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := validated(t, s, test.config)
			v.wantNothing(t)
			got := v.infos()
			if len(got) != len(test.want) {
				t.Fatalf("got %d lines, want %d: %v", len(got), len(test.want), got)
			}
			for i, line := range got {
				for _, field := range strings.Split(test.want[i], ` "`) {
					field = strings.ReplaceAll(`"`+strings.TrimPrefix(field, `"`), "{dir}", s.dir)
					if !strings.Contains(line.String(), field) {
						t.Errorf("got no %s, want it in %s", field, line)
					}
				}
			}
		})
	}
}

// TestUnreachedWarning has an htpasswd after a handler that always responds, so that it
// protects nothing.
func TestUnreachedWarning(t *testing.T) {
	s := checkedServer(t)
	for _, test := range []struct {
		name, config string
		isWarned     bool
	}{
		{"after an answer", tlsSite("route {\nrespond open\nhtpasswd {\nfile {dir}/users\n}\n}"), true},
		{"after a handle for all", tlsSite("handle {\nrespond open\n}\nroute {\nhtpasswd {\nfile {dir}/users\n}\n}"), true},
		{"after a handle for all, in a route", tlsSite("route {\nhandle {\nrespond open\n}\nhandle /private* {\nhtpasswd {\nfile {dir}/users\n}\n}\n}"), true},
		{"after an answer to some", tlsSite("route {\nrespond /open ok\nhtpasswd {\nfile {dir}/users\n}\n}"), false},
		{"before an answer", tlsSite("htpasswd {\nfile {dir}/users\n}\nrespond ok"), false},
		{"after another htpasswd", tlsSite("htpasswd {\nfile {dir}/users\n}\nhtpasswd /a* {\nfile {dir}/users\n}\nrespond ok"), false},
		{"another site", "https://127.0.0.1:{https} {\nrespond open\n}\n" + tlsSite("htpasswd {\nfile {dir}/users\n}\nrespond ok"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := validated(t, s, test.config)
			if test.isWarned {
				v.wantWarning(t, "htpasswd is never reached", `"server"`)
			} else {
				v.wantNothing(t)
			}
		})
	}
}

// TestProtectedIsLoggedOnceALoad reloads a configuration.
func TestProtectedIsLoggedOnceALoad(t *testing.T) {
	s := checkedServer(t)
	config := strings.ReplaceAll(tlsSite("{htpasswd}"), "{htpasswd}", "htpasswd {\n\tfile {dir}/users\n}")
	for n := 1; n <= 3; n++ {
		must(t, s.reload(config))
		if got := strings.Count(s.log(), `"msg":"requests need a password"`); got != n {
			t.Errorf("got %d lines after %d loads, want one each", got, n)
		}
	}
}

func TestPlainHTTPWarning(t *testing.T) {
	s := checkedServer(t)
	const message = "server without TLS"
	for _, test := range []struct {
		name, config string
		isWarned     bool
	}{
		{"port without TLS", ":{http} {\n{htpasswd}\n}\n", true},
		{"site by plain HTTP", "http://localhost:{http} {\n{htpasswd}\n}\n", true},
		{"site by both", tlsSite("{htpasswd}") + "http://localhost:{http} {\n{htpasswd}\n}\n", true},
		{"two sites by plain HTTP are one server", "http://localhost:{http}, http://127.0.0.1:{http} {\n{htpasswd}\n}\n", true},
		{"automatic HTTPS off, with TLS", "{\nauto_https off\n}\nlocalhost:{http} {\n{htpasswd}\n}\n", false},
		{"TLS on the port for plain HTTP", "{\nhttp_port {http}\n}\nhttp://localhost {\ntls internal\n{htpasswd}\n}\n", true},
		{"allowed", ":{http} {\nhtpasswd {\nfile {dir}/users\nallow_http\n}\n}\n", false},
		{"behind a proxy", "{\nservers {\ntrusted_proxies static 192.0.2.1\n}\n}\n:{http} {\n{htpasswd}\n}\n", false},
		{"behind a proxy on this machine", "{\nservers {\ntrusted_proxies_unix\n}\n}\n:{http} {\n{htpasswd}\n}\n", false},
		{"automatic HTTPS", tlsSite("{htpasswd}"), false},
		{"automatic HTTPS with redirects", "{\nhttp_port {http}\nhttps_port {https}\n}\nlocalhost {\n{htpasswd}\n}\n", false},
		{"port for HTTPS without a name", "{\nhttp_port {http}\nhttps_port {https}\n}\nhttps:// {\ntls internal {\non_demand\n}\n{htpasswd}\n}\n", false},
		{"redirect beside", tlsSite("{htpasswd}") + "http://localhost:{http} {\nredir https://{host}{uri}\n}\n", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := validated(t, s, test.config)
			if test.isWarned {
				v.wantWarning(t, message, "trusted_proxies", "allow_http", "HTTPS", `"listen"`)
			} else {
				v.wantNothing(t)
			}
		})
	}
}

func TestExactPathWarning(t *testing.T) {
	s := checkedServer(t)
	login := func(matcher string) string { return "htpasswd " + matcher + " {\nfile {dir}/users\n}\n" }
	for _, test := range []struct {
		name, body, path string
	}{
		{"path without a star", login("/admin") + "respond ok", "/admin"},
		{"path that ends with a slash", login("/admin/") + "respond ok", "/admin/"},
		{"home page", login("/") + "respond ok", "/"},
		{"in a handle", "handle {\n" + login("/admin") + "respond ok\n}", "/admin"},
		{"with a star", login("/admin*") + "respond ok", ""},
		{"with what is below", "@admin path /admin /admin/*\n" + login("@admin") + "respond ok", ""},
		{"name of a file", login("/logo.png") + "respond ok", ""},
		{"PHP file", login("/wp-login.php") + "php_fastcgi 127.0.0.1:9000", "/wp-login.php"},
		{"PHP file and FastCGI without php_fastcgi", login("/wp-login.php") + "reverse_proxy 127.0.0.1:9000 {\ntransport fastcgi\n}", "/wp-login.php"},
		{"one of two PHP files", "@login path /wp-login.php* /xmlrpc.php\n" + login("@login") + "php_fastcgi 127.0.0.1:9000", "/xmlrpc.php"},
		{"PHP file with a star", login("/wp-login.php*") + "php_fastcgi 127.0.0.1:9000", ""},
		{"PHP file with what is below", "@login path /wp-login.php /wp-login.php/*\n" + login("@login") + "php_fastcgi 127.0.0.1:9000", ""},
		{"handle of that path", "handle /admin {\n" + login("") + "respond ok\n}", ""},
		{"only one handler for that path", login("/metrics") + "metrics /metrics", ""},
		{"only one handler for that path, and one between", login("/metrics") + "encode gzip\nmetrics /metrics", ""},
		{"star for everything", login("*") + "respond ok", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := validated(t, s, tlsSite(test.body))
			if test.path != "" {
				v.wantWarning(t, "protects only this exact path", `"path":"`+test.path+`"`, `"write":"`+test.path+`*"`)
			} else {
				v.wantNothing(t)
			}
		})
	}
}

func TestRequireUnknownNamesWarning(t *testing.T) {
	s := checkedServer(t)
	s.write("more", "carol:"+shaSecret1+"\n")
	s.write("groups", "staff: alice\nempty:\n")
	for _, test := range []struct {
		name, require, want string
	}{
		{"unknown user", "require user alice allice", `"users":["allice"]`},
		{"unknown group", "require group staff stuff", `"groups":["stuff"]`},
		{"group without members", "require group empty", `"groups":["empty"]`},
		{"users of both files", "require user alice carol", ""},
		{"group", "require group staff", ""},
		{"everybody", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := validated(t, s, tlsSite("htpasswd {\nfile {dir}/users {dir}/more\ngroup_file {dir}/groups\n"+test.require+"\n}"))
			if test.want != "" {
				v.wantWarning(t, "require names", test.want)
			} else {
				v.wantNothing(t)
			}
		})
	}
}

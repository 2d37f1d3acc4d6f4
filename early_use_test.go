package caddyhtpasswd

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestPlaceholderBeforeLogin(t *testing.T) {
	s := checkedServer(t)
	for _, test := range []struct {
		name, config string
		want         []string
	}{
		{"root of the site", tlsSite("root * {dir}/{http.auth.user.id}\n{htpasswd}\nfile_server"), []string{"'{http.auth.user.id}'", "'root'", "localhost", "'route' block", "'file_server'"}},
		{"root in the same handle", tlsSite("handle /x/* {\nroot {dir}/{http.auth.user.id}\n{htpasswd}\nfile_server\n}\nhandle {\nrespond open\n}"), []string{"'root'"}},
		{"root in the same handle, only for some paths", tlsSite("handle {\nroot /y/* {dir}/{http.auth.user.id}\n{htpasswd}\nfile_server\n}"), []string{"'root'"}},
		{"the groups of the user", tlsSite("root * {dir}/{http.auth.user.groups}\n{htpasswd}\nfile_server"), []string{"'{http.auth.user.groups}'"}},
		{"another placeholder of the user", tlsSite("root * {dir}/{http.auth.user.email}\n{htpasswd}\nfile_server"), []string{"'{http.auth.user.email}'"}},
		{"vars", tlsSite("vars who {http.auth.user.id}\n{htpasswd}\nrespond {vars.who}"), []string{"'vars'"}},
		{"name of a variable", tlsSite("vars {http.auth.user.id} x\n{htpasswd}"), []string{"'vars'"}},
		{"rewrite", tlsSite("rewrite * /{http.auth.user.id}{uri}\n{htpasswd}\nfile_server"), []string{"'rewrite'"}},
		{"uri", tlsSite("uri replace /home /{http.auth.user.id}\n{htpasswd}\nfile_server"), []string{"'rewrite'"}},
		{"method", tlsSite("method {http.auth.user.id}\n{htpasswd}"), []string{"'rewrite'"}},
		{"header, immediately", tlsSite("header X-User {http.auth.user.id}\n{htpasswd}"), []string{"'header'", "header >Field"}},
		{"header added, immediately", tlsSite("header +X-User {http.auth.user.id}\n{htpasswd}"), []string{"'header'"}},
		{"request_header in a route block", tlsSite("route {\nrequest_header X-User {http.auth.user.id}\n{htpasswd}\n}"), []string{"'request_header'"}},
		{"try_files", tlsSite("try_files /{http.auth.user.id}{path} /x\n{htpasswd}\nfile_server"), []string{"matcher 'file'"}},
		{"expression of a handle", tlsSite("@alice expression {http.auth.user.id} == 'alice'\nhandle @alice {\n{htpasswd}\n}\nhandle {\nrespond open\n}"), []string{"matcher 'expression'"}},
		{"function in an expression", tlsSite("@alice expression `ph(req, 'http.auth.user.id') == 'alice'`\nhtpasswd @alice {\nfile {dir}/users\n}"), []string{"matcher 'expression'"}},
		{"matcher of the directive itself", tlsSite("@alice vars {http.auth.user.id} alice\nhtpasswd @alice {\nfile {dir}/users\n}"), []string{"matcher 'vars'"}},
		{"matcher in a not", tlsSite("@others not vars {http.auth.user.id} alice\nrewrite @others /x\n{htpasswd}"), []string{"matcher 'not'"}},
		{"matcher of a sibling that is asked first", tlsSite("@alice vars {http.auth.user.id} alice\nhandle @alice {\nrespond hello\n}\nhandle {\n{htpasswd}\n}"), []string{"matcher 'vars'"}},
		{"result of a map", tlsSite("map {http.auth.user.id} {folder} {\nalice a\ndefault other\n}\nroot * {dir}/{folder}\n{htpasswd}\nfile_server"), []string{"'{folder}'", "'root'"}},
		{"result of a map that is in a handle", tlsSite("handle {\nmap {http.auth.user.id} {folder} {\nalice a\n}\nroot {dir}/{folder}\n{htpasswd}\n}"), []string{"'{folder}'"}},
		{"result of a map of a map", tlsSite("map {http.auth.user.id} {a} {\nalice a\n}\nmap {a} {b} {\na b\n}\nroot {dir}/{b}\n{htpasswd}"), []string{"'{b}'"}},
		{"log_append, immediately", tlsSite("log_append <who {http.auth.user.id}\n{htpasswd}"), []string{"'log_append'"}},
		{"exemption", tlsSite("htpasswd {\nfile {dir}/users\nexempt vars {http.auth.user.id} \"\"\n}"), []string{"'htpasswd'", "its own block"}},
		{"route before, deep inside", tlsSite("route {\nroute {\nroute {\nroot {dir}/{http.auth.user.id}\n}\n}\nroute {\nroute {\n{htpasswd}\n}\n}\n}"), []string{"'root'"}},
		{"named route", "&(private) {\nroute {\nroot {dir}/{http.auth.user.id}\n{htpasswd}\nfile_server\n}\n}\n" + tlsSite("invoke private"), []string{"'root'"}},
		{"before the named route", "&(private) {\nroute {\n{htpasswd}\nfile_server\n}\n}\n" + tlsSite("root {dir}/{http.auth.user.id}\ninvoke private"), []string{"'root'"}},
		{"before the second call of the named route", "&(private) {\nroute {\n{htpasswd}\nfile_server\n}\n}\n" + tlsSite("handle /a/* {\ninvoke private\n}\nhandle {\nroot {dir}/{http.auth.user.id}\ninvoke private\n}"), []string{"'root'"}},
		{"second site of the server", tlsSite("respond open") + "https://127.0.0.1:{https} {\nroot {dir}/{http.auth.user.id}\n{htpasswd}\nfile_server\n}\n", []string{"'root'", "127.0.0.1"}},
		{"after two more in one route", tlsSite("route {\nheader X-A b\nroot {dir}/{http.auth.user.id}\n{htpasswd}\n{htpasswd}\n}"), []string{"'root'"}},
		{"login with an exemption", tlsSite("root {dir}/{http.auth.user.id}\nhtpasswd {\nfile {dir}/users\nexempt /a/*\n}\nfile_server"), []string{"'root'"}},
		{"answer for some paths between", tlsSite("route {\nroot {dir}/{http.auth.user.id}\nrespond /health ok\n{htpasswd}\nfile_server\n}"), []string{"'root'"}},
		{"the same paths as the login", tlsSite("route {\nroot /y/* {dir}/{http.auth.user.id}\nhtpasswd /y/* {\nfile {dir}/users\n}\nfile_server\n}"), []string{"'root'"}},
		{"name of the logger", tlsSite("log_name {http.auth.user.id}\n{htpasswd}"), []string{"'log_name'"}},
		{"column of a map whose source is the user", tlsSite("map {http.auth.user.id} {a} {b} {\nalice x y\n}\nroot {dir}/{b}\n{htpasswd}"), []string{"'{b}'", "'root'"}},
		{"with a login in another handle", tlsSite("handle /a/* {\n{htpasswd}\n}\nhandle {\nroot {dir}/{http.auth.user.id}\n{htpasswd}\nfile_server\n}"), []string{"'root'"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			validated(t, s, test.config).wantRefusal(t, test.want...)
		})
	}
}

// identityHandler stands for a handler of another plugin.
type identityHandler struct {
	Note string `json:"note,omitempty"`
}

func (identityHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_identity", New: func() caddy.Module { return new(identityHandler) }}
}

func (identityHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

func init() {
	caddy.RegisterModule(identityHandler{})
	httpcaddyfile.RegisterHandlerDirective("test_identity", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		handler := new(identityHandler)
		h.Args(&handler.Note)
		return handler, nil
	})
}

func TestPlaceholderPerhapsBeforeLogin(t *testing.T) {
	s := checkedServer(t)
	for _, test := range []struct {
		name, config, directive string
	}{
		{"login for some paths only", tlsSite("route {\nhtpasswd /x* {\nfile {dir}/users\n}\nroot {dir}/{http.auth.user.id}\n{htpasswd}\n}"), "root"},
		{"login with an exemption", tlsSite("route {\nhtpasswd {\nfile {dir}/users\nexempt /open/*\n}\nroot {dir}/{http.auth.user.id}\n{htpasswd}\n}"), "root"},
		{"handler of another plugin before", tlsSite("route {\ntest_identity\nroot {dir}/{http.auth.user.id}\n{htpasswd}\n}"), "root"},
		{"handler of another plugin", tlsSite("route {\ntest_identity {http.auth.user.id}\n{htpasswd}\n}"), "test_identity"},
		{"variable that sets the user", tlsSite("route {\nvars http.auth.user.id eve\nroot {dir}/{http.auth.user.id}\n{htpasswd}\n}"), "root"},
		{"login in one of two handle blocks", tlsSite("route {\nhandle /a/* {\n{htpasswd}\n}\nhandle {\nheader X-A b\n}\nroot {dir}/{http.auth.user.id}\n{htpasswd}\n}"), "root"},
		{"errors", tlsSite("{htpasswd}\nhandle_errors {\nheader X-User {http.auth.user.id}\n{htpasswd}\n}"), "header"},
		{"matcher after logins in each of two handle blocks", tlsSite("route {\nhandle /a/* {\n{htpasswd}\n}\nhandle {\n{htpasswd}\n}\n@alice vars {http.auth.user.id} alice\nrequest_header @alice X-Admin yes\nhtpasswd /admin/* {\nfile {dir}/users\n}\n}"), "the matcher 'vars"},
		{"one column of a map, for some requests", tlsSite("map {host} {backend} {who} {\nlocalhost b1 {http.auth.user.id}\ndefault b0 none\n}\nrewrite /{who}{uri}\n{htpasswd}"), "rewrite"},
		{"default of a map", tlsSite("map {path} {folder} {\n/x y\ndefault {http.auth.user.id}\n}\nroot {dir}/{folder}\n{htpasswd}"), "root"},
		{"map of a map, for some requests", tlsSite("map {path} {a} {\n/x {http.auth.user.id}\n}\nmap {a} {b} {\na b\n}\nroot {dir}/{b}\n{htpasswd}"), "root"},
		{"map with some rows of the user, in a handle without them", tlsSite("map {path} {folder} {\n~^/home/ users/{http.auth.user.id}\ndefault static\n}\nhandle {\nheader X-Dir {folder}\nroute {\n{htpasswd}\nrespond ok\n}\n}"), "header"},
		{"variable for other paths than the login", tlsSite("route {\nvars /a/* who {http.auth.user.id}\nhtpasswd /b/* {\nfile {dir}/users\n}\n}"), "vars"},
		{"variable for paths that are perhaps exempt", tlsSite("route {\nvars /a/* who {http.auth.user.id}\nhtpasswd {\nfile {dir}/users\nexempt /a/*\n}\n}"), "vars"},
		{"proxy that may pass some answers on", tlsSite("route {\nreverse_proxy /a/* localhost:9 {\nheader_up X-User {http.auth.user.id}\n@ok status 2xx\nhandle_response @ok {\nheader X-A b\n}\n}\n{htpasswd}\n}"), "reverse_proxy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			validated(t, s, test.config).wantWarning(t, "placeholder may be used before a user is verified", `"used_in":"`, test.directive+`'"`, "{")
		})
	}
}

// TestPlaceholderOnOpenPage uses placeholders where no request with a login arrives. The
// page may need no password on purpose, and the same user may log in on another page.
func TestPlaceholderOnOpenPage(t *testing.T) {
	s := checkedServer(t)
	const proxy = "reverse_proxy localhost:9 {\nheader_up X-User {http.auth.user.id}\n}\n"
	const php = "php_fastcgi localhost:9 {\nenv REMOTE_USER {http.auth.user.id}\n}\n"
	for _, test := range []struct {
		name, config, directive string // "" for no warning
	}{
		{"redir", tlsSite("redir / /{http.auth.user.id}/\n{htpasswd}"), "redir"},
		{"respond in a route block", tlsSite("route {\nrespond /who {http.auth.user.id}\n{htpasswd}\n}"), "respond"},
		{"error in a route block", tlsSite("route {\nerror /who {http.auth.user.id}\n{htpasswd}\n}"), "error"},
		{"proxy in a route block", tlsSite("route {\nreverse_proxy /api/* localhost:9 {\nheader_up X-User {http.auth.user.id}\n}\n{htpasswd}\n}"), "reverse_proxy"},
		{"script's environment in a route block", tlsSite("route {\nphp_fastcgi /api/* localhost:9 {\nenv WHO {http.auth.user.id}\n}\n{htpasswd}\n}"), "reverse_proxy"},
		{"the same proxy for an open page and after a login", tlsSite("route /public/* {\n" + proxy + "}\nroute {\n{htpasswd}\n" + proxy + "}"), "reverse_proxy"},
		{"the same scripts for an open page and after a login", tlsSite("root /srv\nroute /public/* {\n" + php + "}\nroute {\n{htpasswd}\n" + php + "}"), "reverse_proxy"},
		{"answer for other paths than the login", tlsSite("route /a/* {\nrespond {http.auth.user.id}\n}\nroute /b/* {\n{htpasswd}\nrespond {http.auth.user.id}\n}"), "respond"},
		{"before a proxy for other paths", tlsSite("route /a/* {\nrequest_header X-User {http.auth.user.id}\nreverse_proxy localhost:9\n}\nroute /b/* {\n{htpasswd}\nrespond ok\n}"), "request_header"},
		{"before files for other paths", tlsSite("route /a/* {\nroot {dir}/{http.auth.user.id}\nfile_server\n}\nroute {\n{htpasswd}\nrespond ok\n}"), "root"},
		{"before handle blocks that answer everything", tlsSite("route /a/* {\nrequest_header X-User {http.auth.user.id}\nhandle /a/b {\nrespond b\n}\nhandle {\nerror 404\n}\n}\nroute {\n{htpasswd}\nrespond ok\n}"), "request_header"},
		{"handle that answers, before the login", tlsSite("route {\nhandle /public/* {\n" + proxy + "}\n{htpasswd}\n" + proxy + "}"), "reverse_proxy"},
		{"named route that answers", "&(app) {\n" + proxy + "}\n" + tlsSite("route {\n@pub path /pub/*\ninvoke @pub app\n{htpasswd}\ninvoke app\n}"), "reverse_proxy"},
		{"handle beside the one with the login", tlsSite("handle /public/* {\n" + proxy + "}\nhandle {\n{htpasswd}\n" + proxy + "}"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := validated(t, s, test.config)
			if test.directive == "" {
				v.wantNothing(t)
				return
			}
			v.wantWarning(t, "placeholder is empty here; no user has logged in", `"used_in":"'`+test.directive+`'"`, "{http.auth.user.id}")
		})
	}
}

// TestOpenPageOfProxy requests a page that needs no password and one that does, from the
// same proxy.
func TestOpenPageOfProxy(t *testing.T) {
	s := checkedServer(t)
	const proxy = "reverse_proxy localhost:{http} {\nheader_up X-User {http.auth.user.id}\n}\n"
	must(t, s.reload(tlsSite("route /public/* {\n"+proxy+"}\nroute {\nhtpasswd {\nfile {dir}/users\n}\n"+proxy+"}")+
		"http://localhost:{http} {\nrespond [{header.X-User}]\n}\n"))
	if got := s.get("/public/x", "", ""); got.body != "[]" {
		t.Errorf("open page: got %d %q, want no name", got.status, got.body)
	}
	if got := s.get("/x", "alice", "secret1"); got.body != "[alice]" {
		t.Errorf("behind the login: got %d %q, want alice", got.status, got.body)
	}
}

// TestPlaceholderAfterLogin has configurations that must load, with their responses to
// alice.
func TestPlaceholderAfterLogin(t *testing.T) {
	s := checkedServer(t)
	for _, user := range []string{"alice", "bob"} {
		must(t, os.MkdirAll(filepath.Join(s.dir, "home", user), 0o755))
		s.write("home/"+user+"/note", "note of "+user)
	}
	const fileOfUser = "root {dir}/home/{http.auth.user.id}\nfile_server"
	for _, test := range []struct {
		name, config, path, want string
	}{
		{"map, which looks later", tlsSite("map {http.auth.user.id} {who} {\nalice A\ndefault other\n}\n{htpasswd}\nrespond {who}"), "/", "A"},
		{"header when the response is written", tlsSite("header >X-User {http.auth.user.id}\n{htpasswd}\nrespond ok"), "/", "ok"},
		{"header with defer", tlsSite("header {\nX-User {http.auth.user.id}\ndefer\n}\n{htpasswd}\nrespond ok"), "/", "ok"},
		{"header unless there is one", tlsSite("header ?X-User {http.auth.user.id}\n{htpasswd}\nrespond ok"), "/", "ok"},
		{"log_append", tlsSite("log_append who {http.auth.user.id}\n{htpasswd}\nrespond ok"), "/", "ok"},
		{"handle beside", tlsSite("handle /x/* {\n{htpasswd}\nrespond x\n}\nhandle {\nroot {dir}/{http.auth.user.id}\nrespond open\n}"), "/y", "open"},
		{"handle beside and before", tlsSite("handle /y/* {\nroot {dir}/{http.auth.user.id}\nrespond open\n}\nhandle {\n{htpasswd}\nrespond x\n}"), "/x", "x"},
		{"login of the site, handle_path with root", tlsSite("{htpasswd}\nhandle_path /home/* {\n" + fileOfUser + "\n}"), "/home/note", "note of alice"},
		{"login and root in a route block", tlsSite("route {\n{htpasswd}\n" + fileOfUser + "\n}"), "/note", "note of alice"},
		{"root of the file server", tlsSite("{htpasswd}\nfile_server {\nroot {dir}/home/{http.auth.user.id}\n}"), "/note", "note of alice"},
		{"login further out, and one more inside", tlsSite("{htpasswd}\nhandle /note {\nroot {dir}/home/{http.auth.user.id}\n{htpasswd}\nfile_server\n}"), "/note", "note of alice"},
		{"basic_auth before", tlsSite("route {\nbasic_auth {\nalice $2y$05$PsfE1nLNMpR3ntFzqtrVauwHlSAT4B4IhAqQfFc4rSB0qWr8DOD6i\n}\nroot {dir}/home/{http.auth.user.id}\n{htpasswd}\nfile_server\n}"), "", ""},
		{"login for the same paths", tlsSite("route {\nhtpasswd /note {\nfile {dir}/users\n}\nroot /note {dir}/home/{http.auth.user.id}\nhandle /note {\nfile_server\n}\n}"), "/note", "note of alice"},
		{"header of the proxy", tlsSite("{htpasswd}\nrequest_header X-User {http.auth.user.id}\nrespond {header.X-User}"), "/", "alice"},
		{"named route", "&(private) {\nroute {\n{htpasswd}\n" + fileOfUser + "\n}\n}\n" + tlsSite("invoke private"), "/note", "note of alice"},
		{"named route after the login", "&(private) {\nroute {\n" + fileOfUser + "\n}\n}\n" + tlsSite("{htpasswd}\ninvoke private"), "/note", "note of alice"},
		{"braces that are no placeholder", tlsSite("header X-User \\{http.auth.user.id}\n{htpasswd}\nrespond ok"), "/", "ok"},
		{"name that only begins so", tlsSite("header X-User {http.auth.users}\n{htpasswd}\nrespond ok"), "/", "ok"},
		{"answers that are changed later", tlsSite("route {\nintercept {\nhandle_response {\nrespond {http.auth.user.id}\n}\n}\n{htpasswd}\nrespond ok\n}"), "/", "alice"},
		{"login for answers of another server", tlsSite("route {\nreverse_proxy localhost:{http} {\n@no status 401\nhandle_response @no {\nroute {\n{htpasswd}\nrespond {http.auth.user.id}\n}\n}\n}\n}") + "http://localhost:{http} {\nrespond 401\n}\n", "/", "alice"},
		{"another site of the server", tlsSite("root {dir}/{http.auth.user.id}\nrespond open") + "https://127.0.0.1:{https} {\n{htpasswd}\n}\n", "", ""},
		{"map of another site with the same result", tlsSite("handle {\n{htpasswd}\nmap {http.auth.user.id} {who} {\nalice A\n}\nrespond {who}\n}") + "https://127.0.0.1:{https} {\nmap {path} {who} {\n/x y\n}\nroot {dir}/{who}\n{htpasswd}\n}\n", "", ""},
		{"another column of a map", tlsSite("map {host} {backend} {who} {\nlocalhost b1 {http.auth.user.id}\ndefault b0 none\n}\nrewrite * /{backend}{uri}\n{htpasswd}\nrespond \"{http.request.uri.path} {who}\""), "/x", "/b1/x alice"},
		{"map in a handle beside", tlsSite("handle /a/* {\nmap {http.auth.user.id} {who} {\nalice A\n}\nrespond a\n}\nhandle {\nroot {dir}/{who}\n{htpasswd}\nrespond ok\n}"), "/", "ok"},
		{"error of the site", tlsSite("{htpasswd}\nerror {http.auth.user.id} 418\nhandle_errors {\nrespond {err.message}\n}"), "/", "alice"},
		{"proxy of the site", tlsSite("{htpasswd}\nreverse_proxy localhost:{http} {\nheader_up X-User {http.auth.user.id}\n}") + "http://localhost:{http} {\nrespond {header.X-User}\n}\n", "/", "alice"},
		{"errors", tlsSite("{htpasswd}\nfile_server {\nroot {dir}/home\n}\nhandle_errors {\nheader X-User {http.auth.user.id}\nrespond \"{err.status_code} {http.auth.user.id}\"\n}"), "/none", "404 alice"},
	} {
		t.Run(test.name, func(t *testing.T) {
			validated(t, s, test.config).wantNothing(t)
			if test.path == "" || t.Failed() {
				return
			}
			must(t, s.reload(strings.ReplaceAll(test.config, "{htpasswd}", "htpasswd {\n\tfile {dir}/users\n}")))
			if got := s.get(test.path, "alice", "secret1"); got.body != test.want {
				t.Errorf("got %d %q, want %q", got.status, got.body, test.want)
			} else if strings.HasPrefix(test.name, "header ") && strings.Contains(test.config, "X-User") && !strings.Contains(test.config, "request_header") && got.header.Get("X-User") != "alice" {
				t.Errorf("got X-User %q, want alice", got.header.Get("X-User"))
			}
		})
	}
}

// TestPlaceholderInJSON has configurations that no Caddyfile becomes.
func TestPlaceholderInJSON(t *testing.T) {
	s := checkedServer(t)
	const (
		login  = `{"handler":"htpasswd","files":["{dir}/users"]}`
		folder = `{"handler":"vars","root":"{dir}/{http.auth.user.id}"}`
	)
	for _, test := range []struct {
		name, routes string
		isRefused    bool
	}{
		{"route of another host before", `[{"match":[{"host":["a.localhost"]}],"handle":[` + folder + `]},{"match":[{"host":["b.localhost"]}],"handle":[` + login + `]}]`, false},
		{"answer of another host before", `[{"match":[{"host":["a.localhost"]}],"handle":[{"handler":"static_response","body":"{http.auth.user.id}"}]},{"match":[{"host":["b.localhost"]}],"handle":[` + login + `]}]`, false},
		{"route of the same host before", `[{"match":[{"host":["a.localhost"]}],"handle":[` + folder + `]},{"match":[{"host":["A.localhost"]}],"handle":[` + login + `]}]`, true},
		{"route of the same host before, in the same letters", `[{"match":[{"host":["a.localhost"]}],"handle":[` + folder + `]},{"match":[{"host":["a.localhost"]}],"handle":[` + login + `]}]`, true},
		{"early hints before", `[{"handle":[` + folder + `,{"handler":"static_response","status_code":103}]},{"handle":[` + login + `]}]`, true},
		{"route before", `[{"handle":[` + folder + `]},{"handle":[` + login + `]}]`, true},
		{"handler before in the route", `[{"handle":[` + folder + `,` + login + `]}]`, true},
		{"handler after in the route", `[{"handle":[` + login + `,` + folder + `]}]`, false},
		{"route before, terminal", `[{"match":[{"path":["/x"]}],"handle":[` + folder + `],"terminal":true},{"handle":[` + login + `]}]`, false},
		{"route before, terminal, with its matcher", `[{"match":[{"vars":{"{http.auth.user.id}":["alice"]}}],"handle":[],"terminal":true},{"handle":[` + login + `]}]`, true},
		{"route before, in the same group", `[{"group":"g","match":[{"path":["/x"]}],"handle":[` + folder + `]},{"group":"g","handle":[` + login + `]}]`, false},
		{"route before, in another group", `[{"group":"f","match":[{"path":["/x"]}],"handle":[` + folder + `]},{"group":"g","handle":[` + login + `]}]`, true},
		{"second of the same kind in one route", `[{"handle":[{"handler":"subroute","routes":[{"handle":[` + login + `]}]},{"handler":"subroute","routes":[{"handle":[` + folder + `,` + login + `]}]}]}]`, false},
		{"escaped", `[{"handle":[{"handler":"vars","root":"/x/\u007bhttp.auth\u002euser.id}"},` + login + `]}]`, true},
		{"escaped in a matcher", `[{"match":[{"header":{"X":["\u007bhttp.auth.user.id}"]}}],"handle":[` + login + `]}]`, true},
		{"path of everything is no condition", `[{"match":[{"path":["/*"]}],"handle":[` + login + `]},{"handle":[` + folder + `,` + login + `]}]`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, err := s.adapt(tlsSite("respond ok"))
			must(t, err)
			text := strings.Replace(string(config), `"routes":[`, `"routes":`+strings.ReplaceAll(test.routes, "{dir}", s.dir)+`,"ignored":[`, 1)
			var root map[string]any
			must(t, json.Unmarshal([]byte(text), &root))
			server := root["apps"].(map[string]any)["http"].(map[string]any)["servers"].(map[string]any)["srv0"].(map[string]any)
			delete(server, "ignored")
			server["tls_connection_policies"] = []any{map[string]any{}}
			config, err = json.Marshal(root)
			must(t, err)
			if strings.Contains(test.routes, `\u007b`) { // Marshal has written it as a brace
				config = []byte(strings.ReplaceAll(string(config), "{http.auth.user.id}", `\u007bhttp.auth.user.id}`))
			}
			v := validatedJSON(t, s, config)
			if test.isRefused {
				v.wantRefusal(t, "{http.auth.user.id}")
			} else {
				v.wantNothing(t)
			}
		})
	}
}

package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// logLine is a line of Caddy's log.
type logLine map[string]any

func (l logLine) String() string {
	text, _ := json.Marshal(l)
	return string(text)
}

// validation is what "caddy validate" says about a configuration.
type validation struct {
	err   error
	lines []logLine // of this module
}

// validated loads a configuration as "caddy validate" does. In a Caddyfile,
// {htpasswd} is a whole directive; what begins with { is JSON.
func validated(t *testing.T, s *server, config string) validation {
	t.Helper()
	text, err := s.adapt(strings.ReplaceAll(config, "{htpasswd}", "htpasswd {\n\tfile {dir}/users\n}"))
	if err != nil {
		return validation{err: err}
	}
	return validatedJSON(t, s, text)
}

func validatedJSON(t *testing.T, s *server, text []byte) validation {
	t.Helper()
	before, _ := os.ReadFile(filepath.Join(s.dir, "log")) // none yet
	var cfg caddy.Config
	must(t, json.Unmarshal(text, &cfg))
	v := validation{err: caddy.Validate(&cfg)}
	for line := range strings.Lines(s.log()[len(before):]) {
		var l logLine
		must(t, json.Unmarshal([]byte(line), &l))
		if logger, _ := l["logger"].(string); logger == "http.handlers.htpasswd" || logger == "upstream_groups" {
			v.lines = append(v.lines, l)
		}
	}
	return v
}

// warnings are the lines of level WARN but those about the test's own files.
func (v validation) warnings() (found []string) {
	for _, line := range v.lines {
		if line["level"] == "warn" && !strings.Contains(fmt.Sprint(line["msg"]), "weak password") {
			found = append(found, line.String())
		}
	}
	return found
}

func (v validation) infos() (found []logLine) {
	for _, line := range v.lines {
		if line["msg"] == "requests need a password" {
			found = append(found, line)
		}
	}
	return found
}

// wantNothing is for configurations that load without a warning.
func (v validation) wantNothing(t *testing.T) {
	t.Helper()
	if v.err != nil {
		t.Errorf("refused: %v", v.err)
	}
	if got := v.warnings(); len(got) > 0 {
		t.Errorf("got warnings, want none:\n%s", strings.Join(got, "\n"))
	}
}

// wantWarning is for configurations that load with one warning, with all of texts in it.
func (v validation) wantWarning(t *testing.T, texts ...string) {
	t.Helper()
	if v.err != nil {
		t.Errorf("refused: %v", v.err)
	}
	got := v.warnings()
	if len(got) != 1 {
		t.Errorf("got %d warnings, want 1:\n%s", len(got), strings.Join(got, "\n"))
		return
	}
	for _, text := range texts {
		if !strings.Contains(got[0], text) {
			t.Errorf("no %q in the warning: %s", text, got[0])
		}
	}
}

// wantRefusal is for configurations that do not load; all of texts are in the error.
func (v validation) wantRefusal(t *testing.T, texts ...string) {
	t.Helper()
	if v.err == nil {
		t.Fatal("loaded, want a refusal")
	}
	for _, text := range texts {
		if !strings.Contains(v.err.Error(), text) {
			t.Errorf("no %q in the error: %v", text, v.err)
		}
	}
}

// checkedServer is one in whose directory is a file users with alice and bob, both
// with the password secret1.
func checkedServer(t *testing.T) *server {
	t.Helper()
	s := startServer(t, "")
	s.write("users", "alice:"+toolSHA+"\nbob:"+toolSHA+"\n")
	return s
}

func tlsSite(body string) string { return "https://localhost:{https} {\n" + body + "\n}\n" }

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
		{"header at once", tlsSite("header X-User {http.auth.user.id}\n{htpasswd}"), []string{"'header'", "header >Field"}},
		{"header added at once", tlsSite("header +X-User {http.auth.user.id}\n{htpasswd}"), []string{"'header'"}},
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
		{"log_append at once", tlsSite("log_append <who {http.auth.user.id}\n{htpasswd}"), []string{"'log_append'"}},
		{"exemption", tlsSite("htpasswd {\nfile {dir}/users\nexempt vars {http.auth.user.id} \"\"\n}"), []string{"'htpasswd'", "its own block"}},
		{"route before, deep inside", tlsSite("route {\nroute {\nroute {\nroot {dir}/{http.auth.user.id}\n}\n}\nroute {\nroute {\n{htpasswd}\n}\n}\n}"), []string{"'root'"}},
		{"named route", "&(private) {\nroute {\nroot {dir}/{http.auth.user.id}\n{htpasswd}\nfile_server\n}\n}\n" + tlsSite("invoke private"), []string{"'root'"}},
		{"before the named route", "&(private) {\nroute {\n{htpasswd}\nfile_server\n}\n}\n" + tlsSite("root {dir}/{http.auth.user.id}\ninvoke private"), []string{"'root'"}},
		{"before the second call of the named route", "&(private) {\nroute {\n{htpasswd}\nfile_server\n}\n}\n" + tlsSite("handle /a/* {\ninvoke private\n}\nhandle {\nroot {dir}/{http.auth.user.id}\ninvoke private\n}"), []string{"'root'"}},
		{"second site of the server", tlsSite("respond open") + "https://127.0.0.1:{https} {\nroot {dir}/{http.auth.user.id}\n{htpasswd}\nfile_server\n}\n", []string{"'root'", "127.0.0.1"}},
		{"behind two more in one route", tlsSite("route {\nheader X-A b\nroot {dir}/{http.auth.user.id}\n{htpasswd}\n{htpasswd}\n}"), []string{"'root'"}},
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

// identityHandler stands for a handler of somebody else's.
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
		{"handler of somebody else's before", tlsSite("route {\ntest_identity\nroot {dir}/{http.auth.user.id}\n{htpasswd}\n}"), "root"},
		{"handler of somebody else's", tlsSite("route {\ntest_identity {http.auth.user.id}\n{htpasswd}\n}"), "test_identity"},
		{"variable that sets the user", tlsSite("route {\nvars http.auth.user.id eve\nroot {dir}/{http.auth.user.id}\n{htpasswd}\n}"), "root"},
		{"login in one of several handle", tlsSite("route {\nhandle /a/* {\n{htpasswd}\n}\nhandle {\nheader X-A b\n}\nroot {dir}/{http.auth.user.id}\n{htpasswd}\n}"), "root"},
		{"errors", tlsSite("{htpasswd}\nhandle_errors {\nheader X-User {http.auth.user.id}\n{htpasswd}\n}"), "header"},
		{"matcher after logins in each of several handle", tlsSite("route {\nhandle /a/* {\n{htpasswd}\n}\nhandle {\n{htpasswd}\n}\n@alice vars {http.auth.user.id} alice\nrequest_header @alice X-Admin yes\nhtpasswd /admin/* {\nfile {dir}/users\n}\n}"), "the matcher 'vars"},
		{"one column of a map, for some requests", tlsSite("map {host} {backend} {who} {\nlocalhost b1 {http.auth.user.id}\ndefault b0 none\n}\nrewrite /{who}{uri}\n{htpasswd}"), "rewrite"},
		{"default of a map", tlsSite("map {path} {folder} {\n/x y\ndefault {http.auth.user.id}\n}\nroot {dir}/{folder}\n{htpasswd}"), "root"},
		{"map of a map, for some requests", tlsSite("map {path} {a} {\n/x {http.auth.user.id}\n}\nmap {a} {b} {\na b\n}\nroot {dir}/{b}\n{htpasswd}"), "root"},
		{"map with some rows of the user, in a handle without them", tlsSite("map {path} {folder} {\n~^/home/ users/{http.auth.user.id}\ndefault static\n}\nhandle {\nheader X-Dir {folder}\nroute {\n{htpasswd}\nrespond ok\n}\n}"), "header"},
		{"variable for other paths than the login", tlsSite("route {\nvars /a/* who {http.auth.user.id}\nhtpasswd /b/* {\nfile {dir}/users\n}\n}"), "vars"},
		{"variable for paths that are perhaps exempt", tlsSite("route {\nvars /a/* who {http.auth.user.id}\nhtpasswd {\nfile {dir}/users\nexempt /a/*\n}\n}"), "vars"},
		{"proxy that may pass some answers on", tlsSite("route {\nreverse_proxy /a/* localhost:9 {\nheader_up X-User {http.auth.user.id}\n@ok status 2xx\nhandle_response @ok {\nheader X-A b\n}\n}\n{htpasswd}\n}"), "reverse_proxy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			validated(t, s, test.config).wantWarning(t, "perhaps no user is verified", `"used_in":"`, test.directive+`'"`, "{")
		})
	}
}

// TestPlaceholderOnOpenPage has uses from which no request gets to the login. The
// page may be meant to be open, and a user of the same name may log in elsewhere.
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
		{"the same proxy for an open page and behind the login", tlsSite("route /public/* {\n" + proxy + "}\nroute {\n{htpasswd}\n" + proxy + "}"), "reverse_proxy"},
		{"the same scripts for an open page and behind the login", tlsSite("root /srv\nroute /public/* {\n" + php + "}\nroute {\n{htpasswd}\n" + php + "}"), "reverse_proxy"},
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
			v.wantWarning(t, "placeholder is empty here", `"used_in":"'`+test.directive+`'"`, "{http.auth.user.id}")
		})
	}
}

// TestOpenPageOfProxy asks for an open page and for one behind the login, which
// one proxy serves.
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

// TestPlaceholderAfterLogin has configurations that must load, and what they answer alice.
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

// TestPlaceholderInJSON has what a Caddyfile does not become.
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

func TestExemptEverything(t *testing.T) {
	s := checkedServer(t)
	for _, test := range []struct {
		name, matcher string
		want          matcherReach
	}{
		{"encrypted requests", `{"protocol":"https"}`, reachEverything},
		{"requests that are not encrypted", `{"protocol":"http"}`, reachChosen},
		{"all versions of HTTP", `{"protocol":"http/1.0+"}`, reachEverything},
		{"one version of HTTP", `{"protocol":"http/2"}`, reachChosen},
		{"gRPC", `{"protocol":"grpc"}`, reachChosen},
		{"regular expression of anything", `{"path_regexp":{"pattern":".*"}}`, reachEverything},
		{"regular expression of a slash", `{"path_regexp":{"pattern":"^/"}}`, reachEverything},
		{"regular expression from begin to end", `{"path_regexp":{"pattern":"^/(.*)$"}}`, reachEverything},
		{"regular expression of one character", `{"path_regexp":{"pattern":"."}}`, reachEverything},
		{"regular expression of several", `{"path_regexp":{"pattern":"^.+$"}}`, reachEverything},
		{"empty regular expression", `{"path_regexp":{"pattern":""}}`, reachEverything},
		{"regular expression with a choice of nothing", `{"path_regexp":{"pattern":"^(/x|)"}}`, reachEverything},
		{"regular expression of the home page", `{"path_regexp":{"pattern":"^/$"}}`, reachLimited},
		{"regular expression of a directory", `{"path_regexp":{"pattern":"^/public/"}}`, reachLimited},
		{"regular expression of files", `{"path_regexp":{"pattern":"\\.(css|js)$"}}`, reachLimited},
		{"regular expression of one name and all below", `{"path_regexp":{"pattern":"^/public(/.*)?$"}}`, reachLimited},
		{"expression that is true", `{"expression":"true"}`, reachEverything},
		{"expression that is true, as an object", `{"expression":{"expr":"(true)","name":"x"}}`, reachEverything},
		{"expression about a header", `{"expression":"{http.request.header.X} == 'y'"}`, reachChosen},
		{"expression about a path", `{"expression":"path('/public/*')"}`, reachLimited},
		{"expression about a method", `{"expression":"{http.request.method} == 'GET'"}`, reachLimited},
		{"expression about a certificate", `{"expression":"{http.request.tls.client.subject} != null"}`, reachLimited},
		{"not nothing", `{"not":[]}`, reachEverything},
		{"not a path", `{"not":[{"path":["/admin/*"]}]}`, reachLimited},
		{"not a header", `{"not":[{"header":{"X":["y"]}}]}`, reachChosen},
		{"not a path with a header", `{"not":[{"header":{"X":["y"]},"path":["/admin/*"]}]}`, reachChosen},
		{"neither a path nor a header", `{"not":[{"header":{"X":["y"]}},{"path":["/admin/*"]}]}`, reachLimited},
		{"not a path of an empty list", `{"not":[{"path":[]}]}`, reachEverything},
		{"not unencrypted", `{"not":[{"protocol":"http"}]}`, reachEverything},
		{"not not everything", `{"not":[{"not":[{"path":["/*"]}]}]}`, reachLimited},
		{"every path", `{"path":["/x","*"]}`, reachEverything},
		{"every path, twice", `{"path":["**"]}`, reachEverything},
		{"every path with a method", `{"path":["/*"],"method":["GET"]}`, reachLimited},
		{"every path with a header", `{"path":["/*"],"header":{"X":["y"]}}`, reachChosen},
		{"path with a header", `{"path":["/x/*"],"header":{"X":["y"]}}`, reachLimited},
		{"path", `{"path":["/public/*"]}`, reachLimited},
		{"methods", `{"method":["GET","HEAD"]}`, reachLimited},
		{"header", `{"header":{"X":["y"]}}`, reachChosen},
		{"no header in particular", `{"header":{}}`, reachEverything},
		{"no expression for a header", `{"header_regexp":{}}`, reachEverything},
		{"query", `{"query":{"token":["x"]}}`, reachChosen},
		{"all addresses", `{"remote_ip":{"ranges":["0.0.0.0/0","::/0"]}}`, reachEverything},
		{"all addresses of clients", `{"client_ip":{"ranges":["::/0","0.0.0.0/0"]}}`, reachEverything},
		{"all addresses of IPv4", `{"remote_ip":{"ranges":["0.0.0.0/0"]}}`, reachChosen},
		{"addresses", `{"remote_ip":{"ranges":["192.0.2.0/24"]}}`, reachLimited},
		{"name of the site", `{"host":["localhost"]}`, reachChosen},
		{"name of the site and another", `{"host":["other.example","localhost"]}`, reachChosen},
		{"name of the site with a path", `{"host":["localhost"],"path":["/x"]}`, reachLimited},
		{"another name", `{"host":["other.example"]}`, reachLimited},
		{"variable", `{"vars":{"x":["y"]}}`, reachChosen},
		{"existing file", `{"file":{}}`, reachChosen},
		{"nothing", `{}`, reachEverything},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, err := s.adapt(tlsSite("htpasswd {\nfile {dir}/users\nexempt /replaced\n}"))
			must(t, err)
			config = []byte(strings.Replace(string(config), `{"path":["/replaced"]}`, test.matcher, 1))
			switch v := validatedJSON(t, s, config); test.want {
			case reachEverything:
				v.wantRefusal(t, "exempt", "every request", "exempt /public/*")
			case reachChosen:
				v.wantWarning(t, "exempt may match every request", `"matcher"`)
			case reachLimited:
				v.wantNothing(t)
			}
		})
	}
}

// TestExemptInCaddyfile has those that are found where they stand.
func TestExemptInCaddyfile(t *testing.T) {
	for _, exempt := range []string{"protocol https", "path_regexp .*", "path_regexp any ^/", "expression true", "not path", "remote_ip 0.0.0.0/0 ::/0", "path /x *"} {
		_, err := adapted("https://localhost {\nhtpasswd {\nfile a\nexempt " + exempt + "\n}\n}\n")
		if err == nil || !strings.Contains(err.Error(), "exempt") {
			t.Errorf("exempt %s: got %v, want an error", exempt, err)
		}
	}
}

// TestExemptHostOfOneSite has lines that two sites have in common.
func TestExemptHostOfOneSite(t *testing.T) {
	s := checkedServer(t)
	const login = "htpasswd {\nfile {dir}/users\nexempt host localhost\n}\n"
	validated(t, s, tlsSite(login)+"https://127.0.0.1:{https} {\n"+login+"}\n").wantWarning(t, "exempt may match every request", `"hosts":["localhost"]`)
}

// TestExemptEncrypted has exemptions for the requests that come by TLS. Without
// allow_http nobody else can log in.
func TestExemptEncrypted(t *testing.T) {
	s := checkedServer(t)
	for _, exempt := range []string{"protocol https", "not protocol http"} {
		validated(t, s, tlsSite("htpasswd {\nfile {dir}/users\nexempt "+exempt+"\n}")).wantRefusal(t, "every request")
		validated(t, s, tlsSite("htpasswd {\nfile {dir}/users\nexempt "+exempt+"\nallow_http\n}")).wantWarning(t, "exempt may match every request")
	}
}

// TestExemptSecretNotLogged has matchers whose values are as good as a password.
func TestExemptSecretNotLogged(t *testing.T) {
	s := checkedServer(t)
	v := validated(t, s, tlsSite("@token {\nheader X-Token opensesame\nquery token=opensesame\nexpression `{header.X-Token} == \"opensesame\"`\nheader_regexp X-Token opensesame\n}\nhtpasswd {\nfile {dir}/users\nexempt @token\n}"))
	v.wantWarning(t, "exempt may match every request")
	for _, line := range v.lines { // Caddy logs whole configurations at the level DEBUG
		if strings.Contains(line.String(), "opensesame") {
			t.Errorf("the log has it: %s", line)
		}
	}
}

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
						t.Errorf("no %s in %s", field, line)
					}
				}
			}
		})
	}
}

// TestUnreachedIsWarnedOf: an htpasswd that stands behind a handler which always
// answers protects nothing.
func TestUnreachedIsWarnedOf(t *testing.T) {
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
				v.wantWarning(t, "htpasswd is never asked", `"server"`)
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
			t.Errorf("got %d lines after %d loads", got, n)
		}
	}
}

func TestPlainHTTPIsWarnedOf(t *testing.T) {
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
		{"behind a proxy of this machine", "{\nservers {\ntrusted_proxies_unix\n}\n}\n:{http} {\n{htpasswd}\n}\n", false},
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

func TestGroupNameElsewhereIsWarnedOf(t *testing.T) {
	s := checkedServer(t)
	const group = "{\nupstream app {\nserver localhost:9\n}\nupstream other {\nserver localhost:9\n}\n}\n"
	for _, test := range []struct {
		name, body, upstream string
	}{
		{"reverse_proxy", "reverse_proxy app", "app:80"},
		{"reverse_proxy, as a URL", "reverse_proxy http://app", "app:80"},
		{"reverse_proxy, among others", "reverse_proxy localhost:9 {\nto app\n}", "app:80"},
		{"reverse_proxy beside a proxy_pass", "proxy_pass app\nreverse_proxy /x other", "other:80"},
		{"forward_auth", "forward_auth app {\nuri /auth\n}", "app:80"},
		{"php_fastcgi", "php_fastcgi app", "app:80"},
		{"in a handle", "handle /x/* {\nreverse_proxy app\n}", "app:80"},
		{"in what follows an answer", "reverse_proxy localhost:9 {\n@no status 404\nhandle_response @no {\nreverse_proxy app\n}\n}", "app:80"},
		{"in an error route", "handle_errors {\nreverse_proxy app\n}", "app:80"},
		{"twice in a site", "reverse_proxy /a app\nreverse_proxy /b app", "app:80"},
		{"proxy_pass", "proxy_pass app", ""},
		{"port of its own", "reverse_proxy app:8080", ""},
		{"longer name", "reverse_proxy app.example", ""},
		{"address", "reverse_proxy localhost:9", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := validated(t, s, group+"http://localhost:{http} {\n"+test.body+"\n}\n")
			if test.upstream != "" {
				v.wantWarning(t, "upstream has the name of an upstream group", "proxy_pass", `"upstream":"`+test.upstream+`"`)
			} else {
				v.wantNothing(t)
			}
		})
	}
	t.Run("group with a server of its name", func(t *testing.T) {
		validated(t, s, "{\nupstream app {\nserver app\n}\n}\nhttp://localhost:{http} {\nproxy_pass app\n}\n").wantNothing(t)
	})
	t.Run("in a named route", func(t *testing.T) {
		validated(t, s, group+"&(p) {\nreverse_proxy app\n}\nhttp://localhost:{http} {\ninvoke p\n}\n").wantWarning(t, "app:80")
	})
	t.Run("groups alone", func(t *testing.T) {
		validated(t, s, group+"http://localhost:{http} {\nrespond ok\n}\n").wantNothing(t)
	})
}

func TestExactPathIsWarnedOf(t *testing.T) {
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
		{"name of a file", login("/wp-login.php") + "respond ok", ""},
		{"handle of that path", "handle /admin {\n" + login("") + "respond ok\n}", ""},
		{"only one handler for that path", login("/metrics") + "metrics /metrics", ""},
		{"only one handler for that path, and one between", login("/metrics") + "encode gzip\nmetrics /metrics", ""},
		{"star for everything", login("*") + "respond ok", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := validated(t, s, tlsSite(test.body))
			if test.path != "" {
				v.wantWarning(t, "this one path only", `"path":"`+test.path+`"`, `"write":"`+test.path+`*"`)
			} else {
				v.wantNothing(t)
			}
		})
	}
}

func TestRequireNobodyIsWarnedOf(t *testing.T) {
	s := checkedServer(t)
	s.write("more", "carol:"+toolSHA+"\n")
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

func TestServedPasswordFileIsWarnedOf(t *testing.T) {
	s := checkedServer(t)
	must(t, os.MkdirAll(filepath.Join(s.dir, "site", "private"), 0o755))
	must(t, os.Mkdir(filepath.Join(s.dir, "conf"), 0o755))
	s.write("site/.htpasswd", "alice:"+toolSHA+"\n")
	s.write("site/private/.htpasswd", "alice:"+toolSHA+"\n")
	s.write("site/.htgroups", "staff: alice\n")
	s.write("conf/users", "alice:"+toolSHA+"\n")
	login := func(file string) string { return "htpasswd {\nfile {dir}/" + file + "\n}\n" }
	for _, test := range []struct {
		name, config, want string
	}{
		{"in the root", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "file_server"), "site/.htpasswd"},
		{"below the root", tlsSite("root {dir}/site\n" + login("site/private/.htpasswd") + "file_server"), "site/private/.htpasswd"},
		{"group file in the root", tlsSite("root {dir}/site\nhtpasswd {\nfile {dir}/conf/users\ngroup_file {dir}/site/.htgroups\n}\nfile_server"), "site/.htgroups"},
		{"root of the file server", tlsSite(login("site/.htpasswd") + "file_server {\nroot {dir}/site\n}"), "site/.htpasswd"},
		{"file server in another handle", tlsSite("root {dir}/site\nhandle /x/* {\n" + login("site/.htpasswd") + "}\nhandle {\nfile_server\n}"), "site/.htpasswd"},
		{"file server before", tlsSite("route {\nhandle_path /x/* {\nfile_server {\nroot {dir}/site\n}\n}\n" + login("site/.htpasswd") + "}"), "site/.htpasswd"},
		{"file server for paths that lead elsewhere", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "file_server /static/*"), ""},
		{"file server for other files", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "@a path /a /b/.htpasswd\nfile_server @a"), ""},
		{"file server for paths that lead to it", tlsSite("root {dir}/site\n" + login("site/private/.htpasswd") + "file_server /Private/*"), "site/private/.htpasswd"},
		{"file server after paths that are rewritten and answered", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "route {\nhandle_path /x/* {\nrespond x\n}\nroute /y/* {\nfile_server\n}\n}"), ""},
		{"file server for a pattern", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "@a path *.txt */.ht*\nfile_server @a"), "site/.htpasswd"},
		{"file server for paths that are rewritten", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "handle /x/* {\nuri strip_prefix /x\nfile_server\n}"), "site/.htpasswd"},
		{"file server for paths that were rewritten before", tlsSite("route {\n" + login("site/.htpasswd") + "route /x/* {\nuri strip_prefix /x\nfile_server {\nroot {dir}/site\n}\n}\n}"), "site/.htpasswd"},
		{"root for some paths", tlsSite("root {dir}/conf\nroot /x/* {dir}/site\n" + login("site/.htpasswd") + "file_server"), "site/.htpasswd"},
		{"another site", tlsSite("root {dir}/site\nfile_server") + "https://127.0.0.1:{https} {\n" + login("site/.htpasswd") + "}\n", "site/.htpasswd"},
		{"file server in a named route", "&(files) {\nfile_server\n}\n" + tlsSite("root {dir}/site\n"+login("site/.htpasswd")+"invoke files"), "site/.htpasswd"},
		{"two sites, one hides it", tlsSite("root {dir}/site\n"+login("site/.htpasswd")+"file_server {\nhide .ht*\n}") + "https://127.0.0.1:{https} {\nroot {dir}/site\nfile_server\n}\n", "site/.htpasswd"},
		{"hidden by its name", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "file_server {\nhide .htpasswd\n}"), ""},
		{"hidden by a pattern", tlsSite("root {dir}/site\n" + login("site/private/.htpasswd") + "file_server {\nhide .ht*\n}"), ""},
		{"hidden with its directory", tlsSite("root {dir}/site\n" + login("site/private/.htpasswd") + "file_server {\nhide {dir}/site/private\n}"), ""},
		{"beside the root", tlsSite("root {dir}/site\n" + login("conf/users") + "file_server"), ""},
		{"no file server", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "respond ok"), ""},
		{"root with a placeholder", tlsSite("root {dir}/{host}\n" + login("site/.htpasswd") + "file_server"), ""},
		{"pages for errors", tlsSite(login("site/.htpasswd") + "handle_errors {\nfile_server\n}"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := validated(t, s, test.config)
			if test.want != "" {
				v.wantWarning(t, "below the root of a file_server", "hide", `"file":"`+filepath.Join(s.dir, test.want)+`"`)
			} else {
				v.wantNothing(t)
			}
		})
	}
}

// TestHiddenAsCaddyHides asks Caddy for files that are taken for hidden, or not.
func TestHiddenAsCaddyHides(t *testing.T) {
	s := checkedServer(t)
	must(t, os.MkdirAll(filepath.Join(s.dir, "site", "private"), 0o755))
	for _, file := range []string{".htpasswd", "users.txt", "private/.htpasswd", "private/users"} {
		s.write("site/"+file, "text")
	}
	for _, hide := range []string{".htpasswd", ".ht*", "*.txt", "private", "{dir}/site/private", "{dir}/site/*.txt", "{dir}/site/priv", "{dir}/site/private/", "[", "*"} {
		hide = strings.ReplaceAll(hide, "{dir}", s.dir)
		must(t, s.reload(tlsSite("root {dir}/site\nfile_server {\nhide "+hide+"\n}")))
		for _, file := range []string{".htpasswd", "users.txt", "private/.htpasswd", "private/users"} {
			isServed := s.get("/"+file, "", "").status == http.StatusOK
			if isServed == isHidden(filepath.Join(s.dir, "site", file), []string{hide}) {
				t.Errorf("hide %s: %s: served %t, want the opposite of hidden", hide, file, isServed)
			}
		}
	}
}

// TestOddJSON has configurations that Caddy refuses by itself or that name nobody:
// the checks must pass over them.
func TestOddJSON(t *testing.T) {
	s := checkedServer(t)
	login := `{"handler":"htpasswd","files":["` + s.dir + `/users"]}`
	for _, routes := range []string{
		`null`, `[]`, `[{}]`, `[{"handle":[]}]`, `[{"handle":[null]}]`, `[{"handle":[1]}]`, `[{"handle":[{}]}]`, `[{"match":[null],"handle":[` + login + `]}]`,
		`[{"match":[{}],"handle":[` + login + `]}]`, `[{"match":[{"path":1}],"handle":[` + login + `]}]`, `[{"handle":[` + login + `,{"handler":"vars","root":1}]}]`,
		`[{"handle":[` + login + `,{"handler":"subroute"}]}]`, `[{"handle":[` + login + `,{"handler":"subroute","routes":1}]}]`, `[{"handle":[` + login + `,{"handler":"subroute","errors":null,"routes":[{}]}]}]`,
		`[{"handle":[` + login + `,{"handler":"reverse_proxy","handle_response":[{}]}]}]`, `[{"handle":[` + login + `,{"handler":"reverse_proxy","upstreams":[null],"handle_response":1}]}]`,
		`[{"handle":[` + login + `,{"handler":"invoke"}]}]`, `[{"handle":[` + login + `,{"handler":"invoke","name":"none"}]}]`, `[{"handle":[` + login + `,{"handler":"file_server","hide":1,"root":{}}]}]`,
		`[{"handle":[` + login + `,{"handler":"headers","response":1}]}]`, `[{"handle":[` + login + `,{"handler":"map","destinations":1}]}]`, `[{"handle":[{"handler":"test_identity","note":"htpasswd"},` + login + `]}]`,
		`[{"handle":[{"handler":"htpasswd"}]}]`, `[{"handle":[{"handler":"htpasswd","files":1}]}]`, `[{"handle":[{"handler":"htpasswd","exempt":[null],"files":["x"]}]}]`,
	} {
		text := `{"admin":{"disabled":true},"logging":{"logs":{"default":{"writer":{"output":"file","filename":"` + s.dir + `/log"}}}},` +
			`"apps":{"upstream_groups":{"groups":["a"]},"http":{"servers":{"s":{"listen":["127.0.0.1:0"],"routes":` + routes + `,"named_routes":{"x":{"handle":[` + login + `,{"handler":"invoke","name":"x"}]}}}}}}}`
		var cfg caddy.Config
		if json.Unmarshal([]byte(text), &cfg) != nil {
			continue
		}
		_ = caddy.Validate(&cfg) // must not panic
	}
}

// guardingHandler is a loaded handler around another.
type guardingHandler struct{ inner any }

func (g guardingHandler) guarded() any { return g.inner }

func (guardingHandler) ServeHTTP(http.ResponseWriter, *http.Request, caddyhttp.Handler) error {
	return nil
}

// TestGuardedProxy looks through a handler around a reverse_proxy, loaded or not.
func TestGuardedProxy(t *testing.T) {
	const (
		proxy = `{"handler":"reverse_proxy","headers":{"request":{"set":{"X-User":["{http.auth.user.id}"]}}}}`
		login = `{"handler":"htpasswd","files":["x"]}`
	)
	raw := caddyhttp.Route{HandlersRaw: []json.RawMessage{[]byte(`{"handler":"proxy_pass","group":"g","proxy":` + proxy + `}`)}}
	handler := new(reverseproxy.Handler)
	must(t, json.Unmarshal([]byte(strings.Replace(proxy, `"handler":"reverse_proxy",`, "", 1)), handler))
	loaded := caddyhttp.Route{Handlers: []caddyhttp.MiddlewareHandler{guardingHandler{handler}}}
	inside := caddyhttp.Route{HandlersRaw: []json.RawMessage{[]byte(`{"handler":"proxy_pass","proxy":{"handler":"reverse_proxy","handle_response":[{"routes":[{"handle":[` + login + `]}]}]}}`)}}
	last := caddyhttp.Route{HandlersRaw: []json.RawMessage{[]byte(login)}}
	for _, route := range []caddyhttp.Route{raw, loaded} {
		walk := walkSites(&caddyhttp.App{Servers: map[string]*caddyhttp.Server{"s": {Routes: caddyhttp.RouteList{route, last}}}})
		if len(walk.uncertain) != 1 || walk.uncertain[0].directive != "reverse_proxy" {
			t.Errorf("got %v, want one about reverse_proxy", walk.uncertain)
		}
	}
	walk := walkSites(&caddyhttp.App{Servers: map[string]*caddyhttp.Server{"s": {Routes: caddyhttp.RouteList{inside}}}})
	if walk.refusal != nil || len(walk.findings) != 1 {
		t.Errorf("got %d findings and %v, want 1", len(walk.findings), walk.refusal)
	}
}

// TestLargeConfiguration looks at sites with many routes: the work must not grow
// with the square of their number. Memory is a measure of it that no other
// program of the machine can disturb.
func TestLargeConfiguration(t *testing.T) {
	const (
		login = `{"handler":"htpasswd","files":["x"]}`
		use   = `{"handler":"vars","who":"{http.auth.user.id}"}`
	)
	for _, test := range []struct {
		name, route string // N is a number, M the same half of the list later
	}{
		{"handle blocks with a login", `{"group":"g","match":[{"path":["/aN/*"]}],"handle":[{"handler":"subroute","routes":[{"handle":[{"handler":"vars","root":"/srv"}]},{"handle":[` + login + `,{"handler":"reverse_proxy"}]}]}]}`},
		{"early uses in groups of their own", `{"group":"gN","match":[{"path":["/aN"]}],"handle":[` + use + `]}`},
		{"early uses in groups that overlap", `{"group":"gN","match":[{"path":["/aN"]}],"handle":[` + use + `]},{"group":"gM","match":[{"path":["/bN"]}],"handle":[` + use + `]}`},
		{"early uses in one group", `{"group":"g","match":[{"path":["/aN"]}],"handle":[` + use + `]}`},
		{"early uses in blocks", `{"match":[{"path":["/aN"]}],"handle":[{"handler":"subroute","routes":[{"handle":[` + use + `]},{"handle":[` + use + `]}]}]}`},
		{"early uses, each before a login", `{"match":[{"path":["/aN"]}],"handle":[` + use + `]},{"match":[{"path":["/bN"]}],"handle":[` + login + `]}`},
		{"early uses before calls of a named route", `{"match":[{"path":["/aN"]}],"handle":[` + use + `,{"handler":"invoke","name":"login"}]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			walk := func(n int) uint64 {
				routes := make([]string, 0, n)
				for i := range n {
					routes = append(routes, strings.NewReplacer("N", strconv.Itoa(i), "M", strconv.Itoa((i+n/2)%n)).Replace(test.route))
				}
				server := new(caddyhttp.Server)
				must(t, json.Unmarshal([]byte(`{"routes":[`+strings.Join(routes, ",")+`,{"match":[{"path":["/z"]}],"handle":[`+login+`]}],"named_routes":{"login":{"handle":[`+login+`]}}}`), server))
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				walk := walkSites(&caddyhttp.App{Servers: map[string]*caddyhttp.Server{"s": server}})
				runtime.ReadMemStats(&after)
				if got, want := len(walk.uncertain), strings.Count(test.route, use)*n; walk.refusal == nil && got != want {
					t.Errorf("got %d early uses, want %d", got, want)
				}
				return after.TotalAlloc - before.TotalAlloc
			}
			walk(10)
			small, large := walk(250), walk(2000)
			if large > 12*small { // eight times as many
				t.Errorf("%d bytes for 250, but %d for 2000", small, large)
			}
		})
	}
}

// FuzzWalkSites looks at routes that nobody would write.
func FuzzWalkSites(f *testing.F) {
	for _, routes := range []string{
		`[{"handle":[{"handler":"htpasswd","files":["x"]}]}]`,
		`[{"match":[{"path":["/a"]},{"not":[{"header":{"X":["{http.auth.user.id}"]}}]}],"handle":[{"handler":"subroute","routes":[{"group":"g","terminal":true,"handle":[{"handler":"vars","root":"/x"}]}],"errors":{"routes":[{}]}}]}]`,
		`[{"handle":[{"handler":"reverse_proxy","handle_response":[{"routes":[{"handle":[{"handler":"invoke","name":"x"}]}]}]},{"handler":"map","source":"{http.auth.user.id}","destinations":["{a}"]},{"handler":"proxy_pass","proxy":{"handler":"reverse_proxy"}}]}]`,
		`[{"handle":[{"handler":"headers","response":{"deferred":true}},{"handler":"log_append","early":true},{"handler":"file_server","root":"{a}","hide":["/x"]},{"handler":"other","x":{"handler":"htpasswd"}}]}]`,
	} {
		f.Add([]byte(routes))
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		var routes caddyhttp.RouteList
		if json.Unmarshal(text, &routes) != nil {
			return
		}
		walk := walkSites(&caddyhttp.App{Servers: map[string]*caddyhttp.Server{"s": {
			Routes:      routes,
			Errors:      &caddyhttp.HTTPErrorConfig{Routes: routes},
			NamedRoutes: map[string]*caddyhttp.Route{"x": {HandlersRaw: []json.RawMessage{[]byte(`{"handler":"subroute","routes":` + string(text) + `}`)}}},
		}}})
		for _, finding := range walk.findings {
			_ = describeSets(finding.ExemptRaw)
			for _, set := range finding.ExemptRaw {
				_ = reachOf(set, true)
			}
		}
	})
}

// TestGroupDefinitionsAreForgotten adapts many Caddyfiles: what directives need
// of the global option must not stay in memory.
func TestGroupDefinitionsAreForgotten(t *testing.T) {
	count := func() (n int) {
		definedGroups.Range(func(any, any) bool { n++; return true })
		return n
	}
	for range 100 {
		_, err := adapted("{\nupstream a {\nserver localhost:9\n}\nupstream b {\nserver localhost:9\n}\n}\n:80 {\nproxy_pass a\nproxy_pass /b b\n}\n")
		must(t, err)
	}
	eventually(t, "the definitions are gone", func() bool {
		runtime.GC()
		return count() == 0
	})
}

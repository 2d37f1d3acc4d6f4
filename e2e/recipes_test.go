package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

var _ = ranBy("TestRecipeLoginService", "location / {")

const recipesPage = "../docs/recipes.md"

// recipeText returns a Caddyfile of a recipe, with changes in pairs.
func recipeText(t *testing.T, heading string, i int, change ...string) string {
	t.Helper()
	found := sectionBlocks(t, recipesPage, heading, "caddyfile")
	if i >= len(found) {
		t.Fatalf("%s: got %d Caddyfiles, want more than %d", heading, len(found), i)
	}
	text := found[i]
	for i := 0; i < len(change); i += 2 {
		if !strings.Contains(text, change[i]) {
			t.Errorf("%s: got no %q to change", heading, change[i])
		}
		text = strings.ReplaceAll(text, change[i], change[i+1])
	}
	return text
}

// recipe runs a Caddyfile of a recipe, with changes in pairs.
func recipe(t *testing.T, heading string, i int, change ...string) (*server, docsClient) {
	t.Helper()
	return docsSite(t, recipeText(t, heading, i, change...))
}

// expect sends requests and compares the status, and the body if the row has one.
func (c docsClient) expect(requests []asked) {
	c.t.Helper()
	for _, a := range requests {
		got := c.must(a)
		if got.Status != a.want || a.sees != "" && got.Body != a.sees {
			c.t.Errorf("%s %s as %q from %s with %q: got %d %q, want %d %q", a.method, a.path, a.login, a.from, a.header, got.Status, got.Body, a.want, a.sees)
		}
	}
}

// TestRecipes runs the recipes that need nothing but a site and its application.
func TestRecipes(t *testing.T) {
	parallel(t)
	for _, row := range []struct {
		heading  string
		change   []string
		requests []asked
	}{
		{"Open paths", nil, []asked{
			{path: "/", want: 401},
			{path: "/", login: asAlice, want: 200},
			{path: "/public/x", want: 200},
			{path: "/public/x", login: asAlice, header: "X-Remote-User: root", want: 200},
			{path: "/public/../x", want: 401},
			{path: "/public/..%2fx", want: 401},
			{path: "/public", want: 401},
			{path: "/favicon.ico", want: 200},
			{path: "/favicon.ico/x", want: 401},
		}},
		{"A health check without a password", nil, []asked{
			{path: "/health", want: 401},
			{path: "/health", from: "127.0.0.2", want: 200},
			{path: "/health", from: "127.0.0.2", method: "HEAD", want: 200},
			{path: "/health", from: "127.0.0.2", method: "POST", want: 401},
			{path: "/health/x", from: "127.0.0.2", want: 401},
			{path: "/", from: "127.0.0.2", want: 401},
		}},
		{"Office addresses without a password", nil, []asked{
			{path: "/", want: 401},
			{path: "/", login: asAlice, want: 200},
			{path: "/", from: "127.0.0.2", want: 200},
			{path: "/", header: "X-Forwarded-For: 127.0.0.2", want: 401},
		}},
		{"Several areas with different users", []string{"/etc/caddy/customers.htpasswd", "/etc/caddy/.htpasswd"}, []asked{
			{path: "/", want: 200, sees: "This page is open."},
			{path: "/admin", want: 401},
			{path: "/admin/x", want: 401},
			{path: "/administrator", want: 401},
			{path: "/admin/x", login: asAlice, want: 200},
			{path: "/admin/x", login: "bob:builder", want: 403},
			{path: "/customers/x", want: 401},
			{path: "/customers/x", login: "bob:builder", want: 200},
		}},
		{"Several areas with different users", []string{"/admin*", "/admin", "/etc/caddy/customers.htpasswd", "/etc/caddy/.htpasswd"}, []asked{
			{path: "/admin", want: 401},
			{path: "/admin/x", want: 200, sees: "This page is open."}, // as the text says
		}},
		{"Permissions by method", []string{"group staff admins", "group staff readers"}, []asked{
			{path: "/", want: 401},
			{path: "/", login: asAlice, want: 200},
			{path: "/", method: "OPTIONS", login: asAlice, want: 200},
			{path: "/", method: "PUT", login: asAlice, want: 200}, // in both groups
			{path: "/", login: "bob:builder", want: 403},
			{path: "/", method: "PUT", login: "bob:builder", want: 403},
			{path: "/", method: "BREW", want: 401},
		}},
		{"Permissions by method", []string{"require group admins", "require user bob"}, []asked{
			{path: "/", login: asAlice, want: 200},
			{path: "/", method: "PUT", login: asAlice, want: 403},
			{path: "/", method: "BREW", login: asAlice, want: 403},
			{path: "/", method: "OPTIONS", login: asAlice, want: 200},
		}},
	} {
		t.Run(row.heading, func(t *testing.T) {
			_, c := recipe(t, row.heading, 0, row.change...)
			c.expect(row.requests)
		})
	}
}

// TestRecipeUserDirectories runs the recipe, and then without its route block and
// without the last part of its path.
func TestRecipeUserDirectories(t *testing.T) {
	parallel(t)
	const heading = "A directory for each user"
	home := t.TempDir()
	for _, user := range []string{"alice", "bob"} {
		must(t, os.MkdirAll(filepath.Join(home, user, "files"), 0o755))
		must(t, os.WriteFile(filepath.Join(home, user, "files", "notes"), []byte("notes of "+user), 0o600))
	}
	s, c := recipe(t, heading, 0, "/srv/home", home)
	c.expect([]asked{
		{path: "/notes", want: 401},
		{path: "/notes", login: asAlice, want: 200, sees: "notes of alice"},
		{path: "/notes", login: "bob:builder", want: 200, sees: "notes of bob"},
		{path: "/notes", login: "carol:music", want: 404},
		{path: "/../../bob/files/notes", login: asAlice, want: 404},
	})
	_, c = recipe(t, heading, 0, "/srv/home", home, "file /etc", "exempt /*/files/*\nfile /etc")
	c.expect([]asked{{path: "/bob/files/notes", want: 404}})
	_, c = recipe(t, heading, 0, "/srv/home", home, "file /etc", "exempt /*/files/*\nfile /etc", "id}/files", "id}")
	c.expect([]asked{{path: "/bob/files/notes", want: 200, sees: "notes of bob"}})
	flat := strings.NewReplacer("\troute {\n", "", "\tfile_server\n\t}\n", "\tfile_server\n").Replace(recipeText(t, heading, 0))
	if err := s.Reload(testkit.Substitute(docsCaddyfile(s, flat), docsNames(t, s))); err == nil || !strings.Contains(err.Error(), "route") {
		t.Errorf("without the route block: got %v, want an error that says to write one", err)
	}
}

// startFastCGI is a FastCGI responder that says which script it would run.
func startFastCGI(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:errcheck // ends with the test
		fmt.Fprint(w, "runs ", filepath.Base(fcgi.ProcessEnv(r)["SCRIPT_FILENAME"]))
	}))
	return l.Addr().String()
}

// TestRecipePHPFile asks for one PHP file in all spellings that could lead to it.
func TestRecipePHPFile(t *testing.T) {
	parallel(t)
	const heading = "A single PHP file"
	address, root := startFastCGI(t), t.TempDir()
	for _, name := range []string{"wp-login.php", "xmlrpc.php", "index.php", "style.css"} {
		must(t, os.WriteFile(filepath.Join(root, name), []byte(name), 0o600))
	}
	change := []string{"/srv/site", root, "127.0.0.1:9000", address}
	const warning = "htpasswd protects only this exact path"
	s, c := recipe(t, heading, 0, change...)
	if strings.Contains(s.Log(), warning) {
		t.Error("got a warning of an exact path, want none")
	}
	c.expect([]asked{
		{path: "/", want: 200, sees: "runs index.php"},
		{path: "/style.css", want: 200, sees: "style.css"},
		{path: "/any/page", want: 200, sees: "runs index.php"},
		{path: "/wp-login.php", want: 401},
		{path: "/wp-login.php", login: asAlice, want: 200, sees: "runs wp-login.php"},
		{path: "/wp-login.php/x", want: 401},
		{path: "/wp-login.php/x", login: asAlice, want: 200, sees: "runs wp-login.php"},
		{path: "/xmlrpc.php", method: "POST", want: 401},
	})
	for _, path := range []string{
		"/wp-login.php/", "//wp-login.php", "/wp-login.php//", "/wp-login.php//x", "/./wp-login.php", "/x/../wp-login.php", "/wp-login.php/..", "/wp-login.php/../wp-login.php",
		"/wp%2dlogin.php", "/wp-login%2ephp", "/wp-login.php%2fx", "/wp-login.php%2f", "/%2fwp-login.php", "/wp-login.php%00", "/wp-login.php%20", "/wp-login.php.", "/wp-login.php;x", "/wp-login.php?x",
		"/WP-LOGIN.PHP", "/wp-login.PHP/x", "/wp-login.php%5cx", "/index.php/wp-login.php", "/index.php/../wp-login.php", "/style.css/wp-login.php", "/x.php/wp-login.php", "/wp-login.phpx", "/wp-login.php%3fx", "/wp-login.php/x.php",
	} {
		got, err := c.do(asked{path: path})
		if err == nil && strings.Contains(strings.ToLower(got.Body), "runs wp-login.php") || got.Status >= 500 {
			t.Errorf("%s: got %d %q without a password", path, got.Status, got.Body)
		}
	}
	s, c = recipe(t, heading, 0, append(change, "/wp-login.php*", "/wp-login.php")...)
	if !strings.Contains(s.Log(), warning) {
		t.Error("got no warning of an exact path, as the text says")
	}
	c.expect([]asked{{path: "/wp-login.php", want: 401}, {path: "/wp-login.php/x", want: 200, sees: "runs wp-login.php"}}) // as the text warns
}

// tokenApplication says who the application would take a request to be from. It
// is at an address in a Caddyfile of the docs.
func tokenApplication(t *testing.T) (address string) {
	t.Helper()
	known := map[string]string{"": "nobody", "Bearer good": "a good token", "Bearer ": "an empty token", "Basic": "an empty login",
		authorization("alice", "secret"): "alice", authorization("application", "itself"): "the application's account"}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, ok := known[strings.Join(r.Header.Values("Authorization"), ",")]
		if !ok {
			w.WriteHeader(http.StatusForbidden)
			who = "somebody unknown"
		}
		fmt.Fprintf(w, "%s user=%q token=%v", who, r.Header.Get("X-Remote-User"), r.Header["X-Api-Token"] != nil)
	}))
	t.Cleanup(app.Close)
	return strings.TrimPrefix(app.URL, "http://")
}

// askWith sends header fields as they are, and returns status and body.
func askWith(t *testing.T, port int, path, fields string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{InsecureSkipVerify: true, ServerName: "example.com"})
	must(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: example.com\r\n%s\r\n\r\n", path, fields)
	must(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return fmt.Sprint(resp.StatusCode, " ", string(body))
}

// TestRecipeTokens runs the recipes for applications that read Authorization themselves.
func TestRecipeTokens(t *testing.T) {
	parallel(t)
	const bearer, basic = "An application with Bearer tokens", "An application with its own Basic login"
	app := tokenApplication(t)
	good, wrong := "Authorization: Bearer good", "Authorization: Bearer wrong"
	const warning = "exempt may match every request"

	t.Run("exempt", func(t *testing.T) {
		s, c := recipe(t, bearer, 0, "127.0.0.1:9001", app)
		c.expect([]asked{
			{path: "/api/x", want: 401},
			{path: "/api/x", login: asAlice, want: 200, sees: `nobody user="" token=false`},
			{path: "/api/x", header: good, want: 200, sees: `a good token user="" token=false`},
			{path: "/api/x", header: wrong, want: 403, sees: `somebody unknown user="" token=false`},
			{path: "/x", header: good, want: 401},
			{path: "/api/x", header: "Authorization: bearer good", want: 401},
		})
		password := "Authorization: " + authorization("alice", "secret")
		for _, fields := range []string{good + "\r\n" + password, password + "\r\n" + good} {
			for path, want := range map[string]string{"/x": "400 ", "/api/x": `200 a good token user="" token=false`} {
				if got := askWith(t, c.port, path, fields); got != want {
					t.Errorf("%s with password and token: got %s, want %s", path, got, want)
				}
			}
		}
		if strings.Contains(s.Log(), warning) {
			t.Error("got a warning about exempt, want none with a path")
		}
		s, _ = recipe(t, bearer, 0, "path /api/*", "", "127.0.0.1:9001", app)
		if !strings.Contains(s.Log(), warning) {
			t.Error("got no warning about exempt, want one without a path")
		}
	})
	t.Run("a header of its own", func(t *testing.T) {
		_, c := recipe(t, bearer, 1, "127.0.0.1:9001", app)
		c.expect([]asked{
			{path: "/", want: 401},
			{path: "/", header: "X-Api-Token: good", want: 401},
			{path: "/", header: good, want: 401},
			{path: "/", login: asAlice, want: 200, sees: `nobody user="" token=false`},
			{path: "/", login: asAlice, header: "X-Api-Token: good", want: 200, sees: `a good token user="" token=false`},
		})
	})
	t.Run("one account for all", func(t *testing.T) {
		change := []string{"127.0.0.1:9001", app}
		for login, want := range map[string]string{
			base64.StdEncoding.EncodeToString([]byte("application:itself")): "the application's account",
			"": "an empty login",
		} {
			_, c := recipe(t, basic, 0, append(change, "{env.APPLICATION_LOGIN}", login)...)
			c.expect([]asked{{path: "/", want: 401}, {path: "/", login: asAlice, want: 200, sees: want + ` user="" token=false`}})
		}
	})
	for name, line := range map[string]string{`alice user="" token=false`: "keep_authorization", `nobody user="alice" token=false`: "user_header X-Remote-User"} {
		t.Run(line, func(t *testing.T) {
			if !strings.Contains(section(t, recipesPage, basic), "`"+line+"`") {
				t.Errorf("the recipe does not name %s", line)
			}
			_, c := recipe(t, basic, 0, " {\n\t\theader_up Authorization \"Basic {env.APPLICATION_LOGIN}\"\n\t}", "", "127.0.0.1:9001", app, ".htpasswd\n", ".htpasswd\n"+line+"\n")
			c.expect([]asked{{path: "/", want: 401}, {path: "/", login: asAlice, want: 200, sees: name}})
		})
	}
}

// TestRecipeLoginService has nginx and another Caddy ask the service of the recipe.
func TestRecipeLoginService(t *testing.T) {
	parallel(t)
	const heading = "A login service for another proxy"
	port := fmt.Sprint(freePorts(t, 1)[0])
	const few = "{\n\thtpasswd {\n\t\tthrottle login 2 1h\n\t}\n"
	service, conf := recipeText(t, heading, 0, "9080", port, "{\n\tservers", few+"\tservers"), strings.ReplaceAll(sectionBlocks(t, recipesPage, heading, "nginx")[0], "9080", port)
	requests := []asked{
		{path: "/x?y", want: 401},
		{path: "/x?y", login: asAlice, header: "X-Remote-User: root", want: 200, sees: `GET /x?y user="alice"`},
		{path: "/x", login: "bob:builder", want: 200, sees: `GET /x user="bob"`},
		{path: "/x", method: "POST", login: asAlice, want: 200, sees: `POST /x user="alice"`},
		{path: "/", header: "X-Forwarded-Proto: http", want: 401},
		{path: "/", login: "carol:wrong", want: 401},
		{path: "/", login: "carol:wrong again", want: 401},
	}
	check := func(t *testing.T, c docsClient, throttled int) {
		t.Helper()
		c.t = t
		c.expect(requests)
		if a := c.must(asked{path: "/"}); a.Header.Get("WWW-Authenticate") != `Basic realm="Staff", charset="UTF-8"` {
			t.Errorf("got the challenge %q", a.Header.Get("WWW-Authenticate"))
		}
		if a := c.must(asked{path: "/", login: asAlice}); a.Header.Get("X-Saw-Password") != "false" {
			t.Error("the application saw the password")
		}
		c.expect([]asked{{path: "/", login: "carol:music", want: throttled}, {path: "/", from: "127.0.0.2", login: "carol:music", want: 200}})
	}
	s := startServer(t, "")
	if err := s.Reload(testkit.Substitute(docsCaddyfile(s, service), docsNames(t, s))); err != nil {
		t.Fatal(err)
	}
	t.Run("nginx", func(t *testing.T) {
		program(t, "nginx")
		other := startServer(t, "")
		tw := testkit.StartTwins(t, other.Server, "", nginxWith(conf).conf, testkit.NginxCommand, docsNames(t, other))
		check(t, docsClient{t: t, port: tw.Theirs.Port}, 403)
	})
	t.Run("Caddy", func(t *testing.T) {
		_, c := recipe(t, heading, 1, "9080", port)
		c.expect([]asked{{path: "/", from: "127.0.0.3", login: "carol:false", want: 401}, {path: "/", from: "127.0.0.3", login: "carol:false again", want: 401},
			{path: "/", from: "127.0.0.3", login: "carol:music", want: 403}})
		c.expect(requests[:5])
		must(t, s.Reload(testkit.Substitute(docsCaddyfile(s, strings.Replace(service, "handle_errors 429 503 {\n\t\trespond 403\n\t}", "", 1)), docsNames(t, s))))
		c.expect([]asked{{path: "/", from: "127.0.0.3", login: "carol:no", want: 401}, {path: "/", from: "127.0.0.3", login: "carol:never", want: 401},
			{path: "/", from: "127.0.0.3", login: "carol:music", want: 429}})
	})
	t.Run("with a host name", func(t *testing.T) {
		named := strings.Replace(service, "http://:", "http://auth.example.com:", 1)
		must(t, s.Reload(testkit.Substitute(docsCaddyfile(s, named), docsNames(t, s))))
		_, c := recipe(t, heading, 1, "9080", port)
		c.expect([]asked{{path: "/", want: 200}}) // as the text warns
	})
	t.Run("exempt, and a forged name", func(t *testing.T) {
		must(t, s.Reload(testkit.Substitute(docsCaddyfile(s, strings.Replace(service, "realm Staff", "realm Staff\nexempt client_ip 127.0.0.3", 1)), docsNames(t, s))))
		_, c := recipe(t, heading, 1, "9080", port)
		c.expect([]asked{{path: "/x", from: "127.0.0.3", header: "X-Remote-User: root", want: 200, sees: `GET /x user=""`}})
		if _, err := exec.LookPath("nginx"); err != nil {
			return
		}
		other := startServer(t, "")
		tw := testkit.StartTwins(t, other.Server, "", nginxWith(conf).conf, testkit.NginxCommand, docsNames(t, other))
		c = docsClient{t: t, port: tw.Theirs.Port}
		c.expect([]asked{{path: "/x", from: "127.0.0.3", header: "X-Remote-User: root", want: 200, sees: `GET /x user=""`}})
	})
	t.Run("header without >", func(t *testing.T) {
		if err := s.Reload(testkit.Substitute(docsCaddyfile(s, strings.Replace(service, "header >", "header ", 1)), docsNames(t, s))); err == nil || !strings.Contains(err.Error(), "http.auth.user.id") {
			t.Errorf("got %v, want an error", err)
		}
	})
	t.Run("without X-Forwarded-Proto", func(t *testing.T) {
		must(t, s.Reload(testkit.Substitute(docsCaddyfile(s, service), docsNames(t, s))))
		r, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:"+port, nil)
		must(t, err)
		r.SetBasicAuth("alice", "secret")
		if a := s.Do(r); a.Status != 403 {
			t.Errorf("got %d, want 403", a.Status)
		}
		r.Header.Set("X-Forwarded-Proto", "https")
		if a := s.Do(r); a.Status != 204 || a.Header.Get("X-Remote-User") != "alice" {
			t.Errorf("got %d and user %q, want 204 and alice", a.Status, a.Header.Get("X-Remote-User"))
		}
	})
}

// TestRecipeEitherDecision asks with and without the other server's consent.
func TestRecipeEitherDecision(t *testing.T) {
	parallel(t)
	const heading = "A password, or another server's decision"
	_, c := recipe(t, heading, 0)
	const forged = "X-Remote-User: root"
	c.expect([]asked{
		{path: "/", want: 401},
		{path: "/x?y", login: asAlice, want: 200, sees: `GET /x?y user="alice"`},
		{path: "/x", login: asAlice, header: forged, want: 200, sees: `GET /x user="alice"`},
		{path: "/x", method: "PUT", login: asAlice, want: 200, sees: `PUT /x user="alice"`},
		{path: "/", login: "alice:wrong", want: 401},
		{path: "/x?y", header: "X-Token: good", want: 200, sees: `GET /x?y user=""`},
		{path: "/x", header: "X-Token: good\n" + forged, want: 200, sees: `GET /x user=""`},
		{path: "/x", login: asAlice, header: "X-Token: good", want: 200, sees: `GET /x user=""`},
		{path: "/", login: "alice:wrong", header: "X-Token: good", want: 200},
		{path: "/", header: "X-Token: elsewhere", want: 302},
	})
	_, without := recipe(t, heading, 0, " {\n\t\theader_up -X-Remote-User\n\t}", "")
	without.expect([]asked{{path: "/x", header: "X-Token: good\n" + forged, want: 200, sees: `GET /x user="root"`}}) // as the text warns
	for header, seen := range map[string]string{"": "false", "X-Token: good": "true"} {
		if a := c.must(asked{path: "/", login: asAlice, header: header}); a.Header.Get("X-Saw-Password") != seen {
			t.Errorf("%q: the application saw the password: %s", header, a.Header.Get("X-Saw-Password"))
		}
	}
	a := c.must(asked{path: "/"})
	if got := a.Header.Values("WWW-Authenticate"); !slices.Equal(got, []string{`Basic realm="Staff", charset="UTF-8"`}) {
		t.Errorf("got the challenges %q", got)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	l.Close()
	_, c = recipe(t, heading, 0, "127.0.0.1:9002", l.Addr().String())
	c.expect([]asked{{path: "/", login: asAlice, want: 502}})
}

// TestRecipeRetries has servers that answer statuses that lead to another one.
func TestRecipeRetries(t *testing.T) {
	parallel(t)
	const heading = "Retries on a status"
	var mu sync.Mutex
	var got []string
	var change []string
	answers := map[string]func(w http.ResponseWriter, r *http.Request){
		"9001": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"9003": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/none" {
				w.Header().Set("X-From", "the application")
				w.WriteHeader(404)
				fmt.Fprint(w, "not here")
			}
		},
	}
	for name, answer := range answers {
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			got = append(got, name)
			mu.Unlock()
			answer(w, r)
		}))
		defer app.Close()
		change = append(change, "127.0.0.1:"+name, strings.TrimPrefix(app.URL, "http://"))
	}
	asks := func(c docsClient, a asked) (answer, int) {
		mu.Lock()
		got = nil
		mu.Unlock()
		a.login = asAlice
		result := c.must(a)
		mu.Lock()
		defer mu.Unlock()
		return result, len(got)
	}
	_, c := recipe(t, heading, 0, change...)
	both := 0
	for range 4 {
		a, n := asks(c, asked{path: "/x"})
		if a.Status != 200 {
			t.Errorf("GET: got %d after %d tries, want 200", a.Status, n)
		}
		both += n
	}
	if both != 6 {
		t.Errorf("4 GETs: got %d tries, want 6", both)
	}
	statuses := make(map[int]int)
	for range 4 {
		a, n := asks(c, asked{path: "/x", method: "POST"})
		statuses[a.Status]++
		if n != 1 {
			t.Errorf("POST: got %d tries, want one", n)
		}
	}
	if statuses[503] != 2 || statuses[200] != 2 {
		t.Errorf("4 POSTs: got %v, want 503 for half of them", statuses)
	}
	for range 2 {
		a, n := asks(c, asked{path: "/none"})
		last := map[string]int{"9001": 503, "9003": 404}[got[len(got)-1]]
		if n != 2 || a.Status != last || a.Header.Get("X-From") != "" || a.Body != "" {
			t.Errorf("all refuse: got %d tries, %d %q, want 2, the last status %d, and no body", n, a.Status, a.Body, last)
		}
	}
	// Connections that break, with the second block and without it.
	broken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer broken.Close()
	go func() {
		for {
			conn, err := broken.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1))
			conn.Close()
		}
	}()
	healthy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer healthy.Close()
	breaking := []string{"127.0.0.1:9001", broken.Addr().String(), "127.0.0.1:9003", strings.TrimPrefix(healthy.URL, "http://")}
	const second = "\t\tlb_retry_match {\n\t\t\tmethod GET HEAD OPTIONS TRACE PUT DELETE\n\t\t}\n"
	for name, row := range map[string]struct {
		change []string
		method string
		lost   int
	}{
		"as it is, GET":                 {breaking, "GET", 0},
		"as it is, PUT":                 {breaking, "PUT", 0},
		"as it is, POST":                {breaking, "POST", 1},
		"without the second block, GET": {append(slices.Clone(breaking), second, ""), "GET", 1},
	} {
		_, c := recipe(t, heading, 0, row.change...)
		lost := 0
		for range 2 {
			if a := c.must(asked{path: "/x", method: row.method, login: asAlice}); a.Status != 200 {
				lost++
			}
		}
		if lost != row.lost {
			t.Errorf("a connection breaks, %s: got %d requests lost, want %d", name, lost, row.lost)
		}
	}
	_, c = recipe(t, heading, 0, append(change, "method GET HEAD\n", "\n")...)
	twice := 0
	for range 4 {
		_, n := asks(c, asked{path: "/x", method: "POST"})
		twice += n
	}
	if twice != 6 { // as the text warns
		t.Errorf("4 POSTs without the line: got %d tries, want 6", twice)
	}
}

package caddyhtpasswd

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/hashqueue"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestErrorRoutesSeeNoUser reads the user placeholders in handle_errors, for each way in
// which a request can be refused.
func TestErrorRoutesSeeNoUser(t *testing.T) {
	const errorRoute = `
	handle_errors {
		respond "{err.status_code} user=[{http.auth.user.id}] groups=[{http.auth.user.groups}]"
	}`
	s := startSite(t, nil, map[string]string{"users": alice + bobSecret, "groups": "staff: alice"}, `
	{
		http_port {http}
		htpasswd {
			throttle login 1 1h
		}
	}
	http://localhost:{http} {`+errorRoute+`
		htpasswd {
			file {dir}/users
		}
		respond ok
	}
	`+httpsSite(errorRoute+`
	htpasswd {
		file {dir}/users
		group_file {dir}/groups
		exempt expression "{http.request.header.X-Exempt} != '' && int({http.request.header.X-Exempt}) == 1"
		require user alice
	}
	handle /inner {
		htpasswd {
			file {dir}/users
			require user carol
		}
		respond never
	}
	error /missing 404
	respond "ok"`))
	const nobody = " user=[] groups=[]"
	for _, row := range []struct {
		name   string
		path   string
		header http.Header
		want   string
	}{
		{"no credentials", "/", nil, "401" + nobody},
		{"malformed credentials", "/", authorization("Basic %"), "401" + nobody},
		{"two Authorization headers", "/", authorization("Basic a", "Basic b"), "400" + nobody},
		{"a user who is not authorized", "/", authorization(basic("bob", "secret")), "403" + nobody},
		{"an exempt matcher that fails", "/", http.Header{"X-Exempt": {"no number"}}, "500" + nobody},
		{"a wrong password", "/", authorization(basic("bob", "wrong")), "401" + nobody},
		{"an exceeded rate limit", "/", authorization(basic("bob", "another")), "429" + nobody},
		{"an error after a login", "/missing", authorization(basic("alice", "secret")), "404 user=[alice] groups=[staff]"},
		{"refused by a second handler, after a login at the first", "/inner", authorization(basic("alice", "secret")), "403 user=[alice] groups=[staff]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := s.in(t).send(row.path, row.header).body; got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
	t.Run("plain HTTP", func(t *testing.T) {
		a := s.in(t).plain("/", nil)
		if want := "403" + nobody; a.body != want {
			t.Errorf("got %q, want %q", a.body, want)
		}
	})
}

// TestPlaceholdersOfTheUserAreNeverText sends requests past htpasswd to an application.
// Caddy leaves unknown placeholders as text, so the gate must make them empty.
func TestPlaceholdersOfTheUserAreNeverText(t *testing.T) {
	const answer = `respond "user=[{http.auth.user.id}] groups=[{http.auth.user.groups}] other=[{http.auth.user.other}]"`
	s := startSite(t, nil, map[string]string{"users": alice, "open": "", "private": ""}, httpsSite(`
	root {dir}
	handle_errors {
		`+answer+`
	}
	try_files {path} =410
	handle /private* {
		htpasswd {
			file {dir}/users
		}
		`+answer+`
	}
	handle {
		`+answer+`
	}`))
	for _, row := range []struct {
		name, path, user, want string
	}{
		{"an error before the login", "/missing", "", "user=[] groups=[]"},
		{"a path that needs no login", "/open", "", "user=[] groups=[]"},
		{"a path that needs no login, with a password", "/open", "alice", "user=[] groups=[]"},
		{"a login that is refused", "/private", "", "user=[] groups=[]"},
		{"a user on a site without group files", "/private", "alice", "user=[alice] groups=[]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := s.in(t).get(row.path, row.user, "secret").body; got != row.want+" other=[{http.auth.user.other}]" {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// TestErrorRoutesRunAsCaddyRunsThem checks that the handler runs error routes as Caddy
// does.
func TestErrorRoutesRunAsCaddyRunsThem(t *testing.T) {
	s := startSite(t, nil, map[string]string{"users": alice}, httpsSite(`
	handle_errors 401 {
		@page path /page/*
		respond @page "{err.status_code} at {http.request.uri}"
		@fails path /fails/*
		error @fails 418
		@asks path /asks/*
		handle @asks {
			htpasswd {
				file {dir}/users
				realm Asks
			}
			respond "passed"
		}
	}
	handle_path /page/* {
		rewrite /rewritten
		htpasswd {
			file {dir}/users
		}
	}
	htpasswd {
		file {dir}/users
	}
	respond ok`))
	for _, row := range []struct {
		name, path, challenge, want string
	}{
		{"a route sees the original request", "/page/x?y=1", restricted, "401 at /page/x?y=1"},
		{"no route matches", "/none", restricted, ""},
		{"a route that fails", "/fails/x", restricted, ""},
		{"a route that asks for a password itself", "/asks/x", `Basic realm="Asks", charset="UTF-8"`, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := s.in(t).send(row.path, nil)
			checkStatus(t, a, http.StatusUnauthorized, row.challenge)
			if a.body != row.want {
				t.Errorf("got %q, want %q", a.body, row.want)
			}
		})
	}
}

// TestSubrouteHandlesErrors has a subroute with error routes, which only JSON can have.
// The error routes get the error.
func TestSubrouteHandlesErrors(t *testing.T) {
	s := startServer(t, "")
	s.write("users", alice)
	config, err := s.adapt(httpsSite("route {\n htpasswd {\n file {dir}/users\n}\n respond ok\n}"))
	must(t, err)
	// Adds error routes to the subroute that "route" has become.
	before, after, found := strings.Cut(string(config), `"handler":"subroute"`)
	if !found {
		t.Fatalf("got no subroute, want one in %s", config)
	}
	routes := `"errors":{"routes":[{"handle":[{"handler":"static_response","status_code":401,"body":"from the subroute"}]}]}`
	must(t, s.load([]byte(before+`"handler":"subroute",`+routes+after), true))
	a := s.send("/", nil)
	checkStatus(t, a, http.StatusUnauthorized, restricted)
	if a.body != "from the subroute" {
		t.Errorf("got %q, want %q", a.body, "from the subroute")
	}
}

// TestLogIsBoundedForEachStatus floods a site until it has answered each status many
// times. No request may cause a line of its own, or get its headers into the log. DEBUG
// lines do not count, because no server logs them in operation. A matcher that fails, such
// as expression, is not in the table: Caddy logs it, without headers, before the handler
// runs.
func TestLogIsBoundedForEachStatus(t *testing.T) {
	const (
		requests = 1000
		workers  = 16
		canary   = "canary-of-a-header"
	)
	missingPage := `
	handle_errors {
		rewrite /missing.html
		file_server
	}`
	login := func(i int) http.Header { return authorization(basic("alice", "guess"+strconv.Itoa(i))) }
	protected := "\nhtpasswd {\nfile {dir}/users\n}\nrespond ok"
	blocked := make(chan struct{})
	t.Cleanup(func() { close(blocked) })
	for _, row := range []struct {
		name      string
		directive string
		status    int // 0: the client goes away before the response
		header    func(i int) http.Header
		prepare   func(g *guard)
	}{
		{"400 for two Authorization headers", protected, 400,
			func(int) http.Header { return authorization("Basic a", "Basic b") }, nil},
		{"401 without credentials", protected, 401,
			func(int) http.Header { return nil }, nil},
		{"401 for wrong passwords", protected, 401, login, nil},
		{"401 with an error page that is missing", missingPage + protected, 401,
			func(int) http.Header { return nil }, nil},
		{"401 for wrong passwords with an error page that is missing", missingPage + protected, 401, login, nil},
		{"403 for a user who is not authorized", strings.Replace(protected, "\n}", "\nrequire user bob\n}", 1), 403,
			func(int) http.Header { return authorization(basic("alice", "secret1")) }, nil},
		{"429 for an exceeded rate limit", protected, 429, login, func(g *guard) {
			g.settings = settingsOf(&App{Throttle: &Throttle{Client: &Limit{Failures: 1}}})
			g.count(&limitKeys{scopeClient: g.keyer().client("127.0.0.1")})
			g.count(&limitKeys{scopeClient: g.keyer().client("::1")})
		}},
		{"499 for clients that go away", protected, 0, login, func(g *guard) {
			g.verify = func(crypt.Class, string, []byte) bool { <-blocked; return false }
		}},
		{"500 for a check that panics", protected, 500, login, func(g *guard) {
			g.verify = func(crypt.Class, string, []byte) bool { panic("canary") }
		}},
		{"503 for a full hash queue", protected, 503, login, func(g *guard) {
			g.settings = settingsOf(&App{MaxHashes: 1, Throttle: &Throttle{Login: &Limit{Off: true}, Client: &Limit{Off: true}, User: &Limit{Off: true}}})
			g.queue = g.newQueue(0)
			go g.queue.Do(context.Background(), hashqueue.Task[attemptKey, verdict]{Key: attemptKey{user: "endless"}, Start: func() (func() verdict, error) {
				return func() verdict { <-blocked; return verdict{} }, nil
			}})
			eventually(t, "the worker is busy", func() bool { running, _ := g.queue.State(); return running == 1 })
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startServer(t, "")
			s.write("users", "alice:"+shaSecret1)
			if row.prepare != nil {
				row.prepare(process.guard)
			}
			must(t, s.reload(httpsSite(row.directive)))
			before, began := len(s.log()), time.Now()
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					for i := w; i < requests; i += workers {
						r := s.request(http.MethodGet, "/", nil)
						r.Header.Set("X-Fill", canary+strings.Repeat("x", 2000))
						for name, values := range row.header(i) {
							r.Header[name] = values
						}
						if row.status == 0 {
							ctx, cancel := context.WithTimeout(r.Context(), 2*time.Millisecond)
							if resp, err := s.client.Do(r.WithContext(ctx)); err == nil {
								resp.Body.Close()
							}
							cancel()
							continue
						}
						resp, err := s.client.Do(r)
						if err != nil {
							t.Error(err)
							return
						}
						resp.Body.Close()
						if resp.StatusCode != row.status {
							t.Errorf("status %d, want %d", resp.StatusCode, row.status)
						}
					}
				})
			}
			wg.Wait()
			lines, bytes := linesInOperation(t, s.log()[before:], canary)
			// Each status causes at most two kinds of lines.
			most := 2 * (failureBurst + int(failureRate*time.Since(began).Seconds()) + 10)
			if lines > most || bytes > most*500 {
				t.Errorf("%d lines, %d bytes, want at most %d lines for %d requests", lines, bytes, most, requests)
			}
			if most >= requests {
				t.Logf("this machine is too slow to tell %d lines from one for each request", most)
			}
		})
	}
	t.Run("403 over plain HTTP", func(t *testing.T) {
		s := startSite(t, nil, map[string]string{"users": alice}, "{\nhttp_port {http}\n}\nhttp://localhost:{http} {"+protected+"\n}")
		before := len(s.log())
		for range 300 {
			if a := s.plain("/", nil); a.status != http.StatusForbidden {
				t.Fatalf("status %d, want 403", a.status)
			}
		}
		text := s.log()[before:]
		if n := strings.Count(text, "request over plain HTTP refused with 403"); n < insecureBurst || n > insecureBurst+10 {
			t.Errorf("%d lines, want about %d", n, insecureBurst)
		}
		if !strings.Contains(text, `"reason":"plain HTTP","fix":"serve the site over HTTPS`) {
			t.Errorf("got a log without reason or fix, want both: %s", text)
		}
	})
}

// linesInOperation counts the lines of a log at level INFO and above, and fails if one of
// them contains the canary.
func linesInOperation(t *testing.T, log, canary string) (lines, bytes int) {
	t.Helper()
	for scanner := bufio.NewScanner(strings.NewReader(log)); scanner.Scan(); {
		line := scanner.Text()
		var entry struct{ Level string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Level == "debug" {
			continue
		}
		lines++
		bytes += len(line) + 1
		if strings.Contains(line, canary) {
			t.Fatalf("a header of the request is in the log: %s", line)
		}
	}
	return lines, bytes
}

// TestPlainHTTPIsLoggedWithTheReason checks that the log says why a request over plain
// HTTP is refused. Most often, the configuration of a proxy is wrong, and each reason has
// another fix.
func TestPlainHTTPIsLoggedWithTheReason(t *testing.T) {
	for _, row := range []struct {
		name    string
		trusted bool
		header  http.Header
		want    string
	}{
		{"no proxy", false, nil, `"reason":"plain HTTP","fix":"serve the site over HTTPS`},
		{"a proxy that is not trusted", false, http.Header{"X-Forwarded-Proto": {"https"}}, "that is not in trusted_proxies, so X-Forwarded-Proto is ignored"},
		{"a trusted proxy without X-Forwarded-Proto", true, nil, `sends no X-Forwarded-Proto","fix":"have the proxy send`},
		{"a trusted proxy with X-Forwarded-Proto: http", true, http.Header{"X-Forwarded-Proto": {"http"}}, "reports plain HTTP in X-Forwarded-Proto"},
	} {
		t.Run(row.name, func(t *testing.T) {
			options := "http_port {http}\n"
			if row.trusted {
				options += "servers {\ntrusted_proxies static 127.0.0.1/8 ::1\ntrusted_proxies_strict\n}\n"
			}
			s := startSite(t, nil, map[string]string{"users": alice}, "{\n"+options+"}\nhttp://localhost:{http} {\nhtpasswd {\nfile {dir}/users\n}\nrespond ok\n}")
			if a := s.plain("/", row.header); a.status != http.StatusForbidden {
				t.Fatalf("status %d, want 403", a.status)
			}
			if text := s.log(); !strings.Contains(text, row.want) {
				t.Errorf("not in the log: %s", row.want)
			}
		})
	}
}

// TestHandleErrors checks that the challenge is in the response, whatever handle_errors
// does.
func TestHandleErrors(t *testing.T) {
	app := testkit.NewWitness(t)
	s := startSite(t, app, map[string]string{"users": alice, "401.html": "<h1>Please log in</h1>"}, httpsSite(`
	root {dir}
	handle_errors 401 {
		@page header X-Page yes
		handle @page {
			rewrite /401.html
			file_server {
				status 401
			}
		}
		respond "{err.status_code} {err.message}" 401
	}
	handle_errors {
		respond "{err.status_code} {err.message}"
	}
	htpasswd {
		file {dir}/users
		require user nobody
		exempt /open
	}
	reverse_proxy {app}`))
	for _, row := range []struct {
		name   string
		header http.Header
		status int
		body   string
	}{
		{"respond", nil, 401, "401 not authenticated"},
		{"page", http.Header{"X-Page": {"yes"}}, 401, "<h1>Please log in</h1>"},
		{"page, wrong password", http.Header{"X-Page": {"yes"}, "Authorization": {basic("alice", "no")}}, 401, "<h1>Please log in</h1>"},
		{"403", authorization(basic("alice", "secret")), 403, "403 user not authorized"},
		{"400", authorization("Basic a", "Basic b"), 400, "400 more than one Authorization header"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			a := s.send("/", row.header)
			checkStatus(t, a, row.status, restricted)
			if a.body != row.body {
				t.Errorf("got %q, want %q", a.body, row.body)
			}
		})
	}
	app.None(t)
}

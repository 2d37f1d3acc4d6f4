package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/chromedp"
	"golang.org/x/net/websocket"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// browserPage makes each kind of request that a page can make: a script, an
// image, a style sheet, fetch() and a WebSocket. The script records the results,
// and "done" when all have ended.
const browserPage = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Members</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/members/style.css">
<h1>Members</h1>
<img id="image" src="/members/image.svg" alt="">
<dl id="results"></dl>
<script src="/members/script.js"></script>
</html>
`

const browserScript = `"use strict";
const show = (name, value) => {
	const term = document.createElement("dt"), text = document.createElement("dd");
	term.textContent = name;
	text.id = name;
	text.textContent = value;
	document.getElementById("results").append(term, text);
};
const loaded = new Promise((resolve) => addEventListener("load", resolve));
const results = {
	script: async () => "ran",
	style: async () => { await loaded; return getComputedStyle(document.querySelector("h1")).textDecorationLine; },
	image: async () => { await loaded; return document.getElementById("image").naturalWidth; },
	fetch: async () => (await fetch("/members/user")).text(),
	post: async () => (await fetch("/members/user", {method: "POST", body: "text"})).text(),
	anonymous: async () => (await fetch("/members/user", {credentials: "omit"})).status,
	socket: () => new Promise((resolve, reject) => {
		const socket = new WebSocket("wss://" + location.host + "/members/socket");
		socket.onopen = () => socket.send("hello");
		socket.onmessage = (event) => { resolve(event.data); socket.close(); };
		socket.onerror = () => reject(new Error("no connection"));
	}),
};
(async () => {
	for (const name of Object.keys(results)) {
		try {
			show(name, await results[name]());
		} catch (error) {
			show(name, String(error));
		}
	}
	show("done", "yes");
})();
`

// browserSite is the application behind the login.
func browserSite() http.Handler {
	mux := http.NewServeMux()
	for path, file := range map[string]struct{ kind, text string }{
		"/{$}":               {"text/html", browserPage},
		"/plain":             {"text/html", browserPage},
		"/members/script.js": {"text/javascript", browserScript},
		"/members/style.css": {"text/css", "h1 { text-decoration: underline; font-family: sans-serif }"},
		"/members/image.svg": {"image/svg+xml", `<svg xmlns="http://www.w3.org/2000/svg" width="120" height="40"><rect width="120" height="40" fill="#2a6"/></svg>`},
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", file.kind)
			w.Header().Set("Cache-Control", "no-store") // the browser requests everything each time
			fmt.Fprint(w, file.text)
		})
	}
	mux.HandleFunc("/members/user", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Method, r.Header.Get("X-Remote-User"))
	})
	mux.Handle("/members/socket", websocket.Handler(func(c *websocket.Conn) {
		var text string
		if err := websocket.Message.Receive(c, &text); err != nil {
			return
		}
		_ = websocket.Message.Send(c, text+", "+c.Request().Header.Get("X-Remote-User"))
		_ = websocket.Message.Receive(c, &text) // until the browser closes it
	}))
	return mux
}

// browser starts Chromium. It can connect to localhost only, and trusts the
// certificate of the server.
func browser(t *testing.T, s *server) context.Context {
	t.Helper()
	path := program(t, "chromium")
	c, err := tls.Dial("tcp", fmt.Sprintf("localhost:%d", s.HTTPS), s.Client.Transport.(*http.Transport).TLSClientConfig)
	must(t, err)
	key := sha256.Sum256(c.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	must(t, c.Close())

	home := testkit.BrowserDir(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:], // these include no-sandbox for root, and a temporary profile
		chromedp.ExecPath(path),
		chromedp.Env("HOME="+home, "TMPDIR="+home),
		chromedp.WindowSize(800, 600),
		chromedp.WSURLReadTimeout(2*time.Minute), // the first start reads from a cold disk
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(key[:])),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost"),
	)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	must(t, chromedp.Do(ctx))
	return ctx
}

// login is what a user types into the browser's dialog.
type login struct{ user, password string }

// person is a user with a separate browser profile, who answers its dialog.
type person struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	answers  []login  // one for each dialog; after the last, the dialog is cancelled
	dialogs  []string // their texts
	problems []error
}

func newPerson(t *testing.T, browser context.Context) *person {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	p := &person{t: t, ctx: ctx}
	must(t, chromedp.Do(ctx))
	paused := chromedp.Events(ctx, fetch.RequestPaused)
	dialogs := chromedp.Events(ctx, fetch.AuthRequired)
	yes := true
	_, err := chromedp.Call(ctx, fetch.Enable, fetch.EnableParams{HandleAuthRequests: &yes})
	must(t, err)
	var done sync.WaitGroup
	done.Go(func() {
		for event, err := range paused {
			if err == nil {
				_, err = chromedp.Call(ctx, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: event.RequestID})
			}
			p.problem(err)
		}
	})
	done.Go(func() {
		for event, err := range dialogs {
			if err == nil {
				_, err = chromedp.Call(ctx, fetch.ContinueWithAuth, fetch.ContinueWithAuthParams{
					RequestID: event.RequestID, AuthChallengeResponse: p.answer(event.AuthChallenge),
				})
			}
			p.problem(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
		for _, err := range p.problems {
			t.Error(err)
		}
	})
	return p
}

func (p *person) problem(err error) {
	if err == nil || p.ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = append(p.problems, err)
}

// answer types the next login into the dialog.
func (p *person) answer(challenge *fetch.AuthChallenge) *fetch.AuthChallengeResponse {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialogs = append(p.dialogs, fmt.Sprintf("%s %s %s", challenge.Scheme, challenge.Origin, challenge.Realm))
	if len(p.answers) == 0 {
		return &fetch.AuthChallengeResponse{Response: fetch.AuthChallengeResponseResponseCancelAuth}
	}
	next := p.answers[0]
	p.answers = p.answers[1:]
	return &fetch.AuthChallengeResponse{Response: fetch.AuthChallengeResponseResponseProvideCredentials, Username: next.user, Password: next.password}
}

// visit opens an address, answers the dialogs, and waits until the page's script
// is done. It returns the status of the page, 0 for an empty page, and the dialogs.
func (p *person) visit(address string, answers ...login) (int, []string) {
	p.t.Helper()
	p.mu.Lock()
	p.answers, p.dialogs = answers, nil
	p.mu.Unlock()
	status := run(p, func(ctx context.Context, target *chromedp.Target) (int, error) {
		response, err := chromedp.NavigateResponse(address)(ctx, target)
		for range 3 {
			if response != nil || err != nil || len(p.asked()) > 0 {
				break
			}
			// A navigation of the page itself has just ended, and was taken for this one.
			response, err = chromedp.NavigateResponse(address)(ctx, target)
		}
		if failure, ok := errors.AsType[*chromedp.LoadError](err); ok && failure.ErrorText == "net::ERR_HTTP_RESPONSE_CODE_FAILURE" {
			return 0, nil // empty: the browser shows its own page instead
		}
		if err != nil {
			return 0, err
		}
		if response == nil {
			return 0, fmt.Errorf("the browser reports no response of %s", address)
		}
		if response.Status == http.StatusOK {
			_, err = chromedp.WaitReady("#done")(ctx, target)
		}
		return int(response.Status), err
	})
	return status, p.asked()
}

// asked returns the dialogs since the start of the last visit.
func (p *person) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.dialogs)
}

// run runs an action in the browser, with a timeout.
func run[T any](p *person, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	must(p.t, err)
	return result
}

// text returns the text of the page.
func (p *person) text() string {
	p.t.Helper()
	return run(p, chromedp.Text("body"))
}

// results returns the results that the page's script recorded.
func (p *person) results() map[string]string {
	p.t.Helper()
	return run(p, chromedp.Evaluate[map[string]string](`Object.fromEntries(Array.from(document.querySelectorAll("dd"), (e) => [e.id, e.textContent]))`))
}

// fetch calls fetch() in the current page, and returns the status. Dialogs are
// cancelled.
func (p *person) fetch() int {
	p.t.Helper()
	return run(p, chromedp.Evaluate[int](`fetch("/members/user").then((response) => response.status)`, chromedp.EvalAwaitPromise))
}

// screenshot writes what the browser shows to the directory output.
func (p *person) screenshot(name string) {
	p.t.Helper()
	must(p.t, os.MkdirAll("output", 0o755))
	must(p.t, os.WriteFile(filepath.Join("output", "browser-"+name+".png"), run(p, chromedp.CaptureScreenshot()), 0o644))
}

// TestBrowser opens a site in a real browser. It checks what users see, how often
// they are asked for a password, and what the application receives.
func TestBrowser(t *testing.T) {
	parallel(t)
	program(t, "chromium")
	app := newBackend(t, browserSite())
	dir := t.TempDir()
	htpasswdIn(t, dir, "-cbC4", "users", "ann", "secret")
	htpasswdIn(t, dir, "-bC4", "users", "bob", "secret")
	s := startIn(t, dir, "upstream app {\nserver "+app.Listener.Addr().String()+"\n}", `https://localhost:{https} {
	htpasswd {
		file        {dir}/users
		realm       "Members' Area"
		user_header X-Remote-User
	}
	proxy_pass app
	handle_errors 401 {
		@page path /
		header @page Content-Type text/html
		respond @page "<h1>Members only</h1>"
	}
}`)
	chromium := browser(t, s)
	dialog := fmt.Sprintf("basic https://localhost:%d Members' Area", s.HTTPS)

	// visit checks the result of a visit.
	visit := func(t *testing.T, p *person, path string, status, dialogs int, answers ...login) {
		t.Helper()
		got, asked := p.visit(s.URL(path), answers...)
		if got != status || !slices.Equal(asked, slices.Repeat([]string{dialog}, dialogs)) {
			t.Errorf("%s, answers %v: status %d, not %d; dialogs %q, not %d times %q", path, answers, got, status, asked, dialogs, dialog)
		}
	}
	// members checks that every request of the page succeeded.
	members := func(t *testing.T, p *person, user string) {
		t.Helper()
		want := map[string]string{
			"script": "ran", "style": "underline", "image": "120", "fetch": "GET " + user, "post": "POST " + user,
			"anonymous": "401", "socket": "hello, " + user, "done": "yes",
		}
		if got := p.results(); !maps.Equal(got, want) {
			t.Errorf("the page says %v, not %v", got, want)
		}
	}
	requests := func(t *testing.T, want ...string) {
		t.Helper()
		if got := app.asked(); !slices.Equal(got, want) {
			t.Errorf("the application was asked %q, not %q", got, want)
		}
	}
	page := func(path, user string) (requests []string) {
		for _, request := range []string{
			"GET " + path, "GET /members/script.js", "GET /members/style.css", "GET /members/image.svg",
			"GET /members/user", "POST /members/user", "GET /members/socket",
		} {
			requests = append(requests, user+" "+request)
		}
		slices.Sort(requests)
		return requests
	}

	t.Run("no password", func(t *testing.T) {
		p := newPerson(t, chromium)
		visit(t, p, "/", 401, 1)
		if text := p.text(); text != "Members only" {
			t.Errorf("the page of handle_errors says %q", text)
		}
		p.screenshot("no-password")
		visit(t, p, "/plain", 0, 1)
		if text := p.text(); !strings.Contains(text, "HTTP ERROR 401") {
			t.Errorf("the browser's own page says %q", text)
		}
		p.screenshot("no-password-plain")
		requests(t)
	})

	t.Run("good password", func(t *testing.T) {
		p := newPerson(t, chromium)
		visit(t, p, "/", 200, 1, login{"ann", "secret"})
		members(t, p, "ann")
		p.screenshot("good-password")
		requests(t, page("/", "ann")...)
		visit(t, p, "/plain", 200, 0)
		members(t, p, "ann")
		requests(t, page("/plain", "ann")...)
	})

	t.Run("wrong password", func(t *testing.T) {
		p := newPerson(t, chromium)
		visit(t, p, "/", 401, 3, login{"ann", "wrong"}, login{"nobody", "secret"})
		if text := p.text(); text != "Members only" {
			t.Errorf("the page says %q", text)
		}
		p.screenshot("wrong-password")
		requests(t)
		visit(t, p, "/", 200, 2, login{"ann", "wrong"}, login{"ann", "secret"})
		members(t, p, "ann")
		requests(t, page("/", "ann")...)
	})

	t.Run("changed password", func(t *testing.T) {
		p := newPerson(t, chromium)
		visit(t, p, "/", 200, 1, login{"bob", "secret"})
		members(t, p, "bob")
		requests(t, page("/", "bob")...)
		s.htpasswd("-bC4", "users", "bob", "other")
		eventually(t, "the new password is accepted", func() bool { return s.get("/plain", "bob", "other").Status == 200 })
		app.asked()
		if status := p.fetch(); status != 401 || len(p.asked()) != 2 {
			t.Errorf("fetch() in the old page: %d; dialogs: %q", status, p.asked())
		}
		requests(t)
		visit(t, p, "/", 200, 1, login{"bob", "other"})
		members(t, p, "bob")
		p.screenshot("changed-password")
		requests(t, page("/", "bob")...)

		s.htpasswd("-D", "users", "bob")
		eventually(t, "the user is removed", func() bool { return s.get("/plain", "bob", "other").Status == 401 })
		app.asked()
		visit(t, p, "/", 401, 1)
		p.screenshot("removed-user")
		requests(t)
	})
}

// TestBrowserLogout runs the configuration and the script for a logout of
// docs/browsers.md in a real browser.
func TestBrowserLogout(t *testing.T) {
	parallel(t)
	program(t, "chromium")
	const page = "../docs/browsers.md"
	dir := t.TempDir()
	htpasswdIn(t, dir, "-cbC4", "users", "alice", "secret")
	s := startIn(t, dir, "", strings.NewReplacer("example.com {", "https://localhost:{https} {", "/etc/caddy/.htpasswd", "{dir}/users",
		"reverse_proxy 127.0.0.1:9001", "header Content-Type text/html\nrespond `<p id=\"done\">Members</p>`").Replace(block(t, page, "caddyfile", "/logout")))
	p := newPerson(t, browser(t, s))
	visit := func(when, path string, status, dialogs int, answers ...login) {
		t.Helper()
		if got, asked := p.visit(s.URL(path), answers...); got != status || len(asked) != dialogs {
			t.Errorf("%s, %s: got %d and the dialogs %q, want %d and %d dialogs", when, path, got, asked, status, dialogs)
		}
	}
	alice := login{"alice", "secret"}
	visit("at first", "/", 200, 1, alice)
	visit("logged in", "/", 200, 0)

	before := len(p.asked())
	run(p, chromedp.Evaluate[int](block(t, page, "js", "logOut")+"logOut(); 1"))
	eventually(t, "the script leads to the last page", func() bool {
		return run(p, chromedp.Evaluate[bool](`location.pathname === "/goodbye" && performance.getEntriesByType("navigation")[0].loadEventEnd > 0`))
	})
	if got := len(p.asked()); got != before {
		t.Errorf("got %d dialogs by the script, want none", got-before)
	}
	visit("after the script", "/", 0, 1) // a 401 without a body
	visit("after the script", "/", 200, 1, alice)

	visit("by a link", "/logout", 401, 1)
	visit("after the link", "/", 0, 1)
	visit("after the link", "/", 200, 1, alice)
	if said := s.process.Said(); strings.Count(said, `"reason":"unknown user"`)-strings.Count(said, `"repeated":true`) > 1 {
		t.Errorf("got several failed logins that count, want one at most: %s", said)
	}
}

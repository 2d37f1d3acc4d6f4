package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// stickyServers are servers that respond with their names. They can be stopped, and
// started again at the same address.
type stickyServers struct {
	t       *testing.T
	names   []string
	address map[string]string
	running map[string]*http.Server
}

func newStickyServers(t *testing.T, names ...string) *stickyServers {
	t.Helper()
	s := &stickyServers{t: t, names: names, address: make(map[string]string), running: make(map[string]*http.Server)}
	for i, port := range freePorts(t, len(names)) {
		s.address[names[i]] = fmt.Sprintf("127.0.0.1:%d", port)
		s.start(names[i])
	}
	t.Cleanup(func() {
		for name := range s.running {
			s.stop(name)
		}
	})
	return s
}

func (s *stickyServers) start(name string) {
	s.t.Helper()
	var ln net.Listener
	eventually(s.t, name+" can listen", func() bool {
		var err error
		ln, err = net.Listen("tcp", s.address[name])
		return err == nil
	})
	s.running[name] = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Cache-Control", "no-store")
		if r.URL.Path == "/page" {
			fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><p>%s of %s</p><p id="done"></p>`, name, r.Header.Get("X-Remote-User"))
			return
		}
		_, _ = io.WriteString(w, name)
	})}
	go func() { _ = s.running[name].Serve(ln) }()
}

func (s *stickyServers) stop(name string) {
	s.t.Helper()
	must(s.t, s.running[name].Close())
	delete(s.running, name)
}

// lines returns the lines of the servers in a group.
func (s *stickyServers) lines() string {
	var lines strings.Builder
	for _, name := range s.names {
		fmt.Fprintf(&lines, "server %s\n", s.address[name])
	}
	return lines.String()
}

// TestStickyFleet has two Caddys, each in its own process with its own storage. Each
// request of 30 sessions goes to the other one, while the secret is replaced.
func TestStickyFleet(t *testing.T) {
	parallel(t)
	upstreams := newStickyServers(t, "a", "b", "c")
	const oldSecret, newSecret = "old-secret-of-32-characters-or-more", "new-secret-of-32-characters-or-more"
	file := func(secrets string) string {
		return "{\n\thtpasswd {\n\t\tsecret " + secrets + "\n\t}\n\tupstream app {\n" + upstreams.lines() +
			"balance random\nsticky cookie srv\n}\n}\nhttps://localhost:{https} {\n\tproxy_pass app\n}\n"
	}
	caddys := []*server{startServer(t, file(oldSecret)), startServer(t, file(oldSecret))}
	sessions := make([]struct{ cookie, server string }, 30)
	round := func(when string) {
		t.Helper()
		stayed := 0
		for i := range sessions {
			session, stays := &sessions[i], true
			for _, s := range append(caddys, caddys...) {
				a := s.Send("/", http.Header{"Cookie": {session.cookie}})
				if a.Status != http.StatusOK {
					t.Fatalf("%s: got status %d, want 200", when, a.Status)
				}
				stays = stays && (a.Body == session.server || session.server == "")
				session.cookie, session.server = cookiesIn(a), a.Body
			}
			if stays {
				stayed++
			}
		}
		if stayed != len(sessions) {
			t.Errorf("%s: %d of %d sessions stayed, want all", when, stayed, len(sessions))
		}
	}
	round("one secret")
	for _, step := range []struct {
		caddy   int
		secrets string
	}{{0, newSecret + " " + oldSecret}, {1, newSecret + " " + oldSecret}, {0, newSecret}, {1, newSecret}} {
		must(t, caddys[step.caddy].Reload(file(step.secrets)))
		round(fmt.Sprintf("server %d has the secrets %s", step.caddy, step.secrets))
	}
	caddys[0].process.Stop(syscall.SIGTERM)
	caddys[0].start("caddy.json") // with the first configuration, of the old secret
	must(t, caddys[0].Reload(file(newSecret)))
	round("one Caddy has restarted")
}

// TestStickyRouteAsApache compares the example of sticky route with a real Apache, with
// the same servers and routes.
func TestStickyRouteAsApache(t *testing.T) {
	parallel(t)
	upstreams := newStickyServers(t, "a", "b", "c")
	caddyfile := block(t, upstreamPage, "caddyfile", "JSESSIONID")
	lines := ""
	members := ""
	for _, name := range upstreams.names {
		lines += fmt.Sprintf("\t\tserver %s route=%s\n", upstreams.address[name], name)
		members += fmt.Sprintf("BalancerMember http://%s route=%s\n", upstreams.address[name], name)
	}
	caddyfile = strings.Replace(caddyfile, "\t\tserver 10.0.0.1:8080 route=a\n\t\tserver 10.0.0.2:8080 route=b\n", lines, 1)
	caddyfile = strings.Replace(caddyfile, "\nexample.com {", "\nhttps://localhost:{https} {", 1)
	apache := "Listen 127.0.0.1:{port}\n<Proxy balancer://tomcat>\n" + members + "</Proxy>\nProxyPass / balancer://tomcat/ stickysession=JSESSIONID|jsessionid\n"
	tw := testkit.StartTwins(t, startServer(t, "").Server, caddyfile, apache,
		testkit.ApacheCommand("proxy", "proxy_http", "proxy_balancer", "slotmem_shm", "lbmethod_byrequests"), nil)
	for _, row := range []struct{ path, cookie, want string }{
		{"/", "JSESSIONID=0123.a", "a"},
		{"/", "x=1; JSESSIONID=0123.b; y=2", "b"},
		{"/page2;jsessionid=0123.c", "", "c"},
		{"/page2;jsessionid=0123.c?x=1", "", "c"},
		{"/", "JSESSIONID=0123.none", ""},
		{"/", "JSESSIONID=0123", ""},
		{"/", "", ""},
	} {
		header := make(http.Header)
		if row.cookie != "" {
			header.Set("Cookie", row.cookie)
		}
		var ours, theirs []string
		for range 6 {
			ours = append(ours, tw.Ours.Send(row.path, header).Body)
			r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", tw.Theirs.Port, row.path), nil)
			must(t, err)
			r.Header = header.Clone()
			a, err := testkit.Send(http.DefaultClient, r)
			must(t, err)
			theirs = append(theirs, a.Body)
		}
		for name, got := range map[string][]string{"Caddy": ours, "Apache": theirs} {
			slices.Sort(got)
			servers := slices.Compact(slices.Clone(got))
			// Apache counts the requests of sessions as turns, so the others get more.
			if row.want != "" && !slices.Equal(servers, []string{row.want}) || row.want == "" && len(servers) < 2 {
				t.Errorf("%s, %s %s: got %q, want %q only, or any server if empty", name, row.path, row.cookie, got, row.want)
			}
		}
	}
}

// TestStickyBrowser logs in with a real browser, and reloads the page 20 times while the
// servers restart one by one. The page moves only when its own server restarts, and the
// user is asked for the password once.
func TestStickyBrowser(t *testing.T) {
	parallel(t)
	program(t, "chromium")
	upstreams := newStickyServers(t, "a", "b", "c")
	dir := t.TempDir()
	htpasswdIn(t, dir, "-cbC4", "users", "ann", "secret")
	s := startIn(t, dir, "upstream app {\n"+upstreams.lines()+"sticky cookie srv expires=1h\n}", `https://localhost:{https} {
	htpasswd {
		file        {dir}/users
		user_header X-Remote-User
	}
	proxy_pass app
}`)
	p := newPerson(t, browser(t, s))
	page := func(answers ...login) string {
		t.Helper()
		status, dialogs := p.visit(s.URL("/page"), answers...)
		if status != http.StatusOK || len(dialogs) != len(answers) {
			t.Fatalf("got status %d and %d dialogs, want 200 and %d", status, len(dialogs), len(answers))
		}
		name, user, _ := strings.Cut(strings.TrimSpace(p.text()), " of ")
		if user != "ann" {
			t.Fatalf("got the page of user %q, want ann", user)
		}
		return name
	}
	current, moves := page(login{"ann", "secret"}), 0
	down := ""
	for i := range 20 {
		switch i % 6 { // each server is down for three reloads
		case 1:
			down = upstreams.names[(i/6+slices.Index(upstreams.names, current))%3]
			upstreams.stop(down)
		case 4:
			upstreams.start(down)
			down = ""
		}
		next := page()
		if next != current {
			moves++
			if current != down {
				t.Errorf("reload %d: the page moved from %s to %s, but %q is down", i, current, next, down)
			}
		}
		current = next
	}
	if moves < 1 || moves > 3 {
		t.Errorf("the page moved %d times, want once for each restart of its server", moves)
	}
	cookies := run(p, func(ctx context.Context, _ *chromedp.Target) (network.GetCookiesResult, error) {
		return chromedp.Call(ctx, network.GetCookies, network.GetCookiesParams{})
	}).Cookies
	if len(cookies) != 1 || cookies[0].Name != "srv" || !cookies[0].HTTPOnly || !cookies[0].Secure || cookies[0].SameSite != "Lax" || cookies[0].Session {
		t.Errorf("got cookies %+v, want srv alone, with HttpOnly, Secure, SameSite=Lax and a lifetime", cookies)
	}
	if text := run(p, chromedp.Evaluate[string](`document.cookie`)); text != "" {
		t.Errorf("a script reads %q, want no cookie", text)
	}
	p.screenshot("sticky")
}

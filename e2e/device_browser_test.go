package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// deviceBrowserSite has two realms, with a password file each. Each page shows the
// address and the cookies that an application would see.
const deviceBrowserSite = `https://localhost:{https} {
	header Content-Type text/html
	handle /admin/* {
		htpasswd {
			file {dir}/admins
			realm Admins
			device_cookie
		}
		respond ` + "`<p id=\"done\">admin {http.auth.user.id} {client_ip} [{http.request.header.Cookie}]</p>`" + `
	}
	handle /open {
		respond "[{http.request.header.Cookie}]"
	}
	handle {
		htpasswd {
			file {dir}/users
			realm Members
			device_cookie
		}
		respond ` + "`<p id=\"done\">member {http.auth.user.id} {client_ip} [{http.request.header.Cookie}]</p>`" + `
	}
}`

// deviceCookies returns the cookies that the browser has for a site, with what scripts do
// not see.
func (p *person) deviceCookies(s *server) []*network.Cookie {
	p.t.Helper()
	result, err := chromedp.Call(p.ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{s.URL("/")}})
	must(p.t, err)
	return result.Cookies
}

// TestBrowserDeviceCookie has a real browser and an attacker at the same address. The
// attacker exceeds the limits of the address and of the users. The browser with the device
// cookie keeps working, also after a restart of Caddy. Without the cookie, it does not.
func TestBrowserDeviceCookie(t *testing.T) {
	parallel(t)
	program(t, "chromium")
	dir := t.TempDir()
	htpasswdIn(t, dir, "-cbC4", "users", "ann", "secret")
	htpasswdIn(t, dir, "-bC4", "users", "bob", "hunter2")
	htpasswdIn(t, dir, "-cbC4", "admins", "ann", "other secret")
	s := startIn(t, dir, "", deviceBrowserSite)
	chromium := browser(t, s)
	address := ""
	guess := 0
	attack := func(t *testing.T) {
		t.Helper()
		statuses := make(map[int]int)
		for _, user := range slices.Concat(slices.Repeat([]string{"ann"}, 10), slices.Repeat([]string{"bob"}, 10), slices.Repeat([]string{"nobody"}, 11)) {
			guess++
			statuses[s.at(t, address, "/", user, fmt.Sprint("guess ", guess))]++
		}
		// At most one of the 30 was used by the browser, which has sent the password of
		// another realm.
		if statuses[401] < 29 || statuses[401] > 30 || statuses[429] != 31-statuses[401] {
			t.Fatalf("the attacker got %v, want 30 times 401, then 429", statuses)
		}
		for _, login := range []login{{"ann", "secret"}, {"bob", "hunter2"}} {
			if status := s.at(t, address, "/", login.user, login.password); status != 429 {
				t.Errorf("%s with the right password at the attacked address, without a cookie: got %d, want 429", login.user, status)
			}
		}
	}
	visit := func(t *testing.T, p *person, path, want string, dialogs int, answers ...login) {
		t.Helper()
		status, asked := p.visit(s.URL(path), answers...)
		if status != 200 || len(asked) != dialogs {
			t.Errorf("%s, answers %v: got %d and the dialogs %q, want 200 and %d dialogs", path, answers, status, asked, dialogs)
			return
		}
		if text := p.text(); text != want+" "+address+" []" {
			t.Errorf("%s: the page says %q, want %q and no cookies", path, text, want+" "+address)
		}
	}

	p := newPerson(t, chromium)
	if status, _ := p.visit(s.URL("/"), login{"ann", "secret"}); status != 200 {
		t.Fatalf("the first login: got %d, want 200", status)
	}
	address = strings.Fields(p.text())[2]
	before := time.Now()

	t.Run("attributes", func(t *testing.T) {
		cookies := p.deviceCookies(s)
		if len(cookies) != 1 {
			t.Fatalf("got %d cookies, want one", len(cookies))
		}
		c := cookies[0]
		if c.Name != "__Host-htpasswd-device" || c.Domain != "localhost" || c.Path != "/" || !c.Secure || !c.HTTPOnly || c.Session || c.SameSite != network.CookieSameSiteLax {
			t.Errorf("got %+v, want __Host-htpasswd-device for localhost only, /, Secure, HttpOnly and SameSite=Lax", c)
		}
		if days := (c.Expires - float64(before.Unix())) / 86400; math.Abs(days-90) > 0.1 {
			t.Errorf("the cookie is kept for %.1f days, want 90", days)
		}
		if seen := run(p, chromedp.Evaluate[string]("document.cookie")); seen != "" {
			t.Errorf("a script sees %q, want nothing", seen)
		}
		visit(t, p, "/page", "member ann", 0)
		if again := p.deviceCookies(s); len(again) != 1 || again[0].Value != c.Value {
			t.Error("the second request has got another cookie")
		}
	})

	t.Run("two realms, and two users", func(t *testing.T) {
		visit(t, p, "/admin/", "admin ann", 1, login{"ann", "other secret"})
		if n := p.tokens(t, s); n != 2 {
			t.Errorf("after a login in two realms: got %d tokens, want 2", n)
		}
		run(p, chromedp.Evaluate[int](`new Promise((done) => {
			const request = new XMLHttpRequest();
			request.open("GET", "/", true, "bob", "hunter2"); // replaces the browser's password
			request.onloadend = () => done(request.status);
			request.send();
		})`, chromedp.EvalAwaitPromise))
		visit(t, p, "/", "member bob", 0)
		if n := p.tokens(t, s); n != 3 {
			t.Errorf("after a login of another user: got %d tokens, want 3", n)
		}
	})

	t.Run("under attack", func(t *testing.T) {
		attack(t)
		visit(t, p, "/", "member bob", 0)
		visit(t, p, "/admin/", "admin ann", 0)
		stranger := newPerson(t, chromium)
		if status, _ := stranger.visit(s.URL("/"), login{"bob", "hunter2"}); status == 200 {
			t.Error("a browser without the cookie gets in at the attacked address: the test shows nothing")
		}
	})

	t.Run("under attack after a restart", func(t *testing.T) {
		s.kill()
		s.run()
		attack(t)
		visit(t, p, "/", "member bob", 0)
		visit(t, p, "/admin/", "admin ann", 0)
		if n := p.tokens(t, s); n != 3 {
			t.Errorf("got %d tokens, want the 3 as before", n)
		}
	})

	if p.tokens(t, s); t.Failed() {
		return
	}
	// Other paths of the host see the cookie, as the docs say.
	if seen := run(p, chromedp.Evaluate[string](`fetch("/open").then((response) => response.text())`, chromedp.EvalAwaitPromise)); !strings.Contains(seen, p.deviceCookies(s)[0].Value) {
		t.Error("a path without htpasswd does not see the cookie, want that it does, as the docs say")
	}
	for token := range strings.SplitSeq(p.deviceCookies(s)[0].Value, ".") {
		if strings.Contains(s.process.Said(), token) {
			t.Error("the log has a token of the cookie")
		}
	}
}

// tokens returns how many tokens are in the browser's device cookie.
func (p *person) tokens(t *testing.T, s *server) int {
	t.Helper()
	cookies := p.deviceCookies(s)
	if len(cookies) != 1 {
		t.Fatalf("got %d cookies, want one", len(cookies))
	}
	return strings.Count(cookies[0].Value, ".") + 1
}

// at sends a request over a connection to one address of this machine, which the client
// then has, too. It returns the status.
func (s *server) at(t *testing.T, address, path, user, password string) int {
	t.Helper()
	client := s.newClient()
	defer client.CloseIdleConnections()
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, kind, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, kind, net.JoinHostPort(address, fmt.Sprint(s.HTTPS)))
	}
	request, err := http.NewRequest(http.MethodGet, s.URL(path), nil)
	must(t, err)
	request.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	response, err := client.Do(request)
	must(t, err)
	must(t, response.Body.Close())
	return response.StatusCode
}

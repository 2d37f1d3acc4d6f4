package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// open opens an address, answers the dialogs, and returns the status, 0 for an empty page,
// and the number of dialogs.
func (p *person) open(address string, answers ...login) (status, dialogs int) {
	p.t.Helper()
	p.mu.Lock()
	p.answers, p.dialogs = answers, nil
	p.mu.Unlock()
	status = run(p, func(ctx context.Context, target *chromedp.Target) (int, error) {
		response, err := chromedp.NavigateResponse(address)(ctx, target)
		if failure, ok := errors.AsType[*chromedp.LoadError](err); ok && failure.ErrorText == "net::ERR_HTTP_RESPONSE_CODE_FAILURE" {
			return 0, nil
		}
		if err != nil || response == nil {
			return 0, fmt.Errorf("no response of %s: %w", address, err)
		}
		return int(response.Status), nil
	})
	return status, len(p.asked())
}

// press types keys into the element with the focus.
func (p *person) press(keys ...string) {
	p.t.Helper()
	for _, key := range keys {
		run(p, chromedp.KeyEvent(key))
	}
}

// focused returns the id of the element with the focus.
func (p *person) focused() string {
	p.t.Helper()
	return run(p, chromedp.Evaluate[string](`document.activeElement?.id ?? ""`))
}

// title waits for a title of the page.
func (p *person) title(want string) {
	p.t.Helper()
	eventually(p.t, "the page has the title "+want, func() bool {
		return run(p, chromedp.Evaluate[bool](fmt.Sprintf(`document.title === %q && document.readyState === "complete"`, want)))
	})
}

// TestBrowserChangePassword changes passwords in a real browser, with the keyboard only.
func TestBrowserChangePassword(t *testing.T) {
	parallel(t)
	program(t, "chromium")
	dir := t.TempDir()
	htpasswdIn(t, dir, "-cbC4", "users", "alice", "secret")
	htpasswdIn(t, dir, "-bC4", "users", "bob", "secret")
	s := startIn(t, dir, "", `https://localhost:{https} {
	htpasswd {
		file {dir}/users
		change_password /account/password
	}
	header Content-Type text/html
	respond "<title>Members</title><h1>Members</h1>"
}
http://localhost:{http} {
	header Content-Type text/html
	respond "<title>Another site</title><form method=post action='https://localhost:{https}/account/password'><input name=current_password value=secret><input name=new_password value=orbit-walnut-kettle-93><input name=new_password_again value=orbit-walnut-kettle-93><button id=send>Send</button></form>"
}`)
	chromium := browser(t, s)
	page := s.URL("/account/password")
	const newPassword = "Zwölf Kamele im 🌳 Wald"

	t.Run("keyboard", func(t *testing.T) {
		p := newPerson(t, chromium)
		if status, dialogs := p.open(page, login{"alice", "secret"}); status != 200 || dialogs != 1 {
			t.Fatalf("got %d after %d dialogs, want 200 after 1", status, dialogs)
		}
		p.screenshot("change-password")
		p.press(kb.Tab)
		eventually(t, "the focus is on username", func() bool { return p.focused() == "username" })

		p.press(kb.Tab, "wrong", kb.Tab, newPassword, kb.Tab, newPassword, kb.Enter)
		p.title("Error: Change password")
		eventually(t, "the focus is on current_password", func() bool { return p.focused() == "current_password" })
		p.screenshot("change-password-wrong")

		p.press("secret", kb.Tab, "aaaaaaaaaaaaaaaa", kb.Tab, "aaaaaaaaaaaaaaaa", kb.Enter)
		eventually(t, "the new password is refused", func() bool { return p.focused() == "new_password" })
		p.title("Error: Change password")
		p.screenshot("change-password-refused")
		described := run(p, chromedp.Evaluate[string](`document.activeElement.getAttribute("aria-describedby").split(" ").map((id) => document.getElementById(id).textContent).join(" ")`))
		if !strings.Contains(described, "The password is easy to guess") || !strings.Contains(described, "At least 15 characters") {
			t.Errorf("the field is described by %q", described)
		}

		p.press(newPassword, kb.Tab, newPassword+"x", kb.Enter)
		eventually(t, "the browser itself asks for the current password", func() bool { return p.focused() == "current_password" })
		p.press("secret", kb.Enter)
		eventually(t, "the second password is refused", func() bool { return p.focused() == "new_password_again" })

		p.open(page)
		p.press(kb.Tab, kb.Tab, "secret", kb.Tab, newPassword, kb.Tab, newPassword, kb.Tab, " ") // the button
		p.title("Password changed")
		p.screenshot("change-password-changed")
		eventually(t, "the focus is on changed", func() bool { return p.focused() == "changed" })
		if got := p.asked(); len(got) != 0 {
			t.Errorf("the browser has asked %d times before the user goes on", len(got))
		}
		if text := p.text(); !strings.Contains(text, "The password of alice has been changed.") || !strings.Contains(text, "for about 5 seconds more") {
			t.Errorf("the page says %q", text)
		}

		if status, dialogs := p.open(s.URL("/"), login{"alice", newPassword}); status != 200 || dialogs != 1 {
			t.Errorf("the new password at the prompt: got %d after %d dialogs, want 200 after 1", status, dialogs)
		}
		p.screenshot("change-password-in-again")
		run(p, chromedp.Evaluate[string](`history.back(), ""`))
		eventually(t, "the browser goes back", func() bool {
			return run(p, chromedp.Evaluate[bool](`location.pathname === "/account/password" || document.title !== "Members"`))
		})
		if html := run(p, chromedp.Evaluate[string](`document.documentElement.outerHTML`)); strings.Contains(html, newPassword) || strings.Contains(html, "secret") {
			t.Error("the history of the browser shows a password")
		}
	})

	t.Run("old password", func(t *testing.T) {
		p := newPerson(t, chromium)
		if status, dialogs := p.open(s.URL("/"), login{"alice", "secret"}); status != 0 || dialogs != 2 {
			t.Errorf("the old password: got %d after %d dialogs, want an empty page after 2", status, dialogs)
		}
		if status, dialogs := p.open(s.URL("/"), login{"alice", newPassword}); status != 200 || dialogs != 1 {
			t.Errorf("the new password: got %d after %d dialogs, want 200 after 1", status, dialogs)
		}
	})

	t.Run("another site", func(t *testing.T) {
		before := readFile(t, dir+"/users")
		p := newPerson(t, chromium)
		p.open(page, login{"bob", "secret"})
		p.open(fmt.Sprintf("http://localhost:%d/", s.HTTP))
		run(p, chromedp.Click("#send"))
		p.title("Error: Change password")
		if text := p.text(); !strings.Contains(text, "not sent by this page") {
			t.Errorf("the page says %q", text)
		}
		p.screenshot("change-password-other-site")
		if readFile(t, dir+"/users") != before {
			t.Error("the file has changed")
		}
	})

	t.Run("narrow and dark", func(t *testing.T) {
		p := newPerson(t, chromium)
		run(p, chromedp.EmulateViewport(320, 640))
		_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}})
		must(t, err)
		p.open(page, login{"bob", "secret"})
		check := func(state string) {
			t.Helper()
			if width := run(p, chromedp.Evaluate[int](`document.documentElement.scrollWidth`)); width > 320 {
				t.Errorf("%s: the page is %d pixels wide, want at most 320", state, width)
			}
			colors := run(p, chromedp.Evaluate[[]string](`[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]`))
			if slices.Equal(colors, []string{"rgb(255, 255, 255)", "rgb(0, 0, 0)"}) {
				t.Errorf("%s: got the colors %v in dark mode", state, colors)
			}
			p.screenshot("change-password-narrow-" + state)
		}
		check("form")
		p.press(kb.Tab, kb.Tab, "secret", kb.Tab, "bob-bob-bob-bob-bob", kb.Tab, "bob-bob-bob-bob-bob", kb.Enter)
		p.title("Error: Change password")
		check("problem")
		p.open(page)
		p.press(kb.Tab, kb.Tab, "secret", kb.Tab, "orbit walnut kettle", kb.Tab, "orbit walnut kettle", kb.Enter)
		p.title("Password changed")
		check("changed")
	})

	t.Run("a file that cannot be replaced", func(t *testing.T) {
		must(t, os.Link(dir+"/users", dir+"/users.link"))
		p := newPerson(t, chromium)
		if status, _ := p.open(page, login{"alice", newPassword}); status != 503 {
			t.Errorf("got %d, want 503", status)
		}
		eventually(t, "the focus is on problem", func() bool { return p.focused() == "problem" })
		p.screenshot("change-password-not-writable")
	})
	if said := s.process.Said(); strings.Contains(said, newPassword) || strings.Contains(said, "$2y$") {
		t.Error("the server has logged a password or a hash")
	}
}

// readFile returns the text of a file.
func readFile(t *testing.T, path string) string {
	t.Helper()
	return testkit.ReadText(t, path)
}

// TestDocsChangePassword runs the configurations of docs/change-password.md.
func TestDocsChangePassword(t *testing.T) {
	parallel(t)
	for _, text := range []string{"example.com {\n\thtpasswd {", "redir /.well-known/change-password"} {
		dir := t.TempDir()
		htpasswdIn(t, dir, "-cbC4", "users", "alice", "secret")
		s := startIn(t, dir, "", strings.NewReplacer("example.com {", "https://localhost:{https} {", "/var/lib/caddy-htpasswd/users", "{dir}/users",
			"reverse_proxy 127.0.0.1:9001", "respond Members").Replace(block(t, "../docs/change-password.md", "caddyfile", text)))
		if a := s.get("/.well-known/change-password", "", ""); strings.HasPrefix(text, "redir") && (a.Status != 302 || a.Header.Get("Location") != "/account/password") {
			t.Errorf("got %d and Location %q without a password, want 302 to the page", a.Status, a.Header.Get("Location"))
		}
		const next = "walnut-kettle-orbit-93"
		r := s.Request(http.MethodPost, "/account/password", strings.NewReader("current_password=secret&new_password="+next+"&new_password_again="+next))
		r.SetBasicAuth("alice", "secret")
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", fmt.Sprintf("https://localhost:%d", s.HTTPS))
		if a := s.Do(r); a.Status != 200 || !strings.Contains(a.Body, "has been changed") {
			t.Errorf("the form: got %d: %s", a.Status, a.Body)
		}
		if a := s.get("/", "alice", next); a.Status != 200 || a.Body != "Members" {
			t.Errorf("the new password: got %d %q", a.Status, a.Body)
		}
	}
}

package caddyhtpasswd

import (
	"net/http"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// withDevice adds a device cookie to a request.
func withDevice(r *http.Request, value string) *http.Request {
	r.Header.Set("Cookie", defaultDevice+value)
	return r
}

// TestDeviceCookieOfAChangedPassword changes a password with two browsers that have a
// device cookie. The answer has a new one for this browser, which keeps the tokens of
// others. The old tokens of the user are void, those of the other browser too.
func TestDeviceCookieOfAChangedPassword(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice + bob}, changeSite("device_cookie"))
	const page = "/account/password"
	issues := func(what, user, password, token string, want bool) string {
		t.Helper()
		a := s.withCookie("/", user, password, defaultDevice+token, nil)
		checkStatus(t, a, 200, "")
		issued := deviceOf(t, a, defaultDeviceCookie)
		if (issued != "") != want {
			t.Errorf("%s: issued a token: %v, want %v", what, issued != "", want)
		}
		return issued
	}

	form := s.get(page, "alice", "secret")
	checkPage(t, "the form", form, 200, `name="new_password"`)
	first := deviceOf(t, form, defaultDeviceCookie)
	if len(first) != 60 {
		t.Fatalf("the form: got the cookie %q, want one token", first)
	}
	issues("the cookie of the form", "alice", "secret", first, false)
	both := issues("bob has the same browser", "bob", "hunter2", first, true)
	bobs, _, _ := strings.Cut(both, ".")
	second := issues("another browser", "alice", "secret", "", true)

	for what, r := range map[string]*http.Request{
		"a wrong password": s.formRequest(page, "alice", "secret", passwordForm("wrong", newPassword)),
		"a weak password":  s.formRequest(page, "alice", "secret", passwordForm("secret", "a")),
	} {
		a := s.do(withDevice(r, both))
		checkPage(t, what, a, 422, "password")
		if got := a.header["Set-Cookie"]; got != nil {
			t.Errorf("%s: got %q, want no cookie", what, got)
		}
	}
	a := s.do(s.formRequest(page, "alice", "secret", passwordForm("wrong", newPassword)))
	checkPage(t, "a wrong password without a cookie", a, 422, "not correct")
	issues("the cookie of a failed change is for the old password", "alice", "secret", deviceOf(t, a, defaultDeviceCookie), false)

	a = s.do(withDevice(s.formRequest(page, "alice", "secret", passwordForm("secret", newPassword)), both))
	checkPage(t, "the change", a, 200, "has been changed")
	renewed := deviceOf(t, a, defaultDeviceCookie)
	if own, others, _ := strings.Cut(renewed, "."); len(own) != 60 || strings.Contains(renewed, first) || others != bobs {
		t.Errorf("the change: got the cookie %q, want a new token and then %q", renewed, bobs)
	}
	issues("the cookie of the change", "alice", newPassword, renewed, false)
	issues("the same of bob", "bob", "hunter2", renewed, false)
	issues("the old cookie", "alice", newPassword, first, true)
	issues("that of the other browser", "alice", newPassword, second, true)
	if a := s.withCookie("/", "alice", "secret", defaultDevice+renewed, nil); a.status != 401 || a.header["Set-Cookie"] != nil {
		t.Errorf("the old password: got %d with %q, want 401 without a cookie", a.status, a.header["Set-Cookie"])
	}

	a = s.do(s.formRequest(page, "alice", newPassword, passwordForm(newPassword, newPassword+"-2")))
	checkPage(t, "a change without a cookie", a, 200, "has been changed")
	issues("its cookie", "alice", newPassword+"-2", deviceOf(t, a, defaultDeviceCookie), false)
}

// TestDeviceCookieOfAPasswordChangedBehindAnotherHandler has two handlers with the same
// file on the page. The cookie of the change has only the token for the new password.
func TestDeviceCookieOfAPasswordChangedBehindAnotherHandler(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, httpsSite(`
	route {
		htpasswd {
			file {dir}/users
			device_cookie
		}
		htpasswd {
			file {dir}/users
			device_cookie
			change_password /account/password
		}
		reverse_proxy {app}
	}`))
	for _, has := range []bool{false, true} {
		token := ""
		if has {
			token = s.logIn("/", "alice", "secret", nil)
		}
		a := s.do(withDevice(s.formRequest("/account/password", "alice", "secret", passwordForm("secret", newPassword)), token))
		checkPage(t, "the change", a, 200, "has been changed")
		renewed := deviceOf(t, a, defaultDeviceCookie)
		if len(renewed) != 60 {
			t.Errorf("with a cookie: %v: got %q, want one token", has, renewed)
		}
		a = s.withCookie("/", "alice", newPassword, defaultDevice+renewed, nil)
		if checkStatus(t, a, 200, ""); a.header["Set-Cookie"] != nil {
			t.Errorf("with a cookie: %v: the cookie of the change is not valid", has)
		}
		s.write("users", alice)
		eventually(t, "alice has her old password", func() bool { return s.get("/", "alice", "secret").status == 200 })
	}
}

// TestDeviceLimitsOfThePasswordPage guesses the current password with a device cookie. The
// guesses are counted by the token: other clients at the same address are not refused.
func TestDeviceLimitsOfThePasswordPage(t *testing.T) {
	s := startSiteWith(t, testkit.ServerOptions{DefaultLimits: true}, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite("device_cookie"))
	token := s.logIn("/", "alice", "secret", nil)
	statuses := make(map[int]int)
	for i := range 30 {
		r := s.formRequest("/account/password", "alice", "secret", passwordForm(strings.Repeat("x", i+1), newPassword))
		a := s.do(withDevice(r, token))
		statuses[a.status]++
		if i == 9 && s.get("/", "alice", "secret").status != 200 {
			t.Error("the limit of the token refuses the address")
		}
	}
	if statuses[422] != 20 || statuses[429] != 10 {
		t.Errorf("got the statuses %v, want 10 guesses with the token and 10 as without it", statuses)
	}
}

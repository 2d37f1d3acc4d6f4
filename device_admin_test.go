package caddyhtpasswd

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestAdminDeviceExceeded exceeds the limit of a device cookie. The admin API lists it for
// the user, and can clear it. Metrics and log tell it, and none has the token.
func TestAdminDeviceExceeded(t *testing.T) {
	s := startSite(t, nil, map[string]string{"users": alice + bob}, `{
	admin localhost:{admin}
	htpasswd {
		throttle login 2 1m
	}
}
`+httpsSite(`
	route {
		metrics /metrics
		htpasswd {
			file {dir}/users
			device_cookie
		}
		respond ok
	}`))
	token := s.logIn("/", "alice", "secret", nil)
	guess := func() answer {
		s.guesses++
		return s.withCookie("/", "alice", fmt.Sprint("guess", s.guesses), defaultDevice+token, nil)
	}
	for range 2 {
		checkStatus(t, guess(), 401, restricted)
	}
	s.expectExceeded("with the cookie", "/htpasswd", "login alice users")
	s.expectExceeded("of the user", "/htpasswd/throttle/alice", "login alice users")
	s.expectExceeded("of another user", "/htpasswd/throttle/bob", "")
	if _, body := s.ask("GET", "/htpasswd"); !strings.Contains(body, `"device_cookie":true`) || strings.Contains(body, token[:20]) {
		t.Errorf("got %s, want the limit of a device cookie", body)
	}
	for range 2 {
		checkStatus(t, guess(), 401, restricted) // those without a cookie
	}
	checkThrottled(t, guess(), time.Minute)
	if lines, _ := s.askExceeded("/htpasswd"); len(lines) != 2 || !slices.Contains(lines, "login alice users") || !slices.Contains(lines, "login 127.0.0.1 alice users") {
		t.Errorf("got %q, want the limit of the cookie, and that of the address", lines)
	}
	for want, path := range map[string]string{"alice": "/htpasswd/throttle/alice", "": "/htpasswd/throttle"} {
		if status, body := s.ask("DELETE", path); status != http.StatusOK {
			t.Errorf("%s: got status %d: %s", want, status, body)
		}
		s.expectExceeded("after clearing", "/htpasswd", "")
		checkStatus(t, guess(), 401, restricted)
	}
	samples := s.scrape()
	for name, want := range map[string]float64{
		`device_logins_total{recognized_by="cookie"}`: 4, `device_logins_total{recognized_by="address"}`: 3, `device_logins_total{recognized_by="nothing"}`: 1,
		`device_cookies_issued_total`: 1, `limits_exceeded_total{limit="device"}`: 1, `limits_exceeded_total{limit="login"}`: 1,
	} {
		if got, ok := samples[name]; got != want || !ok {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	if n := strings.Count(s.log(), "login rate limit of a device cookie exceeded; ignoring the cookie until the window ends"); n != 1 {
		t.Errorf("got %d lines in the log, want one", n)
	}
	if strings.Contains(s.log(), token[:20]) {
		t.Error("a token is in the log")
	}
	// A change of the line ends the limit.
	s.expectExceeded("nothing", "/htpasswd", "")
	for range 2 {
		guess()
	}
	s.write("users", aliceOther+bob)
	eventually(t, "the limit of the old line is not listed", func() bool {
		lines, _ := s.askExceeded("/htpasswd/throttle/alice")
		return len(lines) == 0
	})
}

package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// askExceeded returns the exceeded limits from the admin API: one line for each, without
// the time, and how many are not listed.
func (s *server) askExceeded(path string) (lines []string, notListed int) {
	s.t.Helper()
	status, body := s.ask("GET", path)
	var answer struct {
		Exceeded []struct {
			Limit, User, File string
			ClientIP          string `json:"client_ip"`
			Until             time.Time
		}
		NotListed int `json:"exceeded_not_listed"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 {
		s.t.Fatalf("%s: got status %d, error %v, want 200 and JSON: %s", path, status, err, body)
	}
	for _, e := range answer.Exceeded {
		line := fmt.Sprintf("%s %s %s %s", e.Limit, e.ClientIP, e.User, strings.TrimPrefix(e.File, s.dir+"/"))
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return lines, answer.NotListed
}

// expectExceeded fails if the exceeded limits are not the given ones.
func (s *server) expectExceeded(what, path, want string) {
	s.t.Helper()
	lines, notListed := s.askExceeded(path)
	if got := strings.Join(lines, ", "); got != want || notListed != 0 {
		s.t.Errorf("%s: %s: got '%s' and %d not listed, want '%s'", what, path, got, notListed, want)
	}
}

const exceededSite = `{
	admin localhost:{admin}
	servers {
		trusted_proxies static private_ranges
		trusted_proxies_strict
	}
	htpasswd {
		throttle login 2 1m
		throttle client 4 2m
		throttle user 6 1h
	}
}
https://localhost:{https} {
	htpasswd {
		file {dir}/users {dir}/more
	}
	respond ok
}`

// failFrom has a number of logins of a user fail from an address.
func (s *server) failFrom(ip, user string, times int) {
	s.t.Helper()
	for range times {
		if a := s.guess(1, user, http.Header{"X-Forwarded-For": {ip}}); a.status != http.StatusUnauthorized {
			s.t.Fatalf("%s from %s: %d, want 401", user, ip, a.status)
		}
	}
}

// TestAdminExceeded asks what an administrator asks: is alice locked out, from which
// address, and until when?
func TestAdminExceeded(t *testing.T) {
	s := startServer(t, "")
	var offset atomic.Int64
	start := time.Now()
	process.guard.now = func() time.Time { return start.Add(time.Duration(offset.Load())) }
	s.write("users", metricsUsers)
	s.write("more", "eve:"+shaSecret1+"\n")
	must(t, s.reload(exceededSite))

	s.failFrom("192.0.2.1", "bob", 1)
	s.expectExceeded("below every limit", "/htpasswd", "")
	s.failFrom("192.0.2.1", "bob", 1)
	s.failFrom("2001:db8::1", "ghost", 2)
	s.expectExceeded("two logins", "/htpasswd", "login 192.0.2.1 bob users, login 2001:db8::1 ghost")
	s.failFrom("192.0.2.1", "eve", 1)
	s.failFrom("192.0.2.1", "dora", 1)
	s.failFrom("192.0.2.2", "bob", 2)
	s.failFrom("192.0.2.3", "bob", 2)
	const bobs = "login 192.0.2.1 bob users, login 192.0.2.2 bob users, login 192.0.2.3 bob users"
	const all = bobs + ", login 2001:db8::1 ghost, client 192.0.2.1, user bob users"
	for path, want := range map[string]string{
		"/htpasswd":                          all,
		"/htpasswd/throttle":                 all,
		"/htpasswd/throttle/bob":             bobs + ", user bob users",
		"/htpasswd/throttle/eve":             "",
		"/htpasswd/throttle/ghost":           "login 2001:db8::1 ghost",
		"/htpasswd/throttle/192.0.2.1":       "login 192.0.2.1 bob users, client 192.0.2.1",
		"/htpasswd/throttle/192.0.2.2":       "login 192.0.2.2 bob users",
		"/htpasswd/throttle/192.0.2.9":       "",
		"/htpasswd/throttle/2001:db8::99":    "login 2001:db8::1 ghost", // the same /64
		"/htpasswd/throttle/2001:db8:0:1::1": "",
	} {
		s.expectExceeded("all limits", path, want)
	}
	if _, body := s.ask("GET", "/htpasswd"); !strings.Contains(body, `"login":{"failures":2,"window":"1m0s","exceeded":4}`) {
		t.Errorf("got another number of exceeded limits than 4: %s", body)
	}
	_, body := s.ask("GET", "/htpasswd/throttle/192.0.2.1")
	for _, window := range []time.Duration{time.Minute, 2 * time.Minute} {
		if until := start.Add(window + time.Second - 1).Format("2006-01-02T15:04:05"); !strings.Contains(body, `"until":"`+until) {
			t.Errorf("got no window that ends at %s, want one: %s", until, body)
		}
	}

	must(t, s.reload(strings.Replace(exceededSite, "respond ok", "respond reloaded", 1)))
	s.expectExceeded("after a reload of the configuration", "/htpasswd", all)
	if status, body := s.ask("DELETE", "/htpasswd/throttle/192.0.2.1"); status != 200 {
		t.Errorf("got %d %s, want 200", status, body)
	}
	s.expectExceeded("a client's failed logins are cleared", "/htpasswd",
		"login 192.0.2.2 bob users, login 192.0.2.3 bob users, login 2001:db8::1 ghost, user bob users")
	offset.Store(int64(90 * time.Second))
	s.expectExceeded("the windows of the logins are over", "/htpasswd", "user bob users")

	s.write("users", "bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n") // htpasswd -nbs bob secret
	if _, body := s.ask("POST", "/htpasswd/reload"); !strings.Contains(body, `"kind":"users"`) {
		t.Errorf("got %s, want the password file reloaded", body)
	}
	s.expectExceeded("the password was reset", "/htpasswd", "")
	if status, body := s.ask("DELETE", "/htpasswd/throttle"); status != 200 {
		t.Errorf("got %d %s, want 200", status, body)
	}
	s.expectExceeded("all failed logins are cleared", "/htpasswd", "")
}

// TestAdminExceededUnderSpray exceeds more limits than can be listed. The response says
// so, and a single client or user is still found.
func TestAdminExceededUnderSpray(t *testing.T) {
	s := startServer(t, "")
	s.write("users", metricsUsers)
	must(t, s.reload(`{
		admin localhost:{admin}
		htpasswd {
			throttle login off
			throttle client off
			throttle user 1 1h
		}
	}
	https://localhost:{https} {
		htpasswd {
			file {dir}/users
		}
		respond ok
	}`))
	const others = notedLimits + 50
	long := strings.Repeat("x", htfile.MaxUserLen-10)
	s.get("/", "bob", "wrong")
	for i := range others {
		s.get("/", fmt.Sprint(long, i), "wrong")
	}
	lines, notListed := s.askExceeded("/htpasswd")
	if len(lines) != notedLimits || notListed != others+1-notedLimits {
		t.Errorf("%d listed and %d not, want %d and %d", len(lines), notListed, notedLimits, others+1-notedLimits)
	}
	if want := "user " + shown.Short(long); lines[0] != want {
		t.Errorf("got '%s', want the name as in the log: '%s'", lines[0], want)
	}
	s.expectExceeded("whose note is gone", "/htpasswd/throttle/bob", "user bob users")
	s.expectExceeded("who never failed", "/htpasswd/throttle/ann", "")
}

// TestExceededNotesAreBounded checks which notes are replaced when there is no room.
func TestExceededNotesAreBounded(t *testing.T) {
	t.Parallel()
	var n exceededNotes
	current := func(key uint64) bool { return key != 7 }
	for key := range uint64(notedLimits) {
		n.add(exceededNote{key: key}, current)
		n.add(exceededNote{key: key}, current) // the same note again
	}
	for i, gone := range []uint64{7, 0, 1} { // first a note that is no longer exceeded, then the oldest
		n.add(exceededNote{key: 1000 + uint64(i)}, current)
		notes := n.byKey()
		if _, found := notes[gone]; found || len(notes) != notedLimits {
			t.Errorf("got %d notes, the one of key %d among them: %t; want %d without it", len(notes), gone, found, notedLimits)
		}
	}
}

// TestAdminEscapes sends a user name with characters that control a terminal.
func TestAdminEscapes(t *testing.T) {
	s := newAdminSite(t)
	name := "a\u009b2J\u202eb\u00e9\U000e0001"
	for i := range 2 {
		s.get("/", name, fmt.Sprint("wrong", i))
		s.send("/", authorization(basic("", fmt.Sprint("wrong", i))))
	}
	_, body := s.ask("GET", "/htpasswd")
	if want := `"client_ip":"127.0.0.1","user":"",`; !strings.Contains(body, want) {
		t.Errorf("an empty name: no %s in %s", want, body)
	}
	shown := `"a\u009b2J\u202ebé\U000e0001"` // as in the log
	if want := `"user":"\"` + strings.ReplaceAll(shown[1:len(shown)-1], `\`, `\\`) + `\""`; !strings.Contains(body, want) {
		t.Errorf("no %s in %s", want, body)
	}
	if lines, _ := s.askExceeded("/htpasswd"); len(lines) != 2 || lines[1] != "login 127.0.0.1 "+shown {
		t.Errorf("got %q, want two lines, the second %q", lines, "login 127.0.0.1 "+shown)
	}
}

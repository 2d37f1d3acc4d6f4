package caddyhtpasswd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
	"github.com/seed10b5b978/caddy-htpasswd/fleet/storetest"
	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
	"github.com/seed10b5b978/caddy-htpasswd/internal/sealed"
)

// FuzzFleetEvent decodes the bodies of events: none is accepted that this version could not
// have sent, and what is accepted is the same after it was encoded again.
func FuzzFleetEvent(f *testing.F) {
	for _, e := range []fleetEvent{
		{Exceeded: &exceededEvent{"login", time.Minute, 1 << 63, 10, 1_900_000_000_000}},
		{Recognized: []uint64{1, 1<<64 - 1}},
		{Forget: &forgetEvent{All: true}},
		{Forget: &forgetEvent{forgotten: forgotten{Users: []uint64{1}, Clients: []uint64{2}, Devices: []uint64{3}}}},
		{Changed: "staff-1.txt"},
		{Hello: true},
	} {
		body, err := json.Marshal(e)
		must(f, err)
		f.Add(body)
	}
	for _, body := range []string{
		``, `{}`, `null`, `[]`, `{"later":1}`, `{"hello":true,"changed":"a"}`, `{"recognized":[]}`, `{"recognized":[-1]}`,
		`{"changed":"../x"}`, `{"changed":".x"}`, `{"forget":{}}`, `{"forget":{"all":true,"users":[1]}}`, `{"forget":{"users":[0]}}`, `{"forget":{"all":true,"users":[]}}`,
		`{"exceeded":{"limit":"logins","window":60000000000,"key":1,"failures":1,"until":1}}`,
		`{"exceeded":{"limit":"login","window":1,"key":1,"failures":1,"until":1}}`,
		`{"exceeded":{"limit":"login","window":60000000000,"key":1,"failures":99999999999,"until":1}}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := decodeEvent(body)
		if err != nil {
			return
		}
		if e.Changed != "" && (strings.ContainsAny(e.Changed, "/\\\x00") || strings.HasPrefix(e.Changed, ".")) {
			t.Errorf("accepted the file name %q", e.Changed)
		}
		again, err := json.Marshal(e)
		must(t, err)
		second, err := decodeEvent(again)
		if err != nil {
			t.Fatalf("got error %v from %s", err, again)
		}
		if third, err := json.Marshal(second); err != nil || !bytes.Equal(third, again) {
			t.Errorf("got %s and error %v, want %s", third, err, again)
		}
	})
}

// TestFleetEventsAreRefused has bodies that this version does not know.
func TestFleetEventsAreRefused(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{}`, `{"later":1}`, `{"hello":true,"changed":"a"}`, `{"recognized":[]}`, `{"changed":"../x"}`, `{"changed":".x"}`,
		`{"changed":"` + strings.Repeat("a", 65) + `"}`,
		`{"forget":{}}`, `{"forget":{"all":true,"users":[1]}}`, `{"forget":{"users":[0]}}`,
		`{"exceeded":{"limit":"other","window":60000000000,"key":1,"failures":1}}`,
		`{"exceeded":{"limit":"login","window":60000000000,"key":0,"failures":1}}`,
		`{"exceeded":{"limit":"login","window":60000000000,"key":1,"failures":0}}`,
	} {
		if e, err := decodeEvent([]byte(body)); err == nil {
			t.Errorf("got %+v from %s, want an error", e, body)
		}
	}
}

// TestFleetEventsFit encodes the largest events.
func TestFleetEventsFit(t *testing.T) {
	t.Parallel()
	all := forgotten{Users: slices.Repeat([]uint64{1<<64 - 1}, 1000), Devices: slices.Repeat([]uint64{1<<64 - 1}, 500), Logins: slices.Repeat([]uint64{1<<64 - 1}, 2000), Clients: []uint64{1}}
	keys := sealed.NewKeys(bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32))
	found := 0
	for e := range all.events(time.Now()) {
		body, err := json.Marshal(fleetEvent{Forget: e})
		must(t, err)
		if n := len(sealed.NewEvents(keys).Seal(body, time.Now())); n > fleet.MaxEvent {
			t.Errorf("got an event of %d bytes, want at most %d", n, fleet.MaxEvent)
		}
		if _, err := decodeEvent(body); err != nil {
			t.Error(err)
		}
		found += len(e.Users) + len(e.Devices) + len(e.Clients) + len(e.Logins)
	}
	if found != 3501 {
		t.Errorf("got %d keys in all events, want 3501", found)
	}
}

// keysFor returns the keys of a client and a user.
func (m *member) keysFor(ip, user string) (keys limitKeys) {
	k := m.guard.keyer()
	l := m.users.now().find([]byte(user))
	keys.set(k, k.client(ip), &l, []byte(user))
	return keys
}

// isExceeded reports whether a login would be refused.
func (m *member) isExceeded(ip, user string) bool {
	return m.guard.wait(new(m.keysFor(ip, user)), false, 0) > 0
}

// sender sends events into the store of the test, as somebody does who can write to it.
type sender struct {
	t    testing.TB
	conn *storetest.Conn
}

func (s sender) send(event []byte) {
	s.t.Helper()
	must(s.t, s.conn.Publish(s.t.Context(), event))
}

// settle waits until a server has handled the events that were sent before.
func (s sender) settle(m *member, own *sealed.Events) {
	s.t.Helper()
	woken := make(chan bool, 1)
	defer m.app.fleet.onChanged("settle", func() { woken <- true })()
	s.send(own.Seal([]byte(`{"changed":"settle"}`), time.Now()))
	<-woken
}

// sealerOf seals events with a secret.
func sealerOf(secret keyring.Secret) *sealed.Events {
	return sealed.NewEvents(sealed.NewKeys(keyring.NewKeys(secret, "").FleetEvents, nil))
}

// TestFleetForgedEvents sends events that do not come from a server of the fleet, or not
// now: none of them throttles, recognizes or clears anything. Each kind has one log line.
func TestFleetForgedEvents(t *testing.T) {
	const ip = "192.0.2.1"
	m := newMember(t, App{Throttle: &Throttle{Login: limitOf(3, time.Minute), Client: off, User: limitOf(1000, time.Hour)}})
	connected(t, m)
	s := sender{t, storeNamed(t).Connect()}
	for i := range 3 {
		m.expect(ip, "bob", fmt.Sprint("wrong", i), loginWrong)
	}
	own, foreign := sealerOf(secretA), sealerOf(secretB)
	keys := m.keysFor(ip, "alice")
	exceeded := func() []byte {
		body, err := json.Marshal(fleetEvent{Exceeded: &exceededEvent{"login", time.Minute, keys[scopeLogin], 10, time.Now().Add(time.Minute).UnixMilli()}})
		must(t, err)
		return body
	}
	forget := []byte(`{"forget":{"all":true}}`)
	changes := func() string {
		var found []string
		if m.isExceeded(ip, "alice") {
			found = append(found, "a limit is exceeded")
		}
		if !m.isExceeded(ip, "bob") {
			found = append(found, "failed logins were cleared")
		}
		return strings.Join(found, ", ")
	}
	received := func() int { // events in the log lines
		return m.logs.FilterMessageSnippet("fleet").Len()
	}
	for name, make := range map[string]func(body []byte) []byte{
		"no event":   func([]byte) []byte { return []byte("hello") },
		"not sealed": func(body []byte) []byte { return body },
		"damaged":    func(body []byte) []byte { e := own.Seal(body, time.Now()); e[len(e)-1] ^= 1; return e },
		"too large": func(body []byte) []byte {
			return own.Seal(append(bytes.Repeat([]byte(" "), fleet.MaxEvent), body...), time.Now())
		},
		"another secret": func(body []byte) []byte { return foreign.Seal(body, time.Now()) },
		"old":            func(body []byte) []byte { return own.Seal(body, time.Now().Add(-sealed.MaxSkew-time.Second)) },
		"of the future":  func(body []byte) []byte { return own.Seal(body, time.Now().Add(sealed.MaxSkew+time.Second)) },
		"unknown":        func([]byte) []byte { return own.Seal([]byte(`{"later":1}`), time.Now()) },
	} {
		for _, body := range [][]byte{exceeded(), forget} {
			m.app.fleet.lines.forget()
			before := received()
			for range 3 {
				s.send(make(body))
			}
			eventually(t, name+" is logged", func() bool { return received() > before })
			s.settle(m, own)
			if got := changes(); got != "" {
				t.Errorf("%s, %s: %s", name, body, got)
			}
			if n := received() - before; n != 1 {
				t.Errorf("%s: got %d lines, want one", name, n)
			}
		}
	}
	m.app.fleet.lines.forget()
	sent := own.Seal(exceeded(), time.Now())
	s.send(sent)
	eventually(t, "a real event takes effect", func() bool { return changes() == "a limit is exceeded" })
	sent = own.Seal(forget, time.Now())
	s.send(sent)
	eventually(t, "a real event clears failed logins", func() bool { return changes() == "failed logins were cleared" })
	storeNamed(t).Flush() // which the server that clears does
	for i := range 3 {
		m.expect(ip, "bob", fmt.Sprint("once more", i), loginWrong)
	}
	before := received()
	s.send(sent)
	eventually(t, "the repeated event is logged", func() bool { return received() > before })
	if got := changes(); got != "" {
		t.Errorf("after a repeated event: %s", got)
	}
}

// forget makes the next line of each kind due.
func (l *fleetLines) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written, l.ignored = [fleetLineCount]time.Time{}, [fleetLineCount]int{}
}

// TestFleetForget clears failed logins through the admin API of one server: all servers
// and the store forget those of the client or the user, and no others.
func TestFleetForget(t *testing.T) {
	store := storeNamed(t)
	settings := App{Throttle: &Throttle{Login: limitOf(2, time.Minute), Client: limitOf(4, time.Minute), User: limitOf(1000, time.Hour)}}
	a, b, c, d := newMember(t, settings), newMember(t, settings), newMember(t, settings), newMember(t, named(t, "d", settings))
	members := []*member{a, b, c, d}
	connected(t, members...)
	for _, m := range members { // the admin API looks for the names in all files
		m.guard.files = func() []fileInUse {
			return []fileInUse{{Follower: follow.New(follow.NewText("/users", ""), follow.Options{}), store: m.store, users: m.store.current.Load()}}
		}
	}
	guess, n := func(m *member, ip, user string, times int) {
		t.Helper()
		for range times {
			m.login(ip, user, fmt.Sprint("wrong", time.Now().UnixNano()))
		}
	}, 0
	refuse := func(ip, user string, want bool) {
		t.Helper()
		n++
		for i, m := range members {
			eventually(t, fmt.Sprintf("step %d: server %d refuses %s from %s: %t", n, i, user, ip, want), func() bool {
				return m.isExceeded(ip, user) == want
			})
		}
	}
	clear := func(m *member, name string, status int) string {
		t.Helper()
		r := httptest.NewRequest(http.MethodDelete, "/htpasswd/throttle"+name, nil)
		w := httptest.NewRecorder()
		must(t, (&adminAPI{m.shared}).clear(w, r))
		if w.Code != status {
			t.Errorf("got status %d, want %d: %s", w.Code, status, w.Body)
		}
		return w.Body.String()
	}
	guess(a, "192.0.2.1", "alice", 2)
	guess(b, "192.0.2.2", "alice", 2)
	guess(b, "192.0.2.1", "bob", 2) // and the client limit
	refuse("192.0.2.1", "alice", true)
	refuse("192.0.2.2", "alice", true)
	refuse("192.0.2.1", "nobody", true)
	clear(c, "/alice", 200) // c has counted nothing
	refuse("192.0.2.2", "alice", false)
	refuse("192.0.2.1", "bob", true)
	clear(c, "/192.0.2.1", 200)
	refuse("192.0.2.1", "bob", false)
	refuse("192.0.2.1", "alice", false)
	eventually(t, "the store has forgotten the logins and the client", func() bool {
		for counter := range store.Counters() {
			if counter.Name == "login" || counter.Name == "client" && counter.Key == a.keysFor("192.0.2.1", "alice")[scopeClient] {
				return false
			}
		}
		return true
	})
	guess(a, "192.0.2.1", "alice", 2)
	refuse("192.0.2.1", "alice", true)
	clear(b, "", 200)
	refuse("192.0.2.1", "alice", false)
	if left := store.Counters(); len(left) > 0 {
		t.Errorf("got the counters %v in the store, want none", left)
	}
	// While the store is down, only one server clears.
	guess(a, "192.0.2.1", "alice", 2)
	refuse("192.0.2.1", "alice", true)
	store.setFault("d", storetest.Refuses)
	if answer := clear(d, "/alice", 500); !strings.Contains(answer, "cleared on this server only") {
		t.Errorf("got %s, want that only this server has cleared", answer)
	}
	members = []*member{d}
	refuse("192.0.2.1", "alice", false)
	members = []*member{a, b, c}
	refuse("192.0.2.1", "alice", true)
}

// TestFleetForgetsWhatIsUnsent clears failed logins that the store, which is down, was not
// told of: they do not come back with the store.
func TestFleetForgetsWhatIsUnsent(t *testing.T) {
	store := storeNamed(t)
	m := newMember(t, fleetSettings(2))
	connected(t, m)
	store.setFault("", storetest.Refuses)
	for i := range 4 {
		m.login("192.0.2.1", "alice", fmt.Sprint("wrong", i)) // the first one finds out
		m.login("192.0.2.2", "alice", fmt.Sprint("wrong", i))
	}
	if m.app.fleet.client.Status().Unsent == 0 {
		t.Fatal("nothing was kept for the store")
	}
	w := httptest.NewRecorder()
	must(t, (&adminAPI{m.shared}).clear(w, httptest.NewRequest(http.MethodDelete, "/htpasswd/throttle", nil)))
	if w.Code != http.StatusInternalServerError {
		t.Errorf("got status %d, want 500", w.Code)
	}
	if n := m.app.fleet.client.Status().Unsent; n != 0 {
		t.Errorf("got %d failed logins to send, want none", n)
	}
	store.setFault("", storetest.Works)
	eventually(t, "the store works again", func() bool { return m.app.fleet.state().Connected })
	m.expect("192.0.2.2", "alice", "another", loginWrong)
}

// TestFleetForgetsOnlyWhatIsOlder delays an event: failed logins after it stay.
func TestFleetForgetsOnlyWhatIsOlder(t *testing.T) {
	m := newMember(t, fleetSettings(2))
	connected(t, m)
	s, own := sender{t, storeNamed(t).Connect()}, sealerOf(secretA)
	event := own.Seal([]byte(`{"forget":{"all":true}}`), time.Now())
	time.Sleep(5 * time.Millisecond) // times are in milliseconds
	for i := range 2 {
		m.expect("192.0.2.1", "alice", fmt.Sprint("wrong", i), loginWrong)
	}
	s.send(event)
	s.settle(m, own)
	m.expect("192.0.2.1", "alice", "another", loginThrottled)
}

// TestFleetOtherSecret checks that two servers with different secrets tell each other, and
// that there is no endless exchange.
func TestFleetOtherSecret(t *testing.T) {
	store := storeNamed(t)
	a := newMember(t, fleetSettings(2))
	connected(t, a)
	settings := fleetSettings(2)
	settings.Secret = secretB
	b := newMember(t, settings)
	connected(t, b)
	for name, m := range map[string]*member{"first": a, "second": b} {
		eventually(t, "the "+name+" server has a line", func() bool {
			return m.logs.FilterMessage("server with another secret in the fleet; nothing is shared with it").Len() == 1
		})
	}
	calls := store.Calls()
	for range 10 {
		a.app.fleet.publishChanged("x")
	}
	eventually(t, "the events were sent", func() bool { return store.Calls() >= calls+10 })
	if n := a.logs.Len() + b.logs.Len(); n != 2 || store.Calls() > calls+11 {
		t.Errorf("got %d lines and %d calls, want 2 and 10 or 11", n, store.Calls()-calls)
	}
}

// TestFleetSecretRotation replaces the secret on one server after the other: they count
// together at each step.
func TestFleetSecretRotation(t *testing.T) {
	with := func(secret, old string) App {
		settings := fleetSettings(4)
		settings.Secret, settings.OldSecret = secret, old
		return settings
	}
	for i, step := range [][2]App{
		{with(secretA, ""), with(secretB, secretA)},
		{with(secretB, secretA), with(secretB, secretA)},
	} {
		a, b := newMember(t, step[0]), newMember(t, step[1])
		connected(t, a, b)
		ip := fmt.Sprintf("192.0.2.%d", i)
		for j := range 4 {
			[]*member{a, b}[j%2].expect(ip, "alice", fmt.Sprint("wrong", j), loginWrong)
		}
		for name, m := range map[string]*member{"a": a, "b": b} {
			eventually(t, fmt.Sprintf("step %d: %s refuses", i, name), func() bool { return m.retryAfter(ip, "alice") > 0 })
		}
		if n := a.logs.Len() + b.logs.Len(); n > 2 { // the limit, on both
			t.Errorf("step %d: got the lines %v %v, want only those of the limit", i, a.logs.All(), b.logs.All())
		}
	}
}

// TestFleetChanged wakes those who wait for a file, on all servers.
func TestFleetChanged(t *testing.T) {
	a, b := newMember(t, fleetSettings(2)), newMember(t, fleetSettings(2))
	connected(t, a, b)
	woken := make(chan string, 10)
	remove := a.app.fleet.onChanged("staff", func() { woken <- "a staff" })
	b.app.fleet.onChanged("staff", func() { woken <- "b staff" })
	b.app.fleet.onChanged("guests", func() { woken <- "b guests" })
	b.app.fleet.publishChanged("staff")
	if got := []string{<-woken, <-woken}; !slices.Contains(got, "a staff") || !slices.Contains(got, "b staff") {
		t.Errorf("got %q woken, want staff on both servers", got)
	}
	remove()
	a.app.fleet.connected()
	a.app.fleet.publishChanged("guests")
	if got := <-woken; got != "b guests" {
		t.Errorf("got %q woken, want guests", got)
	}
	b.app.fleet.connected() // events may have been lost
	if got := []string{<-woken, <-woken}; !slices.Contains(got, "b guests") || !slices.Contains(got, "b staff") {
		t.Errorf("got %q woken, want all of b", got)
	}
}

// TestFleetStatus compares the answer of the admin API and the metrics with the page.
func TestFleetStatus(t *testing.T) {
	m := newMember(t, named(t, "a", fleetSettings(2)))
	connected(t, m)
	m.login("192.0.2.1", "alice", "wrong")
	storeNamed(t).setFault("a", storetest.Refuses)
	m.login("192.0.2.1", "alice", "wrong2")
	page := readText(t, "docs/operations.md")
	w := httptest.NewRecorder()
	must(t, (&adminAPI{m.shared}).status(w, httptest.NewRequest(http.MethodGet, "/htpasswd", nil)))
	var status struct{ Fleet map[string]any }
	must(t, json.Unmarshal(w.Body.Bytes(), &status))
	want := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (?:text|boolean|time|number) \\| ").FindAllStringSubmatch(page, -1) {
		want[row[1]] = true
	}
	for field := range status.Fleet {
		if !want[field] {
			t.Errorf("%s is not on the page", field)
		}
	}
	if len(status.Fleet) != len(want) || status.Fleet["engine"] != "test" || status.Fleet["last_error"] == "" {
		t.Errorf("got %v, want the fields of the page, %v", status.Fleet, want)
	}

	registry := prometheus.NewRegistry()
	must(t, m.shared.metrics.register(registry))
	found := make(map[string]bool)
	families, err := registry.Gather()
	must(t, err)
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "caddy_htpasswd_fleet_") {
			found[family.GetName()] = true
			if !regexp.MustCompile("(?m)^\\| `" + family.GetName() + "` \\| " + strings.ToLower(family.GetType().String()) + " \\|").MatchString(page) {
				t.Errorf("%s is not on the page, or with another type than %s", family.GetName(), family.GetType())
			}
		}
	}
	for _, name := range []string{"up", "calls_total", "call_duration_seconds", "unsent"} {
		if !found["caddy_htpasswd_fleet_"+name] {
			t.Errorf("got the metrics %v, want one of %s", found, name)
		}
	}
	none := newShared(time.Now)
	must(t, none.metrics.register(registryWithoutFleet(t)))
	w = httptest.NewRecorder()
	must(t, (&adminAPI{none}).status(w, httptest.NewRequest(http.MethodGet, "/htpasswd", nil)))
	if body, _ := io.ReadAll(w.Body); strings.Contains(string(body), "fleet") {
		t.Errorf("got %s, want no fleet", body)
	}
}

// registryWithoutFleet returns a registry that fails the test if a metric of a fleet is gathered.
func registryWithoutFleet(t *testing.T) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	t.Cleanup(func() {
		families, err := registry.Gather()
		must(t, err)
		for _, family := range families {
			if strings.Contains(family.GetName(), "fleet") {
				t.Errorf("got %s without a fleet, want none", family.GetName())
			}
		}
	})
	return registry
}

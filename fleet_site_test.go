package caddyhtpasswd

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const fleetSite = `{
	admin localhost:{admin}
	htpasswd {
		throttle login 3 1m
		throttle client off
		throttle user off
		secret ` + secretA + `
		fleet test {
			store TestFleetSite
		}
	}
}
https://localhost:{https} {
	htpasswd {
		file {dir}/users
	}
	respond ok
}`

// TestFleetSite has a real Caddy and another server in a fleet. What is exceeded at one is
// refused by the other, until the admin API of one clears it.
func TestFleetSite(t *testing.T) {
	other := newMember(t, fleetSettings(3)) // before, because it changes the logs of the process
	s := startServer(t, "")
	path := s.write("users", fleetUsers)
	other.store = newUserStore(path)
	reloadStore(t, other.store, fleetUsers)
	other.users = userSources{fixed: userStores{other.store}}
	must(t, s.reload(fleetSite))
	connected(t, other)
	eventually(t, "the site is connected", func() bool {
		_, body := s.ask("GET", "/htpasswd")
		return strings.Contains(body, `"fleet":{"engine":"test","connected":true,`)
	})
	statuses := func(want ...int) {
		t.Helper()
		for _, status := range want {
			if a := s.get("/", "alice", fmt.Sprint("wrong", time.Now().UnixNano())); a.status != status {
				t.Errorf("got %d, want %d", a.status, status)
			}
		}
	}
	statuses(401, 401, 401, 429)
	eventually(t, "the other server refuses", func() bool { return other.isExceeded("127.0.0.1", "alice") })
	if status, body := s.ask("DELETE", "/htpasswd/throttle/alice"); status != 200 || body != `{"cleared":2}`+"\n" {
		t.Errorf("got %d %s, want 200 and two cleared counters", status, body)
	}
	eventually(t, "the other server has forgotten", func() bool { return !other.isExceeded("127.0.0.1", "alice") })
	for i := range 3 {
		other.expect("127.0.0.1", "alice", fmt.Sprint("wrong", i), loginWrong)
	}
	eventually(t, "the site refuses", func() bool {
		_, body := s.ask("GET", "/htpasswd/throttle/alice")
		return strings.Contains(body, `"limit":"login"`) // by the note of the first time
	})
	statuses(429)
	if a := s.get("/", "bob", "secret1"); a.status != 200 {
		t.Errorf("got %d, want 200 for another user", a.status)
	}

	// A reload without the fleet begins to count from zero.
	must(t, s.reload(strings.Replace(fleetSite, "fleet test {\n\t\t\tstore TestFleetSite\n\t\t}", "", 1)))
	statuses(401, 401, 401, 429)
	if _, body := s.ask("GET", "/htpasswd"); strings.Contains(body, `"fleet"`) {
		t.Errorf("got %s, want no fleet", body)
	}
	must(t, s.reload(fleetSite))
	statuses(429) // as the fleet knows
	if strings.Contains(s.log(), secretA) {
		t.Error("the log has the secret")
	}
}

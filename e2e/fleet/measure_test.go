package fleet

import (
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"
)

// TestMeasure measures what a fleet costs, with HTPASSWD_MEASURE=1. Servers with and
// without a fleet alternate, since the machine may be busy with other things.
func TestMeasure(t *testing.T) {
	if os.Getenv("HTPASSWD_MEASURE") == "" {
		t.Skip("measures; runs with HTPASSWD_MEASURE=1")
	}
	r := startRedis(t)
	off := settings{limits: "\t\tthrottle login 1000000 10m\n\t\tthrottle client 1000000 10m\n\t\tthrottle user 1000000 10m", sources: "\t\tfile " + usersFile(t, 4, users)}
	on := off
	on.store, on.secret = store(r.address()), secret
	without, with := startFleet(t, 1, off)[0], startFleet(t, 1, on)[0]
	alternate := func(what string, count int, ask func(n *node, i int) reply, want int) {
		t.Helper()
		var a, b []time.Duration
		for i := range count {
			for j, n := range []*node{without, with} {
				r := ask(n, i)
				if r.status != want {
					t.Fatalf("%s: got %+v, want %d", what, r, want)
				}
				if j == 0 {
					a = append(a, r.took)
				} else {
					b = append(b, r.took)
				}
			}
		}
		qa, qb := quantiles(a), quantiles(b)
		t.Logf("%s: without a fleet: %s; with: %s; difference of medians %s, ratio %.3f", what, qa, qb, (qb.p50 - qa.p50).Round(time.Microsecond), float64(qb.p50)/float64(qa.p50))
	}
	for range 3 {
		alternate("failed login", 1000, func(n *node, _ int) reply { return n.login("192.0.2.1", "good0001", wrongPassword()) }, http.StatusUnauthorized)
		alternate("verified request", 5000, func(n *node, _ int) reply { return n.login("192.0.2.2", "good0000", password) }, http.StatusOK)
	}
	alternate("first good login", users-1, func(n *node, i int) reply { return n.login("192.0.2.3", fmt.Sprintf("good%04d", i+1), password) }, http.StatusOK)
	r.hang()
	begin := time.Now()
	for i := 0; time.Since(begin) < 10*time.Second; i++ {
		alternate(fmt.Sprintf("store hangs, failed logins %d", i), 1000, func(n *node, _ int) reply { return n.login("192.0.2.1", "good0001", wrongPassword()) }, http.StatusUnauthorized)
	}
	r.resume()
}

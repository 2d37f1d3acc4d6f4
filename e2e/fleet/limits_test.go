package fleet

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// guess is one wrong login.
type guess struct{ client, user string }

// guessAtOnce sends guesses to the nodes in turn, all at once.
func guessAtOnce(nodes []*node, all []guess) []reply {
	replies := make([]reply, len(all))
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i, g := range all {
		wg.Add(1)
		go func() {
			defer wg.Done()
			<-begin
			replies[i] = nodes[i%len(nodes)].login(g.client, g.user, wrongPassword())
		}()
	}
	close(begin)
	wg.Wait()
	return replies
}

// TestServersShareOneLimit sends 200 guesses at once to three servers with two worker
// slots each: no more than the limit and 5 are hashed, since only what was already being
// hashed can exceed it. Then all servers answer 429, until the same time.
func TestServersShareOneLimit(t *testing.T) {
	parallel(t)
	r := startRedis(t)
	nodes := startFleet(t, 3, settings{
		store: store(r.address()), secret: secret, hashes: slots,
		limits:  "\t\tthrottle login 10 10m\n\t\tthrottle client 10 11m\n\t\tthrottle user 10 12m",
		sources: "\t\tfile " + usersFile(t, 10, 0, "alice", "bob", "carol", "dave", "erin"),
	})
	victims := []string{"alice", "bob", "carol", "dave", "erin"}
	for _, test := range []struct {
		name string
		// all returns the guesses of an attempt, and the one that must be refused afterwards.
		all func(attempt int) ([]guess, guess)
	}{
		{"one client that guesses the password of one user", func(int) ([]guess, guess) {
			g := guess{newClientAddress(), "alice"}
			return slices.Repeat([]guess{g}, 200), g
		}},
		{"many clients that guess the password of one user", func(attempt int) (all []guess, again guess) {
			for range 200 {
				all = append(all, guess{newClientAddress(), victims[1+attempt%4]})
			}
			return all, guess{newClientAddress(), victims[1+attempt%4]}
		}},
		{"one client that tries many names", func(int) (all []guess, again guess) {
			client := newClientAddress()
			for range 200 {
				all = append(all, guess{client, fmt.Sprintf("name%d", serial.Add(1))})
			}
			return all, guess{client, fmt.Sprintf("name%d", serial.Add(1))}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			// On a machine so busy that Redis does not answer in time, servers count
			// alone. Such an attempt says nothing about this test.
			for attempt := range 4 {
				all, again := test.all(attempt)
				failed, before := total(nodes, "fleet_calls_total", `"failed"`, "")+total(nodes, "fleet_calls_total", `"skipped"`), hashes(nodes)
				for i, r := range guessAtOnce(nodes, all) {
					if r.err != nil || r.status != http.StatusUnauthorized && r.status != http.StatusTooManyRequests {
						t.Fatalf("guess %d: status %d, error %v", i, r.status, r.err)
					}
				}
				if total(nodes, "fleet_calls_total", `"failed"`)+total(nodes, "fleet_calls_total", `"skipped"`) > failed {
					t.Logf("attempt %d: Redis did not answer in time", attempt+1)
					continue
				}
				n, most := hashes(nodes)-before, limit+3*slots-1
				t.Logf("%d hashes", n)
				if n < limit || n > most {
					t.Errorf("got %d hashes, want %d to %d", n, limit, most)
				}
				checkRefused(t, nodes, again)
				return
			}
			t.Skip("Redis did not answer within 100 ms in any attempt: the machine is too busy")
		})
	}
}

// checkRefused checks that all nodes refuse a login without a hash, and until the same
// time.
func checkRefused(t *testing.T, nodes []*node, g guess) {
	t.Helper()
	eventually(t, "all servers refuse the client", func() bool { // the event may be on its way
		for _, n := range nodes {
			if n.login(g.client, g.user, wrongPassword()).status != http.StatusTooManyRequests {
				return false
			}
		}
		return true
	})
	before := hashes(nodes)
	var first, last time.Time
	begin := time.Now()
	for _, n := range nodes {
		r := n.login(g.client, g.user, wrongPassword())
		if r.status != http.StatusTooManyRequests || r.retryAfter < 1 {
			t.Errorf("%s: got status %d with Retry-After %d, want 429", n.name, r.status, r.retryAfter)
			continue
		}
		end := r.at.Add(time.Duration(r.retryAfter) * time.Second)
		if first.IsZero() || end.Before(first) {
			first = end
		}
		if end.After(last) {
			last = end
		}
	}
	// Retry-After is in whole seconds.
	if spread, most := last.Sub(first), time.Second+time.Since(begin); spread > most {
		t.Errorf("Retry-After differs by %s between servers, want at most %s", spread, most)
	}
	if n := hashes(nodes) - before; n != 0 {
		t.Errorf("refusing took %d hashes", n)
	}
}

// TestRecognizedClientsAreRecognizedByAllServers exceeds the limit of a user from many
// clients. A client that has logged in at one server can still log in at each.
func TestRecognizedClientsAreRecognizedByAllServers(t *testing.T) {
	parallel(t)
	r := startRedis(t)
	nodes := startFleet(t, 3, settings{
		store: store(r.address()), secret: secret,
		limits:  "\t\tthrottle login 10 10m\n\t\tthrottle client off\n\t\tthrottle user 20 10m",
		sources: "\t\tfile " + usersFile(t, 4, 0, "alice"),
	})
	const home = "192.0.2.10"
	if r := nodes[0].login(home, "alice", password); r.status != http.StatusOK {
		t.Fatalf("got %+v, want 200", r)
	}
	stranger := guess{"", "alice"}
	eventually(t, "the limit of alice is exceeded on all servers", func() bool {
		for _, n := range nodes {
			stranger.client = newClientAddress()
			if n.login(stranger.client, "alice", wrongPassword()).status != http.StatusTooManyRequests {
				return false
			}
		}
		return true
	})
	for _, n := range nodes {
		if r := n.login(newClientAddress(), "alice", password); r.status != http.StatusTooManyRequests {
			t.Errorf("%s, a client that never logged in: got %+v, want 429", n.name, r)
		}
		if r := n.login(home, "alice", password); r.status != http.StatusOK {
			t.Errorf("%s, a client that logged in at %s: got %+v, want 200", n.name, nodes[0].name, r)
		}
	}
}

// TestVerifiedRequestsDoNotCallRedis counts the commands that Redis executes during
// 10,000 requests with a good password.
func TestVerifiedRequestsDoNotCallRedis(t *testing.T) {
	parallel(t)
	r := startRedis(t)
	nodes := startFleet(t, 3, settings{
		store: store(r.address()), secret: secret, limits: limits,
		sources: "\t\tfile fleet://nobody " + usersFile(t, 4, 10),
	})
	for i, n := range nodes {
		for u := range 10 { // which also announces the recognized clients
			if r := n.login(fmt.Sprintf("192.0.2.%d", i+1), fmt.Sprintf("good%04d", u), password); r.status != http.StatusOK {
				t.Fatalf("got %+v", r)
			}
		}
	}
	before := -1
	eventually(t, "Redis has executed what the first logins caused", func() bool {
		n := r.commands()
		isSame := n == before
		before = n
		time.Sleep(200 * time.Millisecond) // compares two moments
		return isSame
	})
	var wg sync.WaitGroup
	const workers, each = 20, 500
	begin := time.Now()
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				server := (w + i) % len(nodes)
				if r := nodes[server].login(fmt.Sprintf("192.0.2.%d", server+1), fmt.Sprintf("good%04d", i%10), password); r.status != http.StatusOK {
					t.Errorf("got %+v, want 200", r)
					return
				}
			}
		}()
	}
	wg.Wait()
	t.Logf("%d requests in %s", workers*each, time.Since(begin).Round(time.Millisecond))
	if n := r.commands() - before; n != 0 {
		t.Errorf("Redis executed %d commands, want none:\n%s", n, r.do("INFO", "commandstats"))
	}
}

// TestClearingFailedLoginsAtOneServerReachesAll exceeds a limit everywhere, and clears
// it with the admin API of one server.
func TestClearingFailedLoginsAtOneServerReachesAll(t *testing.T) {
	parallel(t)
	r := startRedis(t)
	nodes := startFleet(t, 3, settings{
		store: store(r.address()), secret: secret, limits: limits,
		sources: "\t\tfile " + usersFile(t, 4, 0, "alice", "bob"),
	})
	exceed := func(client, user string) {
		t.Helper()
		eventually(t, client+" is refused on all servers", func() bool {
			for _, n := range nodes {
				if n.login(client, user, wrongPassword()).status != http.StatusTooManyRequests {
					return false
				}
			}
			return true
		})
	}
	for i, path := range []string{"/htpasswd/throttle/192.0.2.50", "/htpasswd/throttle"} {
		client := fmt.Sprintf("192.0.2.%d", 50+i)
		exceed(client, "alice")
		if a := nodes[i].adminRequest(http.MethodDelete, path, ""); a.Status != http.StatusOK && a.Status != http.StatusNoContent {
			t.Fatalf("DELETE %s: got %d %s", path, a.Status, a.Body)
		}
		for _, n := range nodes {
			eventually(t, n.name+" lets the client log in again", func() bool {
				return n.login(client, "alice", password).status == http.StatusOK
			})
		}
		if path == "/htpasswd/throttle" {
			for _, n := range r.counts("login") {
				if n > 0 {
					t.Errorf("Redis still has the count %d", n)
				}
			}
		}
	}
	// By the name of the user.
	const client = "192.0.2.60"
	exceed(client, "bob")
	if a := nodes[2].adminRequest(http.MethodDelete, "/htpasswd/throttle/bob", ""); a.Status >= 300 {
		t.Fatalf("got %d %s", a.Status, a.Body)
	}
	for _, n := range nodes {
		eventually(t, n.name+" lets bob log in from another client", func() bool {
			return n.login("192.0.2.61", "bob", password).status == http.StatusOK
		})
	}
}

// TestSecretChangesOneServerAfterTheOther rotates the secret by reloads. In every step
// the servers share what they count.
func TestSecretChangesOneServerAfterTheOther(t *testing.T) {
	parallel(t)
	r := startRedis(t)
	nodes := startFleet(t, 3, settings{
		store: store(r.address()), secret: secret, limits: limits, hashes: slots,
		sources: "\t\tfile fleet://staff " + usersFile(t, 4, users),
	})
	if out, code := nodes[0].fleetTool("-bC5", "fleet://staff", "alice", password); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	tr := startTraffic(t, nodes)
	for _, step := range []string{otherSecret + " " + secret, otherSecret} {
		for i, n := range nodes {
			since := marks(nodes)
			must(t, n.reload(func(s *settings) { s.secret = step }))
			if step != otherSecret { // an old secret still keys the counters of those that know it
				t.Logf("%s has %d secrets: shared after %s", n.name, len(strings.Fields(step)), tr.awaitSharing(t).Round(time.Millisecond))
				checkWarnings(t, nodes, since, 0, 0)
			}
			for _, n := range nodes {
				eventually(t, fmt.Sprintf("alice can log in at %s after reload %d", n.name, i+1), func() bool {
					return n.login("192.0.2.70", "alice", password).status == http.StatusOK
				})
			}
		}
	}
	tr.awaitSharing(t)
	tr.end()
	tr.check(t)
	// What is written now can be read by all.
	if out, code := nodes[1].fleetTool("-bC5", "fleet://staff", "bob", password); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	for _, n := range nodes {
		eventually(t, "bob can log in at "+n.name, func() bool {
			return n.login("192.0.2.71", "bob", password).status == http.StatusOK
		})
	}
}

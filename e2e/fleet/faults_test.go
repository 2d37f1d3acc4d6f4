package fleet

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// storeFault is something that happens to Redis.
type storeFault struct {
	name        string
	begin, end  func()
	least, most int  // warnings of each server: one about the store, and one about its file
	isSlow      bool // each server has a line about a slow store
	isUp        bool // Redis keeps working, so servers need not notice
}

// TestFaultsOfTheStore lets things happen to Redis while three servers are used. Good
// logins work all the time, nobody is locked out who did not fail, no count is higher
// than the failed logins that there were, each server logs one line, and servers share
// counts again when Redis is back.
func TestFaultsOfTheStore(t *testing.T) {
	parallel(t)
	r := startRedis(t)
	l := newLink(t, r.address())
	nodes := startFleet(t, 3, settings{
		store: store(l.address()), secret: secret, limits: limits, hashes: slots,
		sources: "\t\tfile fleet://staff " + usersFile(t, 4, users),
	})
	if out, code := nodes[0].fleetTool("-bC5", "fleet://staff", "alice", password); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	awaitLogin(t, nodes, "alice", password)
	tr := startTraffic(t, nodes)
	user := func(rule ...string) func() {
		return func() {
			r.do(append([]string{"ACL", "SETUSER", "caddy"}, rule...)...)
			if strings.Contains(fmt.Sprint(rule), "resetpass") && !strings.Contains(fmt.Sprint(rule), storePassword) {
				r.do("CLIENT", "KILL", "USER", "caddy")
			}
		}
	}
	for _, f := range []storeFault{
		{name: "killed, and started again empty", begin: r.kill, end: r.start, least: 1, most: 2},
		{name: "hangs", begin: r.hang, end: r.resume, most: 2, isSlow: true},
		{name: "answers after 100 ms", begin: func() { l.setDelay(100 * time.Millisecond) }, end: func() { l.setDelay(0) }, most: 8, isUp: true},
		{name: "closes all connections", begin: func() { l.setCut(true) }, end: func() { l.setCut(false) }, least: 1, most: 2},
		{name: "has another password", begin: user("resetpass", ">another"), end: user("resetpass", ">"+storePassword), least: 1, most: 2},
		{name: "does not allow the commands", begin: user("-@all", "+@connection"), end: user(strings.Fields(storeUser())...), least: 1, most: 2},
		{name: "is out of memory", begin: func() { r.do("CONFIG", "SET", "maxmemory", "1") }, end: func() { r.do("CONFIG", "SET", "maxmemory", "0") }, least: 1, most: 2},
		{name: "forgets its scripts", begin: func() { r.do("SCRIPT", "FLUSH", "SYNC") }, end: func() {}, isUp: true},
		{name: "loses everything", begin: func() { r.do("FLUSHALL", "SYNC") }, end: func() {}, most: 1, isUp: true},
	} {
		t.Run(f.name, func(t *testing.T) {
			since := marks(nodes)
			f.begin()
			begin := time.Now()
			if !f.isUp {
				for _, n := range nodes {
					eventually(t, n.name+" has noticed", func() bool { return !n.connected() })
				}
			}
			if rest := 3*time.Second - time.Since(begin); !f.isUp || f.most > 1 {
				time.Sleep(rest) // how long the fault lasts
			}
			checkWarnings(t, nodes, since, f.least, f.most)
			checkNoneTwice(t, nodes, since)
			for i, n := range nodes {
				if _, slow := n.allWarnings(since[i]); f.isSlow && len(slow) == 0 {
					t.Errorf("%s has no line about a slow store", n.name)
				} else if len(slow) > 0 {
					t.Logf("%s: %d lines about a slow store", n.name, len(slow))
				}
			}
			f.end()
			ended := marks(nodes)
			tr.checkRecovery(t, ended)
			for _, n := range nodes {
				eventually(t, n.name+" uses the store again", n.connected)
			}
			tr.check(t)
			tr.checkCounts(t, r)
			// The users are still those of before, and can be changed.
			name := fmt.Sprintf("new%d", serial.Add(1))
			if out, code := nodes[1].fleetTool("-bC5", "fleet://staff", name, password); code != 0 {
				t.Errorf("adding a user: %d: %s", code, out)
			}
			awaitLogin(t, nodes, "alice", password)
			awaitLogin(t, nodes, name, password)
		})
	}
	tr.end()
}

// checkNoneTwice checks that no node has logged a warning of the plugin twice since marks.
func checkNoneTwice(t *testing.T, nodes []*node, since []int) {
	t.Helper()
	for i, n := range nodes {
		seen := make(map[string]bool)
		for _, raw := range n.warnings(since[i]) {
			var l logLine
			must(t, json.Unmarshal([]byte(raw), &l))
			if seen[l.Msg] {
				t.Errorf("%s: the line is there twice: %s", n.name, raw)
			}
			seen[l.Msg] = true
		}
	}
}

// awaitLogin waits until a user can log in at all nodes, and returns how long that took.
func awaitLogin(t testing.TB, nodes []*node, user, password string) time.Duration {
	t.Helper()
	begin := time.Now()
	client := newClientAddress()
	for _, n := range nodes {
		eventually(t, user+" can log in at "+n.name, func() bool {
			r := n.login(client, user, password)
			if r.status == http.StatusTooManyRequests {
				client = newClientAddress() // polling for a user who does not exist yet
			}
			return r.status == http.StatusOK
		})
	}
	return time.Since(begin)
}

// textKey returns the key of a text in Redis.
func (r *redis) textKey(prefix, name string) string {
	r.t.Helper()
	for _, key := range r.keys() {
		if strings.HasPrefix(key, prefix+":") && strings.HasSuffix(key, name) {
			return key
		}
	}
	r.t.Fatalf("Redis has no text %s: %q", name, r.keys())
	return ""
}

// TestFaultsOfTexts puts texts into Redis that no server of the fleet has written, or
// that are not the newest. No server uses one of them; all keep serving their users.
func TestFaultsOfTexts(t *testing.T) {
	parallel(t)
	r := startRedis(t)
	nodes := startFleet(t, 3, settings{
		store: store(r.address()), secret: secret, limits: limits, hashes: slots,
		sources: "\t\tfile fleet://staff fleet://second " + usersFile(t, 4, users),
	})
	// An attacker who can write to Redis, but has another secret.
	r.do("ACL", "SETUSER", "caddy", "allkeys", "allchannels")
	attacker := startFleet(t, 1, settings{
		store: store(r.address()) + "\n\t\t\tprefix attacker", secret: otherSecret, sources: "\t\tfile fleet://staff",
	})
	tool := func(n *node, args ...string) {
		t.Helper()
		if out, code := n.fleetTool(append([]string{"-bC5"}, args...)...); code != 0 {
			t.Fatalf("caddy htpasswd %q: %d: %s", args, code, out)
		}
	}
	for i := range 30 { // a higher version than that of the fleet
		tool(attacker[0], "fleet://staff", fmt.Sprintf("mallory%d", i%3), password)
	}
	tool(nodes[0], "fleet://staff", "alice", password)
	tool(nodes[0], "fleet://staff", "removed", password)
	tool(nodes[0], "fleet://second", "mallory1", "another password")
	awaitLogin(t, nodes, "removed", password)
	key, attackerKey, secondKey := r.textKey("htpasswd", "staff"), r.textKey("attacker", "staff"), r.textKey("htpasswd", "second")
	get := func(key string) string { return r.do("DUMP", key).(string) }
	put := func(value string) { r.do("RESTORE", key, "0", value, "REPLACE") }
	old := get(key)
	if out, code := nodes[0].fleetTool("-D", "fleet://staff", "removed"); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	isRemoved := func() bool {
		for _, n := range nodes {
			if n.login(newClientAddress(), "removed", password).status != http.StatusUnauthorized {
				return false
			}
		}
		return true
	}
	eventually(t, "the removed user cannot log in", isRemoved)
	tr := startTraffic(t, nodes)
	forge := func(change func(value string) string) func() {
		return func() {
			fields := r.do("HGETALL", key).([]any)
			next := []string{"HSET", key}
			for i := 0; i < len(fields); i += 2 {
				name, value := fields[i].(string), fields[i+1].(string)
				if len(value) > 200 {
					next = append(next, name, change(value))
				} else {
					next = append(next, name, raised(value))
				}
			}
			r.do(next...)
		}
	}
	for _, f := range []struct {
		name  string
		begin func()
		heals bool // servers write their version back
		least int  // lines, of all servers
		most  int  // lines of each server
	}{
		{name: "a forged text", begin: forge(func(v string) string { return v[:len(v)-20] + strings.Repeat("x", 20) }), least: 1, most: 1},
		{name: "no sealed text at all", begin: forge(func(string) string { return "alice:{SHA}" + strings.Repeat("x", 300) }), least: 1, most: 1},
		{name: "a text sealed with another secret", begin: func() { put(get(attackerKey)) }, least: 1, most: 1},
		{name: "a text of another file", begin: func() { put(get(secondKey)) }, least: 0, heals: true, most: 1},
		{name: "an old version", begin: func() { put(old) }, heals: true, least: 1, most: 1},
		{name: "a value of 60 MB", begin: forge(func(v string) string { return v + strings.Repeat("x", 60_000_000) }), least: 1, most: 10},
	} {
		t.Run(f.name, func(t *testing.T) {
			good := get(key)
			since := marks(nodes)
			f.begin()
			if f.heals {
				eventually(t, "the servers have written their version back", func() bool { return get(key) == good || isNewer(t, r, key, old) })
			} else {
				for i, n := range nodes {
					eventually(t, n.name+" has noticed", func() bool { return len(n.warnings(since[i])) > 0 })
				}
			}
			polls := 3 * 500 * time.Millisecond
			time.Sleep(polls) // a line at each poll would be found
			for i := range 3 {
				for _, n := range nodes {
					if r := n.login(newClientAddress(), fmt.Sprintf("mallory%d", i), password); r.status != http.StatusUnauthorized {
						t.Errorf("%s lets in a user of the attacker: %+v", n.name, r)
					}
				}
			}
			if !isRemoved() {
				t.Error("a removed user can log in")
			}
			awaitLogin(t, nodes, "alice", password)
			checkWarnings(t, nodes, since, 0, f.most)
			lines := 0
			for i, n := range nodes {
				lines += len(n.warnings(since[i]))
				for _, w := range n.warnings(since[i]) {
					t.Logf("%s: %s", n.name, w)
				}
			}
			if lines < f.least {
				t.Errorf("got %d lines, want at least %d", lines, f.least)
			}
			if !f.heals {
				put(good)
			}
			name := fmt.Sprintf("new%d", serial.Add(1))
			eventually(t, "users can be added again", func() bool {
				_, code := nodes[1].fleetTool("-bC5", "fleet://staff", name, password)
				return code == 0
			})
			t.Logf("a new user can log in after %s", awaitLogin(t, nodes, name, password).Round(time.Millisecond))
			tr.check(t)
		})
	}
	tr.end()
	tr.check(t)
	tr.checkCounts(t, r)
}

// TestForgedAndReplayedEvents records all events, among them those that clear failed
// logins and recognize a client, and sends them again, as they are and changed. They have
// no effect.
func TestForgedAndReplayedEvents(t *testing.T) {
	parallel(t)
	r := startRedis(t)
	record := r.events()
	nodes := startFleet(t, 3, settings{
		store: store(r.address()), secret: secret,
		limits:  "\t\tthrottle login 10 10m\n\t\tthrottle client off\n\t\tthrottle user 20 11m",
		sources: "\t\tfile " + usersFile(t, 4, 0, "alice", "bob"),
	})
	const home, guesser = "192.0.2.80", "192.0.2.81"
	exceed := func() {
		t.Helper()
		for _, n := range nodes {
			eventually(t, n.name+" refuses who guesses", func() bool {
				return n.login(guesser, "bob", wrongPassword()).status == http.StatusTooManyRequests
			})
		}
	}
	exceed()
	if r := nodes[0].login(home, "alice", password); r.status != http.StatusOK {
		t.Fatalf("got %+v", r)
	}
	for _, path := range []string{"/htpasswd/throttle/" + guesser, "/htpasswd/throttle/bob", "/htpasswd/throttle"} {
		if a := nodes[1].adminRequest(http.MethodDelete, path, ""); a.Status >= 300 {
			t.Fatalf("DELETE %s: %d %s", path, a.Status, a.Body)
		}
	}
	for _, n := range nodes {
		eventually(t, n.name+" has cleared the failed logins", func() bool {
			return n.login(guesser, "bob", password).status == http.StatusOK
		})
	}
	channel, messages := record()
	if len(messages) < 5 {
		t.Fatalf("only %d events", len(messages))
	}
	exceed()
	since := marks(nodes)
	for _, m := range messages {
		changed := []byte(m)
		changed[len(changed)/2] ^= 1
		for _, m := range []string{m, string(changed), m[:len(m)/2], m + m, "", strings.Repeat("x", 100_000)} {
			r.do("PUBLISH", channel, m)
		}
	}
	for i, n := range nodes {
		eventually(t, n.name+" warns", func() bool { return len(n.warnings(since[i])) > 0 })
	}
	for _, n := range nodes {
		for range 3 {
			if r := n.login(guesser, "bob", password); r.status != http.StatusTooManyRequests {
				t.Errorf("%s: got %+v, want 429", n.name, r)
			}
		}
		if r := n.login(home, "alice", password); r.status != http.StatusOK {
			t.Errorf("%s locks out who did not fail: %+v", n.name, r)
		}
	}
	checkWarnings(t, nodes, since, 1, 3)
	checkNoneTwice(t, nodes, since)
	for i, n := range nodes {
		t.Log(n.name, n.warnings(since[i]))
	}
}

// TestServersWithOtherSettings gives one server of a fleet another limit, and then
// another secret.
func TestServersWithOtherSettings(t *testing.T) {
	parallel(t)
	r := startRedis(t)
	nodes := startFleet(t, 3, settings{
		store: store(r.address()), secret: secret, limits: limits, hashes: slots,
		sources: "\t\tfile " + usersFile(t, 4, users),
	})
	tr := startTraffic(t, nodes)
	t.Run("another limit", func(t *testing.T) {
		since := marks(nodes)
		must(t, nodes[2].reload(func(s *settings) { s.limits = strings.Replace(s.limits, "login 10", "login 20", 1) }))
		eventually(t, "each server applies its own limit to the common count", func() bool {
			client, name := newClientAddress(), fmt.Sprintf("nobody%d", serial.Add(1))
			var got []int
			for _, n := range append(slicesOf(nodes[0], limit), nodes[0], nodes[1], nodes[2]) {
				got = append(got, n.login(client, name, wrongPassword()).status)
			}
			return fmt.Sprint(got[limit:]) == "[429 429 401]" && !strings.Contains(fmt.Sprint(got[:limit]), "429")
		})
		checkWarnings(t, nodes, since, 0, 0)
		must(t, nodes[2].reload(func(s *settings) { s.limits = limits }))
		tr.awaitSharing(t)
		tr.check(t)
	})
	t.Run("another secret", func(t *testing.T) {
		since := marks(nodes)
		must(t, nodes[2].reload(func(s *settings) { s.secret = otherSecret }))
		for i, n := range nodes {
			eventually(t, n.name+" warns", func() bool { return len(n.warnings(since[i])) > 0 })
		}
		time.Sleep(time.Second) // further lines would be found
		checkWarnings(t, nodes, since, 1, 1)
		for i, n := range nodes {
			t.Log(n.name, n.warnings(since[i]))
		}
		tr.check(t)
		must(t, nodes[2].reload(func(s *settings) { s.secret = secret }))
		tr.awaitSharing(t)
		tr.check(t)
	})
	tr.end()
	tr.check(t)
	tr.checkCounts(t, r)
}

func slicesOf(n *node, count int) []*node {
	var all []*node
	for range count {
		all = append(all, n)
	}
	return all
}

// TestStoreIsDownAtTheStart starts servers without Redis.
func TestStoreIsDownAtTheStart(t *testing.T) {
	parallel(t)
	r := startRedis(t)
	l := newLink(t, r.address())
	l.setCut(true)
	s := settings{
		store: store(l.address()), secret: secret, limits: limits, hashes: slots,
		sources: "\t\tfile " + usersFile(t, 4, users),
	}
	var nodes []*node
	for i := range 2 {
		nodes = append(nodes, newNode(t, fmt.Sprintf("server %d", i), s))
		nodes[i].launch()
	}
	for _, n := range nodes {
		n.awaitStart()
	}
	tr := startTraffic(t, nodes)
	for _, n := range nodes {
		eventually(t, n.name+" warns", func() bool { return len(n.warnings(0)) > 0 })
	}
	time.Sleep(3 * time.Second) // how long the fault lasts
	for _, n := range nodes {
		t.Log(n.warnings(0))
	}
	checkWarnings(t, nodes, make([]int, len(nodes)), 1, 1)
	tr.check(t)
	ended := marks(nodes)
	l.setCut(false)
	tr.checkRecovery(t, ended)
	tr.end()
	tr.check(t)
	tr.checkCounts(t, r)
}

// TestSentinelFailsOver kills the master after a write that the replica has not got. The
// servers find the new master, and what only they have is not lost.
func TestSentinelFailsOver(t *testing.T) {
	parallel(t)
	ss := startSentinels(t, 3)
	nodes := startFleet(t, 3, settings{
		store: ss.store(), secret: secret, limits: limits, hashes: slots,
		sources: "\t\tfile fleet://staff " + usersFile(t, 4, users),
	})
	if out, code := nodes[0].fleetTool("-bC5", "fleet://staff", "alice", password); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	awaitLogin(t, nodes, "alice", password)
	master, replica := ss.servers[0], ss.servers[1]
	tr := startTraffic(t, nodes)
	tr.awaitSharing(t)
	since := marks(nodes)
	// The replica hangs, so that it does not get the last writes.
	replica.hang()
	if out, code := nodes[1].fleetTool("-bC5", "fleet://staff", "lost", password); code != 0 {
		t.Logf("the tool says that no replica has the change: %d: %s", code, out)
	}
	awaitLogin(t, nodes, "lost", password)
	master.kill()
	replica.resume()
	begin := time.Now()
	eventually(t, "the replica is the master", func() bool { return ss.master() == replica })
	t.Logf("Sentinel has failed over after %s", time.Since(begin).Round(time.Millisecond))
	tr.checkRecovery(t, marks(nodes))
	for i, n := range nodes {
		eventually(t, n.name+" uses the store again", n.connected)
		t.Log(n.name, n.warnings(since[i]))
	}
	checkWarnings(t, nodes, since, 1, 3)
	tr.check(t)
	tr.checkCounts(t, replica)
	eventually(t, "a server has written the lost version back", func() bool {
		n := newNode(t, "new server", nodes[0].settings)
		n.start()
		defer n.process.Stop(stop)
		return n.login(newClientAddress(), "lost", password).status == http.StatusOK
	})
	awaitLogin(t, nodes, "lost", password)
	if out, code := nodes[2].fleetTool("-bC5", "fleet://staff", "later", password); code != 0 {
		t.Errorf("%d: %s", code, out)
	}
	awaitLogin(t, nodes, "later", password)
	tr.end()
}

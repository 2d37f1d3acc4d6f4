package fleet

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// model knows which answers are justified. It counts wrong passwords when they are sent,
// so its counts are never too low.
type model struct {
	mu      sync.Mutex
	logins  map[guess]int  // failed logins of a client at a name
	clients map[string]int // of a client
	names   map[string]int // at a name

	settled []string // users that could log in at all servers
	removed []string // users that could not log in at any server after their removal

	faults  []string
	answers [3]int // 200, 401, 429
	slowest time.Duration
}

// wrong notes a wrong password that is about to be sent.
func (m *model) wrong(g guess) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.logins[g]++
	m.clients[g.client]++
	m.names[g.user]++
}

// limits of the chaos test for clients and users.
const widerLimit = 40

// mayRefuse reports whether a login can be over a limit.
func (m *model) mayRefuse(g guess) bool {
	return m.logins[g] >= limit || m.clients[g.client] >= widerLimit || m.names[g.user] >= widerLimit
}

// judge checks an answer. isGood says that the password is right, and that the user has
// existed at all servers since before the request.
func (m *model) judge(n *chaosNode, g guess, isGood bool, generation int64, r reply) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fault := func(what string) {
		if len(m.faults) < 20 {
			m.faults = append(m.faults, fmt.Sprintf("%s %s: %s: client %s, user %s: status %d, error %v, after %s; failed logins sent: %d of both, %d of the client, %d at the user",
				time.Now().UTC().Format("15:04:05.000"), n.name, what, g.client, g.user, r.status, r.err, round(r.took), m.logins[g], m.clients[g.client], m.names[g.user]))
		}
	}
	switch {
	case r.err != nil:
		if generation == n.generation.Load() && generation%2 == 0 {
			fault("no answer, though the server runs")
		}
		return
	case r.status == http.StatusOK:
		m.answers[0]++
		if !isGood {
			fault("let in with a wrong password, or after the user was removed")
		}
	case r.status == http.StatusUnauthorized:
		m.answers[1]++
		if isGood {
			fault("the right password was refused")
		}
	case r.status == http.StatusTooManyRequests:
		m.answers[2]++
		if !m.mayRefuse(g) {
			fault("429 without the failed logins for it")
		}
	default:
		fault("no answer of a login")
	}
	if isGood && r.took > m.slowest {
		m.slowest = r.took
	}
	if isGood && r.took > slowest && generation == n.generation.Load() {
		fault("slow")
	}
}

// checkCounts compares the counts in Redis with the failed logins that there were.
func (m *model) checkCounts(t *testing.T, nodes []*node, r *redis) {
	t.Helper()
	sum := 0
	for _, n := range r.counts("login") {
		sum += n
	}
	most := 0
	for _, n := range nodes {
		most += int(n.sent.Load() - n.ok.Load())
	}
	if sum > most {
		t.Errorf("the sum of counts in Redis is %d, but only %d logins failed", sum, most)
	}
}

// chaosNode is a server that is killed sometimes.
type chaosNode struct {
	*node
	generation atomic.Int64 // odd while it does not run
}

// ask sends a login and judges the answer.
func (m *model) ask(n *chaosNode, g guess, password string, isGood bool) reply {
	generation := n.generation.Load()
	r := n.login(g.client, g.user, password)
	m.judge(n, g, isGood, generation, r)
	return r
}

// chaosDuration returns how long the chaos test runs.
func chaosDuration(t *testing.T) time.Duration {
	text := os.Getenv("HTPASSWD_CHAOS")
	if text == "" {
		return 30 * time.Second
	}
	d, err := time.ParseDuration(text)
	must(t, err)
	return d
}

// TestChaos has three servers that share a Redis with a replica and Sentinels, clients
// with right and with wrong passwords, an administrator, and faults at random. A model
// justifies every answer: 200 for the right password only, 401 and 429 for the right
// password only after the failed logins that lead to them, and never 5xx.
//
// It runs for 30 s, or for HTPASSWD_CHAOS. The order of faults follows from a seed, which
// is logged, and can be set with HTPASSWD_CHAOS_SEED.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ", chaosDuration(t))
	}
	parallel(t)
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("HTPASSWD_CHAOS_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		must(t, err)
	}
	t.Logf("HTPASSWD_CHAOS_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 19))

	ss := startSentinels(t, 3)
	const victims = 100
	var names []string
	for i := range victims {
		names = append(names, fmt.Sprintf("victim%02d", i))
	}
	var nodes []*chaosNode
	var plain []*node
	for _, n := range startFleet(t, 3, settings{
		store: ss.store(), secret: secret, hashes: slots,
		limits:  fmt.Sprintf("\t\tthrottle login %d 30m\n\t\tthrottle client %d 31m\n\t\tthrottle user %d 32m", limit, widerLimit, widerLimit),
		sources: "\t\tfile fleet://staff " + usersFile(t, 4, users, names...),
	}) {
		nodes, plain = append(nodes, &chaosNode{node: n}), append(plain, n)
	}
	m := &model{logins: map[guess]int{}, clients: map[string]int{}, names: map[string]int{}}

	var wg sync.WaitGroup
	end := make(chan struct{})
	loop := func(interval time.Duration, f func(random *rand.Rand, i int)) {
		own := rand.New(rand.NewPCG(seed, random.Uint64()))
		wg.Add(1)
		go func() {
			defer wg.Done()
			tick := time.NewTicker(interval)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				case <-tick.C:
					f(own, i)
				}
			}
		}()
	}
	any := func(random *rand.Rand) *chaosNode { return nodes[random.IntN(len(nodes))] }
	for range 2 {
		// People who know their password, some of them for the first time at a server.
		loop(10*time.Millisecond, func(random *rand.Rand, _ int) {
			i := random.IntN(users)
			if random.IntN(2) == 0 {
				i = random.IntN(20)
			}
			m.ask(any(random), guess{fmt.Sprintf("10.201.%d.%d", i/200, i%200), fmt.Sprintf("good%04d", i)}, password, true)
		})
	}
	// People who mistype, and get in at once afterwards.
	loop(50*time.Millisecond, func(random *rand.Rand, _ int) {
		g := guess{newClientAddress(), fmt.Sprintf("good%04d", random.IntN(users))}
		for range random.IntN(4) {
			m.wrong(g)
			m.ask(any(random), g, wrongPassword(), false)
		}
		m.ask(any(random), g, password, true)
	})
	// Attackers, who find the right password at last.
	loop(50*time.Millisecond, func(random *rand.Rand, i int) {
		g := guess{fmt.Sprintf("10.202.%d.%d", i/8%200, i%8), names[random.IntN(victims)]}
		for range 1 + random.IntN(2*limit) {
			m.wrong(g)
			m.ask(any(random), g, wrongPassword(), false)
		}
		m.ask(any(random), g, password, true)
	})
	// Users of the fleet who are there, and who are not any more.
	loop(50*time.Millisecond, func(random *rand.Rand, _ int) {
		m.mu.Lock()
		var there, gone string
		if n := len(m.settled); n > 0 {
			there = m.settled[random.IntN(n)]
		}
		if n := len(m.removed); n > 0 {
			gone = m.removed[random.IntN(n)]
		}
		m.mu.Unlock()
		if there != "" {
			m.ask(any(random), guess{"10.203.0.1", there}, password, true)
		}
		if gone != "" {
			g := guess{newClientAddress(), gone}
			m.wrong(g)
			m.ask(any(random), g, password, false)
		}
	})
	// An administrator, who works at one server after the other. What has reached all
	// servers must stay.
	reached := func(user string, want int) bool {
		for range 20 {
			count := 0
			for _, n := range nodes {
				g := guess{newClientAddress(), user}
				m.wrong(g) // it may be
				if n.login(g.client, g.user, password).status == want {
					count++
				}
			}
			if count == len(nodes) {
				return true
			}
			select {
			case <-end:
				return false
			case <-time.After(200 * time.Millisecond):
			}
		}
		return false
	}
	var done, refused int
	loop(300*time.Millisecond, func(random *rand.Rand, i int) {
		user := fmt.Sprintf("chaos%d", i)
		run := func(want int, args ...string) bool {
			if _, code := any(random).fleetTool(args...); code != 0 {
				refused++
				return false
			}
			done++
			return reached(user, want)
		}
		if !run(http.StatusOK, "-bC4", "fleet://staff", user, password) {
			return
		}
		if i%3 != 0 {
			m.mu.Lock()
			m.settled = append(m.settled, user)
			m.mu.Unlock()
		} else if run(http.StatusUnauthorized, "-D", "fleet://staff", user) {
			m.mu.Lock()
			m.removed = append(m.removed, user)
			m.mu.Unlock()
		}
	})

	// The faults.
	ok := func(r *redis, args ...string) {
		if c, err := dialRedis(r.address(), adminPassword); err == nil {
			_, _ = c.do(args...) // the server may be down, or a replica
			c.close()
		}
	}
	pause := func(least, most time.Duration) {
		select {
		case <-end:
		case <-time.After(least + time.Duration(random.Int64N(int64(most-least)))):
		}
	}
	finished := time.After(chaosDuration(t))
	count := map[string]int{}
faults:
	for {
		r := ss.servers[random.IntN(len(ss.servers))]
		n := nodes[random.IntN(len(nodes))]
		kinds := []struct {
			name string
			do   func()
		}{
			{"Redis killed", func() { r.kill(); pause(0, 4*time.Second); r.start() }},
			{"Redis hangs", func() { r.hang(); pause(0, 4*time.Second); r.resume() }},
			{"FLUSHALL", func() { ok(r, "FLUSHALL") }},
			{"SCRIPT FLUSH", func() { ok(r, "SCRIPT", "FLUSH") }},
			{"out of memory", func() {
				ok(r, "CONFIG", "SET", "maxmemory", "1")
				pause(0, 2*time.Second)
				ok(r, "CONFIG", "SET", "maxmemory", "0")
			}},
			{"no permission", func() {
				ok(r, "ACL", "SETUSER", "caddy", "-@all")
				pause(0, 2*time.Second)
				ok(r, append([]string{"ACL", "SETUSER", "caddy"}, strings.Fields(storeUser())...)...)
			}},
			{"connections closed", func() { ok(r, "CLIENT", "KILL", "USER", "caddy") }},
			{"Sentinel fails over", func() { ok(ss.sentinels[0], "SENTINEL", "FAILOVER", "main") }},
			{"Caddy killed", func() {
				n.generation.Add(1)
				n.process.Stop(syscall.SIGKILL)
				n.start()
				n.generation.Add(1)
			}},
			{"reload", func() {
				if err := n.reload(func(*settings) {}); err != nil {
					m.mu.Lock()
					m.faults = append(m.faults, "reload: "+err.Error())
					m.mu.Unlock()
				}
			}},
		}
		kind := kinds[random.IntN(len(kinds))]
		count[kind.name]++
		kind.do()
		pause(0, 2*time.Second)
		select {
		case <-finished:
			break faults
		default:
		}
	}
	close(end)
	wg.Wait()

	// All faults are over: the servers share counts again.
	for _, n := range nodes {
		eventually(t, n.name+" uses the store", n.connected)
	}
	tr := &traffic{t: t, nodes: plain}
	t.Logf("shared again after %s", tr.awaitSharing(t).Round(time.Millisecond))
	for _, n := range nodes {
		for _, user := range m.settled {
			m.ask(n, guess{"10.203.0.1", user}, password, true)
		}
		for _, user := range m.removed {
			g := guess{newClientAddress(), user}
			m.wrong(g)
			m.ask(n, g, password, false)
		}
	}
	master := ss.master()
	if master == nil {
		t.Fatal("there is no master")
	}
	m.checkCounts(t, plain, master)
	for _, f := range m.faults {
		t.Error(f)
	}
	t.Logf("faults: %v; answers: %d of 200, %d of 401, %d of 429; changes of users: %d, refused: %d; users there at all servers: %d, removed at all: %d; slowest good login: %s",
		count, m.answers[0], m.answers[1], m.answers[2], done, refused, len(m.settled), len(m.removed), round(m.slowest))
	if m.answers[0] == 0 || m.answers[1] == 0 || m.answers[2] == 0 {
		t.Error("one of the answers never came, so this test shows little")
	}
}

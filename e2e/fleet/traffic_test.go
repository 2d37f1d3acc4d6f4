package fleet

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// slowest is how long a good login may take at most. The issue says 1 s: this is for
// machines that are busy with other tests. The p99 is logged.
const slowest = 5 * time.Second

// users is the number of users of a password file for traffic: each logs in for the
// first time once at each server.
const users = 3000

// guesses is how many wrong passwords each client of the spray sends at most, which is
// less than all limits.
const guesses = 5

// traffic is light load on some servers: good logins, of which half are the first of
// their user at this server, and a spray of wrong passwords from clients that stay below
// all limits.
type traffic struct {
	t     *testing.T
	nodes []*node
	stop  chan struct{}
	wg    sync.WaitGroup

	mu     sync.Mutex
	good   []time.Duration
	wrong  []time.Duration
	faults []string      // answers that nothing justifies
	total  int           // good logins
	late   time.Duration // how late this process was at most when it wanted to run
}

// serial makes names, addresses and passwords of a test binary unique.
var serial atomic.Int64

// newClientAddress returns an address that no other client has, nor another of its /64.
func newClientAddress() string {
	n := serial.Add(1)
	return fmt.Sprintf("10.%d.%d.%d", 1+n>>16&0x7f, n>>8&0xff, n&0xff)
}

// wrongPassword returns a password that was never sent before.
func wrongPassword() string { return fmt.Sprintf("guess %d", serial.Add(1)) }

// startTraffic starts the load. The nodes need the users of usersFile, and limits above
// guesses.
func startTraffic(t *testing.T, nodes []*node) *traffic {
	tr := &traffic{t: t, nodes: nodes, stop: make(chan struct{})}
	for i := range nodes {
		tr.wg.Add(2)
		go tr.goodLogins(i)
		go tr.spray(i)
	}
	tr.wg.Add(1)
	go tr.watchMachine()
	t.Cleanup(tr.end)
	return tr
}

// watchMachine measures how busy the machine is with other things.
func (tr *traffic) watchMachine() {
	defer tr.wg.Done()
	const step = 10 * time.Millisecond
	for {
		begin := time.Now()
		select {
		case <-tr.stop:
			return
		case <-time.After(step):
		}
		tr.mu.Lock()
		tr.late = max(tr.late, time.Since(begin)-step)
		tr.mu.Unlock()
	}
}

// end stops the load. Further calls do nothing.
func (tr *traffic) end() {
	tr.mu.Lock()
	select {
	case <-tr.stop:
	default:
		close(tr.stop)
	}
	tr.mu.Unlock()
	tr.wg.Wait()
}

// every calls f at most once in an interval until the load ends.
func (tr *traffic) every(interval time.Duration, f func(i int)) {
	defer tr.wg.Done()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tr.stop:
			return
		case <-tick.C:
			f(i)
		}
	}
}

func (tr *traffic) fault(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.faults) < 20 {
		tr.faults = append(tr.faults, time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

func (tr *traffic) goodLogins(server int) {
	n := tr.nodes[server]
	client := fmt.Sprintf("10.200.%d.1", server)
	tr.every(20*time.Millisecond, func(i int) {
		user := "good0000"
		if i%2 == 1 {
			user = fmt.Sprintf("good%04d", i/2%users)
		}
		r := n.login(client, user, password)
		if r.err != nil || r.status != http.StatusOK {
			tr.fault("%s, good login of %s: status %d, error %v", n.name, user, r.status, r.err)
			return
		}
		tr.mu.Lock()
		tr.good = append(tr.good, r.took)
		tr.mu.Unlock()
	})
}

func (tr *traffic) spray(server int) {
	var client, name string
	tr.every(30*time.Millisecond, func(i int) {
		if i%guesses == 0 {
			client, name = newClientAddress(), fmt.Sprintf("nobody%d", serial.Add(1))
		}
		n := tr.nodes[(server+i)%len(tr.nodes)]
		r := n.login(client, name, wrongPassword())
		if r.err != nil || r.status != http.StatusUnauthorized {
			tr.fault("%s, wrong password %d of a client: status %d, error %v, want 401", n.name, i%guesses+1, r.status, r.err)
			return
		}
		tr.mu.Lock()
		tr.wrong = append(tr.wrong, r.took)
		tr.mu.Unlock()
	})
}

// check fails the test for every answer that nothing justifies, and for slow ones, and
// forgets the answers so far.
func (tr *traffic) check(t *testing.T) {
	t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, f := range tr.faults {
		t.Error(f)
	}
	good, wrong := quantiles(tr.good), quantiles(tr.wrong)
	t.Logf("good logins: %s; failed logins: %s", good, wrong)
	if tr.total += good.count; tr.total == 0 {
		t.Error("no good login")
	}
	if most := slowest + 10*tr.late; good.max > most {
		t.Errorf("the slowest good login took %s, want at most %s", good.max, most)
	}
	tr.late = 0
	tr.good, tr.wrong, tr.faults = nil, nil, nil
}

// checkCounts compares the counts in Redis with the failed logins that there were.
func (tr *traffic) checkCounts(t *testing.T, servers ...*redis) {
	t.Helper()
	var counts []int
	for _, r := range servers {
		counts = append(counts, r.counts("login")...)
	}
	most := 0 // of failed logins; those that are being answered may fail
	for _, n := range tr.nodes {
		most += int(n.sent.Load() - n.ok.Load())
	}
	sum := 0
	for _, n := range counts {
		sum += n
		if n > limit+len(tr.nodes)*slots-1 {
			t.Errorf("Redis has a count of %d, more than any client has sent", n)
		}
	}
	if sum > most {
		t.Errorf("the sum of counts in Redis is %d, but only %d logins failed", sum, most)
	}
	t.Logf("counts in Redis: %d, their sum %d of %d failed logins", len(counts), sum, most)
}

// The limits of tests with traffic.
const (
	limit  = 10
	slots  = 2
	limits = "\t\tthrottle login 10 10m\n\t\tthrottle client 4000 10m\n\t\tthrottle user 4000 10m"
)

// awaitSharing waits until, for each server, a client that has sent wrong passwords to it
// is refused by the others. It returns how long servers did not share: the time of the
// rounds before the one in which they did.
func (tr *traffic) awaitSharing(t *testing.T) (took time.Duration) {
	t.Helper()
	for i, from := range tr.nodes {
		begin := time.Now()
		round := begin
		eventually(t, "the other servers refuse who has guessed at "+from.name, func() bool {
			round = time.Now()
			client, name := newClientAddress(), fmt.Sprintf("nobody%d", serial.Add(1))
			for range limit {
				if r := from.login(client, name, wrongPassword()); r.status == http.StatusTooManyRequests {
					return false
				}
			}
			for j, n := range tr.nodes {
				if i != j && !n.refusesSoon(client, name) {
					return false
				}
			}
			return true
		})
		took += round.Sub(begin)
	}
	return took
}

// refusesSoon reports whether a server refuses a client that has exceeded the limit at
// another server. It sends fewer wrong passwords than the server would accept on its own.
// The event that another server has sent may be on its way at the first one.
func (n *node) refusesSoon(client, name string) bool {
	for range 3 {
		if r := n.login(client, name, wrongPassword()); r.status == http.StatusTooManyRequests {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

// recovery is how long servers may take to share again when the store is back.
const recovery = 5 * time.Second

// pausePerFailure is how long a server may count for itself after a call of the store that
// has failed or took too long, as single ones do on a busy machine.
const pausePerFailure = 3 * time.Second

// checkRecovery waits until servers share again, and checks how long that took. since are
// marks of the end of the fault.
func (tr *traffic) checkRecovery(t *testing.T, since []int) {
	t.Helper()
	failed := total(tr.nodes, "fleet_calls_total", `result="failed"`)
	took := tr.awaitSharing(t)
	failed = total(tr.nodes, "fleet_calls_total", `result="failed"`) - failed
	t.Logf("servers share counts again after %s, with %.0f failed calls", took.Round(time.Millisecond), failed)
	if took <= recovery {
		return
	}
	if most := recovery + time.Duration(failed)*pausePerFailure; took > most {
		t.Errorf("servers shared again after %s, want at most %s", took, most)
	}
	for i, n := range tr.nodes {
		for _, l := range n.logged()[since[i]:] {
			if strings.Contains(l.Msg, "fleet") || strings.Contains(l.Msg, "file") {
				t.Logf("%s: %s", n.name, l.raw)
			}
		}
	}
}

// summary has quantiles of durations.
type summary struct {
	count         int
	p50, p99, max time.Duration
}

func quantiles(all []time.Duration) summary {
	if len(all) == 0 {
		return summary{}
	}
	sorted := slices.Clone(all)
	slices.Sort(sorted)
	at := func(q float64) time.Duration { return sorted[int(q*float64(len(sorted)-1))] }
	return summary{len(sorted), at(0.5), at(0.99), at(1)}
}

func (s summary) String() string {
	return fmt.Sprintf("%d, p50 %s, p99 %s, slowest %s", s.count, round(s.p50), round(s.p99), round(s.max))
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// marks returns the number of log lines of each node.
func marks(nodes []*node) []int {
	var n []int
	for _, node := range nodes {
		n = append(n, len(node.logged()))
	}
	return n
}

// checkWarnings checks that each node has logged between least and most warnings of the
// plugin, other than those that clients cause, since marks.
func checkWarnings(t *testing.T, nodes []*node, since []int, least, most int) {
	t.Helper()
	for i, n := range nodes {
		found := n.warnings(since[i])
		if _, slow := n.allWarnings(0); len(slow) > 0 {
			least = 0 // it may have had its line before, and has no second one so soon
		}
		if len(found) < least || len(found) > most {
			t.Errorf("%s: got %d warnings, want %d to %d:\n%s", n.name, len(found), least, most, strings.Join(found, "\n"))
		}
	}
}

package balance

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// timedGroup is a group with least_time whose servers take fixed times. Its clock
// moves with the requests.
type timedGroup struct {
	*testGroup
	takes map[string]time.Duration
	open  responses
}

// newTimedGroup returns a group of servers, and their times as in "a=1ms b=150ms".
func newTimedGroup(t *testing.T, servers, times string) *timedGroup {
	t.Helper()
	g := &timedGroup{testGroup: newTestGroup(Settings{Method: MethodLeastTime}, servers), takes: make(map[string]time.Duration)}
	g.take(t, times)
	return g
}

// take sets the times of servers.
func (g *timedGroup) take(t *testing.T, times string) {
	t.Helper()
	for _, text := range strings.Fields(times) {
		name, took, _ := strings.Cut(text, "=")
		d, err := time.ParseDuration(took)
		if err != nil {
			t.Fatal(err)
		}
		g.takes[name] = d
	}
}

// measured records times without requests.
func (g *timedGroup) measured(t *testing.T, times string) {
	t.Helper()
	g.take(t, times)
	for i, m := range g.members {
		if took, ok := g.takes[g.names[i]]; ok {
			m.Time.Add(took, g.now.UnixNano())
		}
	}
}

// sequential sends n requests, one after the other, and returns the order of servers.
func (g *timedGroup) sequential(n int) (order []string) {
	for range n {
		name := g.chooseFor("", nil)
		order = append(order, name)
		g.now = g.now.Add(g.takes[name])
		for i, m := range g.members {
			if g.names[i] == name {
				m.Time.Add(g.takes[name], g.now.UnixNano())
			}
		}
	}
	return order
}

// response is a request under way.
type response struct {
	at     time.Time
	server int
}

// responses are in the order of their ends.
type responses []response

func (r responses) Len() int           { return len(r) }
func (r responses) Less(i, j int) bool { return r[i].at.Before(r[j].at) }
func (r responses) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *responses) Push(x any)        { *r = append(*r, x.(response)) }
func (r *responses) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}

// concurrent sends n requests of clients that each wait for their responses, and
// returns the order of servers.
func (g *timedGroup) concurrent(clients, n int) (order []string) {
	send := func() {
		name := g.chooseFor("", nil)
		order = append(order, name)
		for i := range g.names {
			if g.names[i] == name {
				g.byName[name].requests.Add(1)
				heap.Push(&g.open, response{g.now.Add(g.takes[name]), i})
			}
		}
	}
	for len(g.open) < clients {
		send()
	}
	for len(order) < n {
		ended := heap.Pop(&g.open).(response)
		g.now = ended.at
		name := g.names[ended.server]
		g.byName[name].requests.Add(-1)
		g.members[ended.server].Time.Add(g.takes[name], g.now.UnixNano())
		send()
	}
	return order
}

// share returns the thousandths of requests for a server.
func share(order []string, server string) int {
	n := 0
	for _, name := range order {
		if name == server {
			n++
		}
	}
	return n * 1000 / len(order)
}

func checkShare(t *testing.T, what string, order []string, server string, least, most int) {
	t.Helper()
	if got := share(order, server); got < least || got > most {
		t.Errorf("%s: got %d of 1000 requests for %s, want %d to %d", what, got, server, least, most)
	}
}

func TestLeastTime(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, servers, times, busy, want string }{
		{"never measured: as round robin", "a:5 b:1 c:1", "", "", "aabacaa"},
		{"equally fast: as round robin", "a:5 b:1 c:1", "a=7ms b=7ms c=7ms", "", "aabacaa"},
		{"never measured, in use: the fewest", "a b c", "", "a=3 b=1 c=2", "bbbb"},
		{"never measured, in use: in proportion to the weights", "a:5 b:1", "", "a=4 b=1", "aaaa"},
		{"never measured, in use: equal ones", "a:2 b:1", "", "a=1", "abab"},
		{"equal costs in use take turns", "a:4 b:2", "", "a=3 b=1", "ababab"},
		{"the fastest of those in use", "a b c", "a=50ms b=20ms c=30ms", "a=1 b=1 c=1", "bbbb"},
		{"fast and in use", "a b", "a=20ms b=100ms", "a=1 b=1", "aaaa"},
		{"fast, but too many are under way", "a b", "a=20ms b=100ms", "a=6 b=1", "bbbb"},
		{"an idle one that is worse takes turns", "a b", "a=20ms b=140ms", "a=1", "abaaba"},
		{"a weight makes up for the time", "a:4 b:1", "a=60ms b=1ns", "a=1 b=1", "aaaa"},
		{"a backup is not for speed", "a b:1:backup", "a=5s b=1ms", "a=9", "aaaa"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := newTimedGroup(t, test.servers, "")
			g.measured(t, test.times)
			g.setRequests(test.busy)
			if got := strings.Join(g.choose(len(test.want)), ""); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// TestLeastTimeSequential has a server that is 150 ms slower, and requests one after the
// other. It gets about one in ten, also of the first ones.
func TestLeastTimeSequential(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		servers, times string
		least, most    int
	}{
		{"a b", "a=1ms b=151ms", 90, 125},
		{"b a", "a=1ms b=151ms", 90, 125},
		{"a b", "a=10ms b=160ms", 90, 160},
		{"a b c", "a=1ms c=1ms b=151ms", 45, 70},
		{"a:9 b", "a=1ms b=151ms", 8, 20},
		{"a b", "a=1ms b=3ms", 450, 500},
		{"a b", "a=1ms b=1m", 2, 6},
	} {
		t.Run(fmt.Sprint(test.servers, test.times), func(t *testing.T) {
			t.Parallel()
			g := newTimedGroup(t, test.servers, test.times)
			if first := g.sequential(10); test.least == 90 && share(first, "b") > 200 {
				t.Errorf("the first ten: got %v, want at most two for b", first)
			}
			g.sequential(100)
			checkShare(t, "sequential", g.sequential(1000), "b", test.least, test.most)
		})
	}
}

// TestLeastTimeConcurrent has clients that send the next request when they get a response.
// A slow server holds few of them.
func TestLeastTimeConcurrent(t *testing.T) {
	t.Parallel()
	for _, clients := range []int{1, 4, 16, 64, 256} {
		g := newTimedGroup(t, "a b", "a=10ms b=160ms")
		for begin := g.now; g.now.Sub(begin) < time.Second; {
			g.concurrent(clients, clients)
		}
		order := g.concurrent(clients, 3000)
		checkShare(t, fmt.Sprint(clients, " clients"), order, "b", 0, 160)
		if held, most := g.byName["b"].requests.Load(), int64(1+2*clients/9); held > most {
			t.Errorf("%d clients: got %d requests under way at b, want at most %d", clients, held, most)
		}
	}
}

// TestLeastTimeHangs has a server that does not answer. It gets few requests.
func TestLeastTimeHangs(t *testing.T) {
	t.Parallel()
	g := newTimedGroup(t, "a b", "a=1ms b=1h")
	order := g.concurrent(16, 5000)
	n := 0
	for _, name := range order {
		if name == "b" {
			n++
		}
	}
	if n > 8 {
		t.Errorf("got %d of 5000 requests for b, want at most half of the 16 clients", n)
	}
}

// TestLeastTimeRecovers has a slow server that becomes fast, and the other way around.
func TestLeastTimeRecovers(t *testing.T) {
	t.Parallel()
	g := newTimedGroup(t, "a b", "a=1ms b=151ms")
	g.sequential(200)
	checkShare(t, "slow", g.sequential(200), "b", 80, 130)
	g.take(t, "b=1ms")
	g.sequential(100)
	checkShare(t, "100 requests after it became fast", g.sequential(200), "b", 430, 510)
	g.take(t, "b=2s")
	g.sequential(30)
	checkShare(t, "30 requests after it became slow", g.sequential(1000), "b", 1, 60)
}

// TestLeastTimeAges has a server that is never idle and never the best, so it is not
// measured. After a while it is tried again.
func TestLeastTimeAges(t *testing.T) {
	t.Parallel()
	g := newTimedGroup(t, "a b", "a=1ms b=5s")
	g.measured(t, "a=1ms b=5s")
	g.setRequests("a=1 b=1")
	begin := g.now
	for g.chooseFor("", nil) != "b" {
		g.now = g.now.Add(100 * time.Millisecond)
		g.members[0].Time.Add(time.Millisecond, g.now.UnixNano())
		if g.now.Sub(begin) > 10*time.Minute {
			t.Fatal("got no request for b in ten minutes, want one")
		}
		g.setRequests("a=2") // b costs more than half of a until its average is gone
	}
	if took := g.now.Sub(begin); took > 90*time.Second {
		t.Errorf("got the first request for b after %v, want at most 90s", took)
	}
}

// TestLeastTimeStaysBounded checks that a change of scale leaves nothing to make up for:
// no server gets many requests in a row after all have become slow or fast.
func TestLeastTimeStaysBounded(t *testing.T) {
	t.Parallel()
	g := newTimedGroup(t, "a b c", "a=1ms b=1ms c=1ms")
	for range 20 {
		for _, times := range []string{"a=5s b=5s c=5s", "a=1ms b=5s c=1ms", "a=1ms b=1ms c=1ms"} {
			g.take(t, times)
			g.sequential(7)
			g.measured(t, times)
		}
	}
	for range 100 {
		g.measured(t, "a=1ms b=1ms c=1ms")
	}
	got := strings.Join(g.sequential(12), "")
	for _, server := range []string{"a", "b", "c"} {
		if strings.Count(got, server) < 2 {
			t.Errorf("got %s, want each server at least twice", got)
		}
	}
}

// TestLeastTimeChoosesWell compares choices with the rule, for random states: the server
// is available, and it has the least cost or no requests under way.
func TestLeastTimeChoosesWell(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var servers []string
		for i := range 1 + random.IntN(5) {
			servers = append(servers, fmt.Sprintf("s%d:%d:%s", i, 1+random.IntN(9), []string{"", "", "", "down"}[random.IntN(4)]))
		}
		g := newTimedGroup(t, strings.Join(servers, " "), "")
		for step := range 60 {
			s := g.byName[g.names[random.IntN(len(g.names))]]
			s.requests.Store(int64(random.IntN(4)))
			s.off.Store(random.IntN(4) == 0)
			g.now = g.now.Add(time.Duration(random.IntN(3000)) * time.Millisecond)
			m := g.members[random.IntN(len(g.members))]
			m.Time.Add(time.Duration(random.ExpFloat64()*float64(100*time.Millisecond)), g.now.UnixNano())

			least := math.Inf(1)
			costs := make(map[string]float64)
			for _, m := range g.members {
				s := g.byName[m.Address]
				if !m.Down && s.Available() {
					cost := float64(m.Time.Average(g.now.UnixNano())+20*time.Millisecond) * float64(s.NumRequests()+1) / float64(m.Weight)
					costs[m.Address], least = cost, min(least, cost)
				}
			}
			got := g.chooseFor("", nil)
			cost, may := costs[got]
			switch {
			case got == "-" && len(costs) == 0:
			case !may:
				t.Fatalf("step %d of %v: got %s, want one of %v", step, servers, got, costs)
			case cost != least && g.byName[got].NumRequests() > 0:
				t.Fatalf("step %d of %v: got %s, which is in use, want the least of %v", step, servers, got, costs)
			}
		}
	}
}

func TestResponseTime(t *testing.T) {
	t.Parallel()
	now := int64(1_700_000_000_000_000_000)
	r := new(ResponseTime)
	check := func(what string, want time.Duration) {
		t.Helper()
		if got := r.Average(now); got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	check("never measured", 0)
	r.Add(800*time.Millisecond, now)
	check("the first time", 800*time.Millisecond)
	r.Add(time.Nanosecond, now)
	check("the second one counts an eighth", 700*time.Millisecond+1)
	r.average.Store(int64(700 * time.Millisecond))
	now += int64(9 * time.Second)
	check("after nine seconds", 700*time.Millisecond)
	now += int64(time.Second)
	check("after ten seconds: half", 350*time.Millisecond)
	now += int64(10 * time.Second)
	check("after twenty seconds: a quarter", 175*time.Millisecond)
	now += int64(975 * time.Millisecond)
	r.Add(975*time.Millisecond, now)
	check("a new time counts with what was left when it began", 275*time.Millisecond)
	now += int64(24 * time.Hour)
	check("after a day", 0)
	r.Add(time.Hour, now)
	check("a long time is shortened", 5*time.Second/8)
	now -= int64(time.Hour)
	check("the clock was set back", 5*time.Second/8)
	now += int64(10 * time.Second)
	check("then it ages as before", 5*time.Second/16)
	now -= int64(time.Millisecond)
	check("a delayed request", 5*time.Second/8)
}

// TestResponseTimeConcurrently is for the race detector. The average stays between the
// times.
func TestResponseTimeConcurrently(t *testing.T) {
	t.Parallel()
	g := newTestGroup(Settings{Method: MethodLeastTime}, "a b")
	done := make(chan struct{})
	for i := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for j := range 2000 {
				g.members[i%2].Time.Add(time.Duration(10+j%10)*time.Millisecond, g.now.UnixNano())
				g.chooseFor("", nil)
			}
		}()
	}
	for range 4 {
		<-done
	}
	for _, m := range g.members {
		if got := m.Time.Average(g.now.UnixNano()); got < 10*time.Millisecond || got > 19*time.Millisecond {
			t.Errorf("%s: got %v, want 10 to 19 ms", m.Address, got)
		}
	}
}

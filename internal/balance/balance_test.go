package balance

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeServer is a server whose state is set by a test.
type fakeServer struct {
	name     string
	off      atomic.Bool // not healthy
	full     atomic.Bool
	requests atomic.Int64
}

func (s *fakeServer) Available() bool  { return s.Healthy() && !s.full.Load() }
func (s *fakeServer) Healthy() bool    { return !s.off.Load() }
func (s *fakeServer) NumRequests() int { return int(s.requests.Load()) }

// testGroup is a group with its servers.
type testGroup struct {
	*Group
	members []Member
	servers []Server
	byName  map[string]*fakeServer
	names   []string
	now     time.Time
}

// newTestGroup returns a group of servers written as "a:5 b c:1:backup d:1:down".
func newTestGroup(s Settings, servers string) *testGroup {
	g := &testGroup{byName: make(map[string]*fakeServer), now: time.Unix(1_700_000_000, 0)}
	for _, text := range strings.Fields(servers) {
		name, params, _ := strings.Cut(text, ":")
		weight, mark, _ := strings.Cut(params, ":")
		n, _ := strconv.Atoi(weight)
		g.members = append(g.members, Member{Address: name, Weight: n, Backup: mark == "backup", Down: mark == "down", Recovery: new(Recovery), Time: new(ResponseTime)})
		g.byName[name] = &fakeServer{name: name}
		g.servers = append(g.servers, g.byName[name])
		g.names = append(g.names, name)
	}
	g.Group = New(s, g.members)
	return g
}

// roundRobinOf is like newTestGroup, with round robin.
func roundRobinOf(servers string) *testGroup {
	return newTestGroup(Settings{Method: MethodRoundRobin}, servers)
}

// chooseFor returns the name of the server for a request, or "-" for none.
func (g *testGroup) chooseFor(key string, tried *Tried) string {
	index := g.Choose(Request{Servers: g.servers, Key: key, Tried: tried, Now: g.now.UnixNano()})
	if index < 0 {
		return "-"
	}
	return g.names[index]
}

// choose returns the names for n requests without a key, in their order.
func (g *testGroup) choose(n int) []string {
	order := make([]string, n)
	for i := range order {
		order[i] = g.chooseFor("", nil)
	}
	return order
}

// switchOff makes these servers unhealthy, written as "a b", and all others healthy.
func (g *testGroup) switchOff(names string) {
	for name, s := range g.byName {
		s.off.Store(slices.Contains(strings.Fields(names), name))
	}
}

// setRequests gives servers a number of requests, as in "a=3 b=1".
func (g *testGroup) setRequests(requests string) {
	for _, text := range strings.Fields(requests) {
		name, count, _ := strings.Cut(text, "=")
		n, _ := strconv.Atoi(count)
		g.byName[name].requests.Store(int64(n))
	}
}

// request is a request for the choosers of the group.
func (g *testGroup) request() Request { return Request{Servers: g.servers, Now: g.now.UnixNano()} }

// counted returns how often each server is in the order, as in "a=5 b=1".
func (g *testGroup) counted(order []string) string {
	counts := make(map[string]int)
	for _, name := range order {
		counts[name]++
	}
	var out []string
	for _, name := range append(slices.Clone(g.names), "-") {
		if counts[name] > 0 {
			out = append(out, fmt.Sprintf("%s=%d", name, counts[name]))
		}
	}
	return strings.Join(out, " ")
}

// keyOf returns the i-th of many keys for a method.
func keyOf(method Method, i int) string {
	if method == MethodIPHash {
		return fmt.Sprintf("192.0.%d.1", i%256)
	}
	return fmt.Sprint("/", i)
}

// checkShares compares shares with weights by a chi-square test with a significance
// level of 0.001. The input is fixed.
func checkShares(t *testing.T, placed map[string]string, weights map[string]float64) {
	t.Helper()
	counts, total := make(map[string]float64), 0.0
	for _, server := range placed {
		counts[server]++
	}
	for _, w := range weights {
		total += w
	}
	chi := 0.0
	for name, w := range weights {
		want := float64(len(placed)) * w / total
		chi += (counts[name] - want) * (counts[name] - want) / want
	}
	if limit := map[int]float64{1: 10.83, 2: 13.82, 3: 16.27}[len(weights)-1]; chi > limit {
		t.Errorf("chi-square: got %.1f, want at most %.1f: %v for weights %v", chi, limit, counts, weights)
	}
}

// TestMethodsFailOver checks for every method that only available servers get
// requests, backups only while there is no other, and down servers never.
func TestMethodsFailOver(t *testing.T) {
	t.Parallel()
	for _, method := range Methods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			g := newTestGroup(Settings{Method: method}, "a:2 b:1 c:1:backup d:1:backup e:1:down")
			for _, step := range []struct{ off, may string }{
				{"", "ab"}, {"a", "b"}, {"a b", "cd"}, {"a b c", "d"}, {"a b c d", "-"}, {"b c d", "a"}, {"e", "ab"},
			} {
				g.switchOff(step.off)
				got := make(map[string]bool)
				for i := range 400 {
					got[g.chooseFor(keyOf(method, i), nil)] = true
				}
				var chosen []string
				for name := range got {
					chosen = append(chosen, name)
				}
				slices.Sort(chosen)
				if strings.Join(chosen, "") != step.may {
					t.Errorf("without %q: got %v, want %s", step.off, chosen, step.may)
				}
			}
		})
	}
}

// TestMethodsRetry checks for every method that a request that is retried goes to each
// server once, then to the backups, and then nowhere or to all of them again.
func TestMethodsRetry(t *testing.T) {
	t.Parallel()
	for _, method := range Methods() {
		for _, once := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, each once: %v", method, once), func(t *testing.T) {
				t.Parallel()
				g := newTestGroup(Settings{Method: method, EachOnce: once}, "a:5 b:1 c:1 d:1:backup")
				for i := range 50 {
					var order []string
					tried := new(Tried)
					for range 8 {
						name := g.chooseFor(keyOf(method, i), tried)
						if order = append(order, name); name != "-" {
							tried.Add(name)
						}
					}
					first := slices.Sorted(slices.Values(order[:3]))
					rest := strings.Join(order[3:], "")
					if strings.Join(first, "") != "abc" || once && rest != "d----" || !once && (rest[0] != 'd' || strings.Contains(rest, "-") || rest[4] != 'd') {
						t.Fatalf("request %d: got %v, want a, b and c, then d, then none or once more", i, order)
					}
				}
			})
		}
	}
}

// TestMethodsLeaveFullServers checks for every method that a full server gets no
// requests, and that nothing is chosen without servers.
func TestMethodsLeaveFullServers(t *testing.T) {
	t.Parallel()
	for _, method := range Methods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			g := newTestGroup(Settings{Method: method}, "a:9 b")
			g.byName["a"].full.Store(true)
			for i := range 50 {
				if got := g.chooseFor(keyOf(method, i), nil); got != "b" {
					t.Fatalf("while a is full: got %s, want b", got)
				}
			}
			if got := New(Settings{Method: method}, nil).Choose(Request{}); got != -1 {
				t.Errorf("no servers: got %d, want -1", got)
			}
		})
	}
}

// TestKeysStay pins choices: an update must not move clients. The keys of hash are
// /key/0 to /key/9999. The digest is FNV-1a of the 10,000 names, one per line. The
// first choices are given by the last letter of the name.
func TestKeysStay(t *testing.T) {
	t.Parallel()
	hashKey := func(i int) string { return fmt.Sprint("/key/", i) }
	address := func(i int) string {
		if i%3 == 2 {
			return fmt.Sprintf("2001:db8:%x::%x", i, i*i%65536)
		}
		return fmt.Sprintf("%d.%d.%d.1", i%223+1, i*7%256, i*13%256)
	}
	for _, test := range []struct {
		method  Method
		key     func(i int) string
		servers string
		first   string
		digest  uint64
	}{
		{MethodHash, hashKey, "a b c d", "bdccddbdadaddacacacadabd", 0x7291279652e61cfe},
		{MethodHash, hashKey, "a:5 b:1 c:2", "bccccaccacaaaaaacacabacb", 0x1d0255ba15ff9d11},
		{MethodHash, hashKey, "a:3 b:1:down c:3 d:9:backup", "acccccccacaaaacacacacacc", 0x17fe0577e3fd055d},
		{MethodHash, hashKey, "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5", "413224554251153553523353", 0xa6d5ea40aada1862},
		{MethodIPHash, address, "a b c d", "cbddccbadcbcaddbaddcaada", 0x960c6ec477d398c9},
		{MethodIPHash, address, "a:5 b:1 c:2", "aaccccbacaaaaccbacaaaaca", 0xd05b49b0e177679},
		{MethodIPHash, address, "a:3 b:1:down c:3 d:9:backup", "ccaaccccaaccacaaacaacaca", 0x268c5ef593d0718f},
	} {
		g := newTestGroup(Settings{Method: test.method}, test.servers)
		digest, first := fnv.New64a(), ""
		for i := range 10_000 {
			name := g.chooseFor(test.key(i), nil)
			fmt.Fprintln(digest, name)
			if len(first) < len(test.first) {
				first += name[len(name)-1:]
			}
		}
		if first != test.first {
			t.Errorf("%s of %s: the first choices: got %s, want %s", test.method, test.servers, first, test.first)
		}
		if got := digest.Sum64(); got != test.digest {
			t.Errorf("%s of %s: digest of all choices: got %#x, want %#x", test.method, test.servers, got, test.digest)
		}
	}
}

// TestUnknownMethod checks that an unknown method panics.
func TestUnknownMethod(t *testing.T) {
	t.Parallel()
	if Method("fair").IsKnown() || Method("").IsKnown() || !MethodHash.IsKnown() {
		t.Error("got another answer, want only methods of Methods to be known")
	}
	defer func() {
		if recover() == nil {
			t.Error("New: got no panic, want one")
		}
	}()
	New(Settings{Method: "fair"}, []Member{{Address: "a"}})
}

// TestMethodsConcurrently chooses servers of every method while their state changes.
// It is for the race detector.
func TestMethodsConcurrently(t *testing.T) {
	t.Parallel()
	for _, method := range Methods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			g := newTestGroup(Settings{Method: method, SlowStart: time.Second}, "a:5 b:1 c:1 d:1:down e:1:backup")
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					for j := range 500 {
						if i == 0 {
							g.byName["a"].off.Store(rand.IntN(2) == 0)
						}
						if got := g.chooseFor(keyOf(method, j), nil); !strings.Contains("abc", got) {
							t.Errorf("got %s, want a, b or c", got)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestChooseAllocatesNothing checks every method, with all servers and without one.
func TestChooseAllocatesNothing(t *testing.T) {
	for _, method := range Methods() {
		for _, off := range []string{"", "a"} {
			for _, slowStart := range []time.Duration{0, time.Hour} {
				g := newTestGroup(Settings{Method: method, SlowStart: slowStart}, "a:5 b:1 c:1")
				g.switchOff(off)
				key := keyOf(method, 1)
				if n := testing.AllocsPerRun(100, func() { g.chooseFor(key, nil) }); n > 0 {
					t.Errorf("%s without %q, slow start %v: got %v allocations, want 0", method, off, slowStart, n)
				}
			}
		}
	}
}

// exampleServer is a server that is always healthy and never full.
type exampleServer struct{ requests int }

func (s *exampleServer) Available() bool  { return true }
func (s *exampleServer) Healthy() bool    { return true }
func (s *exampleServer) NumRequests() int { return s.requests }

func ExampleGroup() {
	members := []Member{
		{Address: "10.0.0.1", Weight: 3},
		{Address: "10.0.0.2", Weight: 1},
		{Address: "10.0.0.3", Backup: true},
	}
	servers := []Server{&exampleServer{}, &exampleServer{}, &exampleServer{}}
	group := New(Settings{Method: MethodRoundRobin, EachOnce: true}, members)

	for range 4 {
		fmt.Println(members[group.Choose(Request{Servers: servers})].Address)
	}

	fmt.Println("a request that every server fails:")
	tried := new(Tried)
	for {
		chosen := group.Choose(Request{Servers: servers, Tried: tried})
		if chosen < 0 {
			break
		}
		fmt.Println(members[chosen].Address)
		tried.Add(members[chosen].Address)
	}
	// Output:
	// 10.0.0.1
	// 10.0.0.1
	// 10.0.0.2
	// 10.0.0.1
	// a request that every server fails:
	// 10.0.0.1
	// 10.0.0.2
	// 10.0.0.3
}

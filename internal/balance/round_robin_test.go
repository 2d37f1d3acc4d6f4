package balance

import (
	"math"
	"strings"
	"testing"
)

// TestRoundRobinOrder compares with the orders of nginx.
func TestRoundRobinOrder(t *testing.T) {
	t.Parallel()
	for servers, want := range map[string]string{
		"a":                     "a a a",
		"a b c":                 "a b c a b c",
		"a:5 b:1 c:1":           "a a b a c a a  a a b a c a a",
		"a:10 b:2 c:2":          "a a b a c a a  a a b a c a a",
		"a:2 b:3":               "b a b a b  b a b a b",
		"a:4 b:2 c:1":           "a b a c a b a  a b a c a b a",
		"x:1:down a b":          "a b a b",
		"x:9:backup a:2 b":      "a b a  a b a",
		"x:1:down y:5:backup":   "y y",
		"a:1:down":              "-",
		"a:1:backup b:2:down":   "a a",
		"a:65535 b:65535":       "a b a b",
		"a:3:backup b:1:backup": "a a b a  a a b a",
	} {
		want := strings.Fields(want)
		if got := roundRobinOf(servers).choose(len(want)); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: got %v, want %v", servers, got, want)
		}
	}
}

func TestRoundRobinDistribution(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ servers, off, want string }{
		{"a:1 b:5 c:1", "a", "b=500 c=100"}, // Caddy's weighted_round_robin: 500 to 200
		{"a:1 b:5 c:1", "b", "a=300 c=300"},
		{"a:1 b:5 c:1", "b c", "a=600"},
		{"a:1 b:2 c:3 d:4", "d", "a=100 b=200 c=300"},
		{"a b x:1:backup", "", "a=300 b=300"},
		{"a b x:1:backup", "a", "b=600"},
		{"a b x:1:backup y:2:backup", "a b", "x=200 y=400"},
		{"a b x:1:backup y:2:backup", "a b y", "x=600"},
		{"a b:1:down", "a", "-=600"},
		{"a b", "a b", "-=600"},
		{"a x:1:backup", "a x", "-=600"},
	} {
		g := roundRobinOf(tt.servers)
		g.switchOff(tt.off)
		if got := g.counted(g.choose(600)); got != tt.want {
			t.Errorf("%s without %q: got %s, want %s", tt.servers, tt.off, got, tt.want)
		}
	}
}

func TestRoundRobinReturnsToItsOrder(t *testing.T) {
	t.Parallel()
	g := roundRobinOf("a:5 b:1 c:1")
	if got := strings.Join(g.choose(3), ""); got != "aab" {
		t.Fatalf("at the start: got %s, want aab", got)
	}
	g.switchOff("a")
	if got := g.counted(g.choose(100)); got != "b=50 c=50" {
		t.Errorf("without a: got %s, want b=50 c=50", got)
	}
	g.switchOff("")
	if got := strings.Join(g.choose(4), ""); got != "acaa" {
		t.Errorf("after the return: got %s, want acaa, the rest of the period", got)
	}
}

// TestRoundRobinLongPeriod checks a period that is too long for a table.
func TestRoundRobinLongPeriod(t *testing.T) {
	t.Parallel()
	g := roundRobinOf("a:40000 b:30000 c:1")
	if got := g.counted(g.choose(70001)); got != "a=40000 b=30000 c=1" {
		t.Errorf("got %s, want a=40000 b=30000 c=1", got)
	}
	if rr := g.tiers[0].chooser.(*smoothRoundRobin); rr.order != nil {
		t.Errorf("got a table of %d turns, want none", len(rr.order))
	}
}

// TestRoundRobinOfMostlyDown checks a short period of more servers, most of them down,
// than the table can hold indexes of.
func TestRoundRobinOfMostlyDown(t *testing.T) {
	t.Parallel()
	members, servers := make([]Member, maxRoundRobinOrder+1), make([]Server, maxRoundRobinOrder+1)
	for i := range members {
		members[i], servers[i] = Member{Down: i < maxRoundRobinOrder}, new(fakeServer)
	}
	g := New(Settings{Method: MethodRoundRobin}, members)
	for range 3 {
		if got := g.Choose(Request{Servers: servers}); got != maxRoundRobinOrder {
			t.Errorf("got server %d, want %d, the only one that is not down", got, maxRoundRobinOrder)
		}
	}
}

func TestRoundRobinCursorWraps(t *testing.T) {
	t.Parallel()
	g := roundRobinOf("a:5 b:1 c:1")
	g.tiers[0].chooser.(*smoothRoundRobin).cursor.Store(math.MaxUint64 - 6)
	if got := g.counted(g.choose(7)); got != "a=5 b=1 c=1" {
		t.Errorf("up to the end: got %s, want a=5 b=1 c=1", got)
	}
	if got := strings.Join(g.choose(7), ""); got != "aabacaa" {
		t.Errorf("from the start: got %s, want aabacaa", got)
	}
}

// TestOutageInMidPeriod checks a round robin that begins in the middle of its order,
// as after a change of the pool, and cannot use its table.
func TestOutageInMidPeriod(t *testing.T) {
	t.Parallel()
	for start := range uint64(7) {
		g := newTestGroup(Settings{Method: MethodRoundRobin, Start: start}, "a:5 b:1 c:1")
		g.tiers[0].chooser.(*smoothRoundRobin).order = nil
		order := strings.Join(g.choose(7), "")
		if want := ("aabacaa" + "aabacaa")[start : start+7]; order != want {
			t.Errorf("from turn %d on: got %s, want %s", start, order, want)
		}
	}
}

// BenchmarkPlan measures the cost for the first request.
func BenchmarkPlan(b *testing.B) {
	members := make([]member, 1000)
	for i := range members {
		members[i] = member{index: i, weight: 1 + i%7}
	}
	for b.Loop() {
		newSmoothRoundRobin(members, 0, 0)
	}
}

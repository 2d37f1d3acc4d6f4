package balance

import (
	"testing"
	"time"
)

// slowStartMethods returns the methods that support slow start.
func slowStartMethods() (methods []Method) {
	for _, m := range Methods() {
		if m.HasSlowStart() {
			methods = append(methods, m)
		}
	}
	return methods
}

// TestSlowStart checks that the share of a recovered server grows from nothing to its
// weight.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	for _, method := range slowStartMethods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			settings := Settings{Method: method, SlowStart: 100 * time.Second}
			g := newTestGroup(settings, "a b")
			share := func() int {
				n := 0
				for _, name := range g.choose(1000) {
					if name == "a" {
						n++
					}
				}
				return n
			}
			near := func(what string, got, want int) {
				t.Helper()
				if got < want-2 || got > want+2 {
					t.Errorf("%s: got %d of 1000 for a, want about %d", what, got, want)
				}
			}
			near("at the start", share(), 500)
			g.switchOff("a")
			near("off", share(), 0)
			g.switchOff("")
			if got := share() + share(); got < 1 || got > 3 { // a thousandth of its weight
				t.Errorf("back: got %d of 2000 for a, want 1 to 3", got)
			}
			g.now = g.now.Add(25 * time.Second)
			near("after a quarter", share(), 200) // 1/4 of 1 1/4
			g.byName["a"].full.Store(true)        // which does not restart slow start
			near("full", share(), 0)
			g.byName["a"].full.Store(false)
			near("no longer full", share(), 200)
			g.now = g.now.Add(-time.Hour) // the clock was set back: full weight rather than none
			near("the clock is set back", share(), 500)
			g.now = g.now.Add(time.Hour)
			near("the clock is set forward again", share(), 500)
			g.switchOff("a") // again
			share()
			g.switchOff("")
			share()
			g.now = g.now.Add(25 * time.Second)
			near("after a quarter of the second time", share(), 200)
			g.now = g.now.Add(50 * time.Second)
			near("after three quarters", share(), 429) // 3/4 of 1 3/4
			g.Group = New(settings, g.members)         // as after a reload, which keeps the Recovery
			near("in another group", share(), 429)
			g.now = g.now.Add(25 * time.Second)
			near("after all of it", share(), 500)
		})
	}
}

// TestSlowStartSurvivesDelayedRequests checks that a delayed request, with a time
// before the recovery, does not end slow start.
func TestSlowStartSurvivesDelayedRequests(t *testing.T) {
	t.Parallel()
	for _, method := range slowStartMethods() {
		g := newTestGroup(Settings{Method: method, SlowStart: 100 * time.Second}, "a b")
		g.switchOff("a")
		g.choose(1)
		g.switchOff("")
		g.choose(1)
		g.now = g.now.Add(-time.Millisecond)
		g.choose(1)
		g.now = g.now.Add(time.Millisecond)
		if got := g.counted(g.choose(100)); got != "b=100" && got != "a=1 b=99" {
			t.Errorf("%s: got %s, want hardly any for a", method, got)
		}
	}
}

// TestSlowStartIsOfTheGroup checks that a server that was unhealthy for one group only
// does not start slowly in another group.
func TestSlowStartIsOfTheGroup(t *testing.T) {
	t.Parallel()
	settings := Settings{Method: MethodRoundRobin, SlowStart: time.Hour}
	healthy, other := newTestGroup(settings, "a b"), newTestGroup(settings, "a b")
	other.Group = New(settings, healthy.members)
	other.switchOff("a")
	var order []string
	for range 20 {
		other.choose(1)
		order = append(order, healthy.choose(1)...)
	}
	if got := healthy.counted(order); got != "a=10 b=10" {
		t.Errorf("got %s, want a=10 b=10", got)
	}
}

// TestSlowStartOfBackups checks a backup that recovers long before it is needed.
func TestSlowStartOfBackups(t *testing.T) {
	t.Parallel()
	g := newTestGroup(Settings{Method: MethodRoundRobin, SlowStart: time.Nanosecond}, "a x:1:backup y:1:backup")
	g.switchOff("a x")
	g.choose(3)
	g.switchOff("")
	g.choose(3)
	x := &g.tiers[1].members[0]
	if away, since := x.wasAway.Load(), x.recovery.since.Load(); away || since == 0 {
		t.Errorf("got away %v since %d, want it noticed that x is back", away, since)
	}
}

// TestSlowStartOfOtherMethods checks that methods without slow start use a recovered
// server at once.
func TestSlowStartOfOtherMethods(t *testing.T) {
	t.Parallel()
	for _, method := range []Method{MethodHash, MethodIPHash, MethodRandom} {
		slow := newTestGroup(Settings{Method: method, SlowStart: time.Hour}, "a:9 b")
		slow.switchOff("a")
		slow.chooseFor("192.0.2.1", nil)
		slow.switchOff("")
		got := make(map[string]int)
		for i := range 200 {
			got[slow.chooseFor(keyOf(method, i), nil)]++
		}
		if got["a"] < 100 {
			t.Errorf("%s: got %d of 200 requests for a, want most", method, got["a"])
		}
	}
}

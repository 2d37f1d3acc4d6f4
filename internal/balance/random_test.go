package balance

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestRandom uses a fixed seed.
func TestRandom(t *testing.T) {
	t.Parallel()
	g := newTestGroup(Settings{Method: MethodRandom}, "a:5 b:1 c:2")
	b := newRandomTwo(g.tiers[0].members, rand.New(rand.NewPCG(1, 2)).Uint64)
	draws := func(but int) map[string]string {
		placed := make(map[string]string)
		for i := range 20_000 {
			r := g.request()
			if drawn := b.draw(&r, but); drawn >= 0 {
				placed[fmt.Sprint(i)] = g.names[drawn]
			}
		}
		return placed
	}
	checkShares(t, draws(-1), map[string]float64{"a": 5, "b": 1, "c": 2})
	checkShares(t, draws(0), map[string]float64{"b": 1, "c": 2})
	g.switchOff("a")
	checkShares(t, draws(-1), map[string]float64{"b": 1, "c": 2})
	if got := draws(1); len(got) != 20_000 || got["0"] != "c" {
		t.Errorf("without a and but for b: got %d draws, the first of %q, want 20000 of c", len(got), got["0"])
	}
	g.switchOff("a c")
	if got := draws(1); len(got) != 0 {
		t.Errorf("none is left: got %d draws, want 0", len(got))
	}
	g.switchOff("")

	// Of two idle servers, the first one: all get their shares.
	idle := make(map[string]string)
	for i := range 20_000 {
		idle[fmt.Sprint(i)] = g.names[b.choose(g.request())]
	}
	checkShares(t, idle, map[string]float64{"a": 5, "b": 1, "c": 2})

	// Of two, the one with fewer requests: never the busiest of all.
	g.setRequests("a=10 b=0 c=1")
	for range 1000 {
		if got := b.choose(g.request()); got == 0 {
			t.Fatal("got a, the busiest of all, want b or c")
		}
	}
	g.setRequests("a=4 b=1 c=2") // in proportion to the weights a has the fewest
	got := make(map[int]int)
	for range 1000 {
		got[b.choose(g.request())]++
	}
	if got[0] < 900 {
		t.Errorf("got %v choices, want at least 900 of a (0)", got)
	}
}

package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestIPHash checks properties. The tests with a real nginx compare the choices.
func TestIPHash(t *testing.T) {
	t.Parallel()
	g := newTestGroup(Settings{Method: MethodIPHash}, "a b c")
	of := func(ip string) string { return g.chooseFor(ip, nil) }
	same := func(one, two string) {
		t.Helper()
		if of(one) != of(two) {
			t.Errorf("%s and %s: got two servers, %s and %s, want one", one, two, of(one), of(two))
		}
	}
	for i := range 100 {
		same(fmt.Sprintf("192.0.%d.1", i), fmt.Sprintf("192.0.%d.254", i))
		same(fmt.Sprintf("192.0.%d.1", i), fmt.Sprintf("::ffff:192.0.%d.1", i))
	}
	same("", "@")
	differs := false
	for i := range 100 {
		differs = differs || of("2001:db8::1") != of(fmt.Sprintf("2001:db8::%x", i+2))
	}
	if !differs {
		t.Error("one network of IPv6: got one server, want several, since the whole address counts")
	}
}

// TestIPHashOutage checks that clients of other servers do not move when a server is
// not available.
func TestIPHashOutage(t *testing.T) {
	t.Parallel()
	g := newTestGroup(Settings{Method: MethodIPHash}, "a b c")
	before := make(map[string]string)
	for i := range 200 {
		ip := fmt.Sprintf("10.0.%d.1", i)
		before[ip] = g.chooseFor(ip, nil)
	}
	g.switchOff("b")
	for ip, server := range before {
		if now := g.chooseFor(ip, nil); server != "b" && now != server || now == "b" {
			t.Errorf("%s, before at %s: got %s, want the same, or another than b", ip, server, now)
		}
	}
}

// TestIPHashShares checks that the clients of 100,000 networks are distributed by the
// weights.
func TestIPHashShares(t *testing.T) {
	t.Parallel()
	g := newTestGroup(Settings{Method: MethodIPHash}, "a:5 b:1 c:2")
	counts := make(map[string]int)
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		counts[g.chooseFor(fmt.Sprintf("%d.%d.%d.1", 1+random.IntN(223), random.IntN(256), random.IntN(256)), nil)]++
	}
	// nginx's hash has 6271 values, which are not a multiple of the weights.
	for name, want := range map[string]float64{"a": 5.0 / 8, "b": 1.0 / 8, "c": 2.0 / 8} {
		if got := float64(counts[name]) / 100_000; math.Abs(got-want) > 0.01 {
			t.Errorf("share of %s: got %.3f, want %.3f", name, got, want)
		}
	}
}

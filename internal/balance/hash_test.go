package balance

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// TestHash uses fixed keys, so the numbers are always the same.
func TestHash(t *testing.T) {
	t.Parallel()
	const keys = 20_000
	placed := func(servers string) map[string]string {
		g := newTestGroup(Settings{Method: MethodHash}, servers)
		all := make(map[string]string)
		for i := range keys {
			key := fmt.Sprint("/key/", i)
			all[key] = g.chooseFor(key, nil)
			if again := g.chooseFor(key, nil); again != all[key] {
				t.Fatalf("%s: got %s, and then %s, want the same", key, all[key], again)
			}
		}
		return all
	}
	before := placed("a b c d")
	for _, test := range []struct {
		name, servers string
		moved         float64 // part of the keys
		to            string
	}{
		{"another order", "d c b a", 0, ""},
		{"one more of five", "a b c d e", 1.0 / 5, "e"},
		{"one less of four", "a b c", 1.0 / 4, "abc"},
		{"twice the weight", "a:2 b c d", 2.0/5 - 1.0/4, "a"},
	} {
		moved := 0
		for key, server := range placed(test.servers) {
			if server == before[key] {
				continue
			}
			moved++
			if !strings.Contains(test.to, server) {
				t.Errorf("%s: a key of %s: got %s, want one of %q", test.name, before[key], server, test.to)
			}
		}
		if got := float64(moved) / keys; math.Abs(got-test.moved) > 0.015 { // four standard deviations
			t.Errorf("%s: got %.3f of the keys that move, want %.3f", test.name, got, test.moved)
		}
	}
	checkShares(t, placed("a:5 b:1 c:2"), map[string]float64{"a": 5, "b": 1, "c": 2})
}

// TestHashWithoutKey checks that requests without a key, such as without the cookie,
// are distributed among all servers.
func TestHashWithoutKey(t *testing.T) {
	t.Parallel()
	g := newTestGroup(Settings{Method: MethodHash}, "a:2 b c")
	if got := strings.Join(g.choose(8), ""); got != "abcaabca" {
		t.Errorf("got %s, want abcaabca", got)
	}
}

package balance

import (
	"strings"
	"testing"
)

func TestLeastConn(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, servers, busy, want string }{
		{"the fewest", "a b c", "a=3 b=1 c=2", "bbbb"},
		{"in proportion to the weights", "a:5 b:1", "a=4 b=1", "aaaa"},
		{"of two with equal proportions, by their weights", "a:2 b:1", "a=2 b=1", "abaaba"},
		{"all idle: as round robin", "a:5 b:1 c:1", "", "aabacaa"},
		{"all idle but one", "a b c", "a=1", "bcbc"},
		{"weights without a common divisor", "a:3 b:2", "a=3 b=1", "bbbb"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := newTestGroup(Settings{Method: MethodLeastConn}, test.servers)
			g.setRequests(test.busy)
			if got := strings.Join(g.choose(len(test.want)), ""); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

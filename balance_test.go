package caddyhtpasswd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// groupOf makes a policy as testGroup does, with a method.
func groupOf(t testing.TB, balance, servers string) (*UpstreamGroup, []string) {
	t.Helper()
	g, names := testGroup(t, servers)
	g.Balance = balance
	if balance == "hash" {
		g.HashKey = "{http.request.uri.path}"
	}
	if err := g.Validate(); err != nil {
		t.Fatal(err)
	}
	return g, names
}

// proxied is a request as Caddy hands it to a policy.
func proxied(path, clientIP string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://example.com"+path, nil)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, nil)
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, clientIP)
	return r
}

// busy gives each server a number of requests, as in "a=3 b=1".
func busy(pool reverseproxy.UpstreamPool, requests string) {
	for _, text := range strings.Fields(requests) {
		name, count, _ := strings.Cut(text, "=")
		n := 0
		fmt.Sscan(count, &n)
		for _, u := range pool {
			if u.Dial == name {
				setRequests(u.Host, n)
			}
		}
	}
}

// setRequests sets how many requests a host has at the moment. Only Caddy's
// handler can count them otherwise.
func setRequests(host *reverseproxy.Host, n int) {
	field := reflect.ValueOf(host).Elem().FieldByName("numRequests")
	(*atomic.Int64)(field.Addr().UnsafePointer()).Store(int64(n))
}

// TestMethodsFailOver holds for every method: only servers that are available
// get requests, backups only while there is no other, and down ones never.
func TestMethodsFailOver(t *testing.T) {
	for method := range balanceMethods {
		t.Run(method, func(t *testing.T) {
			g, names := groupOf(t, method, "a:2 b:1 c:1:backup d:1:backup e:1:down")
			pool, switches := switchedPool(t, names...)
			for _, step := range []struct{ off, may string }{
				{"", "ab"}, {"a", "b"}, {"ab", "cd"}, {"abc", "d"}, {"abcd", "-"}, {"bcd", "a"}, {"e", "ab"},
			} {
				for name, s := range switches {
					s.off.Store(strings.Contains(step.off, name))
				}
				got := make(map[string]bool)
				for i := range 400 {
					name := "-"
					if u := g.Select(pool, proxied(fmt.Sprint("/", i), fmt.Sprintf("192.0.%d.1", i%200)), nil); u != nil {
						name = u.Dial
					}
					got[name] = true
				}
				var chosen []string
				for name := range got {
					chosen = append(chosen, name)
				}
				slices.Sort(chosen)
				if strings.Join(chosen, "") != step.may {
					t.Errorf("without %q: %v, want %s", step.off, chosen, step.may)
				}
			}
		})
	}
}

// TestMethodsRetry holds for every method: a request that is tried again goes
// to each server once, then to the backups, and then nowhere or once more.
func TestMethodsRetry(t *testing.T) {
	for method := range balanceMethods {
		for _, once := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, each once: %v", method, once), func(t *testing.T) {
				g, names := groupOf(t, method, "a:5 b:1 c:1 d:1:backup")
				g.EachOnce = once
				pool := plainPool(names...)
				for i := range 50 {
					r := proxied(fmt.Sprint("/", i), fmt.Sprintf("192.0.%d.1", i))
					var order []string
					for range 8 {
						name := "-"
						if u := g.Select(pool, r, nil); u != nil {
							name = u.Dial
						}
						order = append(order, name)
					}
					first := slices.Sorted(slices.Values(order[:3]))
					rest := strings.Join(order[3:], "")
					if strings.Join(first, "") != "abc" || once && rest != "d----" || !once && (rest[0] != 'd' || strings.Contains(rest, "-") || rest[4] != 'd') {
						t.Fatalf("request %d: %v", i, order)
					}
				}
			})
		}
	}
}

// TestTriedIsOfThePass is a request that goes through the same handler twice, as
// with a named route: Caddy hands over another copy of it, and what was tried for
// the first is nothing for the second.
func TestTriedIsOfThePass(t *testing.T) {
	g, names := groupOf(t, "ip_hash", "a b")
	pool := plainPool(names...)
	r := proxied("/", "192.0.2.1")
	first := g.Select(pool, r, nil)
	again := *r
	if second := g.Select(pool, &again, nil); second != first {
		t.Errorf("%s, and %s", first.Dial, second.Dial)
	}
	if third := g.Select(pool, &again, nil); third == first {
		t.Error("a retry goes to the same server")
	}
}

// TestTriedByAddress is a source that makes upstreams anew at each try.
func TestTriedByAddress(t *testing.T) {
	g, names := groupOf(t, "ip_hash", "a b c")
	r := proxied("/", "192.0.2.1")
	seen := make(map[string]bool)
	for range 3 {
		seen[g.Select(plainPool(names...), r, nil).Dial] = true
	}
	if len(seen) != 3 {
		t.Errorf("%v", seen)
	}
}

// TestTriedIsOfTheHandler is a request that goes through two handlers with the
// same servers: what the first one tried is nothing for the second.
func TestTriedIsOfTheHandler(t *testing.T) {
	one, names := groupOf(t, "round_robin", "a b")
	two, _ := groupOf(t, "round_robin", "a b")
	pools := [2]reverseproxy.UpstreamPool{plainPool(names...), plainPool(names...)}
	for range 10 {
		r := proxied("/", "")
		first := one.Select(pools[0], r, nil)
		copied := *r // as each handler makes one
		second := two.Select(pools[1], &copied, nil)
		again := two.Select(pools[1], &copied, nil)
		if first.Dial != second.Dial || again.Dial == second.Dial {
			t.Fatalf("%s, then %s and %s", first.Dial, second.Dial, again.Dial)
		}
	}
}

func TestLeastConn(t *testing.T) {
	for _, test := range []struct{ name, servers, busy, want string }{
		{"the fewest", "a b c", "a=3 b=1 c=2", "bbbb"},
		{"in proportion to the weights", "a:5 b:1", "a=4 b=1", "aaaa"},
		{"of two with as many in proportion, by their weights", "a:2 b:1", "a=2 b=1", "abaaba"},
		{"all idle: as round robin", "a:5 b:1 c:1", "", "aabacaa"},
		{"all idle but one", "a b c", "a=1", "bcbc"},
		{"weights that are no divisors of one another", "a:3 b:2", "a=3 b=1", "bbbb"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, names := groupOf(t, "least_conn", test.servers)
			pool := plainPool(names...)
			busy(pool, test.busy)
			if got := strings.Join(selected(g, pool, len(test.want)), ""); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// TestIPHash compares with what a real nginx answers, in TestAsNginx; here are
// the properties.
func TestIPHash(t *testing.T) {
	g, names := groupOf(t, "ip_hash", "a b c")
	pool, switches := switchedPool(t, names...)
	of := func(ip string) string { return g.Select(pool, proxied("/", ip), nil).Dial }
	same := func(one, two string) {
		t.Helper()
		if of(one) != of(two) {
			t.Errorf("%s and %s have two servers", one, two)
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
		t.Error("the whole of an IPv6 address does not count")
	}
	// Who has another server goes on with it.
	before := make(map[string]string)
	for i := range 200 {
		ip := fmt.Sprintf("10.0.%d.1", i)
		before[ip] = of(ip)
	}
	switches["b"].off.Store(true)
	for ip, server := range before {
		if now := of(ip); server != "b" && now != server || now == "b" {
			t.Errorf("%s goes from %s to %s", ip, server, now)
		}
	}
	// As many as the weights say: the clients of 100,000 networks, by chi-square.
	g, names = groupOf(t, "ip_hash", "a:5 b:1 c:2")
	pool = plainPool(names...)
	counts := make(map[string]int)
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		counts[g.Select(pool, proxied("/", fmt.Sprintf("%d.%d.%d.1", 1+random.IntN(223), random.IntN(256), random.IntN(256))), nil).Dial]++
	}
	// nginx's hash has 6271 values, which are not a multiple of the weights.
	for name, want := range map[string]float64{"a": 5.0 / 8, "b": 1.0 / 8, "c": 2.0 / 8} {
		if got := float64(counts[name]) / 100_000; math.Abs(got-want) > 0.01 {
			t.Errorf("%s gets %.3f, want %.3f", name, got, want)
		}
	}
}

// TestHash is with fixed keys, so the figures are always the same.
func TestHash(t *testing.T) {
	const keys = 20_000
	placed := func(servers string) map[string]string {
		g, names := groupOf(t, "hash", servers)
		pool := plainPool(names...)
		all := make(map[string]string)
		for i := range keys {
			path := fmt.Sprint("/key/", i)
			all[path] = g.Select(pool, proxied(path, ""), nil).Dial
			if again := g.Select(pool, proxied(path, ""), nil).Dial; again != all[path] {
				t.Fatalf("%s goes to %s and to %s", path, all[path], again)
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
				t.Errorf("%s: a key moves from %s to %s", test.name, before[key], server)
			}
		}
		if got := float64(moved) / keys; math.Abs(got-test.moved) > 0.015 { // four standard deviations
			t.Errorf("%s: %.3f of the keys move, want %.3f", test.name, got, test.moved)
		}
	}
	checkShares(t, placed("a:5 b:1 c:2"), map[string]float64{"a": 5, "b": 1, "c": 2})
}

// checkShares compares with weights by chi-square, at a probability of 0.001
// that it fails by chance; the input is fixed.
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
		t.Errorf("chi-square %.1f, above %.1f: %v for weights %v", chi, limit, counts, weights)
	}
}

func TestHashKeys(t *testing.T) {
	r := proxied("/a?q=1", "192.0.2.1")
	r.Header.Set("X-User", "alice")
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	repl.Set("one", "1")
	for _, test := range []struct {
		key, same string
		equal     bool
	}{
		{"{one}", "1", true},
		{"x{one}", "x1", true},
		{"{one}{one}", "11", true},
		{"{one}", "2", false},
		{"{nothing}", "", true},
		{"plain", "plain", true},
		{"{http.vars.client_ip}", "192.0.2.1", true},
		{"{http.request.uri.path}", "/a", true},
		{"{http.request.header.X-User}", "alice", true},
	} {
		if got := newHashKey(test.key).of(r) == newHashKey(test.same).of(r); got != test.equal {
			t.Errorf("%s is as %s: %v", test.key, test.same, got)
		}
	}
}

// TestHashWithoutKey is about requests that have none, such as those without the
// cookie: they go to each server in turn, not all to one.
func TestHashWithoutKey(t *testing.T) {
	g, names := groupOf(t, "hash", "a:2 b c")
	g.HashKey = "{http.request.cookie.session}"
	pool := plainPool(names...)
	order := ""
	for range 8 {
		order += g.Select(pool, proxied("/", ""), nil).Dial
	}
	if order != "abcaabca" {
		t.Error(order)
	}
}

// TestRandom is with a fixed seed.
func TestRandom(t *testing.T) {
	members := []groupMember{{index: 0, weight: 5}, {index: 1, weight: 1}, {index: 2, weight: 2}}
	pool, switches := switchedPool(t, "a", "b", "c")
	b := newRandomTwo(members, rand.New(rand.NewPCG(1, 2)).Uint64)
	draws := func(but int) map[string]string {
		placed := make(map[string]string)
		for i := range 20_000 {
			if drawn := b.draw(&choice{pool: pool}, but); drawn >= 0 {
				placed[fmt.Sprint(i)] = pool[drawn].Dial
			}
		}
		return placed
	}
	checkShares(t, draws(-1), map[string]float64{"a": 5, "b": 1, "c": 2})
	checkShares(t, draws(0), map[string]float64{"b": 1, "c": 2})
	switches["a"].off.Store(true)
	checkShares(t, draws(-1), map[string]float64{"b": 1, "c": 2})
	if got := draws(1); len(got) != 20_000 || got["0"] != "c" {
		t.Errorf("%d", len(got))
	}
	switches["c"].off.Store(true)
	if got := draws(1); len(got) != 0 {
		t.Errorf("%d draws of none", len(got))
	}
	switches["a"].off.Store(false)
	switches["c"].off.Store(false)

	// Of two that are idle it is the first: all get their shares.
	idle := make(map[string]string)
	for i := range 20_000 {
		idle[fmt.Sprint(i)] = pool[b.choose(choice{pool: pool})].Dial
	}
	checkShares(t, idle, map[string]float64{"a": 5, "b": 1, "c": 2})

	// Of two, the one with fewer requests: the busiest of all never.
	busy(pool, "a=10 b=0 c=1")
	for range 1000 {
		if got := b.choose(choice{pool: pool}); got == 0 {
			t.Fatal("the busiest of all was chosen")
		}
	}
	busy(pool, "a=4 b=1 c=2") // in proportion to the weights a has the fewest
	got := make(map[int]int)
	for range 1000 {
		got[b.choose(choice{pool: pool})]++
	}
	if got[0] < 900 {
		t.Errorf("%v", got)
	}
}

// TestSlowStart has a server come back: its share grows from nothing to its
// weight.
func TestSlowStart(t *testing.T) {
	for _, method := range slowStartMethods {
		t.Run(method, func(t *testing.T) {
			g, names := groupOf(t, method, "a b")
			g.SlowStart = caddy.Duration(100 * time.Second)
			if err := g.Provision(caddy.Context{}); err != nil {
				t.Fatal(err)
			}
			pool, switches := switchedPool(t, names...)
			now := clock()
			share := func() int {
				if g.plan.Load() == nil {
					g.Select(pool, proxied("/", ""), nil)
				}
				switch b := g.plan.Load().tiers[0].groupBalancer.(type) {
				case *smoothRoundRobin:
					b.now = func() time.Time { return now }
				case *leastConn:
					b.now = func() time.Time { return now }
				}
				n := 0
				for range 1000 {
					if g.Select(pool, proxied("/", ""), nil).Dial == "a" {
						n++
					}
				}
				return n
			}
			near := func(what string, got, want int) {
				t.Helper()
				if got < want-2 || got > want+2 {
					t.Errorf("%s: a gets %d of 1000, want about %d", what, got, want)
				}
			}
			near("at the start", share(), 500)
			switches["a"].off.Store(true)
			near("off", share(), 0)
			switches["a"].off.Store(false)
			if got := share() + share(); got < 1 || got > 3 { // a thousandth of its weight
				t.Errorf("back: a gets %d of 2000", got)
			}
			now = now.Add(25 * time.Second)
			near("after a quarter", share(), 200) // 1/4 of 1 1/4
			setRequests(pool[0].Host, 1)
			pool[0].MaxRequests = 1 // full, which is no reason to begin anew
			near("full", share(), 0)
			pool[0].MaxRequests = 0
			setRequests(pool[0].Host, 0)
			near("no longer full", share(), 200)
			now = now.Add(-time.Hour) // the clock is set back: better too much than nothing
			near("T11 in the past", share(), 500)
			now = now.Add(time.Hour)
			near("T11 and back", share(), 500)
			switches["a"].off.Store(true) // once more
			share()
			switches["a"].off.Store(false)
			share()
			now = now.Add(25 * time.Second)
			near("after a quarter of the second time", share(), 200)
			now = now.Add(50 * time.Second)
			near("after three quarters", share(), 429) // 3/4 of 1 3/4
			// A reload keeps what is known.
			next, _ := groupOf(t, method, "a b")
			next.SlowStart = g.SlowStart
			if err := next.Provision(caddy.Context{}); err != nil {
				t.Fatal(err)
			}
			if err := g.Cleanup(); err != nil {
				t.Fatal(err)
			}
			g = next
			near("after a reload", share(), 429)
			now = now.Add(25 * time.Second)
			near("after all of it", share(), 500)
			if err := g.Cleanup(); err != nil {
				t.Fatal(err)
			}
			if _, held := serverStates.References("a"); held {
				t.Error("still held")
			}
		})
	}
}

// TestOutageInMidPeriod is a round robin that begins in the middle of its order,
// as after a change of the pool, and loses its table at once.
func TestOutageInMidPeriod(t *testing.T) {
	members := []groupMember{{index: 0, weight: 5}, {index: 1, weight: 1}, {index: 2, weight: 1}}
	pool := plainPool("a", "b", "c")
	for start := range uint64(7) {
		rr := newSmoothRoundRobin(members, 0, start)
		rr.order = nil
		order := ""
		for range 7 {
			order += pool[rr.choose(choice{pool: pool})].Dial
		}
		if want := ("aabacaa" + "aabacaa")[start : start+7]; order != want {
			t.Errorf("from turn %d on: %s, want %s", start, order, want)
		}
	}
}

// TestSlowStartIsOfTheHandler has two handlers with the same servers, of which
// one finds a server unhealthy: the other one goes on with it.
func TestSlowStartIsOfTheHandler(t *testing.T) {
	var groups [2]*UpstreamGroup
	var pools [2]reverseproxy.UpstreamPool
	var names []string
	for i := range groups {
		groups[i], names = groupOf(t, "round_robin", "a b")
		groups[i].SlowStart = caddy.Duration(time.Hour)
		if err := groups[i].Provision(caddy.Context{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { groups[i].Cleanup() })
	}
	pools[0] = plainPool(names...)
	pool, switches := switchedPool(t, names...)
	pools[1] = pool
	switches["a"].off.Store(true)
	var order []string
	for range 20 {
		groups[1].Select(pools[1], proxied("/", ""), nil)
		order = append(order, groups[0].Select(pools[0], proxied("/", ""), nil).Dial)
	}
	if got := counted(order, "a", "b"); got != "a=10 b=10" {
		t.Error(got)
	}
}

// TestSlowStartOfBackups has a backup come back long before it is needed.
func TestSlowStartOfBackups(t *testing.T) {
	g, names := groupOf(t, "round_robin", "a x:1:backup y:1:backup")
	g.SlowStart = caddy.Duration(time.Nanosecond) // over at once when it is noticed
	pool, switches := switchedPool(t, names...)
	switches["a"].off.Store(true)
	switches["x"].off.Store(true)
	selected(g, pool, 3)
	switches["a"].off.Store(false)
	switches["x"].off.Store(false)
	selected(g, pool, 3)
	x := g.plan.Load().tiers[1].members[0]
	if x.wasAway.Load() || x.state.since.Load() == 0 {
		t.Error("nobody has noticed that x is back")
	}
}

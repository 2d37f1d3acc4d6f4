package balance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// chooseSticky returns the names of the chosen server and of the session's server, or
// "-" for none. wanted is written as "a b".
func (g *testGroup) chooseSticky(key string, tried *Tried, wanted string) (chosen, session string) {
	var indexes []int
	for _, name := range strings.Fields(wanted) {
		indexes = append(indexes, slices.Index(g.names, name))
	}
	one, two := g.ChooseSticky(Request{Servers: g.servers, Key: key, Tried: tried, Now: g.now.UnixNano()}, indexes)
	names := append(slices.Clone(g.names), "-")
	place := func(index int) int {
		if index < 0 {
			return len(g.names)
		}
		return index
	}
	return names[place(one)], names[place(two)]
}

// drain makes servers of the group drain, written as "a b".
func (g *testGroup) drain(s Settings, names string) {
	for i := range g.members {
		g.members[i].Drain = slices.Contains(strings.Fields(names), g.names[i])
	}
	g.Group = New(s, g.members)
}

// TestStickyRules has a row for each rule, for every method.
func TestStickyRules(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name                              string
		servers, off, full, tried, wanted string
		chosen, session                   string // allowed names
	}{
		{"no session", "a b", "", "", "", "", "ab", "="},
		{"the server of the session", "a b:9", "", "", "", "a", "a", "a"},
		{"unhealthy: another, for the session too", "a b", "a", "", "", "a", "b", "b"},
		{"full: another, but the session stays", "a b", "", "a", "", "a", "b", "a"},
		{"tried in vain: another, for the session too", "a b", "", "", "a", "a", "b", "b"},
		{"full and tried: another, for the session too", "a b", "", "a", "a", "a", "b", "b"},
		{"down", "a:1:down b", "", "", "", "a", "b", "b"},
		{"draining", "a:1:drain b", "", "", "", "a", "a", "a"},
		{"draining and full", "a:1:drain b", "", "a", "", "a", "b", "a"},
		{"draining and unhealthy", "a:1:drain b", "a", "", "", "a", "b", "b"},
		{"only draining servers, for a session", "a:1:drain b:1:drain", "", "", "", "b", "b", "b"},
		{"only draining servers, without a session", "a:1:drain b:1:drain", "", "", "", "", "-", "-"},
		{"a backup while there is a primary", "a b:1:backup", "", "", "", "b", "a", "a"},
		{"a backup while there is no primary", "a b:1:backup c:1:backup", "a", "", "", "c", "c", "c"},
		{"a full primary, and only a backup is left", "a b:1:backup", "", "a", "", "a", "b", "a"},
		{"a full backup, and another backup", "a b:1:backup c:1:backup", "a", "b", "", "b", "c", "b"},
		{"two servers with the route, both available", "a b c", "", "", "", "b c", "b", "b"},
		{"two servers with the route, the first unhealthy", "a b c", "b", "", "", "b c", "c", "c"},
		{"two servers with the route, the first full", "a b c", "", "b", "", "b c", "c", "b"},
		{"two servers with the route, both full", "a b c", "", "b c", "", "b c", "a", "b"},
		{"nothing is available", "a b", "a b", "", "", "a", "-", "-"},
		{"everything is full", "a b", "", "a b", "", "a", "-", "-"},
		{"one server", "a", "", "", "", "a", "a", "a"},
		{"one server, unhealthy", "a", "a", "", "", "a", "-", "-"},
	} {
		for _, method := range Methods() {
			g := newTestGroup(Settings{Method: method, EachOnce: true}, strings.ReplaceAll(row.servers, ":drain", ""))
			var drained []string
			for _, text := range strings.Fields(row.servers) {
				if name, found := strings.CutSuffix(text, ":1:drain"); found {
					drained = append(drained, name)
				}
			}
			g.drain(Settings{Method: method, EachOnce: true}, strings.Join(drained, " "))
			g.switchOff(row.off)
			for _, name := range strings.Fields(row.full) {
				g.byName[name].full.Store(true)
			}
			for i := range 20 {
				tried := new(Tried)
				for _, name := range strings.Fields(row.tried) {
					tried.Add(name)
				}
				chosen, session := g.chooseSticky(keyOf(method, i), tried, row.wanted)
				if !strings.Contains(row.chosen, chosen) || row.session == "=" && session != chosen || row.session != "=" && session != row.session {
					t.Fatalf("%s, %s: got %s and session %s, want %s and %s", row.name, method, chosen, session, row.chosen, row.session)
				}
			}
		}
	}
}

// TestStickyTriesAllAgain checks that a session gets its server again after all have been
// tried.
func TestStickyTriesAllAgain(t *testing.T) {
	t.Parallel()
	for _, method := range Methods() {
		g := newTestGroup(Settings{Method: method}, "a:9 b c:1:backup")
		tried := new(Tried)
		var order []string
		for range 4 {
			name, _ := g.chooseSticky(keyOf(method, 1), tried, "b")
			order = append(order, name)
			tried.Add(name)
		}
		if got := strings.Join(order, ""); got != "bacb" {
			t.Errorf("%s: got %s, want bacb", method, got)
		}
	}
}

// TestStickyModel compares choices in random situations with a model, which knows the
// rules and no method.
func TestStickyModel(t *testing.T) {
	t.Parallel()
	for _, method := range Methods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(200) {
				random := rand.New(rand.NewPCG(seed, 16)) //nolint:gosec // repeatable
				settings := Settings{Method: method, EachOnce: random.IntN(2) == 0}
				if method.HasSlowStart() && random.IntN(2) == 0 {
					settings.SlowStart = time.Minute
				}
				m := newStickyModel(random, settings)
				for range 50 {
					m.step(t)
				}
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

// stickyModel is a group with a model of its rules.
type stickyModel struct {
	*testGroup
	random   *rand.Rand
	settings Settings
}

func newStickyModel(random *rand.Rand, settings Settings) *stickyModel {
	var servers []string
	for i := range 1 + random.IntN(5) {
		servers = append(servers, fmt.Sprintf("%c:%d%s", 'a'+i, 1+random.IntN(5), []string{"", "", ":backup", ":down"}[random.IntN(4)]))
	}
	g := newTestGroup(settings, strings.Join(servers, " "))
	for i := range g.members {
		g.members[i].Drain = random.IntN(4) == 0
	}
	g.Group = New(settings, g.members)
	return &stickyModel{g, random, settings}
}

// step changes the state of servers and sends one request, with retries.
func (m *stickyModel) step(t *testing.T) {
	t.Helper()
	m.now = m.now.Add(time.Duration(m.random.IntN(30)) * time.Second)
	for _, s := range m.byName {
		s.off.Store(m.random.IntN(4) == 0)
		s.full.Store(m.random.IntN(4) == 0)
		s.requests.Store(int64(m.random.IntN(5)))
	}
	var wanted []string
	for _, i := range m.random.Perm(len(m.names))[:m.random.IntN(min(3, len(m.names)+1))] {
		wanted = append(wanted, m.names[i])
	}
	tried := new(Tried)
	for range 1 + m.random.IntN(4) {
		before := slices.Clone(tried.addresses)
		may, session := m.want(wanted, before)
		if may == nil && !m.settings.EachOnce {
			may, session = m.want(wanted, nil)
		}
		if may == nil {
			may = []string{"-"}
		}
		got, its := m.chooseSticky(keyOf(m.settings.Method, m.random.IntN(256)), tried, strings.Join(wanted, " "))
		if session == "" {
			session = got
		}
		if !slices.Contains(may, got) || its != session {
			t.Errorf("%+v of %+v, wanted %v, tried %v: got %s and session %s, want one of %v and %s", m.settings, m.members, wanted, before, got, its, may, session)
			return
		}
		if got == "-" {
			return
		}
		tried.Add(got)
	}
}

// want returns which servers may get the request, nil for none, and the server of the
// session, "" for the one that is chosen.
func (m *stickyModel) want(wanted, tried []string) (may []string, session string) {
	for _, backup := range []bool{false, true} {
		var free []string
		for i, member := range m.members {
			s := m.byName[member.Address]
			usable := member.Backup == backup && !member.Down && s.Healthy() && !slices.Contains(tried, member.Address)
			if usable && s.Available() && !member.Drain {
				free = append(free, m.names[i])
			}
		}
		for _, name := range wanted {
			member, s := m.members[slices.Index(m.names, name)], m.byName[name]
			if member.Backup != backup || member.Down || !s.Healthy() || slices.Contains(tried, name) {
				continue
			}
			if s.Available() {
				return []string{name}, session
			}
			if session == "" {
				session = name
			}
		}
		if free != nil {
			return free, session
		}
	}
	return nil, ""
}

// TestStickySeesServersComeBack checks that slow start begins when a server comes back,
// even if all requests in between were those of sessions at another server.
func TestStickySeesServersComeBack(t *testing.T) {
	t.Parallel()
	for _, method := range Methods() {
		if !method.HasSlowStart() {
			continue
		}
		g := newTestGroup(Settings{Method: method, SlowStart: time.Hour}, "a b")
		g.switchOff("a")
		g.chooseSticky("", nil, "b")
		g.switchOff("")
		if got := g.counted(g.choose(100)); strings.HasPrefix(got, "a=50") {
			t.Errorf("%s: got %s, want hardly any for a, which starts slowly", method, got)
		}
		if got, _ := g.chooseSticky("", nil, "a"); got != "a" {
			t.Errorf("%s: a session of a: got %s, want a even while it starts slowly", method, got)
		}
	}
}

// TestStickySpreadsNewSessions checks that requests of sessions take nobody's turn.
func TestStickySpreadsNewSessions(t *testing.T) {
	t.Parallel()
	g := roundRobinOf("a:2 b c:1")
	var order []string
	for i := range 12 {
		if i%3 == 0 {
			g.chooseSticky("", nil, "a")
		}
		order = append(order, g.choose(1)...)
	}
	if got := g.counted(order); got != "a=6 b=3 c=3" {
		t.Errorf("got %s, want a=6 b=3 c=3", got)
	}
}

// TestStickyAllocatesNothing checks every method.
func TestStickyAllocatesNothing(t *testing.T) {
	for _, method := range Methods() {
		g := newTestGroup(Settings{Method: method}, "a:5 b:1 c:1")
		r, wanted := Request{Servers: g.servers, Key: keyOf(method, 1)}, []int{1}
		if n := testing.AllocsPerRun(100, func() { g.ChooseSticky(r, wanted); g.ChooseSticky(r, nil) }); n > 0 {
			t.Errorf("%s: got %v allocations, want 0", method, n)
		}
	}
}

// TestStickyConcurrently is for the race detector.
func TestStickyConcurrently(t *testing.T) {
	t.Parallel()
	for _, method := range Methods() {
		g := newTestGroup(Settings{Method: method, SlowStart: time.Second}, "a:5 b:1 c:1 d:1:backup")
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for j := range 300 {
					if i == 0 {
						g.byName["a"].off.Store(j%2 == 0)
					}
					if got, _ := g.chooseSticky(keyOf(method, j), nil, "a b"); !strings.Contains("ab", got) {
						t.Errorf("got %s, want a or b", got)
					}
				}
			})
		}
		wg.Wait()
	}
}

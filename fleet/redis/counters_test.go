package redis

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// usedMemory returns the bytes that Redis uses.
func usedMemory(t *testing.T, r *testkit.Redis) int {
	t.Helper()
	for line := range strings.Lines(r.Command("info", "memory")) {
		if text, ok := strings.CutPrefix(line, "used_memory:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(text))
			testkit.Must(t, err)
			return n
		}
	}
	t.Fatal("Redis tells no used_memory")
	return 0
}

// TestMemory adds failed logins of many clients. There can be 131,072 counters.
func TestMemory(t *testing.T) {
	t.Parallel()
	const batch, limit = 2000, 20_000_000
	keys := 200_000
	if os.Getenv("E2E_SOAK") != "" {
		keys = 1_000_000
	}
	r := testkit.StartRedis(t)
	s := open(t, Engine{Addresses: []string{r.Address()}})
	defer s.Close()
	heavy := fleet.Counter{Set: someSet, Key: 1 << 40}
	ctx := t.Context()
	_, err := s.Add(ctx, []fleet.Addition{{Counter: heavy, N: 50}})
	testkit.Must(t, err)
	before := usedMemory(t, r)
	random := rand.New(rand.NewPCG(1, 2))
	set := fleet.Set{Name: someSet.Name, Window: time.Hour}
	heavy.Set = set
	_, err = s.Add(ctx, []fleet.Addition{{Counter: heavy, N: 50}})
	testkit.Must(t, err)
	additions := make([]fleet.Addition, batch)
	for range keys / batch {
		for i := range additions {
			additions[i] = fleet.Addition{Counter: fleet.Counter{Set: set, Key: max(random.Uint64(), 1)}, N: 1}
		}
		_, err := s.Add(ctx, additions)
		testkit.Must(t, err)
	}
	grown := usedMemory(t, r) - before
	t.Logf("%d counters of one set take %d bytes", keys, grown)
	if grown > limit {
		t.Errorf("used_memory has grown by %d, want at most %d", grown, limit)
	}
	counts, err := s.Add(ctx, []fleet.Addition{{Counter: heavy, N: 1}})
	testkit.Must(t, err)
	if counts[0].N != 51 {
		t.Errorf("the counter with the most failed logins has %d, want 51", counts[0].N)
	}
	begin := time.Now()
	testkit.Must(t, s.RemoveAll(ctx, []fleet.Set{set}))
	t.Logf("RemoveAll took %s", time.Since(begin))
	if n := r.Command("dbsize"); n != "1" {
		t.Errorf("after RemoveAll there are %s keys, want that of the other set", n)
	}
}

// model is what a hash of counters should be.
type model struct {
	counters map[uint64]modelCounter
}

type modelCounter struct{ start, n int64 }

const modelWindow = 1000 // milliseconds

// counts reports whether a counter has a window now.
func (c modelCounter) counts(now int64) bool { return c.start <= now && now < c.start+modelWindow }

// add does what the script should do, at a time in milliseconds.
func (m *model) add(now int64, key uint64, n, age int64) (count, left int64) {
	c, isThere := m.counters[key]
	counts := isThere && c.counts(now)
	if age >= modelWindow {
		if !counts {
			return 0, 0
		}
		return c.n, c.start + modelWindow - now
	}
	if !counts {
		c = modelCounter{start: now - age}
	}
	if !isThere && len(m.counters) >= 8 {
		m.evict(now)
	}
	c.n += n
	m.counters[key] = c
	return c.n, c.start + modelWindow - now
}

// evict removes the counters that have no window, and if there are still 8, the one with
// the fewest failed logins, and of these the oldest.
func (m *model) evict(now int64) {
	var least uint64
	for key, c := range m.counters {
		if !c.counts(now) {
			delete(m.counters, key)
			continue
		}
		l, ok := m.counters[least]
		if !ok || c.n < l.n || c.n == l.n && (c.start < l.start || c.start == l.start && key < least) {
			least = key
		}
	}
	if len(m.counters) >= 8 {
		delete(m.counters, least)
	}
}

// TestScriptAgainstModel runs the script with times of the test instead of Redis' time,
// which also goes back, and compares each answer with that of a model.
func TestScriptAgainstModel(t *testing.T) {
	t.Parallel()
	const time, expire = "redis.call('TIME')", "redis.call('PEXPIRE', KEYS[1], window)"
	if strings.Count(addText, time) != 1 || strings.Count(addText, expire) != 1 {
		t.Fatalf("the script has no %s and %s", time, expire)
	}
	timed := newScript(strings.NewReplacer(time, "{ARGV[5], ARGV[6]}", expire, "").Replace(addText))
	r := testkit.StartRedis(t)
	s := open(t, Engine{Addresses: []string{r.Address()}})
	defer s.Close()
	random := rand.New(rand.NewPCG(uint64(testSeed(t)), 7))
	const rounds, steps = 40, 250
	for round := range rounds {
		m := &model{make(map[uint64]modelCounter)}
		now := int64(1_700_000_000_000)
		var commands []*command
		var want [][2]int64
		var log []string
		keys := 1 + random.IntN(14)
		for range steps {
			switch random.IntN(20) {
			case 0:
				now += random.Int64N(2 * modelWindow)
			case 1: // the clock is set back
				now -= random.Int64N(modelWindow)
			default:
				now += random.Int64N(50)
			}
			key, n, age := 1+random.Uint64N(uint64(keys)), 1+random.Int64N(4), int64(0)
			if random.IntN(4) == 0 {
				age = random.Int64N(modelWindow + modelWindow/4)
			}
			count, left := m.add(now, key, n, age)
			want = append(want, [2]int64{count, left})
			log = append(log, fmt.Sprintf("at %d key %d: %d, %d ms old", now, key, n, age))
			commands = append(commands, &command{
				key: fmt.Sprintf("htpasswd:1:model:%d", round), script: timed,
				args: []any{string(binary.BigEndian.AppendUint64(nil, key)), modelWindow, n, age, now / 1000, now % 1000 * 1000},
			})
		}
		testkit.Must(t, s.run(t.Context(), commands))
		for i, c := range commands {
			got, err := c.reply.Int64Slice()
			testkit.Must(t, err)
			if len(got) != 2 || [2]int64(got) != want[i] {
				t.Fatalf("step %d is %v, want %v, after:\n%s", i, got, want[i], strings.Join(log[max(0, i-30):i+1], "\n"))
			}
		}
	}
}

// testSeed returns a new seed, and logs it.
func testSeed(t *testing.T) int64 {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	return seed
}

// TestForeignContent tests keys that hold something else: an error or a new count, but
// nothing worse.
func TestForeignContent(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	s := open(t, Engine{Addresses: []string{r.Address()}})
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	key := s.keyOf(someAddition.Counter)
	for _, value := range []string{"", "x", ":", "5", "-1:5", "1e300:1e300", "99999999999999999999:1", strings.Repeat("9", 400) + ":" + strings.Repeat("9", 400)} {
		r.Command("del", key)
		r.Command("eval", "return redis.call('HSET', KEYS[1], string.char(0,0,0,0,0,0,0,77), ARGV[1])", "1", key, value)
		counts, err := s.Add(ctx, []fleet.Addition{someAddition})
		testkit.Must(t, err)
		if counts[0] != (fleet.Count{N: 1, Left: someSet.Window}) {
			t.Errorf("after %.20q the count is %+v, want a new one", value, counts[0])
		}
	}
	// A count that nobody has counted: callers clamp it.
	now := strconv.FormatInt(time.Now().UnixMilli()-1000, 10)
	r.Command("eval", "return redis.call('HSET', KEYS[1], string.char(0,0,0,0,0,0,0,77), ARGV[1])", "1", key, now+":"+strings.Repeat("9", 300))
	counts, err := s.Add(ctx, []fleet.Addition{someAddition})
	testkit.Must(t, err)
	if counts[0].N != 1_000_000_000 {
		t.Errorf("the count is %d, want a billion at most", counts[0].N)
	}
	r.Command("del", key)
	r.Command("set", key, "a string")
	if _, err := s.Add(ctx, []fleet.Addition{someAddition}); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("the error is %v, want WRONGTYPE", err)
	}
	for i := range 100 { // more fields than there should be
		r.Command("del", key)
		r.Command("eval", "for i = 1, 100 do redis.call('HSET', KEYS[1], i, ARGV[1] .. ':' .. i) end", "1", key, now)
		_, err := s.Add(ctx, []fleet.Addition{someAddition})
		testkit.Must(t, err)
		if n := r.Command("hlen", key); n != "8" {
			t.Fatalf("after a failed login there are %s counters, want 8", n)
		}
		if i == 0 {
			break
		}
	}
}

// BenchmarkAdd measures a failed login: three counters in one round trip.
func BenchmarkAdd(b *testing.B) {
	r := testkit.StartRedis(b)
	e := Engine{Addresses: []string{r.Address()}}
	testkit.Must(b, e.Provision(caddy.Context{Context: b.Context()}))
	s, err := e.Open()
	testkit.Must(b, err)
	defer s.Close()
	var key uint64
	for b.Loop() {
		key += 7919
		_, err := s.Add(b.Context(), []fleet.Addition{
			{Counter: fleet.Counter{Set: fleet.Set{Name: "login", Window: time.Minute}, Key: key}, N: 1},
			{Counter: fleet.Counter{Set: fleet.Set{Name: "client", Window: time.Minute}, Key: key}, N: 1},
			{Counter: fleet.Counter{Set: fleet.Set{Name: "user", Window: time.Hour}, Key: key}, N: 1},
		})
		testkit.Must(b, err)
	}
}

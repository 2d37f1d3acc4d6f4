package devicecookie

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// TestCacheModel compares the cache with a list of the last valid tokens.
func TestCacheModel(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 18))
	type kept struct {
		keys *Keys
		text string
	}
	var all []string
	for i := range 20 {
		all = append(all, token(keysA, alice, byte(i)), token(keysB, alice, byte(100+i)))
	}
	all = append(all, token(keysA, bob, 1), strings.Repeat("A", textLen), strings.Repeat("A", MinTextLen))
	var cache Cache
	var model []kept
	for range 5000 {
		text, keys := all[random.IntN(len(all))], []*Keys{keysA, keysB, keysBA}[random.IntN(3)]
		now := start.Add(time.Duration(random.IntN(2)) * 2 * life)
		is := kept{keys, text}
		if got, want := cache.get(keys, text) != nil, slices.Contains(model, is); got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
		_, uncached := keys.Find(parsed(text), alice, nil, now, life)
		if _, found := keys.Find(parsed(text), alice, &cache, now, life); found != uncached {
			t.Fatalf("got %v with the cache, %v without", found, uncached)
		}
		if uncached && !slices.Contains(model, is) {
			model = append(model, is)
			model = model[max(0, len(model)-CacheLen):]
		}
	}
	if len(model) != CacheLen {
		t.Errorf("got %d tokens, want %d", len(model), CacheLen)
	}
}

// TestCacheFollowsKeysAndTime checks what needs no new cache.
func TestCacheFollowsKeysAndTime(t *testing.T) {
	t.Parallel()
	var cache Cache
	c := parsed(token(keysA, alice, 1))
	for _, row := range []struct {
		name   string
		keys   *Keys
		age    time.Duration
		maxAge time.Duration
		found  bool
		renew  bool
	}{
		{"valid", keysA, 0, life, true, false},
		{"other keys", keysB, 0, life, false, false},
		{"no keys", nil, 0, life, false, false},
		{"the secret is the old one", keysBA, 0, life, true, true},
		{"the first keys again", keysA, 0, life, true, false},
		{"half its time", keysA, life / 2, life, true, true},
		{"expired", keysA, life, life, false, false},
		{"another maximum age", keysA, day, day, false, false},
		{"another maximum age, half", keysA, day / 2, day, true, true},
		{"the clock set back", keysA, -day, life, false, false},
		{"the clock set back by a minute", keysA, -time.Minute, life, true, false},
	} {
		token, found := row.keys.Find(c, alice, &cache, start.Add(row.age), row.maxAge)
		if found != row.found || token.Renew != row.renew {
			t.Errorf("%s: got %v and renew %v, want %v and %v", row.name, found, token.Renew, row.found, row.renew)
		}
	}
}

// TestCacheHoldsNoInvalidToken checks that only valid tokens take a place, and decoys none.
func TestCacheHoldsNoInvalidToken(t *testing.T) {
	t.Parallel()
	var cache Cache
	good := token(keysA, alice, 1)
	decoy := *alice
	decoy.Decoy = true
	keysA.Find(parsed(good), bob, &cache, start, life)
	keysA.Find(parsed(good), alice, &cache, start.Add(life), life)
	keysA.Find(parsed(good), &decoy, &cache, start, life)
	keysA.Find(parsed(good[1:]+"A"), alice, &cache, start, life)
	if cache.slots[0].Load() != nil {
		t.Error("got a token in the cache, want none")
	}
	keysA.Find(parsed(good), alice, &cache, start, life)
	if cache.slots[0].Load() == nil {
		t.Error("got no token in the cache")
	}
	if _, found := keysA.Find(parsed(good), &decoy, &cache, start, life); found {
		t.Error("a decoy has found a cached token")
	}
}

// TestCacheSize checks the sizes in the comment.
func TestCacheSize(t *testing.T) {
	t.Parallel()
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("not a 64-bit system")
	}
	if cache, token := unsafe.Sizeof(Cache{}), unsafe.Sizeof(cached{}); cache > 144 || token > 96 {
		t.Errorf("got %d bytes and %d for a token", cache, token)
	}
}

// TestConcurrently is for the race detector.
func TestConcurrently(t *testing.T) {
	t.Parallel()
	var cache Cache
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for j := range 500 {
				nonce, keys := byte(1+(i+j)%12), []*Keys{keysA, keysBA}[j%2]
				got, found := keys.Find(parsed(token(keysA, alice, nonce)), alice, &cache, start, life)
				if !found || got.Nonce != nonceOf(nonce) || got.Renew != (keys == keysBA) {
					t.Errorf("got %v %+v", found, got)
				}
				if _, found := keys.Find(parsed(token(keysB, alice, nonce)), alice, &cache, start, life); found != (keys == keysBA) {
					t.Errorf("another secret: got %v", found)
				}
			}
		})
	}
	group.Wait()
}

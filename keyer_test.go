package caddyhtpasswd

import (
	"bytes"
	"fmt"
	"testing"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/devicecookie"
)

// keyerOf returns the shared keyer of a secret.
func keyerOf(secret byte) *keyer {
	return newSharedKeyer(bytes.Repeat([]byte{secret}, 32)[:16], bytes.Repeat([]byte{secret + 100}, 16))
}

// useKeyer changes the settings to those with a keyer, as a reload does; nil is the local
// one. It returns the marks that are sent to other servers from now on.
func useKeyer(g *guard, k *keyer) (sent *[]uint64) {
	next := *g.settings()
	sent = new([]uint64)
	next.keyer, next.recognized = k, func(mark uint64) { *sent = append(*sent, mark) }
	g.settings = func() *settings { return &next }
	return sent
}

// fleetMember is one server of a fleet in a test: its guard and its file.
type fleetMember struct {
	*guard
	store *userStore
}

func fleetMemberOf(t *testing.T, k *keyer, path, name, text string) *fleetMember {
	t.Helper()
	s := &fleetMember{newGuard(settingsOf(new(App)), clock), newUserStore(path)}
	useKeyer(s.guard, k)
	s.store.name.add(name)
	if err := s.store.load(text, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *fleetMember) keys(ip, user string) (k limitKeys) {
	l := userStores{s.store}.find([]byte(user))
	k.set(s.keyer(), s.keyer().client(ip), &l, []byte(user))
	return k
}

func (s *fleetMember) recognize(ip, user string) {
	l, keys := userStores{s.store}.find([]byte(user)), s.keys(ip, user)
	s.guard.recognize(s.keyer(), &l, &keys)
}

// TestKeyersOfFleet checks that servers with the same secret count under the same keys,
// though they have the file at different paths, and servers with other secrets do not.
func TestKeyersOfFleet(t *testing.T) {
	t.Parallel()
	const text = "alice:" + shaSecret1 + "\nlocked:!\n"
	one := fleetMemberOf(t, keyerOf(1), "/srv/a/users", "users", text)
	two := fleetMemberOf(t, keyerOf(1), "/srv/b/users", "users", "bob:!\n"+text)
	other := fleetMemberOf(t, keyerOf(2), "/srv/a/users", "users", text)
	local := fleetMemberOf(t, nil, "/srv/a/users", "users", text)
	renamed := fleetMemberOf(t, keyerOf(1), "/srv/a/users", "staff", text)
	two.recognize("192.0.2.1", "alice") // its kept key is the same
	nonce := &devicecookie.Nonce{1, 2, 3}
	if one.keyer().device(nonce) != two.keyer().device(nonce) || one.keyer().device(nonce) == other.keyer().device(nonce) || one.keyer().device(nonce) == one.keyer().device(new(devicecookie.Nonce)) {
		t.Error("device cookies: got other keys of one secret, or the same of two")
	}
	for _, ip := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", ""} {
		for _, user := range []string{"alice", "locked", "nobody", ""} {
			name, want := fmt.Sprintf("'%s' from '%s'", user, ip), one.keys(ip, user)
			if got := two.keys(ip, user); got != want {
				t.Errorf("%s: got keys %x and %x of one secret", name, want, got)
			}
			for i, s := range []*fleetMember{other, local} {
				for scope, key := range s.keys(ip, user) {
					if key == want[scope] && (ip != "" || scope != int(scopeClient)) {
						t.Errorf("%s: got the same key of %v with another secret (%d)", name, scopeNames[scope], i)
					}
				}
			}
			if got := renamed.keys(ip, user); got[scopeClient] != want[scopeClient] || got[scopeUser] == want[scopeUser] || got[scopeLogin] == want[scopeLogin] {
				t.Errorf("%s: got keys %x and %x of two files", name, want, got)
			}
		}
	}
	reloadStore(t, two.store, "alice:"+apr1Secret1)
	if one.keys("192.0.2.1", "alice")[scopeUser] == two.keys("192.0.2.1", "alice")[scopeUser] {
		t.Error("got the same key of two hashes")
	}
}

// TestKeyersArePinned pins keys: servers of a fleet can run different versions.
func TestKeyersArePinned(t *testing.T) {
	t.Parallel()
	s := fleetMemberOf(t, keyerOf(1), "/srv/users", "users", "alice:"+shaSecret1)
	keys := s.keys("192.0.2.1", "alice")
	got := fmt.Sprintf("%x %x %x %x", keys, s.keys("2001:db8::1", "nobody"), s.keyer().device(&devicecookie.Nonce{1}), s.keyer().mark(&keys))
	if want := "[32656e074702bd27 d96a3d25b89714c6 b62f3b44160cbed7] [5e051cbade6e475a fe5a72ff6486f0c3 3ad0fd1edc959434] 668e629ba46173ce 282a7f0f690d543f"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestKeyersOutliveReloads checks that equal keys have one keyer.
func TestKeyersOutliveReloads(t *testing.T) {
	t.Parallel()
	if again := keyerOf(3); again != keyerOf(3) || keyerOf(3) == keyerOf(4) {
		t.Error("got two keyers for equal keys, or one for others")
	}
	if a, b := make([]byte, 16), make([]byte, 16); newSharedKeyer(a, b) == newSharedKeyer(a, append(b[:15:15], 1)) {
		t.Error("got one keyer for other keys of marks")
	}
}

// TestKeyersOfTwoReloads turns a fleet on and off. The kept keys, and the recognized
// clients, are those of the keyer that is in use.
func TestKeyersOfTwoReloads(t *testing.T) {
	t.Parallel()
	const ip = "192.0.2.1"
	s := fleetMemberOf(t, nil, "/srv/users", "users", "alice:"+shaSecret1)
	fresh := func() limitKeys { // without what is kept
		other := &fleetMember{s.guard, newUserStore(s.store.path)}
		other.store.name.key.Store(s.store.name.key.Load())
		reloadStore(t, other.store, "alice:"+shaSecret1)
		return other.keys(ip, "alice")
	}
	isRecognized := func(ip string) bool {
		return s.store.current.Load().find([]byte("alice")).recognized().place(s.keyer(), s.keyer().client(ip)) >= 0
	}
	for round, k := range []*keyer{nil, keyerOf(1), keyerOf(2), nil, keyerOf(1)} {
		useKeyer(s.guard, k)
		if got := s.keys(ip, "alice"); got != fresh() {
			t.Errorf("round %d: got kept keys %x, want %x", round, got, fresh())
		}
		if isRecognized(ip) || isRecognized("") {
			t.Errorf("round %d: a client of another keyer is recognized", round)
		}
		s.recognize(ip, "alice")
		if !isRecognized(ip) || !isRecognized("") || isRecognized("192.0.2.2") {
			t.Errorf("round %d: the client is not recognized, or another one is", round)
		}
		if got := s.keys(ip, "alice"); got != fresh() {
			t.Errorf("round %d: got kept keys %x, want %x", round, got, fresh())
		}
	}
	// The configured name of the file, and the hash, can change while a client is recognized.
	s.store.name.add("another")
	if got := s.keys(ip, "alice"); got != fresh() || got != s.keys(ip, "alice") {
		t.Errorf("the file renamed: got %x, want %x", got, fresh())
	}
	if !isRecognized(ip) {
		t.Error("the file renamed: the client is not recognized any more")
	}
	before := s.keys(ip, "alice")
	strong := newUserStore(s.store.path)
	strong.name.key.Store(s.store.name.key.Load())
	reloadStore(t, strong, "alice:"+apr1Secret1)
	want := (&fleetMember{s.guard, strong}).keys(ip, "alice")
	s.store.current.Load().find([]byte("alice")).inherit(strong.current.Load().find([]byte("alice"))) // as rehash does
	if got := (&fleetMember{s.guard, strong}).keys(ip, "alice"); got != want || got == before {
		t.Errorf("a new hash: got %x, want those of a server that has not replaced it, %x", got, want)
	}
}

func BenchmarkKeys(b *testing.B) {
	for _, row := range []struct {
		name string
		k    *keyer
	}{{"local", newLocalKeyer()}, {"shared", keyerOf(1)}} {
		for _, user := range []string{"alice", "nobody"} {
			b.Run(row.name+"/"+user, func(b *testing.B) {
				store := storeOf(b, "alice:"+shaSecret1)
				l := userStores{store}.find([]byte(user))
				var keys limitKeys
				if user == "alice" {
					keys.set(row.k, 1, &l, []byte(user))
					l.entry.recognize(1, row.k, row.k.source(store), keys[scopeUser])
				}
				name := []byte(user)
				b.ReportAllocs()
				for b.Loop() {
					keys.set(row.k, row.k.client("192.0.2.123"), &l, name)
				}
			})
		}
	}
}

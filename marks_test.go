package caddyhtpasswd

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestMarksModel compares the table with one that remembers each place.
func TestMarksModel(t *testing.T) {
	t.Parallel()
	m, model := new(marks), make(map[uint64]uint64)
	random := rand.New(rand.NewPCG(1, 2))
	var added []uint64
	for range 300_000 {
		mark := random.Uint64()
		m.add(mark)
		model[mark%uint64(len(m))] = mark
		added = append(added, mark)
		asked := added[random.IntN(len(added))]
		if got, want := m.has(asked), model[asked%uint64(len(m))] == asked; got != want {
			t.Fatalf("mark %x: got %t, want %t", asked, got, want)
		}
		if m.has(random.Uint64()) {
			t.Fatal("has a mark that nobody has added")
		}
	}
	m.add(0)
	if m.has(0) || new(marks).has(0) {
		t.Error("has the mark 0")
	}
}

func TestMarksAtOnce(t *testing.T) {
	t.Parallel()
	m := new(marks)
	var group sync.WaitGroup
	for i := range uint64(8) {
		group.Go(func() {
			for n := range uint64(1000) {
				m.add(n<<3 | i | 1<<40)
				m.has(n<<3 | i | 1<<40)
			}
		})
	}
	group.Wait()
	for n := range uint64(8000) {
		if !m.has(n | 1<<40) {
			t.Fatalf("mark %x is lost", n)
		}
	}
}

// TestMarksAreBound checks that a mark is that of one client, user, hash, file and secret.
func TestMarksAreBound(t *testing.T) {
	t.Parallel()
	const text = "alice:" + shaSecret1 + "\nbob:" + shaSecret1 + "\n"
	seen := make(map[uint64]string)
	for secret := range byte(2) {
		for _, file := range []string{"users", "staff"} {
			for _, text := range []string{text, "alice:" + apr1Secret1 + "\nbob:" + apr1Secret1 + "\n"} {
				s := fleetMemberOf(t, keyerOf(secret+1), "/srv/users", file, text)
				for _, user := range []string{"alice", "bob"} {
					for _, ip := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"} {
						keys := s.keys(ip, user)
						mark, what := s.keyer().mark(&keys), fmt.Sprint(secret, file, text, user, ip)
						if mark == 0 || seen[mark] != "" {
							t.Errorf("got the mark %x for %s and %s", mark, what, seen[mark])
						}
						seen[mark] = what
					}
				}
			}
		}
	}
	s := fleetMemberOf(t, keyerOf(1), "/srv/users", "users", text)
	local := fleetMemberOf(t, nil, "/srv/users", "users", text)
	noAddress, localKeys := s.keys("", "alice"), local.keys("192.0.2.1", "alice")
	if s.keyer().mark(&noAddress) != 0 || local.keyer().mark(&localKeys) != 0 {
		t.Error("got a mark for a client without an address, or without a fleet")
	}
}

// marked is a server of a fleet, and the marks that it sends.
type marked struct {
	*flooded
	sent *[]uint64
}

// asMarked makes a server the part of a fleet.
func asMarked(h *flooded) marked { return marked{h, reloadWith(h, keyerOf(1))} }

// reloadWith is useKeyer, after the last worker of the queue has ended.
func reloadWith(h *flooded, k *keyer) (sent *[]uint64) {
	synctest.Wait()
	return useKeyer(h.guard, k)
}

// mark adds the mark of a client that another server has recognized.
func (m *marked) mark(ip, user string) {
	l := m.users.now().find([]byte(user))
	var keys limitKeys
	keys.set(m.guard.keyer(), m.guard.keyer().client(ip), &l, []byte(user))
	m.guard.marks.add(m.guard.keyer().mark(&keys))
}

const (
	home  = "198.51.100.1"
	other = "198.51.100.2"
)

// TestMarksSpareOtherLimits has a flood that exceeds the user's limit. The client that
// another server has recognized still logs in, only with the right password, and with a
// hash. Its own login limit applies.
func TestMarksSpareOtherLimits(t *testing.T) {
	underFlood(t, &App{Throttle: &Throttle{User: &Limit{Failures: 20}}}, "alice:"+shaSecret1+"\nbob:"+shaSecret1, func(t *testing.T, h *flooded) {
		m := asMarked(h)
		for i := range 25 {
			h.login(fmt.Sprint("192.0.2.", i), "alice", fmt.Sprint("guess", i))
		}
		h.expect(home, "alice", "secret1", loginThrottled)
		m.mark(home, "alice")
		h.expect(other, "alice", "secret1", loginThrottled)
		before := h.cost()
		h.expect(home, "alice", "wrong", loginWrong)
		h.expect(home, "alice", "secret1", loginPassed)
		if n := h.cost().hashes - before.hashes; n != 2 {
			t.Errorf("got %d hashes, want one for each password", n)
		}
		before = h.cost()
		h.expect(home, "alice", "secret1", loginPassed) // recognized here now
		if n := h.cost().hashes - before.hashes; n != 0 {
			t.Errorf("got %d hashes, want none", n)
		}
	})
}

// TestMarksAreNoPassword has a client with a mark send many passwords, one by one and at
// once. Exactly as many are hashed as the login limit allows, none passes, and none is
// compared with the cached password outside the worker slot.
func TestMarksAreNoPassword(t *testing.T) {
	for _, atOnce := range []bool{false, true} {
		t.Run(fmt.Sprint("at once ", atOnce), func(t *testing.T) {
			underFlood(t, new(App), "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
				m := asMarked(h)
				h.expect(other, "alice", "secret1", loginPassed) // so that a password is cached
				m.mark(home, "alice")
				before := h.cost()
				var group sync.WaitGroup
				for i := range 100 {
					guess := func() {
						if got := h.login(home, "alice", fmt.Sprint("guess", i)); got == loginPassed {
							t.Error("a wrong password passes")
						}
					}
					if atOnce {
						group.Go(guess)
					} else {
						guess()
					}
				}
				group.Wait()
				after := h.cost()
				if n := after.hashes - before.hashes; n != 10 {
					t.Errorf("got %d hashes, want 10", n)
				}
				if n := after.comparisons - before.comparisons; n != 10 {
					t.Errorf("got %d comparisons with the cached password, want one before each hash", n)
				}
				h.expect(home, "alice", "secret1", loginThrottled)
				time.Sleep(time.Minute)
				h.expect(home, "alice", "secret1", loginPassed)
			})
		})
	}
}

// TestMarksOfNobody has marks for users who cannot log in, for clients without an address,
// and on a server without a fleet. They change nothing.
func TestMarksOfNobody(t *testing.T) {
	underFlood(t, &App{Throttle: &Throttle{User: &Limit{Failures: 5}}}, "alice:"+shaSecret1+"\nlocked:!", func(t *testing.T, h *flooded) {
		m := asMarked(h)
		for i := range 6 {
			for _, user := range []string{"alice", "locked", "nobody"} {
				h.login(fmt.Sprint("192.0.2.", i), user, fmt.Sprint("guess", i))
			}
		}
		for _, user := range []string{"locked", "nobody"} {
			m.mark(home, user)
			h.expect(home, user, "secret1", loginThrottled)
		}
		m.mark("", "alice")
		h.expect("", "alice", "secret1", loginThrottled)
		m.mark(home, "alice")
		reloadWith(h, keyerOf(2)) // the mark is that of another secret
		for i := range 6 {
			h.login(fmt.Sprint("192.0.2.", i), "alice", fmt.Sprint("more", i))
		}
		h.expect(home, "alice", "secret1", loginThrottled)
	})
}

// TestMarksOfOldLine changes the user's line. Marks for the old one mean nothing.
func TestMarksOfOldLine(t *testing.T) {
	underFlood(t, &App{Throttle: &Throttle{User: &Limit{Failures: 5}}}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		m := asMarked(h)
		m.mark(home, "alice")
		reloadStore(t, h.store, "alice:"+apr1Secret1)
		for i := range 6 {
			h.login(fmt.Sprint("192.0.2.", i), "alice", fmt.Sprint("guess", i))
		}
		h.expect(home, "alice", "secret1", loginThrottled)
		m.mark(home, "alice")
		h.expect(home, "alice", "secret1", loginPassed)
	})
}

// TestMarksAreSent checks that a server sends one mark for each client that is new there,
// which another server accepts.
func TestMarksAreSent(t *testing.T) {
	underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		h.expect("192.0.2.9", "alice", "secret1", loginPassed) // without a fleet
		m := asMarked(h)
		h.expect(home, "alice", "wrong", loginWrong)
		h.expect(home, "nobody", "secret1", loginUnknown)
		h.expect("", "alice", "secret1", loginPassed)
		if len(*m.sent) != 0 {
			t.Errorf("got marks %x of failed logins and no address", *m.sent)
		}
		for range 2 {
			for _, ip := range []string{home, other} {
				h.expect(ip, "alice", "secret1", loginPassed)
			}
		}
		if len(*m.sent) != 2 {
			t.Fatalf("got marks %x, want two", *m.sent)
		}
		for i, ip := range []string{home, other} {
			l := h.users.now().find([]byte("alice"))
			var keys limitKeys
			keys.set(keyerOf(1), keyerOf(1).client(ip), &l, []byte("alice"))
			if want := keyerOf(1).mark(&keys); (*m.sent)[i] != want {
				t.Errorf("%s: got mark %x, want %x", ip, (*m.sent)[i], want)
			}
		}
	})
}

package hashqueue

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
)

// orderOf returns the order in which waiting tasks start, after a first one of which only
// the end counts. The name of a task is its client, a letter, and more. A capital letter
// makes it preferred. networkOf returns the network of a client.
func orderOf(t *testing.T, waiting string, networkOf func(client rune) uint64) string {
	var order []string
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(1)
		go q.Do(t.Context(), taskOf('z', "first", time.Second, new(int)))
		synctest.Wait()
		var group sync.WaitGroup
		for _, name := range strings.Fields(waiting) {
			client := rune(name[0])
			task := startingWith(func() { order = append(order, name) }, taskOf(uint64(unicode.ToLower(client)), name, time.Millisecond, new(int)))
			task.IsPreferred, task.Network = unicode.IsUpper(client), networkOf(client)
			group.Go(func() { q.Do(t.Context(), task) })
			synctest.Wait()
		}
		group.Wait()
		checkIdle(t, q)
	})
	return strings.Join(order, " ")
}

func TestPreferredTasksComeFirst(t *testing.T) {
	for _, test := range []struct{ name, waiting, want string }{
		{"one", "a1 b1 C1", "C1 a1 b1"},
		{"one turn in four goes to the others", "a1 b1 C1 C2 C3 C4 C5 C6 C7", "C1 C2 C3 a1 C4 C5 C6 b1 C7"},
		{"they take turns", "A1 A2 A3 B1 B2", "A1 B1 A2 B2 A3"},
		{"a client with both has two lines", "a1 A1 b1 B1 a2 A2", "A1 B1 A2 a1 b1 a2"},
		{"none of the others waits", "A1 A2 A3 A4 A5", "A1 A2 A3 A4 A5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := orderOf(t, test.waiting, func(rune) uint64 { return 0 }); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// TestRefusedTasksUseNoTurn refuses tasks when their turn comes. The next task of the same
// kind gets the turn.
func TestRefusedTasksUseNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(1)
		go q.Do(t.Context(), taskOf('z', "first", time.Second, new(int)))
		synctest.Wait()
		var order []string
		var group sync.WaitGroup
		for _, name := range strings.Fields("A- A1 A2 A3 A4 A5 A6 A7 b- c- d- e1 b2") {
			task := startingWith(func() { order = append(order, name) }, taskOf(uint64(name[0]), name, time.Millisecond, new(int)))
			task.IsPreferred = unicode.IsUpper(rune(name[0]))
			if name[1] == '-' {
				task.Start = func() (func() string, error) { return nil, errors.New("refused") }
			}
			group.Go(func() { q.Do(t.Context(), task) })
			synctest.Wait()
		}
		group.Wait()
		checkIdle(t, q)
		got := strings.Join(order, " ")
		if want := "A1 A2 A3 e1 A4 A5 A6 b2 A7"; got != want {
			t.Errorf("got the order %s, want %s", got, want)
		}
	})
}

// TestDemotedClientsComeAfterPreferredOnes checks that both ratios hold together: of the
// turns that preferred tasks leave to others, every eighth is a demoted client's.
func TestDemotedClientsComeAfterPreferredOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(1)
		q.turns.isDemoted = func(client uint64) bool { return client == 'x' }
		go q.Do(t.Context(), taskOf('z', "first", time.Second, new(int)))
		synctest.Wait()
		var order strings.Builder
		var group sync.WaitGroup
		ask := func(client rune, n int, isPreferred bool) {
			for i := range n {
				task := startingWith(func() { order.WriteRune(client) }, taskOf(uint64(client), fmt.Sprint(client, i), time.Millisecond, new(int)))
				task.IsPreferred = isPreferred
				group.Go(func() { q.Do(t.Context(), task) })
				synctest.Wait()
			}
		}
		ask('x', 2, false)
		ask('r', 14, false)
		ask('P', 60, true)
		group.Wait()
		got := order.String()
		if want := strings.Repeat("PPPr", 7) + "PPPx" + strings.Repeat("PPPr", 7) + "PPPx"; !strings.HasPrefix(got, want) {
			t.Errorf("got the order %s, want %s", got, want)
		}
		checkIdle(t, q)
	})
}

// TestNetworksTakeTurns checks that many clients of one network delay others little, and
// that many networks delay the clients of one network little.
func TestNetworksTakeTurns(t *testing.T) {
	const clients = "abcdefghijklmnopqrst"
	one := func(inOne string) func(rune) uint64 {
		return func(c rune) uint64 {
			if strings.ContainsRune(inOne, c) {
				return 1
			}
			return uint64(c)
		}
	}
	all := strings.Join(strings.Split(clients, ""), " ")
	t.Run("a newcomer passes the clients of one network", func(t *testing.T) {
		got := strings.Fields(orderOf(t, all+" u", one(clients)))
		if place := indexOf(got, "u"); place > 3 {
			t.Errorf("the newcomer is number %d, want at most 3", place)
		}
	})
	t.Run("the clients of one network are not held up by many networks", func(t *testing.T) {
		got := strings.Fields(orderOf(t, all+" u v w x", one("uvwx")))
		if place := indexOf(got, "x"); place > 24 {
			t.Errorf("the last client of the network is number %d of %d, want at most 24", place, len(got))
		}
	})
}

func indexOf(list []string, s string) int {
	for i := range list {
		if list[i] == s {
			return i + 1
		}
	}
	return len(list) + 1
}

// TestFirstLoginsDuringAFlood counts for how many tasks newcomers wait while 200
// connections of ever new clients keep a task each in the queue. The flood comes from one
// network or from as many networks as clients, and so do the newcomers.
func TestFirstLoginsDuringAFlood(t *testing.T) {
	const connections = 200
	for _, test := range []struct {
		name                string
		floodNetworks       int
		newcomers, networks int
		most                int // tasks until the last newcomer has had its turn
	}{
		{"a newcomer, and a flood from one network", 1, 1, 1, 4},
		{"a newcomer, and a flood from many networks", connections, 1, 1, connections + 4},
		{"an office of 50 in one network, and a flood from one network", 1, 50, 1, 2 * (50 + 2)},
		{"an office of 50 in one network, and a flood from many networks", connections, 50, 1, 2 * (connections + 50)},
		{"50 newcomers of 50 networks, and a flood from one network", 1, 50, 50, 2 * (50 + 2)},
		{"50 newcomers of 50 networks, and a flood from many networks: as if turns went round clients only", connections, 50, 50, connections + 50},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := queueOf(1)
				q.config.MaxWait = time.Hour
				stop := make(chan struct{})
				var group, office sync.WaitGroup
				var started, last int // changed with the queue locked
				client := uint64(1 << 20)
				var mu sync.Mutex
				for i := range connections {
					group.Go(func() {
						for {
							select {
							case <-stop:
								return
							default:
							}
							mu.Lock()
							client++
							c := client
							mu.Unlock()
							task := taskOf(c, fmt.Sprint(c), time.Millisecond, &started)
							task.Network = uint64(1000 + i%test.floodNetworks)
							_, _, _ = q.Do(t.Context(), task)
						}
					})
				}
				time.Sleep(time.Second)
				q.mu.Lock()
				begun := started
				q.mu.Unlock()
				for i := range test.newcomers {
					office.Go(func() {
						task := startingWith(func() { last = started + 1 }, taskOf(uint64(1+i), fmt.Sprint("n", i), time.Millisecond, &started))
						task.Network = uint64(1 + i%test.networks)
						_, _, _ = q.Do(t.Context(), task)
					})
				}
				office.Wait()
				close(stop)
				if got := last - begun; got > test.most {
					t.Errorf("the last newcomer is number %d, want at most %d", got, test.most)
				} else {
					t.Logf("the last newcomer is number %d", got)
				}
				group.Wait()
				checkIdle(t, q)
			})
		})
	}
}

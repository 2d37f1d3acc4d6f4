package caddyhtpasswd

import (
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// TestReplacements loads versions of a file while a new hash is expected.
func TestReplacements(t *testing.T) {
	t.Parallel()
	old, strong, other := makeOf(t, "sha1", 0, "secret"), makeOf(t, "bcrypt", 4, "secret"), makeOf(t, "sha1", 0, "other")
	alice := func(hash string) string { return "alice:" + hash + "\n" }
	for _, test := range []struct {
		name     string
		versions []string
		adopted  bool
		expected int // left
	}{
		{"the new hash", []string{alice(strong)}, true, 0},
		{"another edit, then the new hash", []string{alice(old) + "# x\n", "bob:" + old + "\n" + alice(old), alice(strong)}, true, 0},
		{"not yet", []string{alice(old) + "# x\n"}, false, 1},
		{"an administrator's hash", []string{alice(other)}, false, 0},
		{"an administrator's hash, and later the new one", []string{alice(other), alice(strong)}, false, 0},
		{"locked", []string{alice("!" + old)}, false, 0},
		{"removed", []string{"bob:" + old + "\n"}, false, 0},
		{"removed, and later the new one", []string{"bob:" + old + "\n", alice(strong)}, false, 0},
		{"the new hash for another user", []string{alice(old) + "bob:" + strong + "\n"}, false, 1},
		{"an invalid version, then the new one", []string{"rubbish\n", alice(strong)}, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := storeOf(t, alice(old))
			store.current.Load().find([]byte("alice")).recognize(1, unlimitedGuard.keyer(), 0, 2)
			change := htfile.Change{Name: "alice", Old: old, New: strong}
			calls := 0
			store.pending.expect(change, func(before, after entry) {
				calls++
				if before.Hash != old || after.Hash != strong || before.Name != "alice" || after.Name != "alice" {
					t.Errorf("got %s and %s", before.Name, after.Name)
				}
				before.inherit(after)
			})
			for _, text := range test.versions {
				_ = store.load(text, unlimitedGuard.settings().logger)
			}
			clients := store.current.Load().find([]byte("alice")).recognized()
			if isAdopted := clients != nil && clients.place(unlimitedGuard.keyer(), 1) >= 0; calls > 0 != test.adopted || test.adopted && !isAdopted || len(store.pending.byNew) != test.expected {
				t.Errorf("got %d calls, recognized %t, %d still expected, want adopted %t, %d", calls, isAdopted, len(store.pending.byNew), test.adopted, test.expected)
			}
			store.pending.forget(change)
			if len(store.pending.byNew) != 0 {
				t.Error("a change that was forgotten is expected")
			}
		})
	}
}

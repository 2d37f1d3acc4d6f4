package caddyhtpasswd

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestChangePasswordModel runs random changes by the user and by an administrator. After
// each step, the password of the model is the only one that can log in, and the file has
// the lines of the model.
func TestChangePasswordModel(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite(""))
	process.guard.makeHash = cheapHash
	path := filepath.Join(s.dir, "users")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // of a test
	current, isLocked, hasBob := "secret", false, false
	passwords := []string{"secret"}
	fresh := func() string {
		passwords = append(passwords, fmt.Sprintf("orbit-%d-walnut-kettle", random.Uint32()))
		return passwords[len(passwords)-1]
	}
	hash := func(password string) string {
		h, err := crypt.Make("bcrypt", 4, []byte(password))
		must(t, err)
		return h
	}
	edit := func(name, hash string) { // by the administrator
		text, _ := htfile.SetUser(readText(t, path), name, hash)
		replace(t, path, text)
		s.get("/", "alice", "not the password") // waits until the new version is loaded
	}
	for step := range 60 {
		what := ""
		switch random.IntN(8) {
		case 0, 1, 2:
			next := fresh()
			a := s.changePassword("alice", current, next)
			if what = "a change"; isLocked {
				if a.status != 401 {
					t.Errorf("step %d, a change of a locked user: got %d, want 401", step, a.status)
				}
				break
			}
			if checkPage(t, what, a, 200, "has been changed"); a.status == 200 {
				current = next
			}
		case 3:
			what = "a wrong old password"
			a := s.do(s.formRequest("/account/password", "alice", current, passwordForm(passwords[0]+"x", fresh())))
			if want := map[bool]int{false: 422, true: 401}[isLocked]; a.status != want {
				t.Errorf("step %d, %s: got %d, want %d", step, what, a.status, want)
			}
		case 4:
			what = "a weak new password"
			if a := s.changePassword("alice", current, "secret-"+fmt.Sprint(step)); a.status != map[bool]int{false: 422, true: 401}[isLocked] {
				t.Errorf("step %d, %s: got %d", step, what, a.status)
			}
		case 5:
			what = "a reset by the administrator"
			current, isLocked = fresh(), false
			edit("alice", hash(current))
		case 6:
			what, isLocked = "a lock by the administrator", true
			edit("alice", "!")
		case 7:
			what, hasBob = "another user", true
			edit("bob", hash("bob"))
		}
		for i, password := range passwords {
			if i < len(passwords)-6 && password != current {
				continue // the old ones were tried before
			}
			want := 401
			if password == current && !isLocked {
				want = 200
			}
			if a := s.get("/", "alice", password); a.status != want {
				t.Fatalf("step %d, after %s: got %d with password %d of %d, want %d", step, what, a.status, i, len(passwords), want)
			}
		}
		users, err := htfile.Parse(readText(t, path))
		must(t, err)
		want := 1
		if hasBob {
			want = 2
		}
		if len(users.All) != want || (users.Find("alice").State == htfile.StateLocked) != isLocked {
			t.Fatalf("step %d, after %s: the file has %d users", step, what, len(users.All))
		}
	}
}

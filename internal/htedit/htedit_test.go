//go:build unix

package htedit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

func hashOf(t testing.TB, password string) string {
	t.Helper()
	hash, err := crypt.Make("sha1", 0, []byte(password))
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReplace(t *testing.T) {
	old, other, changed := hashOf(t, "old"), hashOf(t, "other"), hashOf(t, "new")
	path := write(t, "# x\nann:"+old+"\nbob:"+other+":B\n")
	made, err := Replace(t.Context(), File(path), []htfile.Change{{Name: "ann", Old: old, New: changed}, {Name: "bob", Old: old, New: changed}})
	if err != nil || !made[0] || made[1] {
		t.Errorf("got made %t, error %v, want true, false", made, err)
	}
	if got, want := read(t, path), "# x\nann:"+changed+"\nbob:"+other+":B\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("got the mode %v, error %v, want 0640", info.Mode(), err)
	}
	before := info.Sys()
	if _, err := Replace(t.Context(), File(path), []htfile.Change{{Name: "ann", Old: old, New: other}}); err != nil {
		t.Error(err)
	}
	if info, err = os.Stat(path); err != nil || fmt.Sprint(info.Sys()) != fmt.Sprint(before) {
		t.Error("a file without a change was written")
	}
}

// TestNothingIsWritten has edits that must not change the file.
func TestNothingIsWritten(t *testing.T) {
	old := hashOf(t, "old")
	for _, test := range []struct{ name, text, hash string }{
		{"a hash that is none", "ann:" + old + "\n", "rubbish"},
		{"a hash with a line end", "ann:" + old + "\n", old + "\nroot:" + old},
		{"a hash with a colon", "ann:" + old + "\n", "x:" + old},
		{"a file without a valid line", "rubbish\n", old},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, test.text)
			change := htfile.Change{Name: "ann", Old: old, New: test.hash}
			if made, err := Replace(t.Context(), File(path), []htfile.Change{change}); err == nil || made[0] || strings.Contains(err.Error(), old) || strings.Contains(err.Error(), "ann") {
				t.Errorf("Replace: got made %t, error %v, want an error without name and hash", made, err)
			}
			if err := SetPassword(t.Context(), File(path), change); err == nil || strings.Contains(err.Error(), old) || strings.Contains(err.Error(), "ann") {
				t.Errorf("SetPassword: got error %v, want one without name and hash", err)
			}
			if got := read(t, path); got != test.text {
				t.Errorf("got the file %q, want it unchanged", got)
			}
		})
	}
}

func TestSetPassword(t *testing.T) {
	old, changed := hashOf(t, "old"), hashOf(t, "new")
	path := write(t, "ann:"+old+":A\nbob:"+old+"\nann:x\n")
	if err := SetPassword(t.Context(), File(path), htfile.Change{Name: "ann", Old: old, New: changed}); err != nil {
		t.Error(err)
	}
	want := "ann:" + changed + ":A\nbob:" + old + "\nann:" + changed + "\n"
	if got := read(t, path); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := SetPassword(t.Context(), File(path), htfile.Change{Name: "ann", Old: old, New: old}); !errors.Is(err, ErrChanged) {
		t.Errorf("got %v, want %v", err, ErrChanged)
	}
	for _, name := range []string{"carl", ""} {
		if err := SetPassword(t.Context(), File(path), htfile.Change{Name: name, Old: old, New: changed}); !errors.Is(err, ErrChanged) {
			t.Errorf("%q: got %v, want %v", name, err, ErrChanged)
		}
	}
	if got := read(t, path); got != want {
		t.Errorf("got %q, want it unchanged", got)
	}
}

func TestEdit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	same := func(text string) (string, error) { return text, nil }
	if _, err := Edit(t.Context(), path, Options{}, same); !errors.Is(err, ErrNoFile) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that does not exist: got %v, want %v", err, ErrNoFile)
	}
	isNew, err := Edit(t.Context(), path, Options{Create: true, Group: -1}, func(string) (string, error) { return "a:x\n", nil })
	if !isNew || err != nil || read(t, path) != "a:x\n" {
		t.Errorf("got new %t, error %v, want a new file", isNew, err)
	}
	errNo := errors.New("no")
	if isNew, err := Edit(t.Context(), path, Options{Create: true}, func(string) (string, error) { return "", errNo }); isNew || !errors.Is(err, errNo) {
		t.Errorf("got new %t, error %v, want %v", isNew, err, errNo)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Edit(ctx, path, Options{}, same); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// TestCheck finds files that cannot be replaced before anything is done.
func TestCheck(t *testing.T) {
	old, changed := hashOf(t, "old"), hashOf(t, "new")
	path := write(t, "ann:"+old+"\n")
	replace := func() error {
		_, err := Replace(t.Context(), File(path), []htfile.Change{{Name: "ann", Old: old, New: changed}})
		return err
	}
	if err := File(path).Check(); err != nil {
		t.Errorf("got %v for a file that can be replaced", err)
	}
	if err := os.Link(path, path+".link"); err != nil {
		t.Fatal(err)
	}
	if err, later := File(path).Check(), replace(); err == nil || later == nil || err.Error() != later.Error() || !strings.Contains(err.Error(), "hard links") {
		t.Errorf("hard links: got %v, and from Replace %v", err, later)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err, later := File(path).Check(), replace(); !errors.Is(err, ErrNoFile) || later == nil || err.Error() != later.Error() {
		t.Errorf("no file: got %v, and from Replace %v", err, later)
	}
}

// TestLocked has another process hold the lock.
func TestLocked(t *testing.T) {
	old := hashOf(t, "old")
	path := write(t, "ann:"+old+"\n")
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if made, err := Replace(ctx, File(path), []htfile.Change{{Name: "ann", Old: old, New: hashOf(t, "new")}}); err == nil || made[0] || !strings.Contains(err.Error(), "locked by another process") {
		t.Errorf("got made %t, error %v, want one that says who has the lock", made, err)
	}
}

// TestFullDisk fills a small file system. It needs the right to mount one.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := mountSmall(dir); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unmount(dir) })
	old := hashOf(t, "old")
	path, text := filepath.Join(dir, "users"), "ann:"+old+"\n"+strings.Repeat("# a long comment\n", 2000)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	made, err := Replace(t.Context(), File(path), []htfile.Change{{Name: "ann", Old: old, New: hashOf(t, "new")}})
	if !errors.Is(err, unix.ENOSPC) || !errors.Is(err, ErrReplace) || made[0] {
		t.Errorf("got made %t, error %v, want %v", made, err, unix.ENOSPC)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || read(t, path) != text {
		t.Errorf("got %v, error %v, want the old file alone", entries, err)
	}
}

// TestByModel edits a file in random order: administrators set and remove users and write
// comments, and servers replace hashes of users they have seen before. A model has the
// administrators' last words: those always stand, and all other bytes are unchanged.
func TestByModel(t *testing.T) {
	passwords := []string{"one", "two", "three"}
	var weak, strong [3]string // hashes, by the position of the password
	for i, password := range passwords {
		weak[i] = hashOf(t, password)
		hash, err := crypt.Make("apr1", 0, []byte(password))
		if err != nil {
			t.Fatal(err)
		}
		strong[i] = hash
	}
	for seed := range uint64(10) {
		random := rand.New(rand.NewPCG(seed, 0))
		path := write(t, "# of the administrator\n")
		type line struct{ name, hash, comment string } // a line of a user, or a comment alone
		model := []line{{comment: "# of the administrator"}}
		text := func() string {
			var b strings.Builder
			for _, l := range model {
				switch {
				case l.name == "":
					b.WriteString(l.comment + "\n")
				case l.comment == "":
					b.WriteString(l.name + ":" + l.hash + "\n")
				default:
					b.WriteString(l.name + ":" + l.hash + ":" + l.comment + "\n")
				}
			}
			return b.String()
		}
		seen := make(map[string]string) // the hashes that servers have seen, some of them long ago
		edit := func(f func(string) string) {
			if _, err := Edit(t.Context(), path, Options{}, func(text string) (string, error) { return f(text), nil }); err != nil {
				t.Fatal(err)
			}
		}
		for step := range 40 {
			name := fmt.Sprint("user", random.IntN(5))
			at := -1
			for i, l := range model {
				if l.name == name {
					at = i
				}
			}
			switch random.IntN(8) {
			case 0, 1: // an administrator sets a password
				hash := weak[random.IntN(3)]
				edit(func(text string) string { text, _ = htfile.SetUser(text, name, hash); return text })
				if at >= 0 {
					model[at].hash = hash
				} else {
					model = append(model, line{name: name, hash: hash})
				}
			case 2: // or removes a user
				edit(func(text string) string { text, _ = htfile.RemoveUser(text, name); return text })
				if at >= 0 {
					model = append(model[:at], model[at+1:]...)
				}
			case 3: // or writes by hand
				comment := fmt.Sprint("# note ", step)
				edit(func(text string) string { return text + comment + "\n" })
				model = append(model, line{comment: comment})
				if at >= 0 {
					note := fmt.Sprint("note ", step)
					model[at].comment = note
					edit(func(string) string { return text() })
				}
			case 4: // a server reads the file
				if at >= 0 {
					seen[name] = model[at].hash
				}
			default: // a server replaces what it has seen
				var changes []htfile.Change
				for user, old := range seen {
					for i := range weak {
						if old == weak[i] {
							changes = append(changes, htfile.Change{Name: user, Old: old, New: strong[i]})
						}
					}
				}
				made, err := Replace(t.Context(), File(path), changes)
				if err != nil && len(model) > 0 {
					users, parseErr := htfile.Parse(text())
					if parseErr == nil || len(users.All) > 0 {
						t.Fatal(err)
					}
				}
				for i, c := range changes {
					isSame := false
					for j := range model {
						if model[j].name == c.Name && model[j].hash == c.Old {
							isSame, model[j].hash = true, c.New
						}
					}
					if made[i] != isSame {
						t.Errorf("seed %d, step %d: %s: made %t, want %t", seed, step, c.Name, made[i], isSame)
					}
				}
			}
			if got, want := read(t, path), text(); got != want {
				t.Fatalf("seed %d, step %d: got\n%s\nwant\n%s", seed, step, got, want)
			}
		}
	}
}

// TestParallelEdits has administrators and servers edit one file at the same time: no
// change is lost, and an administrator's hash is never replaced by that of another
// password.
func TestParallelEdits(t *testing.T) {
	const users = 20
	old, strong, mine := hashOf(t, "old"), hashOf(t, "strong"), hashOf(t, "mine")
	var text strings.Builder
	for i := range users {
		fmt.Fprintf(&text, "user%d:%s\n", i, old)
	}
	path := write(t, text.String())
	var group sync.WaitGroup
	for i := range users {
		name := fmt.Sprint("user", i)
		group.Go(func() {
			if _, err := Replace(t.Context(), File(path), []htfile.Change{{Name: name, Old: old, New: strong}}); err != nil {
				t.Error(err)
			}
		})
		if i%2 == 0 {
			group.Go(func() {
				if _, err := Edit(t.Context(), path, Options{}, func(text string) (string, error) {
					text, _ = htfile.SetUser(text, name, mine)
					return text, nil
				}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
	var want strings.Builder
	for i := range users {
		fmt.Fprintf(&want, "user%d:%s\n", i, []string{mine, strong}[i%2])
	}
	if got := read(t, path); got != want.String() {
		t.Errorf("got\n%s, want\n%s", got, want.String())
	}
}

package atomicfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	mallory = 65534 // the attacker
	bob     = 65533 // another user

	exchangeVariable = "ATOMICFILE_TEST_EXCHANGE"
)

func TestMain(m *testing.M) {
	if os.Getenv(exchangeVariable) != "" {
		exchange(os.Args[1], os.Args[2])
	}
	os.Exit(m.Run())
}

// exchange swaps two names as mallory until the process is killed.
func exchange(a, b string) {
	err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(mallory), syscall.Setuid(mallory))
	for err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to act as other users")
	}
}

// ownedBy creates a directory of a user.
func ownedBy(t *testing.T, uid int, path string) string {
	t.Helper()
	must(t, os.MkdirAll(path, 0o755))
	must(t, os.Chown(path, uid, uid))
	return path
}

// writeAs writes a file of a user.
func writeAs(t *testing.T, uid int, path, text string, mode fs.FileMode) {
	t.Helper()
	write(t, path, text, 0o600)
	must(t, os.Chown(path, uid, uid))
	must(t, os.Chmod(path, mode))
}

// linkAs creates a symlink of a user.
func linkAs(t *testing.T, uid int, target, path string) {
	t.Helper()
	must(t, os.Symlink(target, path))
	must(t, os.Lchown(path, uid, uid))
}

// listing lists everything below a directory: names, types, owners, inodes, times
// and texts.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprint(&b, path, " ", info.Mode(), st.Uid, st.Gid, st.Ino, st.Nlink, st.Mtim, st.Ctim)
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			fmt.Fprintf(&b, " %q %v", text, err)
		}
		b.WriteString("\n")
		return nil
	}))
	return b.String()
}

// edit adds a line to a file, as the tool does.
func edit(t *testing.T, path string) (before string, err error) {
	t.Helper()
	f, err := Open(t.Context(), path, func() {})
	if err != nil {
		return "", err
	}
	defer f.Close()
	before, err = f.Text(1 << 20)
	if err != nil {
		return "", err
	}
	return before, f.Replace(before+"new line\n", KeepGroup)
}

// TestExchangedDirectory edits, as root, a file in a directory that its owner keeps
// swapping with a symlink. Root's directory, the target of the symlink, stays as it
// is: nothing in it is read, written, created or given away.
func TestExchangedDirectory(t *testing.T) {
	needRoot(t)
	base := reachable(t)
	must(t, os.Chmod(base, 0o755))
	outside, theirs := filepath.Join(base, "outside"), ownedBy(t, mallory, filepath.Join(base, "mallory"))
	must(t, os.Mkdir(outside, 0o755))
	write(t, filepath.Join(outside, "f"), "secret\n", 0o600)
	must(t, os.Chmod(filepath.Join(outside, "f"), 0o755|fs.ModeSetuid))
	writeAs(t, mallory, filepath.Join(outside, "of-mallory"), "secret of mallory\n", 0o644)
	web, link := ownedBy(t, mallory, filepath.Join(theirs, "web")), filepath.Join(theirs, "link")
	linkAs(t, mallory, outside, link)
	before := listing(t, outside)
	own, err := os.OpenRoot(web)
	must(t, err)
	defer own.Close()

	cmd := exec.Command(os.Args[0], web, link)
	cmd.Env = append(os.Environ(), exchangeVariable+"=1")
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	stop := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	defer stop()

	changed, refused := 0, 0
	end := time.Now().Add(5 * time.Second)
	for i := 0; time.Now().Before(end) && (changed < 100 || refused < 100); i++ {
		name := []string{"f", "of-mallory", "new"}[i%3]
		if i%3 < 2 { // mallory's own file, which should get the permissions of the other one
			must(t, own.RemoveAll(name))
			must(t, own.WriteFile(name, []byte("payload\n"), 0o600))
			must(t, own.Chown(name, mallory, mallory))
			must(t, own.Chmod(name, 0o755|fs.ModeSetuid))
		}
		text, err := edit(t, filepath.Join(web, name))
		if strings.Contains(text, "secret") {
			t.Fatalf("%s: read %q", name, text)
		}
		if err == nil {
			changed++
		} else {
			refused++
		}
	}
	stop()
	if now := listing(t, outside); now != before {
		t.Errorf("outside is now\n%sand was\n%s", now, before)
	}
	for line := range strings.Lines(listing(t, theirs)) {
		if strings.Contains(line, "secret") || strings.Contains(line, "new line") && strings.Contains(line, " urwx") {
			t.Errorf("given to mallory: %s", line)
		}
	}
	t.Logf("changed %d times, refused %d times", changed, refused)
}

// TestRootRefuses checks that root changes nothing by a path that other users could
// redirect, and that the error says what to do instead.
func TestRootRefuses(t *testing.T) {
	needRoot(t)
	for _, test := range []struct {
		name  string
		setUp func(t *testing.T, base string)
		path  string
		want  []string // parts of the message, with BASE for the directory; parts that begin with ! must be absent; none if root changes the file
	}{
		{"a directory symlink of another user", func(t *testing.T, base string) {
			linkAs(t, mallory, "root", base+"/link")
		}, "link/f", []string{"the symlink ", "/link belongs to nobody", "use a path without the symlink", "!runuser"}},
		{"a directory symlink of another user, new file", func(t *testing.T, base string) {
			linkAs(t, mallory, "root", base+"/link")
		}, "link/none", []string{"/link belongs to nobody"}},
		{"a symlink of another user in the place of the file", func(t *testing.T, base string) {
			linkAs(t, mallory, "root/f", base+"/f")
		}, "f", []string{"the symlink ", "/f belongs to nobody"}},
		{"a directory of another user", func(t *testing.T, base string) {
			write(t, ownedBy(t, mallory, base+"/dir")+"/f", "old\n", 0o600)
		}, "dir/f", []string{"the directory ", "/dir belongs to nobody", "cannot edit it, since it belongs to root", "create another file", "in a directory that belongs to root", "runuser -u nobody -- caddy htpasswd -c", "!chown", "!cp "}},
		{"a directory of another user, file of a third one", func(t *testing.T, base string) {
			writeAs(t, bob, ownedBy(t, mallory, base+"/dir")+"/f", "old\n", 0o600)
		}, "dir/f", []string{"/dir belongs to nobody", "since it belongs to user 65533", "create another file"}},
		{"root's directory in one of another user, new file", func(t *testing.T, base string) {
			ownedBy(t, 0, ownedBy(t, mallory, base+"/dir")+"/of-root")
		}, "dir/of-root/none", []string{"/dir belongs to nobody", "keep the file where every directory of its path belongs to root", "!runuser"}},
		{"a symlink of another user to a new file in their directory", func(t *testing.T, base string) {
			linkAs(t, mallory, ownedBy(t, mallory, base+"/dir"), base+"/link")
		}, "link/none", []string{"the symlink ", "runuser -u nobody -- caddy htpasswd ..."}},
		{"two hard links in the directory of another user", func(t *testing.T, base string) {
			writeAs(t, mallory, ownedBy(t, mallory, base+"/dir")+"/f", "old\n", 0o600)
			must(t, os.Link(base+"/dir/f", base+"/dir/g"))
			linkAs(t, mallory, base+"/root/f", base+"/dir/f.copy")
		}, "dir/f", []string{"has 2 hard links", "runuser -u nobody -- caddy htpasswd ...", "!cp -p"}},
		{"two hard links, root's file in the directory of another user", func(t *testing.T, base string) {
			must(t, os.Link(base+"/root/f", ownedBy(t, mallory, base+"/dir")+"/f"))
		}, "dir/f", []string{"/dir belongs to nobody", "!cp -p"}},
		{"two hard links, root's file in a sticky directory", func(t *testing.T, base string) {
			must(t, os.Chmod(ownedBy(t, 0, base+"/dir"), 0o777|fs.ModeSticky))
			must(t, os.Link(base+"/root/f", base+"/dir/f"))
			linkAs(t, mallory, base+"/root/f", base+"/dir/f.copy")
		}, "dir/f", []string{"has 2 hard links", "in a directory that nobody else can write", "!cp -p"}},
		{"two hard links in root's directory", func(t *testing.T, base string) {
			must(t, os.Link(base+"/root/f", base+"/root/x;'reboot"))
		}, "root/x;'reboot", []string{"has 2 hard links", `cp -p 'BASE/root/x;'\''reboot' 'BASE/root/x;'\''reboot.copy' && mv 'BASE/root/x;'\''reboot.copy' 'BASE/root/x;'\''reboot'`}},
		{"a directory of another user, new file", func(t *testing.T, base string) {
			ownedBy(t, mallory, base+"/dir")
		}, "dir/none", []string{"the directory ", "/dir belongs to nobody", "runuser -u nobody -- caddy htpasswd", "in a directory that belongs to root"}},
		{"a directory of a user without a name", func(t *testing.T, base string) {
			must(t, os.Chown(ownedBy(t, 4711, base+"/dir"), 4711, 4712))
		}, "dir/none", []string{"/dir belongs to user 4711", "setpriv --reuid=4711 --regid=4712 --clear-groups caddy htpasswd"}},
		{"a directory whose name is a command", func(t *testing.T, base string) {
			must(t, os.Chmod(ownedBy(t, 0, base+"/d;'reboot"), 0o775))
		}, "d;'reboot/none", []string{"chmod go-w '/", `/d;'\''reboot'`}},
		{"a directory above that belongs to another user", func(t *testing.T, base string) {
			ownedBy(t, 0, ownedBy(t, mallory, base+"/dir")+"/of-root")
		}, "dir/of-root/none", []string{"/dir belongs to nobody"}},
		{"a directory on the way to .. that belongs to another user", func(t *testing.T, base string) {
			ownedBy(t, mallory, base+"/dir")
		}, "dir/../root/f", []string{"/dir belongs to nobody"}},
		{"a directory of a third user with the file of one", func(t *testing.T, base string) {
			writeAs(t, bob, ownedBy(t, mallory, base+"/dir")+"/f", "old\n", 0o600)
		}, "dir/f", []string{"/dir belongs to nobody"}},
		{"a directory that its group can write", func(t *testing.T, base string) {
			must(t, os.Chmod(ownedBy(t, 0, base+"/dir"), 0o775))
		}, "dir/none", []string{"other users than the owner can write the directory ", "(mode 0775)", "chmod go-w "}},
		{"a directory above that everybody can write", func(t *testing.T, base string) {
			ownedBy(t, 0, base+"/dir/of-root")
			must(t, os.Chmod(base+"/dir", 0o777))
		}, "dir/of-root/none", []string{"/dir (mode 0777)"}},
		{"a directory of the file's owner that its group can write", func(t *testing.T, base string) {
			writeAs(t, mallory, ownedBy(t, mallory, base+"/dir")+"/f", "old\n", 0o600)
			must(t, os.Chmod(base+"/dir", 0o775))
		}, "dir/f", []string{"run: runuser -u nobody -- chmod go-w BASE/dir, or run: runuser -u nobody -- caddy htpasswd ..."}},
		{"root's directory in one of the file's owner that its group can write", func(t *testing.T, base string) {
			ownedBy(t, mallory, base+"/dir")
			writeAs(t, mallory, ownedBy(t, 0, base+"/dir/of-root")+"/f", "old\n", 0o600)
			must(t, os.Chmod(base+"/dir/of-root", 0o775))
		}, "dir/of-root/f", []string{"/dir/of-root (mode 0775)", "make it writable by its owner only", "!chmod"}},
		{"a directory by an access control list", func(t *testing.T, base string) {
			list := acl(mallory)
			list[4+8+2], list[4+3*8+2] = 7, 7 // the user and the mask
			if err := unix.Setxattr(ownedBy(t, 0, base+"/dir"), aclAttribute, list, 0); err != nil {
				t.Skipf("no access control lists: %v", err)
			}
		}, "dir/none", []string{"other users than the owner can write the directory "}},
		{"a sticky directory, what is in it belongs to another user", func(t *testing.T, base string) {
			must(t, os.Chmod(ownedBy(t, 0, base+"/dir"), 0o777|fs.ModeSticky))
			ownedBy(t, mallory, base+"/dir/theirs")
		}, "dir/theirs/none", []string{"/theirs belongs to nobody"}},
		{"a sticky directory, a symlink in it belongs to another user", func(t *testing.T, base string) {
			must(t, os.Chmod(ownedBy(t, 0, base+"/dir"), 0o777|fs.ModeSticky))
			linkAs(t, mallory, base+"/root/f", base+"/dir/f")
		}, "dir/f", []string{"the symlink ", "/dir/f belongs to nobody"}},
		{"a sticky directory that belongs to another user", func(t *testing.T, base string) {
			must(t, os.Chmod(ownedBy(t, mallory, base+"/dir"), 0o777|fs.ModeSticky))
		}, "dir/none", []string{"/dir belongs to nobody"}},
		{"a file of another user in a sticky directory", func(t *testing.T, base string) {
			must(t, os.Chmod(ownedBy(t, 0, base+"/dir"), 0o777|fs.ModeSticky))
			writeAs(t, mallory, base+"/dir/f", "old\n", 0o600)
		}, "dir/f", []string{"it belongs to nobody", "other users can create files in its directory", "runuser -u nobody -- caddy htpasswd ...", "in a directory that only root can write"}},
		{"the file's owner leads to root's directory", func(t *testing.T, base string) {
			writeAs(t, mallory, base+"/root/of-mallory", "old\n", 0o600)
			linkAs(t, mallory, "../root/of-mallory", ownedBy(t, mallory, base+"/dir")+"/f")
		}, "dir/f", []string{"who cannot write there", "use the path BASE/root/of-mallory", "!runuser"}},
		{"the file's owner leads through a directory that the owner cannot enter", func(t *testing.T, base string) {
			writeAs(t, mallory, ownedBy(t, mallory, base+"/root/d")+"/f", "old\n", 0o600)
			must(t, os.Chmod(base+"/root", 0o700))
			linkAs(t, mallory, "../root/d", ownedBy(t, mallory, base+"/dir")+"/web")
		}, "dir/web/f", []string{"BASE/root/d/f: refused as root", "/dir/web, which belongs to nobody, who cannot enter the directory BASE/root"}},
		{"the file's owner leads through a directory that the owner's group cannot enter", func(t *testing.T, base string) {
			writeAs(t, mallory, ownedBy(t, mallory, base+"/root/d")+"/f", "old\n", 0o600)
			must(t, os.Chown(base+"/root", 0, mallory))
			must(t, os.Chmod(base+"/root", 0o705))
			linkAs(t, mallory, base+"/root/d/f", ownedBy(t, mallory, base+"/dir")+"/f")
		}, "dir/f", []string{"cannot enter the directory BASE/root"}},
		{"a name with a line end", func(t *testing.T, base string) {
			ownedBy(t, mallory, base+"/dir\ncaddy htpasswd: done")
			linkAs(t, 0, "dir\ncaddy htpasswd: done", base+"/web")
		}, "web/none", []string{`/dir\ncaddy htpasswd: done" belongs to nobody`, "!\n"}},

		{"root's own file", func(*testing.T, string) {}, "root/f", nil},
		{"root's own symlink", func(t *testing.T, base string) { linkAs(t, 0, base+"/root/f", base+"/link") }, "link", nil},
		{"root's own symlink to a directory", func(t *testing.T, base string) { linkAs(t, 0, "root", base+"/link") }, "link/f", nil},
		{"a file of another user in their directory", func(t *testing.T, base string) {
			writeAs(t, mallory, ownedBy(t, mallory, base+"/dir")+"/f", "old\n", 0o600)
		}, "dir/f", nil},
		{"a file of another user by their symlink in their directory", func(t *testing.T, base string) {
			writeAs(t, mallory, ownedBy(t, mallory, base+"/dir")+"/real", "old\n", 0o600)
			linkAs(t, mallory, "real", base+"/dir/f")
		}, "dir/f", nil},
		{"a file of another user in root's directory", func(t *testing.T, base string) {
			writeAs(t, mallory, base+"/root/f2", "old\n", 0o600)
		}, "root/f2", nil},
		{"a path through directories that everybody can enter", func(t *testing.T, base string) {
			writeAs(t, mallory, ownedBy(t, mallory, base+"/root/d")+"/f", "old\n", 0o600)
			must(t, os.Chmod(base+"/root", 0o711))
			linkAs(t, mallory, "../root/d", ownedBy(t, mallory, base+"/dir")+"/web")
		}, "dir/web/f", nil},
		{"a file in a directory that only root can enter, by its own path", func(t *testing.T, base string) {
			writeAs(t, mallory, ownedBy(t, mallory, base+"/root/d")+"/f", "old\n", 0o600)
			must(t, os.Chmod(base+"/root", 0o700))
		}, "root/d/f", nil},
		{"a file of another user in their sticky directory", func(t *testing.T, base string) {
			must(t, os.Chmod(ownedBy(t, mallory, base+"/dir"), 0o777|fs.ModeSticky))
			writeAs(t, mallory, base+"/dir/f", "old\n", 0o600)
		}, "dir/f", nil},
		{"a new file in a sticky directory", func(t *testing.T, base string) {
			must(t, os.Chmod(ownedBy(t, 0, base+"/dir"), 0o777|fs.ModeSticky))
		}, "dir/f", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := reachable(t)
			must(t, os.Chmod(base, 0o755))
			must(t, os.Mkdir(filepath.Join(base, "root"), 0o755))
			write(t, filepath.Join(base, "root", "f"), "old\n", 0o600)
			test.setUp(t, base)
			before := listing(t, base)
			path := base + "/" + test.path // not cleaned
			var owner uint32
			if info, err := os.Stat(path); err == nil {
				owner = info.Sys().(*syscall.Stat_t).Uid
			}
			checked := check(path)
			_, err := edit(t, path)
			if test.want == nil {
				must(t, err)
				must(t, checked)
				info, err := os.Stat(path)
				must(t, err)
				if got := read(t, path); !strings.HasSuffix(got, "new line\n") || info.Sys().(*syscall.Stat_t).Uid != owner {
					t.Errorf("the file is now %q, of user %d", got, info.Sys().(*syscall.Stat_t).Uid)
				}
				return
			}
			for _, err := range []error{checked, err} {
				for _, want := range test.want {
					want, isAbsent := strings.CutPrefix(strings.ReplaceAll(want, "BASE", base), "!")
					if err == nil || strings.Contains(err.Error(), want) == isAbsent {
						t.Errorf("got error %v, want %q in it: %t", err, want, !isAbsent)
					}
				}
			}
			if now := listing(t, base); now != before {
				t.Errorf("now there is\n%sand before\n%s", now, before)
			}
		})
	}
}

// TestRelativeRefused checks the working directory of root, too.
func TestRelativeRefused(t *testing.T) {
	needRoot(t)
	t.Chdir(ownedBy(t, mallory, filepath.Join(reachable(t), "dir")))
	if _, err := edit(t, "f"); err == nil || !strings.Contains(err.Error(), "the directory . belongs to nobody") {
		t.Errorf("got error %v", err)
	}
}

// TestModeMasked checks that setuid, setgid and sticky bits are not copied.
func TestModeMasked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, mode := range []fs.FileMode{fs.ModeSetuid, fs.ModeSetgid, fs.ModeSticky, fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky} {
		write(t, path, "old", 0o755)
		must(t, os.Chmod(path, 0o755|mode))
		must(t, replace(t, path, "new"))
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o755 {
			t.Errorf("mode %s, before %s, %v", info.Mode(), 0o755|mode, err)
		}
	}
}

// TestCapabilities checks that capabilities are not copied.
func TestCapabilities(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "old", 0o755)
	const name = "security.capability"
	netBind := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Setxattr(path, name, netBind, 0); err != nil {
		t.Skipf("no file capabilities: %v", err)
	}
	must(t, replace(t, path, "new"))
	if _, err := unix.Getxattr(path, name, make([]byte, 100)); !errors.Is(err, unix.ENODATA) {
		t.Errorf("got error %v, want no such attribute", err)
	}
}

// TestStickyDirectory checks that in a directory where everybody can create files,
// no user can block changes of other users' files, by names or locks.
func TestStickyDirectory(t *testing.T) {
	needRoot(t)
	dir := reachable(t)
	must(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	writeAs(t, bob, filepath.Join(dir, "of-bob"), "old\n", 0o600)
	must(t, os.Chown(filepath.Join(dir, "of-bob"), bob, os.Getegid())) // the group of this process
	writeAs(t, 0, filepath.Join(dir, "of-root"), "old\n", 0o600)
	for _, name := range []string{"of-bob", "of-root", "new-of-bob", "new-of-root"} {
		writeAs(t, mallory, filepath.Join(dir, "."+name+".caddy-htpasswd-new"), "in the way", 0o600)
		writeAs(t, mallory, filepath.Join(dir, "."+name+".caddy-htpasswd-new-ABCDEFGHIJKLM"), "in the way", 0o600)
	}
	lock, err := os.Open(dir)
	must(t, err)
	defer lock.Close()
	must(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	change := func(name string) {
		t.Helper()
		f, err := Open(ctx, filepath.Join(dir, name), func() {})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		defer f.Close()
		if err := f.Replace("new\n", KeepGroup); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	change("of-root")
	change("new-of-root")
	must(t, syscall.Seteuid(bob))
	change("of-bob")
	change("new-of-bob")
	must(t, syscall.Seteuid(0))
	for name, owner := range map[string]uint32{"of-bob": bob, "new-of-bob": bob, "of-root": 0, "new-of-root": 0} {
		info, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if got := info.Sys().(*syscall.Stat_t).Uid; got != owner || read(t, filepath.Join(dir, name)) != "new\n" {
			t.Errorf("%s: of user %d, %q", name, got, read(t, filepath.Join(dir, name)))
		}
	}
	names, err := filepath.Glob(filepath.Join(dir, ".*"))
	must(t, err)
	if len(names) != 8 {
		t.Errorf("files of mallory: got %q, want the 8 from before", names)
	}
}

// TestStickyDirectoryTurns checks that writers of a file in a sticky directory wait
// for each other.
func TestStickyDirectoryTurns(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	path := filepath.Join(dir, "f")
	write(t, path, "", 0o600)
	const writers, edits = 8, 25
	done := make(chan error)
	for range writers {
		go func() {
			var err error
			for range edits {
				_, e := edit(t, path)
				err = errors.Join(err, e)
			}
			done <- err
		}()
	}
	for range writers {
		must(t, <-done)
	}
	if got := strings.Count(read(t, path), "new line\n"); got != writers*edits {
		t.Errorf("got %d lines, want %d", got, writers*edits)
	}
}

// TestNewFileOverwritesNone checks that a file that appears while a new one is
// written is not overwritten.
func TestNewFileOverwritesNone(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "from"), "new", 0o600)
	write(t, filepath.Join(dir, "to"), "of another user", 0o600)
	fd, err := unix.Open(dir, unix.O_PATH, 0)
	must(t, err)
	defer unix.Close(fd)
	if err := renameNew(fd, "from", "to"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got error %v, want fs.ErrExist", err)
	}
	if got := read(t, filepath.Join(dir, "to")); got != "of another user" {
		t.Errorf("%q", got)
	}
}

// TestSpecialFiles checks that special files are not opened, and do not block.
func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	for path, want := range map[string]string{"pipe": "is not a regular file", ".": "is a directory", "pipe/f": "not a directory", "pipe/": "not a directory", "./": "is a directory", "..": "is a directory"} {
		if err := check(dir + "/" + path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q in it", path, err, want)
		}
	}
}

// TestLinksOfProc checks that magic links in /proc are not followed by their text,
// which is a path as another process sees it.
func TestLinksOfProc(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	write(t, path, "old", 0o600)
	file, err := os.Open(path)
	must(t, err)
	defer file.Close()
	t.Chdir(dir)
	for _, other := range []string{
		"/proc/self/root" + path,
		fmt.Sprintf("/proc/%d/root", os.Getpid()) + path,
		"/proc/thread-self/root" + path,
		"/proc/self/cwd/f",
		fmt.Sprintf("/proc/self/fd/%d", file.Fd()),
		"/proc/self/root/" + dir + "/none",
	} {
		for _, err := range []error{check(other), replace(t, other, "new")} {
			if err == nil || !strings.Contains(err.Error(), "leads through a link in /proc") || !strings.Contains(err.Error(), "run the tool there") {
				t.Errorf("%s: got error %v", other, err)
			}
		}
	}
	unchanged(t, path, "old")
	must(t, replace(t, "/proc/self/../.."+path, "new")) // self is a normal symlink
	unchanged(t, path, "new")
}

// TestNoUselessSudo checks that an error advises sudo only where root would change
// the file.
func TestNoUselessSudo(t *testing.T) {
	needRoot(t)
	for _, test := range []struct {
		name            string
		dir, file       int // owners
		mode            fs.FileMode
		want, wantOther string
	}{
		{"root's file in root's directory", 0, 0, 0o755, "run this with sudo", "sudo does not help"},
		{"another user's file in their directory", bob, bob, 0o755, "run this with sudo", "sudo does not help"},
		{"root's file in the user's directory", mallory, 0, 0o755, "create another file and name it in the configuration", "run this with sudo"},
		{"root's file in another user's directory", bob, 0, 0o755, "create another file and name it in the configuration", "run this with sudo"},
		{"another user's file in a sticky directory", 0, bob, 0o777 | fs.ModeSticky, "run this as its owner, not with sudo", "run this with sudo"},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := reachable(t)
			must(t, os.Chmod(base, 0o755))
			path := filepath.Join(ownedBy(t, test.dir, filepath.Join(base, "dir")), "f")
			must(t, os.Chmod(filepath.Dir(path), test.mode))
			writeAs(t, test.file, path, "old\n", 0o644)
			must(t, syscall.Seteuid(mallory))
			defer func() { must(t, syscall.Seteuid(0)) }()
			own, err := Look(path)
			must(t, err)
			defer own.Close()
			got := own.ownerError(fs.ErrPermission).Error()
			if !strings.Contains(got, test.want) || strings.Contains(got, test.wantOther) {
				t.Errorf("got %q, want %q and not %q in it", got, test.want, test.wantOther)
			}
			must(t, syscall.Seteuid(0))
			must(t, os.Chmod(path, 0o600))
			must(t, syscall.Seteuid(mallory))
			sudo := strings.HasPrefix(test.want, "run this with sudo")
			if _, err := Look(path); errors.Is(err, fs.ErrPermission) != sudo || !sudo && !strings.Contains(err.Error(), test.want) {
				t.Errorf("unreadable: got error %v, want a permission error: %t, or %q in it", err, sudo, test.want)
			}
		})
	}
}

// TestIsTamperProof checks that a file that another user could replace is recognized:
// no command that names it is safe for root.
func TestIsTamperProof(t *testing.T) {
	needRoot(t)
	base := reachable(t)
	must(t, os.Chmod(base, 0o755))
	sticky := ownedBy(t, 0, base+"/sticky")
	must(t, os.Chmod(sticky, 0o777|fs.ModeSticky))
	shared := ownedBy(t, 0, base+"/shared")
	must(t, os.Chmod(shared, 0o775))
	theirs := ownedBy(t, mallory, base+"/theirs")
	of := map[string]int{"root": 0, "mallory": mallory}
	for name, uid := range of {
		for _, dir := range []string{base, sticky, shared, theirs, ownedBy(t, 0, shared+"/dir"), ownedBy(t, 0, theirs+"/dir"), ownedBy(t, 0, sticky+"/dir")} {
			writeAs(t, uid, dir+"/of-"+name, "old\n", 0o600)
		}
		linkAs(t, uid, base+"/of-root", base+"/link-of-"+name)
	}
	for path, want := range map[string]bool{
		"of-root":            true,
		"of-mallory":         true, // mallory cannot rename it
		"none":               false,
		"link-of-root":       true,
		"link-of-mallory":    false,
		"sticky/of-root":     true,
		"sticky/of-mallory":  false,
		"sticky/../of-root":  true,
		"sticky/dir/of-root": true,
		"shared/of-root":     false,
		"shared/dir/of-root": false,
		"theirs/of-root":     false,
		"theirs/of-mallory":  false,
		"theirs/dir/of-root": false,
	} {
		if got := IsTamperProof(base + "/" + path); got != want {
			t.Errorf("%s: got %t, want %t", path, got, want)
		}
	}
	if IsTamperProof("/proc/self/root" + base + "/of-root") {
		t.Error("by a link in /proc: got true, want false")
	}
}

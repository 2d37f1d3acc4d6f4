//go:build unix && !aix && !dragonfly && !solaris

// Package atomicfile replaces files that others read at any moment: a reader
// sees the whole old version or the whole new one, also if the writer is
// killed or the disk is full, and no writer undoes the change of another one.
//
// Root uses it in directories of other users, who may exchange directories,
// symlinks and files for others while it works. So these invariants hold:
//
//  1. A path is resolved component by component, each relative to the open
//     descriptor of the directory before it, and no system call follows a
//     symlink. From then on the path is only text for messages: the directory
//     is its descriptor, and entries of it are named by their last component.
//  2. Text, owner, mode, access control list and other attributes of the old
//     version come from one open descriptor. It is a regular file with one
//     name (hard link).
//  3. The new version is a file that this process has created with a random
//     name, O_EXCL and O_NOFOLLOW. It is written, given away and made readable
//     by its descriptor only.
//  4. Its mode is one of 0777: setuid, setgid and sticky bits are never
//     carried over, nor are capabilities.
//  5. Entries are only renamed and removed inside the directory of 1. What is
//     removed has a name of the pattern of 3 and belongs to this user or to
//     the owner of the file.
//  6. As root, every directory and symlink on the path belongs to root or to
//     the owner of the file, and nobody else can exchange what is in the
//     directories: they are not writable for group and others, or they are
//     sticky. (The group's bits are the mask of an access control list, too.)
//     A new file belongs to root. In a sticky directory of root's so does one
//     that is there: anybody may have put it there.
//  7. As root, in a directory that the owner of the file can't change, the
//     path has not passed anything of that owner, and behind something of that
//     owner it has not passed a directory that not everybody can enter: nobody
//     leads root to where they could not write themselves.
//  8. No symbolic link of /proc is followed by its text: that would be the text
//     of a path in another container.
//
// Names and paths in messages are those that others have chosen: each is
// written by shown.Text, and in commands by shown.Argument. A command is only
// given where nobody can exchange what it names.
//
// File systems are trusted to tell the truth about owners: a medium or a
// server in the hands of somebody else is that person's.
package atomicfile

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

const (
	// lockTime is how long to wait for others that write in the same
	// directory. Each takes milliseconds.
	lockTime = time.Minute

	lockRetry = 5 * time.Millisecond

	// sayAfter is how long a caller waits without a word about that.
	sayAfter = time.Second

	// maxMoves is how often a path may lead elsewhere than a moment before.
	maxMoves = 20

	// newMode is what a new file gets, whatever the umask: its group may read.
	newMode = 0o640
)

// KeepGroup stands for the usual group of a new file.
const KeepGroup = -1

// File is a file, or a place for one, in an open directory.
type File struct {
	path   string      // with symlinks followed, for commands in messages
	shown  string      // the same, for messages
	dir    *os.File    // the directory
	inode  unix.Stat_t // of dir
	name   string      // in dir
	old    *os.File    // the file; nil if there is none
	seen   unix.Stat_t // of old
	passed []component // on the way to the file
	lock   *os.File    // what is locked; nil for nothing
}

// errMoved is for a path that leads elsewhere than a moment before.
var errMoved = errors.New("its directories or symlinks are being exchanged; try again when nobody does that")

// Open follows symlinks, and waits for its turn to change the file, which
// need not be there. If that takes long, it calls waiting. Errors name the
// path.
func Open(ctx context.Context, path string, waiting func()) (*File, error) {
	timer := time.AfterFunc(sayAfter, waiting)
	defer timer.Stop()
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	for moves := 0; moves < maxMoves; {
		before, err := Look(path)
		if err != nil {
			return nil, err
		}
		if err := before.acquire(ctx); err != nil {
			_ = before.Close()
			return nil, err
		}
		f, err := Look(path) // what is there now that nobody else changes it
		switch {
		case err != nil:
			_ = before.Close()
			return nil, err
		case !f.isPlaceOf(before):
			moves++
		case f.isLockOf(before):
			f.takeLock(before)
			_ = before.Close()
			return f, nil
		}
		_ = f.Close()
		_ = before.Close()
	}
	return nil, fmt.Errorf("%s: %w", shown.Text(path), errMoved)
}

// Look is Open without the lock, for whoever wants to read or to check. Do
// not Replace what it returns.
func Look(path string) (*File, error) {
	for range maxMoves {
		f, err := look(path)
		if !errors.Is(err, errMoved) {
			return f, err
		}
	}
	return nil, fmt.Errorf("%s: %w", shown.Text(path), errMoved)
}

func look(path string) (*File, error) {
	p, err := resolve(path)
	if err != nil {
		return nil, err
	}
	defer p.close()
	f := &File{path: p.path(), shown: shown.Text(p.path()), name: p.name, passed: p.passed}
	fd, err := openAt(p.dir, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("%s: its directory can't be locked: %w", shown.Text(path), err)
	}
	f.dir = os.NewFile(uintptr(fd), f.path)
	err = unix.Fstat(fd, &f.inode)
	if err == nil {
		err = f.openOld()
	}
	if err == nil {
		err = f.checkTrust()
	}
	if err == nil { // root's advice depends on the trust
		err = f.checkNames()
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// openOld opens what is there, and returns an error if it can't be replaced.
func (f *File) openOld() error {
	st, there, err := f.entry()
	if err != nil || !there {
		return err
	}
	switch st.Mode & unix.S_IFMT { // before opening it does something
	case unix.S_IFREG:
	case unix.S_IFLNK:
		return errMoved
	case unix.S_IFDIR:
		return fmt.Errorf("%s: is a directory, not a file", f.shown)
	default:
		return fmt.Errorf("%s: is not a regular file", f.shown)
	}
	fd, err := openAt(int(f.dir.Fd()), f.name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, errSymlink) {
		return errMoved
	}
	if errors.Is(err, unix.EACCES) {
		if advice := f.insteadOfSudo(st.Uid); advice != "" { // else callers advise sudo
			return fmt.Errorf("%s belongs to user %d and can't be read; %s", f.shown, st.Uid, advice)
		}
	}
	if err != nil {
		return f.failed("opening it", err)
	}
	f.old = os.NewFile(uintptr(fd), f.path)
	if err := unix.Fstat(fd, &f.seen); err != nil {
		return f.failed("looking at it", err)
	}
	if !sameInode(&f.seen, &st) {
		return errMoved
	}
	return nil
}

// checkNames refuses a file that has more than one name.
func (f *File) checkNames() error {
	if f.old == nil || f.seen.Nlink <= 1 { // none is left if it has just been replaced
		return nil
	}
	advice := "remove the other names, or keep it in a directory that nobody else can write"
	file, temporary := shown.Argument(f.path), shown.Argument(f.path+".copy")
	switch user := os.Geteuid(); {
	case int(f.inode.Uid) == user && !isShared(&f.inode): // nobody else can have made the copy's name a symlink
		advice = fmt.Sprintf("make it one with: cp -p %s %s && mv %[2]s %[1]s", file, temporary)
	case user == root && f.seen.Uid != root:
		advice = "run: " + runAs(f.seen.Uid, f.seen.Gid)
	}
	return fmt.Errorf("%s has %d names (hard links), which would become different files; %s", f.shown, f.seen.Nlink, advice)
}

// entry returns what the directory has under the name now.
func (f *File) entry() (st unix.Stat_t, there bool, err error) {
	err = unix.Fstatat(int(f.dir.Fd()), f.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return st, false, nil
	}
	if err != nil {
		return st, false, f.failed("looking at it", err)
	}
	return st, true, nil
}

// Path returns the path of the file itself, behind symlinks.
func (f *File) Path() string { return f.path }

// Exists reports whether the file was there when it was opened.
func (f *File) Exists() bool { return f.old != nil }

// Text returns what is in the file, "" if there is none. Above limit bytes
// it is an error.
func (f *File) Text(limit int64) (string, error) {
	if f.old == nil {
		return "", nil
	}
	if f.seen.Size > limit {
		return "", fmt.Errorf("%s: larger than %d MiB", f.shown, limit>>20)
	}
	var text strings.Builder
	text.Grow(int(f.seen.Size) + 1)
	n, err := io.Copy(&text, io.NewSectionReader(f.old, 0, f.seen.Size+1))
	if err != nil {
		return "", f.failed("reading", err)
	}
	var now unix.Stat_t
	if err := unix.Fstat(int(f.old.Fd()), &now); err != nil {
		return "", f.failed("looking at it", err)
	}
	if n != f.seen.Size || !sameContent(&now, &f.seen) {
		return "", f.changed()
	}
	return text.String(), nil
}

// Check returns the error that Replace would, as far as that can be told
// without doing it.
func (f *File) Check() error {
	if f.old != nil && isMount(f.old) {
		return f.mounted()
	}
	if err := unix.Faccessat(int(f.dir.Fd()), ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return f.failed("making a file beside it", err)
	}
	if uid := os.Geteuid(); f.old != nil && uid != 0 && int(f.seen.Uid) != uid {
		return f.notOurs(fs.ErrPermission)
	}
	return nil
}

// Close lets others change the file.
func (f *File) Close() error {
	var errs []error
	for _, file := range []*os.File{f.old, f.dir, f.lock} {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}

// Replace puts text in the place of what was there. Owner, group, access
// control list and the permissions of the mode stay as they are; where they
// can't, nothing is changed, and the error says so. Other attributes stay where
// the system allows it. A new file can be read by its group, which is the one
// given or, with KeepGroup, the usual one.
//
// A writer that is killed can leave its file behind, see temporaryName; the
// next writer removes it.
func (f *File) Replace(text string, group int) error {
	if f.lock != nil { // else somebody may be about to put one in its place
		f.removeLeftovers()
	}
	file, temporary, err := f.create()
	if err != nil {
		return err
	}
	if err := f.fill(file, text, group); err != nil {
		_ = file.Close()
		f.remove(temporary)
		return err
	}
	if err := f.putInPlace(temporary); err != nil {
		f.remove(temporary)
		return err
	}
	if err := f.dir.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // file systems that can't
		return f.failed("changed, but not known to be on disk", err)
	}
	return nil
}

// create makes the file of the new version. Its name is random: in a directory
// that others can write, nobody can be there first.
func (f *File) create() (file *os.File, name string, err error) {
	name = f.temporaryPrefix() + "-" + rand.Text()[:randomLen]
	fd, err := openAt(int(f.dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return nil, "", f.failed("making a file beside it", err)
	}
	return os.NewFile(uintptr(fd), f.path), name, nil
}

// randomLen is how many characters the random part of a name has, 5 bits each.
const randomLen = 13

// temporaryPrefix is how the name of the new version begins until it is in its
// place. Neither servers nor people take that for a password file: it has a dot
// in front and another end.
func (f *File) temporaryPrefix() string {
	return "." + f.name[:min(len(f.name), 200)] + ".caddy-htpasswd-new" // names have 255 bytes at most
}

// isTemporary reports whether name is one that create makes, or that it made
// when it had no random part.
func (f *File) isTemporary(name string) bool {
	rest, ok := strings.CutPrefix(name, f.temporaryPrefix())
	return ok && (rest == "" || rest[0] == '-' && len(rest) == 1+randomLen)
}

// removeLeftovers removes what writers that were killed have left behind. What
// belongs to somebody else stays: it is in nobody's way.
func (f *File) removeLeftovers() {
	if _, err := f.dir.Seek(0, io.SeekStart); err != nil {
		return
	}
	for {
		names, err := f.dir.Readdirnames(1000)
		for _, name := range names {
			if f.isTemporary(name) && f.isOurs(name) {
				f.remove(name)
			}
		}
		if err != nil {
			return
		}
	}
}

// isOurs reports whether an entry belongs to this user or, as what is about to
// replace it does, to the owner of the file.
func (f *File) isOurs(name string) bool {
	var st unix.Stat_t
	if err := unix.Fstatat(int(f.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false
	}
	return int(st.Uid) == os.Geteuid() || f.old != nil && st.Uid == f.seen.Uid
}

func (f *File) remove(name string) {
	_ = unix.Unlinkat(int(f.dir.Fd()), name, 0) // the next writer tries again
}

// putInPlace renames the new version, unless the file has changed.
func (f *File) putInPlace(temporary string) error {
	now, there, err := f.entry()
	if err != nil || there != (f.old != nil) || there && !sameVersion(&now, &f.seen) {
		return f.changed()
	}
	dir := int(f.dir.Fd())
	if there {
		err = unix.Renameat(dir, temporary, dir, f.name)
	} else {
		err = renameNew(dir, temporary, f.name)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST):
		return f.changed()
	case errors.Is(err, unix.EBUSY):
		return f.mounted()
	}
	return f.failed("putting the new one in its place", err)
}

// fill writes the text and makes everything else about the file as it has to
// be. Nobody else can read it before that.
func (f *File) fill(file *os.File, text string, group int) error {
	mode := fs.FileMode(newMode)
	if f.old == nil {
		if group != KeepGroup {
			if err := file.Chown(-1, group); err != nil {
				return f.failed("giving it its group", err)
			}
		}
	} else {
		mode = fs.FileMode(f.seen.Mode) & fs.ModePerm
		if err := f.keepOwner(file); err != nil {
			return err
		}
		if err := copyAttributes(f.old, file); err != nil {
			return f.failed("keeping its access control list", err)
		}
	}
	if err := file.Chmod(mode); err != nil {
		return f.failed("keeping its mode", err)
	}
	if _, err := file.WriteString(text); err != nil {
		return f.failed("writing", err)
	}
	if err := file.Sync(); err != nil {
		return f.failed("writing", err)
	}
	if err := file.Close(); err != nil {
		return f.failed("writing", err)
	}
	return nil
}

// keepOwner gives file the owner and group of the old one.
func (f *File) keepOwner(file *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return f.failed("looking at it", err)
	}
	if st.Uid == f.seen.Uid && st.Gid == f.seen.Gid {
		return nil
	}
	if err := file.Chown(int(f.seen.Uid), int(f.seen.Gid)); err != nil {
		return f.notOurs(err)
	}
	return nil
}

func (f *File) notOurs(err error) error {
	advice := f.insteadOfSudo(f.seen.Uid)
	if advice == "" {
		advice = "run this with sudo, or as that user who is in that group"
	}
	return fmt.Errorf("%s belongs to user %d and group %d, and would not any more; %s: %w",
		f.shown, f.seen.Uid, f.seen.Gid, advice, cause(err))
}

// insteadOfSudo returns what to do about the file of an owner where root would
// not change it either, and "" where root would.
func (f *File) insteadOfSudo(owner uint32) string {
	switch {
	case f.distrust(owner) == nil:
		return ""
	case owner != root && (f.inode.Uid == owner || isShared(&f.inode)):
		return "run this as that user, not with sudo"
	}
	return "sudo does not help, since others than root can exchange it there; create another file and name it in the configuration"
}

func (f *File) mounted() error {
	return fmt.Errorf("%s is a mount of its own, as in containers, and can't be replaced; mount its directory instead", f.shown)
}

func (f *File) changed() error {
	return fmt.Errorf("%s was changed by somebody else at the same time; try again", f.shown)
}

func (f *File) failed(what string, err error) error {
	return fmt.Errorf("%s: %s: %w", f.shown, what, cause(err))
}

// cause takes off what the messages here say anyway.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

func sameInode(a, b *unix.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

// sameContent reports whether nobody has written into a file. It can have been
// replaced, which changes no more than its number of names.
func sameContent(a, b *unix.Stat_t) bool { return a.Size == b.Size && a.Mtim == b.Mtim }

// sameVersion reports whether a file is the same as before, and unchanged.
func sameVersion(a, b *unix.Stat_t) bool {
	return sameInode(a, b) && sameContent(a, b) && a.Ctim == b.Ctim
}

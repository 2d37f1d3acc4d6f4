//go:build unix && !aix && !dragonfly && !solaris

package atomicfile

import (
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// root is the user ID of root.
const root = 0

// checkTrust returns an error if this user is root and another user could replace
// the file, or a directory or symlink on its path: invariants 6 and 7 of the
// package.
func (f *File) checkTrust() error {
	if os.Geteuid() != root {
		return nil
	}
	if f.old == nil {
		return f.trustError(root) // the owner of a new file
	}
	return f.trustError(f.seen.Uid)
}

// trustError returns the reason why root would refuse to change the file if it
// belonged to owner, or nil.
func (f *File) trustError(owner uint32) error {
	var led *component // the last one of the owner, if the owner is not root
	for i := range f.passed {
		c := &f.passed[i]
		switch uid := c.inode.Uid; {
		case uid != root && uid != owner:
			return f.otherOwnerError(c)
		case c.isDirectory() && isShared(&c.inode) && c.inode.Mode&unix.S_ISVTX == 0:
			return f.writableError(c, led)
		case uid != root:
			led = c
		case led != nil && c.isDirectory() && !isOpen(&c.inode):
			return f.ledError(led, "cannot enter the directory "+shown.Text(c.path))
		}
	}
	switch {
	case f.inode.Uid == owner:
	case isShared(&f.inode): // then it is sticky
		return fmt.Errorf("%s: refused as root: it belongs to %s, and other users can create files in its directory; run: %s, or keep the file in a directory that only root can write",
			f.shown, userName(owner), runAs(owner, f.seen.Gid))
	case led != nil:
		return f.ledError(led, "cannot write there")
	}
	return nil
}

// IsTamperProof reports whether a path leads to a file that nobody but root and this
// user can replace. Otherwise no command that contains the path is safe.
func IsTamperProof(path string) bool {
	p, err := resolve(path)
	if err != nil {
		return false
	}
	defer p.close()
	isOurs := func(inode *unix.Stat_t) bool { return inode.Uid == root || int(inode.Uid) == os.Geteuid() }
	isSticky := false // the last directory is sticky and writable by other users
	for i := range p.passed {
		c := &p.passed[i]
		if !isOurs(&c.inode) {
			return false
		}
		if !c.isDirectory() {
			continue
		}
		if isSticky = isShared(&c.inode); isSticky && c.inode.Mode&unix.S_ISVTX == 0 {
			return false
		}
	}
	var st unix.Stat_t
	if err := unix.Fstatat(p.dir, p.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false
	}
	return !isSticky || isOurs(&st)
}

// isOpen reports whether everybody can enter a directory. If its group cannot, its
// members cannot, even if all others can.
func isOpen(inode *unix.Stat_t) bool {
	const everybody = unix.S_IXGRP | unix.S_IXOTH
	return inode.Mode&everybody == everybody
}

// isShared reports whether other users than its owner can write a directory.
func isShared(inode *unix.Stat_t) bool { return inode.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0 }

func (c *component) isDirectory() bool { return c.inode.Mode&unix.S_IFMT == unix.S_IFDIR }

// otherOwnerError is the error for a component that belongs neither to root nor to
// the owner of the file.
func (f *File) otherOwnerError(c *component) error {
	name, isTheirs := userName(c.inode.Uid), f.inode.Uid == c.inode.Uid
	text := fmt.Sprintf("%s: refused as root: the directory %s belongs to %s, who could replace the file", f.shown, shown.Text(c.path), name)
	advice := "keep the file in a directory that belongs to root"
	switch {
	case !c.isDirectory():
		text = fmt.Sprintf("%s: refused as root: the symlink %s belongs to %s, who could redirect it", f.shown, shown.Text(c.path), name)
		advice = "use a path without the symlink"
	case !isTheirs:
		advice = "keep the file where every directory of its path belongs to root, and use that path"
	case f.old != nil: // the directory's owner cannot keep the file's owner
		text += fmt.Sprintf(", but cannot edit it, since it belongs to %s", userName(f.seen.Uid))
		advice = fmt.Sprintf("create another file and name it in the configuration: in a directory that belongs to root, or as %s with: %s", name, as(c.inode.Uid, c.inode.Gid, "caddy htpasswd -c ..."))
	}
	if isTheirs && f.old == nil {
		advice = "run: " + runAs(c.inode.Uid, c.inode.Gid) + ", or " + advice
	}
	return fmt.Errorf("%s; %s", text, advice)
}

// writableError is the error for a directory in which other users than its owner can
// replace files. led is the component before it that does not belong to root, if any.
func (f *File) writableError(c, led *component) error {
	advice := "make it writable by its owner only"
	command := "chmod go-w " + shown.Argument(c.path)
	switch uid := c.inode.Uid; {
	case uid != root:
		advice = fmt.Sprintf("run: %s, or run: %s", as(uid, c.inode.Gid, command), runAs(uid, c.inode.Gid))
	case led == nil: // otherwise another user could replace the directory
		advice = "run: " + command
	}
	return fmt.Errorf("%s: refused as root: other users than the owner can write the directory %s (mode %04o), and could replace the file; %s",
		f.shown, shown.Text(c.path), c.inode.Mode&0o7777, advice)
}

// ledError is the error for a path by which a user redirects root to a place that
// the user cannot access.
func (f *File) ledError(led *component, why string) error {
	return fmt.Errorf("%s: refused as root: the path leads through %s, which belongs to %s, who %s; use the path %[1]s, or keep the file in a directory of %[3]s",
		f.shown, shown.Text(led.path), userName(led.inode.Uid), why)
}

// userName returns the name of a user, or "user" and the user ID.
func userName(uid uint32) string {
	if u, err := user.LookupId(strconv.Itoa(int(uid))); err == nil {
		return shown.Text(u.Username)
	}
	return fmt.Sprintf("user %d", uid)
}

// runAs returns the command by which root runs the tool as a user.
func runAs(uid, gid uint32) string { return as(uid, gid, "caddy htpasswd ...") }

// as returns the command by which root runs a command as a user, who may have no
// name.
func as(uid, gid uint32, command string) string {
	u, err := user.LookupId(strconv.Itoa(int(uid)))
	switch {
	case err != nil && runtime.GOOS == "linux":
		return fmt.Sprintf("setpriv --reuid=%d --regid=%d --clear-groups %s", uid, gid, command)
	case err != nil:
		return fmt.Sprintf("sudo -u '#%d' %s", uid, command)
	case runtime.GOOS == "linux":
		return fmt.Sprintf("runuser -u %s -- %s", shown.Argument(u.Username), command)
	}
	return fmt.Sprintf("sudo -u %s %s", shown.Argument(u.Username), command)
}

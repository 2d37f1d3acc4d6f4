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

// root is the user whose directories nobody else can change.
const root = 0

// checkTrust refuses, as root, a path on which somebody else could put another
// file, directory or symlink in the place of what is meant: invariants 6 and 7
// of the package.
func (f *File) checkTrust() error {
	if os.Geteuid() != root {
		return nil
	}
	if f.old == nil {
		return f.distrust(root) // whose a new file will be
	}
	return f.distrust(f.seen.Uid)
}

// distrust returns why root would not change the file of an owner.
func (f *File) distrust(owner uint32) error {
	var led *component // the owner's, if the owner is not root
	for i := range f.passed {
		c := &f.passed[i]
		switch uid := c.inode.Uid; {
		case uid != root && uid != owner:
			return f.belongsToOther(c)
		case c.isDirectory() && isShared(&c.inode) && c.inode.Mode&unix.S_ISVTX == 0:
			return f.isWritable(c, led)
		case uid != root:
			led = c
		case led != nil && c.isDirectory() && !isOpen(&c.inode):
			return f.isLed(led, "can't enter the directory "+shown.Text(c.path))
		}
	}
	switch {
	case f.inode.Uid == owner:
	case isShared(&f.inode): // and then it is sticky
		return fmt.Errorf("%s: not changed by root: it belongs to %s, and others than root can make files in its directory; run: %s, or keep the file in a directory that only root can write",
			f.shown, userName(owner), runAs(owner, f.seen.Gid))
	case led != nil:
		return f.isLed(led, "can't write there")
	}
	return nil
}

// IsFixed reports whether a path leads to a file for which nobody but root and
// this user can put another one in its place. Else no command with the path in
// it is safe.
func IsFixed(path string) bool {
	p, err := resolve(path)
	if err != nil {
		return false
	}
	defer p.close()
	isOurs := func(inode *unix.Stat_t) bool { return inode.Uid == root || int(inode.Uid) == os.Geteuid() }
	isSticky := false // the last directory, for others than its owner
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

// isOpen reports whether everybody can enter a directory. A group that can't
// keeps its members out, also where all others can.
func isOpen(inode *unix.Stat_t) bool {
	const everybody = unix.S_IXGRP | unix.S_IXOTH
	return inode.Mode&everybody == everybody
}

// isShared reports whether somebody else than its owner can write a directory.
func isShared(inode *unix.Stat_t) bool { return inode.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0 }

func (c *component) isDirectory() bool { return c.inode.Mode&unix.S_IFMT == unix.S_IFDIR }

// belongsToOther is for what belongs neither to root nor to the file's owner.
func (f *File) belongsToOther(c *component) error {
	name, isTheirs := userName(c.inode.Uid), f.inode.Uid == c.inode.Uid
	text := fmt.Sprintf("%s: not changed by root: the directory %s belongs to %s, who could put another file there", f.shown, shown.Text(c.path), name)
	advice := "keep the file in a directory that belongs to root"
	switch {
	case !c.isDirectory():
		text = fmt.Sprintf("%s: not changed by root: the symlink %s belongs to %s, who could point it elsewhere", f.shown, shown.Text(c.path), name)
		advice = "name the file without the symlink"
	case !isTheirs:
		advice = "keep the file where every directory of its path belongs to root, and name it by that path"
	case f.old != nil: // and they can't keep its owner
		text += fmt.Sprintf(", but can't change this one, which belongs to %s", userName(f.seen.Uid))
		advice = fmt.Sprintf("create another file and name it in the configuration: in a directory that belongs to root, or as %s with: %s", name, as(c.inode.Uid, c.inode.Gid, "caddy htpasswd -c ..."))
	}
	if isTheirs && f.old == nil {
		advice = "run: " + runAs(c.inode.Uid, c.inode.Gid) + ", or " + advice
	}
	return fmt.Errorf("%s; %s", text, advice)
}

// isWritable is for a directory in which others than its owner can exchange
// what is there. Led is what it was reached by, if that is not root's.
func (f *File) isWritable(c, led *component) error {
	advice := "let only its owner write it"
	command := "chmod go-w " + shown.Argument(c.path)
	switch uid := c.inode.Uid; {
	case uid != root:
		advice = fmt.Sprintf("run: %s, or run: %s", as(uid, c.inode.Gid, command), runAs(uid, c.inode.Gid))
	case led == nil: // else somebody could put another directory in its place
		advice = "run: " + command
	}
	return fmt.Errorf("%s: not changed by root: others than its owner can write the directory %s (mode %04o), and could put another file there; %s",
		f.shown, shown.Text(c.path), c.inode.Mode&0o7777, advice)
}

// isLed is for a path by which somebody leads root to where they can't get.
func (f *File) isLed(led *component, why string) error {
	return fmt.Errorf("%s: not changed by root: the path leads through %s, which belongs to %s, who %s; name it by this path, or keep the file in a directory of %[3]s",
		f.shown, shown.Text(led.path), userName(led.inode.Uid), why)
}

// userName returns the name of a user, or "user" and the number.
func userName(uid uint32) string {
	if u, err := user.LookupId(strconv.Itoa(int(uid))); err == nil {
		return shown.Text(u.Username)
	}
	return fmt.Sprintf("user %d", uid)
}

// runAs returns how root runs the tool as a user.
func runAs(uid, gid uint32) string { return as(uid, gid, "caddy htpasswd ...") }

// as returns how root runs a command as a user, who may have no name.
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

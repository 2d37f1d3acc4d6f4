//go:build unix && !aix && !dragonfly && !solaris

package wholefile

import (
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
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
	var owner uint32 = root // of a new file, too
	if f.old != nil {
		owner = f.seen.Uid
	}
	var led *component // the owner's, if the owner is not root
	for i := range f.passed {
		c := &f.passed[i]
		switch uid := c.inode.Uid; {
		case uid != root && uid != owner:
			return c.belongsToOther(f.path)
		case c.isDirectory() && isShared(&c.inode) && c.inode.Mode&unix.S_ISVTX == 0:
			return c.isWritable(f.path)
		case uid != root:
			led = c
		}
	}
	anybody := f.inode.Mode&unix.S_IWOTH != 0 // and then it is sticky
	if led != nil && f.inode.Uid != owner && !anybody {
		return fmt.Errorf("%s: root does not change it by way of %s, which belongs to %s, who can't write there; name it by this path, or run: %s",
			f.path, led.path, userName(led.inode.Uid), runAs(led.inode.Uid, led.inode.Gid))
	}
	return nil
}

// isShared reports whether somebody else than its owner can write a directory.
func isShared(inode *unix.Stat_t) bool { return inode.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0 }

func (c *component) isDirectory() bool { return c.inode.Mode&unix.S_IFMT == unix.S_IFDIR }

func (c *component) belongsToOther(path string) error {
	name, run := userName(c.inode.Uid), runAs(c.inode.Uid, c.inode.Gid)
	if c.isDirectory() {
		return fmt.Errorf("%s: not changed by root: the directory %s belongs to %s, who could put another file there; run: %s, or keep the file in a directory that belongs to root",
			path, c.path, name, run)
	}
	return fmt.Errorf("%s: not changed by root: the symlink %s belongs to %s, who could point it elsewhere; name the file without the symlink, or run: %s",
		path, c.path, name, run)
}

func (c *component) isWritable(path string) error {
	run := ""
	if c.inode.Uid != root {
		run = ", or run: " + runAs(c.inode.Uid, c.inode.Gid)
	}
	return fmt.Errorf("%s: not changed by root: others than its owner can write the directory %s (mode %04o), and could put another file there; run: chmod go-w %s%s",
		path, c.path, c.inode.Mode&0o7777, quote(c.path), run)
}

// userName returns the name of a user, or "user" and the number.
func userName(uid uint32) string {
	if u, err := user.LookupId(strconv.Itoa(int(uid))); err == nil {
		return u.Username
	}
	return fmt.Sprintf("user %d", uid)
}

// runAs returns how root runs the tool as a user, who may have no name.
func runAs(uid, gid uint32) string {
	const tool = "caddy htpasswd ..."
	u, err := user.LookupId(strconv.Itoa(int(uid)))
	switch {
	case err != nil && runtime.GOOS == "linux":
		return fmt.Sprintf("setpriv --reuid=%d --regid=%d --clear-groups %s", uid, gid, tool)
	case err != nil:
		return fmt.Sprintf("sudo -u '#%d' %s", uid, tool)
	case runtime.GOOS == "linux":
		return fmt.Sprintf("runuser -u %s -- %s", u.Username, tool)
	}
	return fmt.Sprintf("sudo -u %s %s", u.Username, tool)
}

// quote returns a path as a shell takes it: somebody else has chosen its name,
// and root may copy the command.
func quote(path string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./_-+,:@%"
	if strings.Trim(path, plain) == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

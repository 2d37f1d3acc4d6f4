//go:build unix

package tool

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// ownerOf returns the names of a file's owner and group, or their numbers
// where they have no names, or "" where that cannot be told.
func ownerOf(path string) (owner, group string) {
	info, err := os.Stat(path)
	if err != nil {
		return "", ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", ""
	}
	owner, group = strconv.Itoa(int(st.Uid)), strconv.Itoa(int(st.Gid))
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return owner, group
}

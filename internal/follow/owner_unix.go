//go:build unix

package follow

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// OwnerOf returns the names of a file's owner and group, or their numbers if they
// have no names. It returns "" if the file cannot be examined.
func OwnerOf(path string) (owner, group string) {
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

package tool

import (
	"io/fs"
	"os"
	"os/user"
	"path/filepath"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// checkReplaceable sets whether a user can replace the file as a server does, with its
// owner and group: the server's settings rehash and change_password need that. It sets
// nothing where an access control list may say otherwise.
func (r *fileReport) checkReplaceable(u *user.User) {
	real, err := filepath.EvalSymlinks(r.Path)
	if err != nil {
		return
	}
	dir := filepath.Dir(real)
	info, err := os.Stat(dir)
	if err != nil || hasACL(dir) {
		return
	}
	file, err := os.Stat(real)
	if err != nil {
		return
	}
	dirOwner, dirGroup := follow.OwnerOf(dir)
	switch {
	case r.MountPoint:
		r.NotReplaceable = "it is mounted as a single file"
	case isReadOnly(dir):
		r.NotReplaceable = "its directory is read-only"
	case hasLinks(file):
		r.NotReplaceable = "it has hard links"
	case r.Owner != u.Username:
		r.NotReplaceable = "it belongs to " + shown.Text(r.Owner)
	case !isMember(u, r.Group):
		r.NotReplaceable = "the user is not in its group " + shown.Text(r.Group)
	case !may(u, 3, dirOwner, dirGroup, info.Mode()):
		r.NotReplaceable = "the user cannot create files in its directory"
	}
	r.Replaceable = new(r.NotReplaceable == "")
}

// may reports whether a user has the rights (1: execute, 2: write, 4: read) on a file
// with this owner, group and mode.
func may(u *user.User, rights fs.FileMode, owner, group string, mode fs.FileMode) bool {
	switch {
	case owner == u.Username:
		rights <<= 6
	case isMember(u, group):
		rights <<= 3
	}
	return mode&rights == rights
}

// replaceableText returns the line about the user of the server for the report.
func (r *fileReport) replaceableText() string {
	switch path := shown.Text(r.Path); {
	case r.Replaceable == nil:
		return ""
	case *r.Replaceable:
		return path + ": the user caddy can replace it, as rehash and change_password need\n"
	default:
		return path + ": the user caddy cannot replace it (only rehash and change_password need that): " + r.NotReplaceable + "\n"
	}
}

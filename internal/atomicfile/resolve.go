//go:build unix && !aix && !dragonfly && !solaris

package atomicfile

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

const maxLinks = 40 // maximum number of symlinks, as in Linux

// component is a directory or a symlink of a path.
type component struct {
	path  string // for messages
	inode unix.Stat_t
}

// place is the end of a path: a name in an open directory, which is not a symlink.
// The name need not exist.
type place struct {
	dir    int    // descriptor, only for looking up names
	shown  string // path of dir, for messages
	name   string
	passed []component
}

func (p *place) path() string { return filepath.Join(p.shown, p.name) }

func (p *place) close() { _ = unix.Close(p.dir) }

// resolve follows a path as the system does, but component by component, and records
// the components.
func resolve(path string) (*place, error) {
	p := &place{dir: unix.AT_FDCWD}
	err := p.follow(path)
	if err == nil {
		return p, nil
	}
	if p.dir != unix.AT_FDCWD {
		p.close()
	}
	text := shown.Text(path)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("%s: its directory does not exist", text)
	case errors.Is(err, errMoved):
		return nil, err
	case errors.Is(err, errTooManyLinks):
		return nil, fmt.Errorf("%s: too many symlinks", text)
	case errors.Is(err, errOtherPlace):
		return nil, fmt.Errorf("%s: leads through a link in /proc, which can refer to a file of another container or process; run the tool there, or use the path of the file on this machine", text)
	case errors.Is(err, unix.EISDIR):
		return nil, fmt.Errorf("%s: is a directory, not a file", text)
	default:
		return nil, fmt.Errorf("%s: its directory: %w", text, err)
	}
}

var (
	errTooManyLinks = errors.New("too many symlinks")

	// errOtherPlace is returned for a magic link in /proc: its text may lead
	// somewhere else than the link.
	errOtherPlace = errors.New("a link in /proc")
)

func (p *place) follow(rest string) error {
	if err := p.start(rest); err != nil {
		return err
	}
	links := 0
	for {
		name, more, isDirectory := strings.Cut(strings.TrimLeft(rest, "/"), "/")
		switch name {
		case "": // after the last slash
			return unix.EISDIR
		case ".":
			if rest = more; !isDirectory {
				return unix.EISDIR
			}
			continue
		}
		if isDirectory || name == ".." { // enter it first, so that an automounter mounts it
			err := p.enter(name, filepath.Join(p.shown, name)) // ".." of a directory, not of a symlink
			if rest = more; err == nil {
				if !isDirectory {
					return unix.EISDIR
				}
				continue
			}
			if !errors.Is(err, errSymlink) {
				return err
			}
		}
		inode, target, err := readLink(p.dir, name)
		switch {
		case errors.Is(err, unix.ENOENT) && !isDirectory:
			p.name = name // new file
			return nil
		case err != nil:
			return err
		case inode.Mode&unix.S_IFMT == unix.S_IFLNK:
		case isDirectory:
			return errMoved
		default:
			p.name = name
			return nil
		}
		if links++; links > maxLinks {
			return errTooManyLinks
		}
		p.passed = append(p.passed, component{filepath.Join(p.shown, name), inode})
		if rest = target; isDirectory {
			rest += "/" + more
		}
		if strings.HasPrefix(target, "/") {
			if err := p.enter("/", "/"); err != nil {
				return err
			}
		}
	}
}

// start enters the directory where a path begins.
func (p *place) start(path string) error {
	if strings.HasPrefix(path, "/") {
		return p.enter("/", "/")
	}
	return p.enter(".", "")
}

// enter enters a directory, relative to the previous one.
func (p *place) enter(name, shown string) error {
	fd, err := openAt(p.dir, name, searchOnly|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	if p.dir != unix.AT_FDCWD {
		p.close()
	}
	p.dir, p.shown = fd, shown
	var inode unix.Stat_t
	if err := unix.Fstat(fd, &inode); err != nil {
		return err
	}
	if shown == "" {
		shown = "."
	}
	p.passed = append(p.passed, component{shown, inode})
	return nil
}

// errSymlink is returned for the name of a symlink.
var errSymlink = errors.New("is a symlink")

// openAt opens a name in a directory. It does not follow symlinks.
func openAt(dir int, name string, flags int) (fd int, err error) {
	for {
		fd, err = unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ELOOP), errors.Is(err, errnoSymlink):
			return -1, errSymlink
		case errors.Is(err, unix.ENOTDIR): // some systems return it for a symlink, too
			return -1, notDirectory(dir, name)
		}
		return fd, err
	}
}

// notDirectory returns the error for a name that could not be opened as a directory.
func notDirectory(dir int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return errSymlink
	case unix.S_IFDIR:
		return errMoved
	}
	return unix.ENOTDIR
}

package caddyhtpasswd

import (
	"slices"
	"sync"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
)

// fileUse is who uses a file: handlers that name it, and lists that it is in, by their
// followers.
type fileUse struct {
	mu       sync.Mutex
	handlers int
	lists    []*follow.Follower
}

func (u *fileUse) addHandler(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.handlers += n
}

func (u *fileUse) join(l *follow.Follower) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lists = append(u.lists, l)
}

func (u *fileUse) leave(l *follow.Follower) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lists = slices.DeleteFunc(u.lists, func(other *follow.Follower) bool { return other == l })
}

// isListed reports whether only lists use the file, and makes them look: the file has just
// disappeared. A list drops the file, or reports that it has no file left.
func (u *fileUse) isListed() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.handlers > 0 {
		return false
	}
	for _, l := range u.lists {
		l.Wake()
	}
	return len(u.lists) > 0
}

package caddyhtpasswd

import (
	"slices"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// groupStore holds the groups of one file, in the version that was loaded last.
type groupStore struct {
	path    string
	current atomic.Pointer[htfile.Groups]
	followed
}

func newGroupStore(path string) *groupStore { return &groupStore{path: path} }

// load parses a new version of the file and makes it the active one. After an error,
// the previous version stays active.
func (s *groupStore) load(text string, logger *zap.Logger) error {
	next, err := htfile.ParseGroups(text)
	if err != nil {
		return err
	}
	s.current.Store(next)
	logFindings(&next.Findings, logger, s.path, "invalid group line skipped")
	return nil
}

// groupStores are the group files of one handler.
type groupStores []*groupStore

// of returns the groups of a user in all files, sorted.
func (s groupStores) of(user string) []string {
	if len(s) == 0 {
		return nil
	}
	groups := s[0].current.Load().Of[user]
	for _, store := range s[1:] {
		if more := store.current.Load().Of[user]; len(more) > 0 {
			groups = slices.Concat(groups, more)
			slices.Sort(groups)
			groups = slices.Compact(groups)
		}
	}
	return groups
}

// haveMembers reports whether any user is in the group.
func (s groupStores) haveMembers(group string) bool {
	for _, store := range s {
		for _, groups := range store.current.Load().Of {
			if slices.Contains(groups, group) {
				return true
			}
		}
	}
	return false
}

package caddyhtpasswd

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"
)

// groupTable is one version of an Apache group file.
type groupTable struct {
	groups map[string][]string // of each user, sorted
	findings
}

// parseGroups reads a group file. Lines are "group: user user ..."; a group
// can have more than one. A bad line is noted; a file with lines none of which
// is good is an error.
func parseGroups(text string) (*groupTable, error) {
	t := &groupTable{groups: make(map[string][]string)}
	for number, line := range lines(text) {
		group, members, found := strings.Cut(line, ":")
		group = strings.Trim(group, blanks)
		switch {
		case !found:
			t.badLine(number, "no colon between group and users")
		case group == "":
			t.badLine(number, "no group name before the colon")
		case hasControl(group) || strings.ContainsAny(group, ", "):
			t.badLine(number, "blank, comma or control character in the group name")
		default:
			t.good++
			for user := range strings.FieldsFuncSeq(members, isBlank) {
				t.groups[user] = append(t.groups[user], group)
			}
		}
	}
	for user, groups := range t.groups {
		slices.Sort(groups)
		t.groups[user] = slices.Compact(groups)
	}
	return t, t.verdict("group: user user ...")
}

// groupStore is the live group table of one file: its last good version.
type groupStore struct {
	path    string
	current atomic.Pointer[groupTable]
	followed
}

func newGroupStore(path string) *groupStore { return &groupStore{path: path} }

// load parses text and swaps it in. After an error the old version stays.
func (s *groupStore) load(text string, logger *zap.Logger) error {
	next, err := parseGroups(text)
	if err != nil {
		return err
	}
	s.current.Store(next)
	next.log(logger, s.path, "bad line skipped; it puts nobody into a group")
	return nil
}

// groupStores are the group files of one handler.
type groupStores []*groupStore

// awaitCurrent waits until the files are read that have changed.
func (s groupStores) awaitCurrent(ctx context.Context) {
	for _, store := range s {
		store.awaitCurrent(ctx)
	}
}

// of returns the groups that user is in, by any of the files, sorted.
func (s groupStores) of(user string) []string {
	if len(s) == 0 {
		return nil
	}
	groups := s[0].current.Load().groups[user]
	for _, store := range s[1:] {
		if more := store.current.Load().groups[user]; len(more) > 0 {
			groups = slices.Concat(groups, more)
			slices.Sort(groups)
			groups = slices.Compact(groups)
		}
	}
	return groups
}

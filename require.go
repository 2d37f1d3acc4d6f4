package caddyhtpasswd

import (
	"slices"

	"go.uber.org/zap"
)

// Require restricts access to some of the users in the files: to the listed users and to
// the members of the listed groups. At least one user or group is required.
type Require struct {
	// The names of the users. Default: none.
	Users []string `json:"users,omitempty"`

	// The names of the groups, which the group files define. Default: none.
	Groups []string `json:"groups,omitempty"`
}

// admits reports whether a user in the groups is authorized. A nil Require admits every
// user.
func (q *Require) admits(user string, groups []string) bool {
	return q == nil || slices.Contains(q.Users, user) ||
		slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(q.Groups, g) })
}

// warnOfNobody warns about names in require that are in no file. It warns only when the
// configuration is loaded, because a user or group may be removed from the files first.
func (h *Handler) warnOfNobody() {
	if h.Require == nil {
		return
	}
	users := slices.DeleteFunc(slices.Clone(h.Require.Users), func(user string) bool { return h.users.now().find([]byte(user)).entry.exists() })
	if len(users) > 0 {
		h.logger.Warn("require names users that are in no password file", zap.Strings("users", users), zap.Strings("files", sourceNames(h.sourceList())))
	}
	groups := slices.DeleteFunc(slices.Clone(h.Require.Groups), h.groups.haveMembers)
	if len(groups) > 0 {
		h.logger.Warn("require names groups that have no members", zap.Strings("groups", groups), zap.Strings("group_files", h.GroupFiles))
	}
}

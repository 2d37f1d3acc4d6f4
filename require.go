package caddyhtpasswd

import (
	"slices"

	"go.uber.org/zap"
)

// Require names who may pass: any of the users, and the members of any of the
// groups.
type Require struct {
	// Names of users.
	Users []string `json:"users,omitempty"`

	// Names of groups in the group files.
	Groups []string `json:"groups,omitempty"`
}

// admits reports whether a user in these groups may pass.
// A nil Require admits everybody.
func (q *Require) admits(user string, groups []string) bool {
	return q == nil || slices.Contains(q.Users, user) ||
		slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(q.Groups, g) })
}

// warnOfNobody warns of names in require that no file has. It is said when the
// configuration is loaded only: files may change in the course of a removal.
func (h *Handler) warnOfNobody() {
	if h.Require == nil {
		return
	}
	users := slices.DeleteFunc(slices.Clone(h.Require.Users), func(user string) bool { return h.users.find([]byte(user)).entry.exists() })
	if len(users) > 0 {
		h.logger.Warn("require names users that are in no password file", zap.Strings("users", users), zap.Strings("files", h.Files))
	}
	groups := slices.DeleteFunc(slices.Clone(h.Require.Groups), h.groups.haveMembers)
	if len(groups) > 0 {
		h.logger.Warn("require names groups that have no members", zap.Strings("groups", groups), zap.Strings("group_files", h.GroupFiles))
	}
}

package tool

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed10b5b978/caddy-htpasswd/internal/atomicfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// fileReport is the report of --check on a file.
type fileReport struct {
	// Path is the path of the file, as it was given.
	Path string `json:"path"`
	// Refused is the reason why a server would refuse the file. It is absent if a
	// server would load it.
	Refused string `json:"refused,omitempty"`
	// Users are the users of valid lines, in the order of the file.
	Users []reportedUser `json:"users"`
	// Formats counts the hashes of each format and cost.
	Formats []htfile.FormatCount `json:"formats"`
	// InvalidLines are the invalid lines: their users cannot log in.
	InvalidLines []htfile.Finding `json:"invalid_lines"`
	// Duplicates are the numbers of lines whose user has an earlier line.
	Duplicates []int `json:"duplicates"`
	// Mode is the mode of the file, as "ls -l" shows it.
	Mode string `json:"mode,omitempty"`
	// Owner and Group are names, or numbers where there is no name.
	Owner string `json:"owner,omitempty"`
	Group string `json:"group,omitempty"`
	// WorldReadable reports whether every user of the machine can read the file.
	WorldReadable bool `json:"world_readable"`
	// Unreadable reports that the user caddy, if it exists, cannot read the file.
	Unreadable bool `json:"unreadable_by_caddy,omitempty"`
	// MountPoint reports whether the file is mounted without its directory, as
	// into a container: a server inside does not see a replacement outside.
	MountPoint bool `json:"mount_point,omitempty"`
	// Gone reports whether the file was replaced or deleted outside the container:
	// the path leads to an old version.
	Gone bool `json:"gone,omitempty"`
	// Replaceable reports whether the user caddy can replace the file, as rehash and
	// change_password need. It is absent without such a user, and if an access control
	// list may say otherwise.
	Replaceable *bool `json:"replaceable_by_caddy,omitempty"`
	// NotReplaceable is the reason why the user caddy cannot.
	NotReplaceable string `json:"not_replaceable,omitempty"`

	// isTamperProof reports whether nobody else can replace the file before a
	// command that names it is run.
	isTamperProof bool
	// needsOthers reports whether the user caddy can read the file only because all
	// other users can.
	needsOthers bool
	mode        fs.FileMode
}

type reportedUser struct {
	Line   int      `json:"line"`
	Name   userName `json:"name"`
	Locked bool     `json:"locked,omitempty"`
	Format string   `json:"format,omitempty"`
	Cost   string   `json:"cost,omitempty"`
	Weak   bool     `json:"weak,omitempty"`
	// NotInNginx is the reason why nginx rejects the user's password although
	// Caddy accepts it. It is absent if no such reason is known.
	NotInNginx string `json:"not_in_nginx,omitempty"`
}

// userName is a user name as it stands in the file.
type userName string

// MarshalText quotes a name that is not UTF-8, which JSON cannot hold.
func (n userName) MarshalText() ([]byte, error) {
	if !utf8.ValidString(string(n)) {
		return []byte(strconv.Quote(string(n))), nil
	}
	return []byte(n), nil
}

// runCheck reports on files.
func (t *tool) runCheck(ctx context.Context, paths []string) error {
	var refused []string
	reports := make([]*fileReport, len(paths))
	for i, path := range paths {
		var err error
		if reports[i], err = t.newReport(ctx, path); err != nil {
			return err
		}
		if reports[i].Refused != "" {
			refused = append(refused, shown.Text(path))
		}
	}
	var b strings.Builder
	if t.json {
		encoder := json.NewEncoder(&b)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(map[string]any{"files": reports}); err != nil {
			return err
		}
	} else {
		for _, report := range reports {
			b.WriteString(report.String())
		}
	}
	text := b.String()
	if t.json {
		text = shown.JSON(text)
	}
	if err := t.write(text); err != nil {
		return err
	}
	if len(refused) > 0 {
		return failed(ExitNotAFile, "a server would refuse %s", strings.Join(refused, ", "))
	}
	return nil
}

// runList writes the names of the users who can log in.
func (t *tool) runList(ctx context.Context, path string) error {
	report, err := t.newReport(ctx, path)
	switch {
	case err != nil:
		return err
	case report.Mode == "" && !isURL(path):
		return failed(ExitFile, "%s: %s", shown.Text(path), report.Refused)
	case report.Refused != "":
		return failed(ExitNotAFile, "%s: a server would refuse this file: %s", shown.Text(path), report.Refused)
	}
	var b strings.Builder
	others := len(report.InvalidLines)
	for _, user := range report.Users {
		if user.Locked {
			others++
		} else {
			b.WriteString(shown.Text(string(user.Name)) + "\n")
		}
	}
	if err := t.write(b.String()); err != nil {
		return err
	}
	if others > 0 {
		t.say("not listed: %d (locked users and invalid lines); for details, run: caddy htpasswd --check %s", others, shown.Argument(path))
	}
	return nil
}

// newReport is newFileReport, also for a file that is not on disk. Its report has nothing
// about permissions: only Caddy writes and reads the copy. The error is for a copy that
// cannot be read, which says nothing about the file.
func (t *tool) newReport(ctx context.Context, path string) (*fileReport, error) {
	if !isURL(path) {
		return newFileReport(path), nil
	}
	text, err := t.readText(ctx, path)
	if err != nil {
		return nil, err
	}
	r := emptyReport(path)
	r.parse(text)
	return r, nil
}

func emptyReport(path string) *fileReport {
	return &fileReport{Path: path, Users: []reportedUser{}, Formats: []htfile.FormatCount{}, InvalidLines: []htfile.Finding{}, Duplicates: []int{}}
}

// parse adds the lines of a text to the report.
func (r *fileReport) parse(text string) {
	users, err := htfile.ParseLines(text, r.add)
	if err != nil {
		r.Refused = err.Error()
	}
	r.Formats = users.Formats()
}

// newFileReport reads a file as a server does.
func newFileReport(path string) *fileReport {
	r := emptyReport(path)
	text, mode, err := follow.ReadFile(path)
	if err != nil {
		r.Refused = err.Error()
		return r
	}
	r.Mode, r.mode = mode.String(), mode
	r.Owner, r.Group = follow.OwnerOf(path)
	r.WorldReadable = follow.IsWorldReadable(path, mode)
	r.MountPoint, r.Gone = follow.MountOf(path)
	r.isTamperProof = atomicfile.IsTamperProof(path)
	if server, err := user.Lookup(serverUser); err == nil && !hasACL(path) {
		r.Unreadable = !mayRead(server, r.Owner, r.Group, mode)
		r.needsOthers = !r.Unreadable && !mayRead(server, r.Owner, r.Group, mode&^0o004)
		r.checkReplaceable(server)
	}
	r.parse(text)
	return r
}

// mayRead reports whether mode, owner and group let a user read a file.
func mayRead(u *user.User, owner, group string, mode fs.FileMode) bool {
	return may(u, 4, owner, group, mode)
}

// isMember reports whether a user is in a group, which is given as by
// [follow.OwnerOf].
func isMember(u *user.User, group string) bool {
	if g, err := user.LookupGroup(group); err == nil {
		group = g.Gid
	}
	ids, _ := u.GroupIds()
	return group == u.Gid || slices.Contains(ids, group)
}

// add adds a line to the report. The name of an invalid line can be a hash, if the
// colon is missing, so it is not shown.
func (r *fileReport) add(l *htfile.Line) {
	user := reportedUser{Line: l.Number, Name: userName(l.Name)}
	switch {
	case l.Problem != "":
		r.InvalidLines = append(r.InvalidLines, htfile.Finding{Line: l.Number, Reason: l.Problem})
		return
	case l.IsDuplicate:
		r.Duplicates = append(r.Duplicates, l.Number)
		return
	case l.State == htfile.StateLocked:
		user.Locked = true
	default:
		user.Format, user.Cost, user.Weak = l.Class.Format.Name, l.Class.Cost, l.Class.Format.Weak
		user.NotInNginx = crypt.RefusedByCrypt(l.Hash)
	}
	r.Users = append(r.Users, user)
}

// String returns the report as text: a summary, and a line for each finding, with
// its place in front.
func (r *fileReport) String() string {
	var b strings.Builder
	path := shown.Text(r.Path)
	if r.Refused != "" {
		fmt.Fprintf(&b, "%s: a server would refuse this file: %s\n", path, r.Refused)
	}
	usable := 0
	for _, f := range r.Formats {
		usable += f.Users
	}
	switch {
	case isURL(r.Path):
		fmt.Fprintf(&b, "%s: users who can log in: %d\n", path, usable)
	case r.Mode != "":
		fmt.Fprintf(&b, "%s: users who can log in: %d; %s %s %s\n", path, usable, r.Mode, r.Owner, r.Group)
	}
	for _, f := range r.Formats {
		fmt.Fprintf(&b, "  %s: %d\n", f, f.Users)
	}
	if r.WorldReadable {
		advice := "run: chmod o= %[1]s"
		switch {
		case r.needsOthers && follow.IsGroupReadable(r.mode, r.Group):
			advice = "run: setfacl -m u:caddy:r %[1]s && chmod o= %[1]s"
		case r.needsOthers:
			advice = "run: chgrp caddy %[1]s && chmod g=r,o= %[1]s"
		}
		fmt.Fprintf(&b, "%s: is world-readable; %s\n", path, r.advice(advice))
	}
	if r.Unreadable {
		// Not chgrp where another server may read the file by its group.
		advice := "run: chgrp caddy %[1]s && chmod g=r %[1]s"
		if follow.IsGroupReadable(r.mode, r.Group) {
			advice = "run: setfacl -m u:caddy:r %s, or add the user caddy to the group " + strings.ReplaceAll(shown.Text(r.Group), "%", "%%") + " and restart the server"
		}
		fmt.Fprintf(&b, "%s: the user caddy cannot read it (group %s); %s\n", path, shown.Text(r.Group), r.advice(advice))
	}
	switch {
	case r.Gone:
		fmt.Fprintf(&b, "%s: is an old version; the file was replaced or deleted outside the container; a running server keeps this version, and a reload fails; mount the directory instead of the file\n", path)
	case r.MountPoint:
		fmt.Fprintf(&b, "%s: is mounted as a single file; a server in this container does not see a replacement outside; mount the directory instead of the file\n", path)
	}
	b.WriteString(r.replaceableText())
	for _, u := range r.Users {
		if u.Weak {
			fmt.Fprintf(&b, "%s:%d: weak hash (%s): user %s; reset this password\n", path, u.Line, u.Format, shown.Text(string(u.Name)))
		} else if u.Locked {
			fmt.Fprintf(&b, "%s:%d: locked: user %s\n", path, u.Line, shown.Text(string(u.Name)))
		}
		if u.NotInNginx != "" {
			fmt.Fprintf(&b, "%s:%d: accepted by Caddy, but not by nginx: user %s: %s\n", path, u.Line, shown.Text(string(u.Name)), u.NotInNginx)
		}
	}
	for _, l := range r.InvalidLines {
		fmt.Fprintf(&b, "%s:%d: invalid line (user cannot log in): %s\n", path, l.Line, l.Reason)
	}
	for _, line := range r.Duplicates {
		fmt.Fprintf(&b, "%s:%d: duplicate user; the first line wins\n", path, line)
	}
	return b.String()
}

// advice returns what to do about the permissions of the file: a text with
// commands and placeholders for the path. Where another user could replace the
// file before root runs such a command, it contains none.
func (r *fileReport) advice(text string) string {
	if r.isTamperProof {
		return fmt.Sprintf(text, shown.Argument(r.Path))
	}
	return "its owner has to change its permissions, not root: other users can replace the file"
}

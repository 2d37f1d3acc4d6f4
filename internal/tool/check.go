package tool

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os/user"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed10b5b978/caddy-htpasswd/internal/atomicfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// fileReport is what a server would make of an htpasswd file.
type fileReport struct {
	// Path of the file, as it was given.
	Path string `json:"path"`
	// Refused says why a server would not use the file, and is absent if it would.
	Refused string `json:"refused,omitempty"`
	// Users are those of valid lines, in the order of the file.
	Users []reportedUser `json:"users"`
	// Formats counts the hashes of each format and cost.
	Formats []htfile.FormatCount `json:"formats"`
	// BadLines are invalid lines: their users cannot log in.
	BadLines []htfile.Finding `json:"bad_lines"`
	// Duplicates are lines of users that have an earlier one, which decides.
	Duplicates []int `json:"duplicates"`
	// Mode is who can read the file, as "ls -l" shows it.
	Mode string `json:"mode,omitempty"`
	// Owner and Group are names, or numbers where there is no name.
	Owner string `json:"owner,omitempty"`
	Group string `json:"group,omitempty"`
	// WorldReadable says that every user of the machine can read the hashes.
	WorldReadable bool `json:"world_readable"`
	// Unreadable says that mode, owner and group do not let the user caddy read
	// the file, where there is such a user.
	Unreadable bool `json:"unreadable_by_caddy,omitempty"`
	// MountPoint says that the file is mounted without its directory, as into a
	// container: a server in there does not see a file that takes its place outside.
	MountPoint bool `json:"mount_point,omitempty"`
	// Gone says that this has happened, or the file was deleted: the path leads
	// to a version that has no name left.
	Gone bool `json:"gone,omitempty"`

	// isFixed says that nobody can exchange the file before a command that
	// names it is run.
	isFixed bool
}

type reportedUser struct {
	Line   int      `json:"line"`
	Name   userName `json:"name"`
	Locked bool     `json:"locked,omitempty"`
	Format string   `json:"format,omitempty"`
	Cost   string   `json:"cost,omitempty"`
	Weak   bool     `json:"weak,omitempty"`
	// NotInNginx says why nginx refuses the password of the user, though a
	// server here takes it. It is absent where nothing is known against it.
	NotInNginx string `json:"not_in_nginx,omitempty"`
}

// userName is a name as it is in the file.
type userName string

// MarshalText quotes a name that is not UTF-8, which JSON cannot hold.
func (n userName) MarshalText() ([]byte, error) {
	if !utf8.ValidString(string(n)) {
		return []byte(strconv.Quote(string(n))), nil
	}
	return []byte(n), nil
}

// runCheck reports on files.
func (t *tool) runCheck(paths []string) error {
	var refused []string
	reports := make([]*fileReport, len(paths))
	for i, path := range paths {
		reports[i] = newFileReport(path)
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
func (t *tool) runList(path string) error {
	report := newFileReport(path)
	switch {
	case report.Mode == "":
		return failed(ExitFile, "%s: %s", shown.Text(path), report.Refused)
	case report.Refused != "":
		return failed(ExitNotAFile, "%s: a server would refuse it: %s", shown.Text(path), report.Refused)
	}
	var b strings.Builder
	others := len(report.BadLines)
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
		t.say("locked accounts and bad lines, not listed: %d; more with: caddy htpasswd --check %s", others, shown.Argument(path))
	}
	return nil
}

// newFileReport reads a file as a server does.
func newFileReport(path string) *fileReport {
	r := &fileReport{Path: path, Users: []reportedUser{}, Formats: []htfile.FormatCount{}, BadLines: []htfile.Finding{}, Duplicates: []int{}}
	text, mode, err := follow.ReadFile(path)
	if err != nil {
		r.Refused = err.Error()
		return r
	}
	r.Mode, r.Owner, r.Group = mode.String(), "", ""
	r.Owner, r.Group = ownerOf(path)
	r.WorldReadable = follow.IsWorldReadable(path, mode)
	r.MountPoint, r.Gone = follow.MountOf(path)
	r.isFixed = atomicfile.IsFixed(path)
	if _, err := user.Lookup(serverGroup); err == nil {
		r.Unreadable = !mayRead(serverGroup, r.Owner, r.Group, mode)
	}
	users, err := htfile.ParseLines(text, r.add)
	if err != nil {
		r.Refused = err.Error()
	}
	r.Formats = users.Formats()
	return r
}

// mayRead reports whether mode, owner and group let the user of that name read
// a file. Access control lists, which it does not see, may let them too.
func mayRead(name, owner, group string, mode fs.FileMode) bool {
	switch {
	case owner == name:
		return mode&0o400 != 0
	case group == name:
		return mode&0o040 != 0
	}
	return mode&0o004 != 0
}

// add takes a line into the report. The name of an invalid line can be a hash,
// if its colon is missing, so it is not shown.
func (r *fileReport) add(l *htfile.Line) {
	user := reportedUser{Line: l.Number, Name: userName(l.Name)}
	switch {
	case l.Problem != "":
		r.BadLines = append(r.BadLines, htfile.Finding{Line: l.Number, Reason: l.Problem})
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

// String is the report for people: a summary, and a line for each thing to
// fix, with its place in front.
func (r *fileReport) String() string {
	var b strings.Builder
	path := shown.Text(r.Path)
	if r.Refused != "" {
		fmt.Fprintf(&b, "%s: a server would refuse this file: %s\n", path, r.Refused)
	}
	good := 0
	for _, f := range r.Formats {
		good += f.Users
	}
	if r.Mode != "" {
		fmt.Fprintf(&b, "%s: users who can log in: %d; %s %s %s\n", path, good, r.Mode, r.Owner, r.Group)
	}
	for _, f := range r.Formats {
		fmt.Fprintf(&b, "  %s: %d\n", f, f.Users)
	}
	if r.WorldReadable {
		fmt.Fprintf(&b, "%s: can be read by every user of this machine; %s\n", path, r.advice("chmod o= %s"))
	}
	if r.Unreadable {
		fmt.Fprintf(&b, "%s: a server that runs as caddy can't read it, unless by an access control list; %s\n", path, r.advice("chgrp caddy %[1]s && chmod g=r %[1]s"))
	}
	switch {
	case r.Gone:
		fmt.Fprintf(&b, "%s: this is an old version; the file was replaced or deleted outside the container; a server that runs keeps this version, and a reload refuses it; mount its directory, not the file\n", path)
	case r.MountPoint:
		fmt.Fprintf(&b, "%s: is mounted as a single file; a server in this container can't see when it is replaced outside; mount its directory, not the file\n", path)
	}
	for _, u := range r.Users {
		if u.Weak {
			fmt.Fprintf(&b, "%s:%d: weak hash (%s): user %s; set the password anew\n", path, u.Line, u.Format, shown.Text(string(u.Name)))
		} else if u.Locked {
			fmt.Fprintf(&b, "%s:%d: locked: user %s\n", path, u.Line, shown.Text(string(u.Name)))
		}
		if u.NotInNginx != "" {
			fmt.Fprintf(&b, "%s:%d: works in Caddy, but not in nginx: user %s: %s\n", path, u.Line, shown.Text(string(u.Name)), u.NotInNginx)
		}
	}
	for _, l := range r.BadLines {
		fmt.Fprintf(&b, "%s:%d: bad line, whom it names can't log in: %s\n", path, l.Line, l.Reason)
	}
	for _, line := range r.Duplicates {
		fmt.Fprintf(&b, "%s:%d: skipped: its user has an earlier line\n", path, line)
	}
	return b.String()
}

// advice returns what to do about the rights of the file: a command, with places
// for the path, or none where somebody could have root run it on another file.
func (r *fileReport) advice(command string) string {
	if r.isFixed {
		return "run: " + fmt.Sprintf(command, shown.Argument(r.Path))
	}
	return "its owner has to change that, not root: others can put another file in its place"
}

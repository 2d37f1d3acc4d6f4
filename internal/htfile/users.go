package htfile

import (
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// minLineLen is how many bytes a line of a user has at least: enough to tell
// how many there can be in a file that is full of line ends.
const minLineLen = 32

// Users is the table of one htpasswd file.
type Users struct {
	// All are the users, in the order of their first lines. Positions in it
	// stand for users: a caller can keep what it knows of them in a slice of
	// the same length.
	All []User

	// Classes are the classes of the hashes with which users can log in, in
	// the order in which they first occur.
	Classes []Class

	Findings

	index map[string]uint32 // of names in All
}

// User is the line of a user that decides: the first one.
type User struct {
	Name  string
	Hash  string // behind the first colon; not a hash unless State is StateUsable
	Class uint32 // position in Classes; without meaning unless State is StateUsable
	State State
}

// State says whether a user can log in at all. A user who cannot is in the table
// as well, so that no later line, and no later file, lets them in.
type State uint8

const (
	// StateInvalid is for a line that is invalid, though it names a user.
	StateInvalid State = iota
	// StateLocked is for a mark in the place of the hash that lets nobody in.
	StateLocked
	// StateUsable is for a hash that can be computed.
	StateUsable
)

// Class is a class of hashes that cost the same.
type Class struct {
	crypt.Class
	Count  int    // of users that have it
	Sample uint32 // position of one of them in Users.All
}

// Parse reads the text of an htpasswd file. A file with lines of which none is
// valid is an error. The table is returned with an error, too: it says what is
// wrong with the lines, and has nobody in it who can log in.
func Parse(text string) (*Users, error) {
	return ParseLines(text, func(*Line) {})
}

// ParseLines is like Parse, and calls see for each line. The line is valid only
// until see returns.
func ParseLines(text string, see func(*Line)) (*Users, error) {
	n := min(strings.Count(text, "\n")+1, len(text)/minLineLen+1)
	u := &Users{All: make([]User, 0, n), index: make(map[string]uint32, n)}
	classes := make(map[crypt.Class]uint32)
	var l Line // one for all lines: it would be allocated for each
	for number, text := range lines(text) {
		l = Line{Number: number}
		l.Name, l.Hash, l.Problem = splitLine(text)
		_, l.IsDuplicate = u.index[l.Name]
		if l.Problem == "" && !l.IsDuplicate {
			l.judge()
		}
		u.add(&l, classes)
		see(&l)
	}
	return u, u.err("user:hash")
}

// add puts a line into the table, if it is the first one of its user.
func (u *Users) add(l *Line, classes map[crypt.Class]uint32) {
	if l.Problem != "" {
		u.addInvalid(l.Number, l.Problem)
	}
	if l.Name == "" {
		return
	}
	if l.IsDuplicate {
		u.addDuplicate(l.Number)
		return
	}
	position := uint32(len(u.All)) //nolint:gosec // more lines than that would not fit into memory
	u.index[l.Name] = position
	u.All = append(u.All, User{Name: l.Name, Hash: l.Hash, State: l.State})
	switch l.State {
	case StateLocked:
		if l.Hash != "" { // a text that is no htpasswd file at all can have a colon at the end of a line
			u.Valid++
		}
	case StateUsable:
		u.Valid++
		u.All[position].Class = u.classify(classes, l.Class, position)
	case StateInvalid:
	}
}

// classify counts a user to a class and returns the position of the class.
func (u *Users) classify(known map[crypt.Class]uint32, class crypt.Class, user uint32) uint32 {
	i, ok := known[class]
	if !ok {
		i = uint32(len(u.Classes)) //nolint:gosec // at most one for each user
		known[class] = i
		u.Classes = append(u.Classes, Class{Class: class, Sample: user})
	}
	u.Classes[i].Count++
	return i
}

// Index returns the position of a user in All, -1 if there is none of that name.
func (u *Users) Index(name []byte) int {
	if i, ok := u.index[string(name)]; ok {
		return int(i)
	}
	return -1
}

// Find returns the user of that name, nil if there is none.
func (u *Users) Find(name string) *User {
	if i, ok := u.index[name]; ok {
		return &u.All[i]
	}
	return nil
}

// Count returns how many users can log in, and how many of them by a weak hash.
func (u *Users) Count() (usable, weak int) {
	for _, c := range u.Classes {
		usable += c.Count
		if c.Format.Weak {
			weak += c.Count
		}
	}
	return usable, weak
}

// WeakByFormat returns how many users have a weak hash, by the name of its format.
func (u *Users) WeakByFormat() map[string]int {
	weak := make(map[string]int)
	for _, c := range u.Classes {
		if c.Format.Weak {
			weak[c.Format.Name] += c.Count
		}
	}
	return weak
}

// FormatCount says how many users have hashes of one format and cost.
type FormatCount struct {
	Format string `json:"format"`
	Cost   string `json:"cost,omitempty"`
	Weak   bool   `json:"weak"`
	Users  int    `json:"users"`
}

// String is the format with its cost, for people.
func (f FormatCount) String() string {
	text := f.Format
	if f.Cost != "" {
		text += " " + f.Cost
	}
	if f.Weak {
		text += " (weak)"
	}
	return text
}

// Formats counts the hashes of each format and cost, sorted by both. It is never
// nil, so that it is a list in JSON.
func (u *Users) Formats() []FormatCount {
	users := make(map[FormatCount]int) // classes differ in the length of salts, too
	for _, c := range u.Classes {
		users[FormatCount{Format: c.Format.Name, Cost: c.Cost, Weak: c.Format.Weak}] += c.Count
	}
	formats := []FormatCount{}
	for f, n := range users {
		f.Users = n
		formats = append(formats, f)
	}
	slices.SortFunc(formats, func(a, b FormatCount) int {
		return strings.Compare(a.String(), b.String())
	})
	return formats
}

package htfile

import (
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// minLineLen is a lower bound for the length of a user's line. It limits the memory
// that is allocated in advance for a file with many empty lines.
const minLineLen = 32

// Users is the content of one htpasswd file. It is immutable.
type Users struct {
	// All are the users, in the order of their first lines. A caller can keep
	// data about users in a slice of the same length, at the same positions.
	All []User

	// Classes are the classes of the usable hashes, in order of first
	// occurrence.
	Classes []Class

	Findings

	index map[string]uint32 // of names in All
}

// User is the first line of a user, which wins.
type User struct {
	Name  string
	Hash  string // text after the first colon; a hash only if State is StateUsable
	Class uint32 // position in Classes; defined only if State is StateUsable
	State State
}

// State tells whether a user can log in at all. Users that cannot are in the table
// as well, so that no later line and no later file lets them log in.
type State uint8

const (
	// StateInvalid is for an invalid line with a user name.
	StateInvalid State = iota
	// StateLocked is for a mark of a locked account in place of the hash.
	StateLocked
	// StateUsable is for a valid hash.
	StateUsable
)

// Class is a class of hashes whose verification costs the same.
type Class struct {
	crypt.Class
	Count  int    // number of users with such a hash
	Sample uint32 // position of one of them in Users.All
}

// Parse parses the text of an htpasswd file. A file that has lines other than comments,
// but no valid one, is an error. Even then it returns the users, of which none can log
// in, with the findings.
func Parse(text string) (*Users, error) {
	return ParseLines(text, func(*Line) {})
}

// ParseLines is like Parse, and calls see for each line. The line is valid only
// until see returns.
func ParseLines(text string, see func(*Line)) (*Users, error) {
	n := min(strings.Count(text, "\n")+1, len(text)/minLineLen+1)
	u := &Users{All: make([]User, 0, n), index: make(map[string]uint32, n)}
	classes := make(map[crypt.Class]uint32)
	var l Line // reused: see makes it escape
	for number, text := range lines(text) {
		l = Line{Number: number}
		l.Name, l.Hash, l.Problem = splitLine(text)
		_, l.IsDuplicate = u.index[l.Name]
		if l.Problem == "" && !l.IsDuplicate {
			l.parseHash()
		}
		u.add(&l, classes)
		see(&l)
	}
	return u, u.err("user:hash")
}

// add adds a line to the table, if it is the first one of its user.
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
		if l.Hash != "" { // other files can have a colon at the end of a line, too
			u.Valid++
		}
	case StateUsable:
		u.Valid++
		u.All[position].Class = u.classify(classes, l.Class, position)
	case StateInvalid:
	}
}

// classify counts a user for a class, and returns the position of the class.
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

// Index returns the position of a user in All, or -1 if there is no such user.
func (u *Users) Index(name []byte) int {
	if i, ok := u.index[string(name)]; ok {
		return int(i)
	}
	return -1
}

// Find returns the user of that name, or nil if there is none.
func (u *Users) Find(name string) *User {
	if i, ok := u.index[name]; ok {
		return &u.All[i]
	}
	return nil
}

// Count returns how many users can log in, and how many of them have a weak hash.
func (u *Users) Count() (usable, weak int) {
	for _, c := range u.Classes {
		usable += c.Count
		if c.Format.Weak {
			weak += c.Count
		}
	}
	return usable, weak
}

// WeakByFormat returns the number of users with weak hashes, by format name.
func (u *Users) WeakByFormat() map[string]int {
	weak := make(map[string]int)
	for _, c := range u.Classes {
		if c.Format.Weak {
			weak[c.Format.Name] += c.Count
		}
	}
	return weak
}

// FormatCount is the number of users with hashes of one format and cost.
type FormatCount struct {
	Format string `json:"format"`
	Cost   string `json:"cost,omitempty"`
	Weak   bool   `json:"weak"`
	Users  int    `json:"users"`
}

// String returns the format with its cost as text.
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

// Formats counts the hashes of each format and cost, sorted by both. The result is
// never nil, so that it is a list in JSON.
func (u *Users) Formats() []FormatCount {
	users := make(map[FormatCount]int) // classes can also differ in the length of salts
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

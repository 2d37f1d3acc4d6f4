package fileapi

import (
	"net/http"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// File is the file that a request changes.
type File struct {
	Source
	IsGroups bool // it is used as a group file
	MaxText  int  // the largest text in bytes
}

// Check returns the error of a request that no text of the file allows.
func (r *Request) Check(f File) error {
	if r.Import != nil {
		return r.Import.check(f)
	}
	if f.IsGroups {
		return Errorf(http.StatusBadRequest, "%s is a group file, which has no lines of users; change it with an import", f)
	}
	_, user := r.Action()
	if err := htfile.CheckName(user); err != nil {
		return Errorf(http.StatusBadRequest, "user: %s", err)
	}
	if r.Set != nil {
		return checkHash(r.Set.Hash)
	}
	return nil
}

// checkHash returns an error for a text that is no hash of a line.
func checkHash(hash string) error {
	if htfile.HasControl(hash) || strings.Contains(hash, ":") || strings.Trim(hash, htfile.Whitespace) != hash {
		return Errorf(http.StatusBadRequest, "hash: found a colon, a control character, or whitespace around it; expected what follows 'user:' in the output of: caddy htpasswd -n USER")
	}
	if _, err := crypt.Parse(hash); err != nil {
		return Errorf(http.StatusBadRequest, "hash: %s; expected what follows 'user:' in the output of: caddy htpasswd -n USER", err)
	}
	return nil
}

func (i *Import) check(f File) error {
	if len(i.Text) > f.MaxText {
		return errTooLarge(f, len(i.Text))
	}
	if !htfile.HasLines(i.Text) {
		return Errorf(http.StatusBadRequest, "import: the text has no lines; to remove all users on purpose, import a comment, such as '# nobody'")
	}
	if _, err := count(f, i.Text); err != nil {
		return Errorf(http.StatusBadRequest, "import: a server would refuse this text: %s", err)
	}
	return nil
}

func errTooLarge(f File, size int) error {
	return Errorf(http.StatusRequestEntityTooLarge, "the text of %s would have %d bytes; at most %d are supported; split it into several files", f, size, f.MaxText)
}

// count returns how many users can log in, or are in a group, or the error with which a
// server would refuse the text.
func count(f File, text string) (users int, err error) {
	if f.IsGroups {
		groups, err := htfile.ParseGroups(text)
		return len(groups.Of), err
	}
	parsed, err := htfile.Parse(text)
	users, _ = parsed.Count()
	return users, err
}

// Apply makes the change in a text, for which Check must have returned nil. Errors are of
// type *Error.
func (r *Request) Apply(f File, text string) (edited string, a Answer, err error) {
	if r.Import != nil {
		return r.Import.apply(f, text)
	}
	_, user := r.Action()
	if users, err := htfile.Parse(text); err != nil && users.Find(user) == nil {
		return "", a, Errorf(http.StatusConflict, "the text of %s is not an htpasswd file: %s; replace it with: caddy htpasswd --import -c %[1]s FILE", f, err)
	}
	if r.Remove != nil {
		edited, a.Lines = htfile.RemoveUser(text, user)
		a.Result = Removed
		if a.Lines == 0 {
			a.Result = NotFound
		}
	} else {
		edited, a.Lines = htfile.SetUser(text, user, r.Set.Hash)
		a.Result = Updated
		if a.Lines == 0 {
			a.Result = Added
		}
	}
	if a.Lines == 1 {
		a.Lines = 0
	}
	users, err := htfile.Parse(edited)
	switch found := users.Find(user); {
	case err != nil && r.Remove != nil:
		return "", Answer{}, Errorf(http.StatusConflict, "the user was not removed: a server would refuse the file without this line, and keep the old version, in which the user can log in: %s", err)
	case err != nil:
		return "", Answer{}, Errorf(http.StatusConflict, "%s", err)
	case r.Set != nil && (found == nil || found.State != htfile.StateUsable || found.Hash != r.Set.Hash), r.Remove != nil && found != nil:
		return "", Answer{}, Errorf(http.StatusBadRequest, "the resulting line would be parsed differently by a server")
	case len(edited) > f.MaxText && len(edited) > len(text): // a large text may become smaller
		return "", Answer{}, errTooLarge(f, len(edited))
	}
	a.Users, _ = users.Count()
	return edited, a, nil
}

func (i *Import) apply(f File, text string) (edited string, a Answer, err error) {
	if htfile.HasLines(text) && !i.Overwrite {
		return "", a, Errorf(http.StatusConflict, `%s has lines already; to replace all of them, add "overwrite":true`, f)
	}
	users, err := count(f, i.Text)
	if err != nil {
		return "", a, Errorf(http.StatusBadRequest, "import: a server would refuse this text: %s", err)
	}
	return i.Text, Answer{Result: Imported, Users: users}, nil
}

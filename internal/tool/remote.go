package tool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/fileapi"
	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// AdminAPI sends a request to the admin API of a running Caddy. The address is that of
// --address, or "" for Caddy's default. The error is only for a request without an answer,
// and does not contain the body.
type AdminAPI func(address, method, path string, body []byte) (AdminAnswer, error)

// AdminAnswer is an answer of the admin API.
type AdminAnswer struct {
	Address string // where the request was sent, also with an error
	Status  int
	Body    []byte
}

// adminTimeout is how long an answer may take. The server waits for 10 seconds for its
// store.
const adminTimeout = 15 * time.Second

// errNoAnswer is wrapped by errors for a request that may have been executed.
var errNoAnswer = errors.New("no answer")

// adminError is an error that the admin API has answered with.
type adminError struct {
	status  int
	address string
	text    string
}

func (e *adminError) Error() string {
	return fmt.Sprintf("the Caddy at %s: %s", shown.Text(e.address), e.text)
}

// ask sends a request to the admin API, and decodes its answer.
func (t *tool) ask(ctx context.Context, method, path string, body []byte, answer any) error {
	inTime, cancel := context.WithTimeout(ctx, t.adminTimeout)
	defer cancel()
	got, err := interruptible(inTime, func() (AdminAnswer, error) { return t.admin(t.address, method, path, body) })
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case inTime.Err() != nil:
		return fmt.Errorf("%w within %s", errNoAnswer, t.adminTimeout)
	case err != nil:
		return fmt.Errorf("%w from Caddy's admin API at %s: %w", errNoAnswer, shown.Text(got.Address), err)
	case got.Status >= http.StatusBadRequest:
		var said struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(got.Body, &said) != nil || said.Error == "" {
			said.Error = fmt.Sprintf("status %d, without the error of an admin API; correct the address", got.Status)
		}
		return &adminError{got.Status, got.Address, shown.Text(said.Error)}
	}
	if err := json.Unmarshal(got.Body, answer); err != nil {
		return fmt.Errorf("what answers at %s is not Caddy's admin API", shown.Text(got.Address))
	}
	return nil
}

// remoteFile is a file that is not on disk, as the running Caddy has it.
type remoteFile struct {
	fileapi.Source
	Path  string `json:"path"`
	Kind  string `json:"kind"`
	Users int    `json:"users"`
	Copy  string `json:"copy"` // the path of the local copy
}

// look asks the running Caddy for a file.
func (t *tool) look(ctx context.Context, source fileapi.Source) (*remoteFile, error) {
	if t.files == nil {
		var status struct {
			Files []remoteFile `json:"files"`
		}
		if err := t.ask(ctx, http.MethodGet, "/htpasswd", nil, &status); err != nil {
			return nil, t.notAsked(source, err)
		}
		t.files = append([]remoteFile{}, status.Files...)
	}
	var file remoteFile
	for _, f := range t.files {
		if f.Path == source.String() {
			file = f // one that is used as both is a password file, which comes last
		}
	}
	if file.Path == "" {
		return nil, failed(ExitFile, "the running configuration of Caddy does not use %s; add it as a file of an htpasswd directive, and reload", source)
	}
	file.Source = source
	return &file, nil
}

// notAsked returns the error for a running Caddy that could not be asked for a file.
func (t *tool) notAsked(source fileapi.Source, err error) error {
	said, hasSaid := errors.AsType[*adminError](err)
	switch {
	case errors.Is(err, errInterrupted):
		return err
	case errors.Is(err, errNoAnswer) && strings.Contains(err.Error(), "permission denied"): // a socket
		return failed(ExitFile, "%s; run this with sudo, or as the user that Caddy runs as", err)
	case errors.Is(err, errNoAnswer):
		return failed(ExitFile, "%s; %s needs a running Caddy: start it, or write its admin address after --address; with 'admin off' it is not possible", err, source)
	case hasSaid && said.status == http.StatusNotFound:
		return failed(ExitFile, "the Caddy at %s has no htpasswd plugin; to ask another one, use --address", shown.Text(said.address))
	}
	return failed(ExitFile, "%s", err)
}

// checkUsers returns an error for a group file, which has no users with passwords.
func (f *remoteFile) checkUsers() error {
	if f.Kind == "groups" {
		return failed(ExitNotAFile, "%s is a group file, which has no passwords; use --export and --import", f.Source)
	}
	return nil
}

// text returns the text of the local copy.
func (f *remoteFile) text() (string, error) {
	noCopy := func() error {
		return failed(ExitFile, "%s has no copy on this machine yet; if nobody has written it, create its first user with: caddy htpasswd %[1]s USER; if Caddy runs in a container, run this command there", f.Source)
	}
	if f.Copy == "" {
		return "", noCopy()
	}
	// The answer may come from another program, so it does not name just any file.
	if !filepath.IsAbs(f.Copy) || !strings.HasSuffix(filepath.ToSlash(f.Copy), "/htpasswd/"+f.Scheme+"/"+f.Name) {
		return "", failed(ExitFile, "the admin API names %s as the copy of %s, which it cannot be", shown.Text(f.Copy), f.Source)
	}
	text, _, err := follow.ReadFile(f.Copy)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", noCopy()
	case errors.Is(err, fs.ErrPermission):
		return "", failed(ExitFile, "%s: only Caddy's user may read the copy %s; run this with sudo", f.Source, shown.Text(f.Copy))
	case err != nil:
		return "", failed(ExitFile, "%s: the copy %s: %s", f.Source, shown.Text(f.Copy), err)
	}
	// The first line is about the copy, and not a part of the text.
	header, text, found := strings.Cut(text, "\n")
	if !found || !strings.HasPrefix(header, "#") {
		return "", failed(ExitFile, "%s: %s is not a copy that Caddy has written; it begins with no comment", f.Source, shown.Text(f.Copy))
	}
	return text, nil
}

// readText returns the text of a file on disk, or of the local copy of another one.
func (t *tool) readText(ctx context.Context, path string) (string, error) {
	source, isSource, err := fileapi.ParseURL(path)
	if err != nil {
		return "", failed(ExitUsage, "%s", err)
	}
	if isSource {
		file, err := t.look(ctx, source)
		if err != nil {
			return "", err
		}
		if err := file.checkUsers(); err != nil {
			return "", err
		}
		return file.text()
	}
	text, _, err := follow.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", t.missing(path)
	case errors.Is(err, fs.ErrPermission):
		return "", denied(fmt.Errorf("%s: %w", shown.Text(path), fs.ErrPermission))
	case err != nil:
		return "", failed(ExitFile, "%s: %s", shown.Text(path), err)
	}
	return text, nil
}

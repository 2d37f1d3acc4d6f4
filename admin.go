package caddyhtpasswd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/fileapi"
	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

func init() {
	caddy.RegisterModule(new(adminAPI))
}

// adminAPI adds endpoints to Caddy's admin API. They show and control the state that
// all sites of the process share:
//
//	GET    /htpasswd                   the files, the limits, the exceeded limits and the hash queue
//	POST   /htpasswd/reload            reload all files
//	GET    /htpasswd/throttle          the exceeded limits
//	GET    /htpasswd/throttle/<name>   the exceeded limits of a client (an address) or user
//	DELETE /htpasswd/throttle          clear all failed logins
//	DELETE /htpasswd/throttle/<name>   clear the failed logins of a client (an address) or user
//	POST   /htpasswd/files/<scheme>/<name>   change a file that is not on disk
//
// No response contains a password or a hash.
type adminAPI struct{ shared *shared }

// CaddyModule returns the Caddy module information.
func (*adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.htpasswd",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// Provision sets the state that the sites share.
func (a *adminAPI) Provision(caddy.Context) error {
	a.shared = a.shared.orProcess()
	return nil
}

const throttlePath = "/htpasswd/throttle"

// Routes returns the routes of the API.
func (a *adminAPI) Routes() []caddy.AdminRoute {
	throttle := methods{http.MethodGet: a.exceeded, http.MethodDelete: a.clear}
	return []caddy.AdminRoute{
		{Pattern: "/htpasswd", Handler: methods{http.MethodGet: a.status}},
		{Pattern: "/htpasswd/reload", Handler: methods{http.MethodPost: a.reload}},
		{Pattern: fileapi.Path, Handler: methods{http.MethodPost: a.changeFile}},
		{Pattern: throttlePath, Handler: throttle},
		{Pattern: throttlePath + "/", Handler: throttle},
	}
}

// methods maps the HTTP methods of a path to their handlers. Other methods get a 405.
type methods map[string]caddy.AdminHandlerFunc

// ServeHTTP implements caddy.AdminHandler.
func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if handler, ok := m[method]; ok {
		return handler(w, r)
	}
	allowed := strings.Join(slices.Sorted(maps.Keys(m)), ", ")
	w.Header().Set("Allow", allowed)
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method '%s' not allowed: use %s", r.Method, allowed)}
}

// adminStatus is the response to GET /htpasswd.
type adminStatus struct {
	Files []adminFile `json:"files"`
	// Limits by the name of their scope: login, client, user.
	Limits map[string]adminLimit `json:"limits"`
	adminExceeded
	HashQueue adminHashQueue `json:"hash_queue"`
	// Fleet is absent if the server belongs to none.
	Fleet *adminFleet `json:"fleet,omitempty"`
}

// adminFile describes a file that is in use.
type adminFile struct {
	Path string `json:"path"`
	Kind string `json:"kind"` // "users", "groups" or "pattern"
	// Users is the number of users who can log in, or who are in a group. For a pattern,
	// it includes all matching files.
	Users int `json:"users"`
	// Files is the number of files that match a pattern.
	Files int `json:"files,omitempty"`
	// Formats of the hashes in a password file.
	Formats []htfile.FormatCount `json:"formats,omitempty"`
	// InvalidLines are the first invalid lines, InvalidLineCount is the number of all.
	InvalidLines     []htfile.Finding `json:"invalid_lines"`
	InvalidLineCount int              `json:"invalid_line_count"`
	// LastLoad is when the active version was loaded; absent for a new file that cannot
	// be loaded.
	LastLoad time.Time `json:"last_load,omitzero"`
	// LastError is the error of the last load; absent if the last load succeeded.
	LastError string `json:"last_error,omitempty"`
	// LoadFailures counts failed loads. Repeated failures for the same reason count once.
	LoadFailures int `json:"load_failures"`
	// The following are absent for a file on disk.

	// Version counts the changes of a file in a fleet.
	Version uint64 `json:"version,omitempty"`
	// Written is when the active version was written.
	Written time.Time `json:"written,omitzero"`
	// Checked is when the store last confirmed that no newer version exists.
	Checked time.Time `json:"checked,omitzero"`
	// Copy is the path of the local copy.
	Copy string `json:"copy,omitempty"`

	// Rehash is absent if no site replaces weak hashes in the file.
	Rehash *adminRehash `json:"rehash,omitempty"`
}

// adminRehash says how weak hashes in a file are replaced.
type adminRehash struct {
	// Pending is the number of logins whose new hash is not written yet.
	Pending int `json:"pending"`
	// LastError is why the file cannot be written; absent if it can.
	LastError string `json:"last_error,omitempty"`
}

// adminLimit is a limit on failed logins.
type adminLimit struct {
	// Off says that the limit is disabled.
	Off      bool   `json:"off,omitempty"`
	Failures int    `json:"failures,omitempty"`
	Window   string `json:"window,omitempty"`
	// Exceeded is how many clients, users, or pairs of them exceed the limit now.
	Exceeded int `json:"exceeded"`
}

// adminHashQueue is the state of the hash queue: its worker slots, how many of them
// are busy, and how many logins wait for one.
type adminHashQueue struct {
	Workers int `json:"workers"`
	Busy    int `json:"busy"`
	Waiting int `json:"waiting"`
}

// status responds to GET /htpasswd.
func (a *adminAPI) status(w http.ResponseWriter, r *http.Request) error {
	g := a.shared.guard
	status := adminStatus{Files: []adminFile{}, Limits: make(map[string]adminLimit), adminExceeded: g.exceededNow()}
	ctx, cancel := context.WithTimeout(r.Context(), copyTimeout)
	defer cancel()
	for _, f := range a.shared.sources.inUse() {
		if f.mirror != nil {
			f.mirror.Save(ctx) // the command reads the copy next
		}
		status.Files = append(status.Files, newAdminFile(&f))
	}
	for s, limit := range g.settings().limits {
		state := adminLimit{Off: limit.Max == 0}
		if !state.Off {
			state.Failures, state.Window = limit.Max, limit.Window.String()
			state.Exceeded = status.counts[s]
		}
		status.Limits[scopeNames[s]] = state
	}
	status.HashQueue.Workers = g.settings().maxHashes
	status.HashQueue.Busy, status.HashQueue.Waiting = g.queue.State()
	status.Fleet = a.shared.active.activeFleet().state()
	return writeJSON(w, http.StatusOK, status)
}

func newAdminFile(f *fileInUse) adminFile {
	found := f.findings()
	file := adminFile{
		Path: shown.Label(f.Name()), Kind: f.kind(),
		InvalidLines: append([]htfile.Finding{}, found.Invalid...), InvalidLineCount: found.InvalidCount,
		LastLoad: f.status.LoadedAt, LastError: f.status.Failure, LoadFailures: f.status.Failures,
	}
	if f.mirror != nil {
		s := f.mirror.Status()
		file.Version, file.Written, file.Checked, file.Copy = s.Version, s.Time, s.CheckedAt, s.Path
	}
	switch {
	case f.list != nil:
		stores := f.list.stores()
		file.Files = len(stores)
		for _, s := range stores {
			users, _ := s.current.Load().file.Count()
			file.Users += users
		}
	case f.store != nil:
		file.Users, _ = f.users.file.Count()
		file.Formats = f.users.file.Formats()
		if pending, failure, isUsed := f.store.rehash.state(); isUsed {
			file.Rehash = &adminRehash{pending, failure}
		}
	default:
		file.Users = len(f.groups.Of)
	}
	return file
}

// adminReload is the result of reloading one file.
type adminReload struct {
	Path   string       `json:"path"`
	Kind   string       `json:"kind"`
	Result reloadResult `json:"result"`
	// LastLoad is when the active version was loaded.
	LastLoad time.Time `json:"last_load,omitzero"`
	Error    string    `json:"error,omitempty"` // with failed
	// Pending says why the previous version is still active, with pending.
	Pending string `json:"pending,omitempty"`
}

// reloadResult is the result of reloading a file in one word.
type reloadResult string

const (
	reloadChanged   reloadResult = "reloaded"  // the file has changed, and the new version is active
	reloadUnchanged reloadResult = "unchanged" // the active version is the one on disk
	reloadPending   reloadResult = "pending"   // the file is empty and has a grace period
	reloadFailed    reloadResult = "failed"    // the file cannot be loaded; the previous version stays active
)

// reload reloads all files that are in use. The status is 500 if one of the files
// cannot be loaded.
func (a *adminAPI) reload(w http.ResponseWriter, _ *http.Request) error {
	status, reloads := http.StatusOK, []adminReload{}
	logger := a.shared.active.get().logger
	isList := func(f fileInUse) bool { return f.list != nil }
	reloadAll := func(files []fileInUse) {
		for _, f := range files {
			reload := reloadFile(&f, logger)
			if reload.Result == reloadFailed {
				status = http.StatusInternalServerError
			}
			reloads = append(reloads, reload)
		}
	}
	files := a.shared.sources.inUse()
	if slices.ContainsFunc(files, isList) { // first, because they add and remove files
		reloadAll(slices.DeleteFunc(files, func(f fileInUse) bool { return !isList(f) }))
		files = slices.DeleteFunc(a.shared.sources.inUse(), isList)
	}
	reloadAll(files)
	return writeJSON(w, status, map[string]any{"files": reloads})
}

func reloadFile(f *fileInUse, logger *zap.Logger) adminReload {
	reload := adminReload{Path: shown.Label(f.Name()), Kind: f.kind()}
	err := f.Reload(logger)
	reload.LastLoad = f.Status().LoadedAt
	switch {
	case err != nil:
		reload.Result, reload.Error = reloadFailed, err.Error()
	case f.IsInGrace():
		reload.Result = reloadPending
		reload.Pending = fmt.Sprintf("the file is empty; keeping the previous version for %s, in case it is being written", follow.EmptyGrace)
	case reload.LastLoad.Equal(f.status.LoadedAt):
		reload.Result = reloadUnchanged
	default:
		reload.Result = reloadChanged
	}
	return reload
}

// nameIn returns the client or user at the end of a request's path. A slash with
// nothing after it is an error.
func nameIn(r *http.Request) (name string, hasName bool, err error) {
	name, hasName = strings.CutPrefix(r.URL.Path, throttlePath+"/")
	if hasName && name == "" { // most likely a script's variable is empty
		return "", false, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New("expected a client address or user name after the slash; to mean all of them, omit the slash")}
	}
	return name, hasName, nil
}

// exceeded responds with the exceeded limits: all, or those of a client or user.
func (a *adminAPI) exceeded(w http.ResponseWriter, r *http.Request) error {
	name, hasName, err := nameIn(r)
	if err != nil {
		return err
	}
	if !hasName {
		return writeJSON(w, http.StatusOK, a.shared.guard.exceededNow())
	}
	return writeJSON(w, http.StatusOK, a.shared.guard.exceededBy(name))
}

// clear clears failed logins: all, or those of a client or user.
func (a *adminAPI) clear(w http.ResponseWriter, r *http.Request) error {
	name, hasName, err := nameIn(r)
	if err != nil {
		return err
	}
	g := a.shared.guard
	var base *forgotten // nil for all
	keys := iter.Seq2[scope, uint64](g.allKeys)
	var fields []zap.Field
	if hasName {
		base = g.baseKeys(name)
		keys = base.keys(g)
		fields = append(fields, zap.String("client_or_user", shown.Text(name)))
	}
	cleared := g.clearFailures(keys)
	a.shared.active.get().logger.Info("failed logins cleared", append(fields, zap.Int("entries", len(cleared)))...)
	status, answer := http.StatusOK, adminCleared{Cleared: len(cleared)}
	if f := a.shared.active.activeFleet(); f != nil {
		if err := f.forget(r.Context(), base, cleared); err != nil {
			status = http.StatusInternalServerError
			answer.Error = fmt.Sprintf("cleared on this server only: %s; try again when it works, or on each server", err)
		}
	}
	return writeJSON(w, status, answer)
}

// adminCleared is the result of clearing failed logins.
type adminCleared struct {
	Cleared int `json:"cleared"`
	// Error says why the other servers of the fleet have not cleared them.
	Error string `json:"error,omitempty"`
}

func writeJSON(w http.ResponseWriter, status int, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: err}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write([]byte(shown.JSON(string(text)) + "\n"))
	return err
}

// Interface guards
var (
	_ caddy.Provisioner  = (*adminAPI)(nil)
	_ caddy.AdminRouter  = (*adminAPI)(nil)
	_ caddy.AdminHandler = methods{}
)

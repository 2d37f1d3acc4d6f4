package caddyhtpasswd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI is the part of Caddy's admin API that shows and governs what all
// sites of the process share:
//
//	GET    /htpasswd                   the files, budgets and hashing slots
//	POST   /htpasswd/reload            read all files now
//	DELETE /htpasswd/throttle          forget all failed log-ins
//	DELETE /htpasswd/throttle/<name>   forget those of a client (an address) or user
//
// No answer has a password or a hash in it.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.htpasswd",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

const throttlePath = "/htpasswd/throttle"

// Routes returns the routes of the API.
func (a adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/htpasswd", Handler: only(http.MethodGet, a.status)},
		{Pattern: "/htpasswd/reload", Handler: only(http.MethodPost, a.reload)},
		{Pattern: throttlePath, Handler: only(http.MethodDelete, a.forget)},
		{Pattern: throttlePath + "/", Handler: only(http.MethodDelete, a.forget)},
	}
}

// only answers 405 to other methods than the one.
func only(method string, handler caddy.AdminHandlerFunc) caddy.AdminHandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.Method != method && (method != http.MethodGet || r.Method != http.MethodHead) {
			w.Header().Set("Allow", method)
			return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("the method must be %s", method)}
		}
		return handler(w, r)
	}
}

// adminStatus is the answer to GET /htpasswd.
type adminStatus struct {
	Files []adminFile `json:"files"`
	// Budgets by the name of their scope: login, client, user.
	Budgets map[string]adminBudget `json:"budgets"`
	Slots   adminSlots             `json:"slots"`
}

// adminFile is a file that is in use.
type adminFile struct {
	Path string `json:"path"`
	Kind string `json:"kind"` // "users" or "groups"
	// Users who can log in, or who are in a group.
	Users int `json:"users"`
	// Formats of the hashes, in a file of users.
	Formats []reportedFormat `json:"formats,omitempty"`
	// BadLines are the first of those that are skipped, BadLineCount their number.
	BadLines     []reportedLine `json:"bad_lines"`
	BadLineCount int            `json:"bad_line_count"`
	// LastLoad is when the version that is in force was loaded.
	LastLoad time.Time `json:"last_load"`
	// LastError is what is wrong with the file now; if nothing, it is absent.
	LastError string `json:"last_error,omitempty"`
	// Failures is how often the file became one that can't be used, or so for
	// another reason.
	Failures int `json:"failures"`
}

type adminBudget struct {
	// Off says that there is no limit.
	Off      bool   `json:"off,omitempty"`
	Failures int    `json:"failures,omitempty"`
	Window   string `json:"window,omitempty"`
	// UsedUp is how many clients, users, or pairs of them are refused at the moment.
	UsedUp int `json:"used_up"`
}

type adminSlots struct {
	Max     int `json:"max"`
	InUse   int `json:"in_use"`
	Waiting int `json:"waiting"`
}

// status tells how things are.
func (adminAPI) status(w http.ResponseWriter, _ *http.Request) error {
	g := sharedGuard
	status := adminStatus{Files: []adminFile{}, Budgets: make(map[string]adminBudget)}
	for _, f := range filesInUse() {
		status.Files = append(status.Files, newAdminFile(&f))
	}
	for s, l := range g.settings().limits {
		b := adminBudget{Off: l.failures == 0}
		if !b.Off {
			b.Failures, b.Window = l.failures, l.window.String()
			b.UsedUp = g.spent[s].usedUp(g.clock(), l)
		}
		status.Budgets[scopeNames[s]] = b
	}
	status.Slots.Max = g.slots.max()
	status.Slots.InUse, status.Slots.Waiting = g.slots.state()
	return writeJSON(w, http.StatusOK, status)
}

func newAdminFile(f *fileInUse) adminFile {
	found := f.findings()
	file := adminFile{
		Path: labelValue(f.path), Kind: f.kind(),
		BadLines: []reportedLine{}, BadLineCount: found.badCount,
		LastLoad: f.status.loadedAt, LastError: f.status.failure, Failures: f.status.failures,
	}
	for _, b := range found.bad {
		file.BadLines = append(file.BadLines, reportedLine{b.line, b.text})
	}
	if f.store != nil {
		file.Users, _ = f.users.count()
		file.Formats = f.users.formats()
	} else {
		file.Users = len(f.groups.groups)
	}
	return file
}

// adminReload is what came of reading one file.
type adminReload struct {
	Path  string `json:"path"`
	Kind  string `json:"kind"`
	Error string `json:"error,omitempty"` // then the version before stays in force
	// Pending says why the version before stays in force for a moment.
	Pending string `json:"pending,omitempty"`
}

// reload reads all files that are in use. The status is 500 if one of them
// can't be used.
func (adminAPI) reload(w http.ResponseWriter, _ *http.Request) error {
	status, reloads := http.StatusOK, []adminReload{}
	logger := running.settings().logger
	for _, f := range filesInUse() {
		reload := adminReload{Path: labelValue(f.path), Kind: f.kind()}
		if err := f.reload(logger); err != nil {
			status, reload.Error = http.StatusInternalServerError, err.Error()
		} else if f.isInGrace() {
			reload.Pending = fmt.Sprintf("the file is empty; for %s the version before serves, in case it is being written", emptyGrace)
		}
		reloads = append(reloads, reload)
	}
	return writeJSON(w, status, map[string]any{"files": reloads})
}

// forget ends throttling: of all, or of a client or user.
func (adminAPI) forget(w http.ResponseWriter, r *http.Request) error {
	name, hasName := strings.CutPrefix(r.URL.Path, throttlePath+"/")
	g, logger := sharedGuard, running.settings().logger
	if hasName && name == "" { // most likely a script's variable is empty
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New("no client or user behind the slash; without the slash, all are forgotten")}
	}
	if !hasName {
		n := g.forgetAll()
		logger.Info("failed log-ins forgotten", zap.Int("entries", n))
		return writeJSON(w, http.StatusOK, map[string]int{"forgotten": n})
	}
	n := g.forgetUser(name)
	if address, err := netip.ParseAddr(name); err == nil { // a user can have such a name, too
		n += g.forgetClient(address.String())
	}
	logger.Info("failed log-ins forgotten", zap.String("client_or_user", printable(name)), zap.Int("entries", n))
	return writeJSON(w, http.StatusOK, map[string]int{"forgotten": n})
}

func writeJSON(w http.ResponseWriter, status int, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: err}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write(append(text, '\n'))
	return err
}

// Interface guards
var (
	_ caddy.AdminRouter = adminAPI{}
)

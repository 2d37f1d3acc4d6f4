package caddyhtpasswd

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htedit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/passwordpage"
	"github.com/seed10b5b978/caddy-htpasswd/internal/passwordpolicy"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

const headerForwardedHost = "X-Forwarded-Host"

// pageRequest is a request for the page of change_password.
type pageRequest struct {
	*Handler
	w    http.ResponseWriter
	r    *http.Request
	sent *sentAuthorization
	from origin
	user string // who has logged in
}

// servePasswordPage answers a request for the page of change_password. The user has just
// logged in, and is authorized.
func (h *Handler) servePasswordPage(w http.ResponseWriter, r *http.Request, sent *sentAuthorization) error {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	user, _ := repl.GetString(userPlaceholder)
	devices := sent.devices.of(h.device.name)
	p := pageRequest{h, w, r, sent, origin{sent.clientIP(), r.Host, devices}, user}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return p.show()
	case http.MethodPost:
		result, err := p.post()
		h.guard.changes[result].Add(1)
		return err
	}
	w.Header().Set("Allow", "GET, HEAD, POST")
	return p.write(http.StatusMethodNotAllowed, passwordpage.Page{Problem: "Open this page in a browser to change the password.", IsFinal: true})
}

// target returns the user's file, or false if the user is in no file.
func (p *pageRequest) target() (target htedit.Target, ok bool) {
	return p.users.now().find([]byte(p.user)).store.target()
}

// show answers a GET: with the form, or with the reason why the password cannot be
// changed.
func (p *pageRequest) show() error {
	if target, ok := p.target(); !ok {
		_, err := p.noFile()
		return err
	} else if err := target.Check(); err != nil {
		_, err := p.notWritable(target.Name(), err)
		return err
	}
	return p.write(http.StatusOK, passwordpage.Page{})
}

// post answers a form. Nothing of it is read, and no hash is computed, unless a page of
// this site has sent it.
func (p *pageRequest) post() (changeResult, error) {
	form, err := passwordpage.ReadForm(p.w, p.r, ownOrigin(p.r))
	if errors.Is(err, passwordpage.ErrOtherOrigin) {
		return p.otherOrigin(err)
	}
	if err != nil {
		return changeBadForm, p.write(passwordpage.StatusOf(err), passwordpage.Page{Problem: sentence(err.Error()) + " Nothing was changed."})
	}
	if form.User != "" && form.User != passwordpage.ShownUser(p.user) {
		return changeBadForm, p.write(http.StatusConflict, passwordpage.Page{Problem: "The form was for another user than the one who is logged in now. Nothing was changed."})
	}
	if _, ok := p.target(); !ok {
		return p.noFile()
	}
	page := passwordpage.Page{}
	policy := p.ChangePassword.policy()
	if reason := policy.Check(p.user, form.New); reason != passwordpolicy.ReasonNone {
		page.NewProblem = sentence(policy.Problem(reason) + "; " + policy.Advice(reason))
	} else if form.New == form.Current {
		page.NewProblem = "The new password is the same as the current one."
	} else if form.New != form.Again {
		page.AgainProblem = "This is not the same as the new password."
	}
	if page.HasProblem() {
		return changeWeak, p.write(http.StatusUnprocessableEntity, page)
	}
	return p.change(form)
}

// change sets a new password that is accepted.
func (p *pageRequest) change(form passwordpage.Form) (changeResult, error) {
	c := parseCredentials(basicScheme + " " + base64.StdEncoding.EncodeToString([]byte(p.user+":"+form.Current)))
	defer c.release()
	newHash := ""
	for range 2 { // a new hash of the same password may have been written in the meantime
		var verified lookup
		v, err := p.checkEntry(p.r.Context(), p.from, c, &verified)
		if err != nil {
			return p.unchecked(c.user, err)
		}
		if v.result != resultPassed || v.user != any(p.user) {
			if v.isCheap() {
				p.guard.awaitRefusal(p.r.Context())
			}
			return changeWrongPassword, p.write(http.StatusUnprocessableEntity, passwordpage.Page{CurrentProblem: "The current password is not correct."})
		}
		target, ok := verified.store.target()
		if !ok {
			return p.noFile()
		}
		if err := target.Check(); err != nil { // before the hash
			return p.notWritable(target.Name(), err)
		}
		if newHash == "" {
			if newHash, err = p.makeHash(p.r.Context(), p.guard.keyer().client(p.from.ip), verified, []byte(form.New)); err != nil {
				return p.unchecked(c.user, err)
			}
		}
		if err := p.r.Context().Err(); err != nil { // from here on, the client can go away
			return p.unchecked(c.user, err)
		}
		err = p.setPassword(p.r.Context(), p.guard.keyer().client(p.from.ip), verified, &c.digest, newHash)
		switch {
		case err == nil:
			p.renewDevice(verified.entry.Hash, newHash)
			return p.done(target.Name())
		case errors.Is(err, htedit.ErrChanged):
			verified.store.awaitCurrent(p.r.Context())
		default:
			return p.notWritable(target.Name(), err)
		}
	}
	p.logRefusal(changeLines, p.from, []byte(p.user), "password not changed; the user's line was changed at the same time")
	return changeConflict, p.write(http.StatusConflict, passwordpage.Page{Problem: "The password file was changed at the same time, so your password was not changed. Try again."})
}

// done answers the form after the change. It is no redirect: the browser would be asked
// for a password before the user has read what has happened.
func (p *pageRequest) done(path string) (changeResult, error) {
	p.logger.Info("password changed", zap.String("client_ip", p.from.ip), zap.String("user", shown.Short(p.user)),
		zap.String("file", path), zap.String("host", shown.Short(p.from.host)), zap.String("realm", p.Realm))
	return changeDone, p.write(http.StatusOK, passwordpage.Page{IsChanged: true, Delay: p.guard.settings().poll})
}

// renewDevice makes the answer issue a device cookie for the new hash. The token of the old
// hash is void, so the new one replaces it.
func (p *pageRequest) renewDevice(old, hash string) {
	if devices := p.from.devices; devices != nil {
		devices.due = &newDeviceMemory(p.user, hash, old).owner
	}
}

// otherOrigin answers a form that another site may have sent.
func (p *pageRequest) otherOrigin(err error) (changeResult, error) {
	own := ownOrigin(p.r)
	p.logRefusal(changeLines, p.from, []byte(p.user), "password not changed; the form may come from another site",
		zap.String("reason", err.Error()), zap.String("origin", shown.Short(p.r.Header.Get("Origin"))),
		zap.String("expected", shown.Short(own.String())), zap.String("fix", "if users send the form from this site, have the proxy in front pass on the Host, and list it in trusted_proxies"))
	return changeOtherOrigin, p.write(http.StatusForbidden, passwordpage.Page{Problem: "The form was not sent by this page. Nothing was changed. Open this page again, and fill in the form."})
}

// unchecked answers a form whose current password, or whose hash, could not be checked or
// computed to the end.
func (p *pageRequest) unchecked(user []byte, err error) (changeResult, error) {
	result, answer := p.Handler.unchecked(p.w, p.r, p.from, user, err)
	problem, changed := "The server could not check the password.", changeFailed
	switch result {
	case resultThrottled:
		problem, changed = "There were too many failed logins.", changeThrottled
	case resultOverloaded:
		problem, changed = "The server has too many logins to check.", changeOverloaded
	default:
	}
	problem += " Nothing was changed."
	if seconds, err := time.ParseDuration(p.w.Header().Get(headerRetryAfter) + "s"); err == nil {
		problem += " Try again in " + passwordpage.Words(seconds) + "."
	}
	return changed, p.write(statusOf(answer), passwordpage.Page{Problem: problem})
}

// noFile answers a request of a user who is in no file.
func (p *pageRequest) noFile() (changeResult, error) {
	return changeNoFile, p.write(http.StatusForbidden, passwordpage.Page{
		Problem: "Your user name and password are part of the server's configuration. Ask the administrator to change the password.", IsFinal: true,
	})
}

// notWritable answers a request that cannot be served because the file cannot be replaced.
func (p *pageRequest) notWritable(path string, err error) (changeResult, error) {
	p.guard.lines[changeLines].Error(p.guard.now(), p.logger, "password page cannot replace the file",
		zap.String("client_ip", p.from.ip), zap.String("user", shown.Short(p.user)), zap.String("file", path),
		zap.Error(err), zap.String("fix", fixOf(err)), zap.String("realm", p.Realm))
	return changeNotWritable, p.write(http.StatusServiceUnavailable, passwordpage.Page{
		Problem: "Passwords cannot be changed at the moment, because the server cannot write the password file. Your password was not changed. Ask the administrator, who finds the reason in the server's log.", IsFinal: true,
	})
}

// write responds with the page.
func (p *pageRequest) write(status int, page passwordpage.Page) error {
	page.User, page.MinLength, page.MaxBytes = p.user, p.ChangePassword.policy().MinLength, passwordpolicy.MaxBytes
	return page.Write(p.issueDevice(p.w, p.r, p.sent), p.r, status)
}

// ownOrigin returns the origin of the site as the browser knows it. Like the scheme, the
// host comes from a trusted proxy, if it sends one. The first of several values is that of
// the proxy nearest to the client. A page of another site cannot set the field.
func ownOrigin(r *http.Request) passwordpage.Origin {
	own := passwordpage.Origin{Scheme: "http", Host: r.Host}
	if isEncrypted(r) {
		own.Scheme = "https"
	}
	if values := r.Header[headerForwardedHost]; len(values) > 0 && isFromTrustedProxy(r) {
		first, _, _ := strings.Cut(values[0], ",")
		own.Host = strings.Trim(first, " \t")
	}
	return own
}

// sentence returns a clause as a sentence.
func sentence(clause string) string {
	first, size := utf8.DecodeRuneInString(clause)
	return string(unicode.ToUpper(first)) + clause[size:] + "."
}

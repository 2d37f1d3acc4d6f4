package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/fileapi"
	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htedit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/mirror"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// fileEditTimeout is how long a request waits for a store.
const fileEditTimeout = 10 * time.Second

// copyTimeout is how long an answer waits until a local copy has the active version.
const copyTimeout = time.Second

// errNothingToDo ends an edit that changes nothing.
var errNothingToDo = errors.New("nothing to do")

// changeFile changes a file that is not on disk: see package fileapi.
func (a *adminAPI) changeFile(w http.ResponseWriter, r *http.Request) error {
	file, target, err := a.fileOf(r)
	if err != nil {
		return apiError(err)
	}
	request, err := readChange(w, r, file)
	if err != nil {
		return apiError(err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), fileEditTimeout)
	defer cancel()
	var answer fileapi.Answer
	err = target.Edit(ctx, func(text string) (edited string, err error) {
		edited, answer, err = request.Apply(file, text)
		if err == nil && answer.Result == fileapi.NotFound {
			return "", errNothingToDo // otherwise a file that nobody has written would be created
		}
		return edited, err
	})
	if err != nil && !errors.Is(err, errNothingToDo) {
		return apiError(notWritten(file, err))
	}
	if m, ok := target.(*mirror.Mirror); ok {
		m.Save(ctx) // the command reads the copy next
	}
	if answer.Result != fileapi.NotFound {
		fields := []zap.Field{zap.String("file", file.String()), zap.String("action", string(answer.Result)), zap.String("remote_addr", shown.Text(r.RemoteAddr))}
		if _, user := request.Action(); user != "" {
			fields = append(fields, zap.String("user", shown.Text(user)))
		}
		a.shared.active.get().logger.Info("file changed with the admin API", fields...)
	}
	return writeJSON(w, http.StatusOK, answer)
}

// fileOf returns the file of a request's path.
func (a *adminAPI) fileOf(r *http.Request) (file fileapi.File, target htedit.Target, err error) {
	source, err := fileapi.ParsePath(r.URL.Path)
	if err != nil {
		return file, nil, err
	}
	target, kind, ok := a.shared.editable(source.String())
	if !ok {
		return file, nil, fileapi.Errorf(http.StatusNotFound, "the running configuration does not use %s; add it as a file of an htpasswd directive, and reload", source)
	}
	file = fileapi.File{Source: source, IsGroups: kind == "groups", MaxText: follow.MaxFileSize}
	if source.Scheme == fileapi.SchemeFleet {
		file.MaxText = fileapi.MaxFleetText
	}
	return file, target, nil
}

// readChange returns the change in the body of a request.
func readChange(w http.ResponseWriter, r *http.Request, file fileapi.File) (*fileapi.Request, error) {
	// A browser sends this type across origins only if the server allows it.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, fileapi.Errorf(http.StatusUnsupportedMediaType, "expected the header field Content-Type: application/json")
	}
	most := fileapi.MaxBody(file.MaxText)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if _, isTooLarge := errors.AsType[*http.MaxBytesError](err); isTooLarge {
		return nil, fileapi.Errorf(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes; a text of %s has at most %d", most, file, file.MaxText)
	}
	if err != nil {
		return nil, fileapi.Errorf(http.StatusBadRequest, "the body did not arrive whole; send it again")
	}
	request, err := fileapi.Decode(body)
	if err != nil {
		return nil, err
	}
	return request, request.Check(file)
}

// notWritten returns the error for a change that a store did not accept. An error of the
// change itself stays.
func notWritten(file fileapi.File, err error) error {
	if _, isOurs := errors.AsType[*fileapi.Error](err); isOurs {
		return err
	}
	reason := strings.TrimPrefix(err.Error(), file.String()+": ") // as a mirror writes it
	if errors.Is(err, context.DeadlineExceeded) {
		reason = fmt.Sprintf("no answer within %s", fileEditTimeout)
	}
	return fileapi.Errorf(http.StatusServiceUnavailable, "%s cannot be written now: %s; try again later", file, reason)
}

// apiError returns an error of package fileapi as one of the admin API.
func apiError(err error) error {
	status := http.StatusInternalServerError
	if e, ok := errors.AsType[*fileapi.Error](err); ok {
		status = e.Status
	}
	return caddy.APIError{HTTPStatus: status, Err: err}
}

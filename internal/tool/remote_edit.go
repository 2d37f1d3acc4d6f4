package tool

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/seed10b5b978/caddy-htpasswd/internal/fileapi"
	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// setRemote is runSet for a file that is not on disk.
func (t *tool) setRemote(ctx context.Context, source fileapi.Source, name string, args []string) error {
	file, err := t.look(ctx, source) // before asking for a password
	if err != nil {
		return err
	}
	if err := file.checkUsers(); err != nil {
		return err
	}
	request := &fileapi.Request{Set: &fileapi.Set{User: name}}
	if err := checkSendable(source, request); err != nil {
		return err
	}
	hash, password, err := t.newHash(ctx, name, args)
	if err != nil {
		return err
	}
	request.Set.Hash = hash
	if t.create {
		request = &fileapi.Request{Import: &fileapi.Import{Text: name + ":" + hash + "\n", Overwrite: true}}
	}
	answer, err := t.post(ctx, source, request)
	if err != nil {
		return err
	}
	if t.create && file.Users > 0 {
		t.say("overwriting %s (had %d users who could log in)", source, file.Users)
	}
	if answer.Lines > 1 {
		t.say("user %s has %d lines; all of them have the new password", name, answer.Lines)
	}
	verb := "Adding"
	if answer.Result == fileapi.Updated {
		verb = "Updating"
	}
	t.say("%s password for user %s", verb, name)
	return t.printGenerated(t.out, name, password)
}

// removeRemote is runRemove for a file that is not on disk.
func (t *tool) removeRemote(ctx context.Context, source fileapi.Source, name string) error {
	request := &fileapi.Request{Remove: &fileapi.Remove{User: name}}
	if err := checkSendable(source, request); err != nil {
		return err
	}
	file, err := t.look(ctx, source)
	if err != nil {
		return err
	}
	if err := file.checkUsers(); err != nil {
		return err
	}
	answer, err := t.post(ctx, source, request)
	switch {
	case err != nil:
		return err
	case answer.Result == fileapi.NotFound:
		t.say("User %s not found", name)
	default:
		t.say("Deleting password for user %s", name)
	}
	return nil
}

// runImport replaces the text of a file that is not on disk by that of one that is.
func (t *tool) runImport(ctx context.Context, url, path string) error {
	source, err := parseSource(url)
	if err != nil {
		return err
	}
	text, err := t.readText(ctx, path)
	if err != nil {
		return err
	}
	request := &fileapi.Request{Import: &fileapi.Import{Text: text, Overwrite: t.create}}
	if err := checkSendable(source, request); err != nil {
		return err
	}
	file, err := t.look(ctx, source)
	if err != nil {
		return err
	}
	isGroups := file.Kind == "groups"
	maxText := follow.MaxFileSize
	if source.Scheme == fileapi.SchemeFleet {
		maxText = fileapi.MaxFleetText
	}
	if err := request.Check(fileapi.File{Source: source, IsGroups: isGroups, MaxText: maxText}); err != nil {
		return failed(ExitNotAFile, "%s: %s", shown.Text(path), err)
	}
	answer, err := t.post(ctx, source, request)
	if err != nil {
		return err
	}
	if isGroups {
		t.say("%s has the text of %s (users in groups: %d)", source, shown.Text(path), answer.Users)
		return nil
	}
	t.say("%s has the text of %s (users who can log in: %d)", source, shown.Text(path), answer.Users)
	if users, _ := htfile.Parse(text); users.InvalidCount > 0 {
		t.say("Warning: %d invalid lines, whose users cannot log in; for the reasons, run: caddy htpasswd --check %s", users.InvalidCount, source)
	}
	return nil
}

// runExport writes the text of a file that is not on disk to standard output.
func (t *tool) runExport(ctx context.Context, url string) error {
	source, err := parseSource(url)
	if err != nil {
		return err
	}
	file, err := t.look(ctx, source)
	if err != nil {
		return err
	}
	text, err := file.text()
	if err != nil {
		return err
	}
	return t.write(text)
}

// parseSource returns the source with a URL, which must be one.
func parseSource(url string) (fileapi.Source, error) {
	source, isSource, err := fileapi.ParseURL(url)
	if err == nil && !isSource {
		err = fmt.Errorf("expected fleet://<name> or storage://<name>, found a path; a file on disk is copied with: cp")
	}
	if err != nil {
		return source, failed(ExitUsage, "%s\n%s", err, usageHint)
	}
	return source, nil
}

// checkSendable returns an error for a request that JSON cannot hold.
func checkSendable(source fileapi.Source, r *fileapi.Request) error {
	if _, err := r.JSON(); err == nil {
		return nil
	}
	if r.Import != nil {
		return failed(ExitNotAFile, "the file is not UTF-8, which %s must be; convert it, for example with: iconv -f latin1 -t utf-8", source)
	}
	return failed(ExitIllegal, "the user name is not UTF-8, which names in %s must be", source)
}

// post sends a change to the running Caddy.
func (t *tool) post(ctx context.Context, source fileapi.Source, r *fileapi.Request) (answer fileapi.Answer, err error) {
	body, err := r.JSON()
	if err != nil {
		return answer, checkSendable(source, r)
	}
	err = t.ask(ctx, http.MethodPost, source.AdminPath(), body, &answer)
	said, hasSaid := errors.AsType[*adminError](err)
	switch {
	case err == nil:
		return answer, nil
	case errors.Is(err, errInterrupted):
		return answer, failed(ExitInterrupted, "interrupted; whether %s was changed is not known; to see it, use -v or --list", source)
	case errors.Is(err, errNoAnswer):
		return answer, failed(ExitFile, "%s; whether %s was changed is not known; run the command again", err, source)
	case hasSaid && said.status == http.StatusConflict && r.Import != nil:
		return answer, failed(ExitFile, "%s has lines already; to replace all of them, use --import with -c", source)
	case hasSaid && said.status == http.StatusConflict:
		return answer, failed(ExitNotAFile, "%s", err)
	}
	return answer, failed(ExitFile, "%s", err)
}

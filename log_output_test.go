package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLogOutput goes through a day of an administrator, and compares all lines of the
// plugin in the log: level, message and names of the fields. Each event is logged once.
func TestLogOutput(t *testing.T) {
	const site = "{\nadmin localhost:{admin}\nhtpasswd {\npoll 100ms\nthrottle login 3 1h\n}\n}\n" +
		"https://localhost:{https} {\n\ttls internal\n\thtpasswd {\n\t\tfile {dir}/users\n\t\tgroup_file {dir}/groups\n\t\trequire group staff\n\t}\n\trespond ok\n}\n"
	s := startServer(t, "")
	users := s.write("users", alice)
	groups := s.write("groups", "staff: alice bob\n")
	change := func(path, text string) func() {
		return func() { replace(t, path, text) }
	}
	login := func(user, password string, status int) func() {
		return func() {
			if a := s.get("/", user, password); a.status != status {
				t.Errorf("%s: got status %d, want %d", user, a.status, status)
			}
		}
	}
	const weak = "weak:{SHA}O6hCfsMLaweQqz5/hoXYDopRjKo=\n"
	var all []string
	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"the configuration is loaded", func() { must(t, s.reload(site)) }, []string{
			"info requests need a password: server hosts requests files group_files"}},
		{"a login", login("alice", "secret", 200), nil},
		{"a request without a password", login("", "", 401), nil},
		{"a user is added", change(users, alice+bob), []string{"info file reloaded: file"}},
		{"the new user logs in", login("bob", "hunter2", 200), nil},
		{"the same text is written again", change(users, alice+bob), nil},
		{"the file is broken", change(users, "<html>\n"), []string{
			"error cannot load file; keeping the previous version: file error previous_version_from failures"}},
		{"the file is broken in the same way", change(users, "<xml>\n"), nil},
		{"a login while the file is broken", login("alice", "secret", 200), nil},
		{"the file is removed", func() { must(t, os.Remove(users)) }, []string{
			"error cannot load file; keeping the previous version: file error previous_version_from failures"}},
		{"the file is repaired", change(users, alice+bob), []string{"info file loaded again after earlier errors: file"}},
		{"a file with an invalid line, a duplicate and a weak hash", change(users, alice+"carol\n"+bob+alice+weak), []string{
			"warn invalid line skipped; its user cannot log in: file line reason",
			"warn duplicate user; the first line wins: file line",
			"warn file contains weak password hashes; reset these passwords with: caddy htpasswd: file entries",
			"info file reloaded: file"}},
		{"another change of this file", change(users, alice+"carol:!\n"+bob+weak), []string{"info file reloaded: file"}},
		{"all users are locked", change(users, "alice:!\n"), []string{"warn no user in the file can log in: file", "info file reloaded: file"}},
		{"a locked user", login("alice", "secret", 401), []string{"warn login failed: client_ip user reason host realm"}},
		{"the file is as before", change(users, alice+bob), []string{"info file reloaded: file"}},
		{"a group file with an invalid line", change(groups, "staff: alice\nnobody\n"), []string{
			"warn invalid group line skipped: file line reason", "info file reloaded: file"}},
		{"a user who is not authorized", login("bob", "hunter2", 403), []string{"warn login failed: client_ip user reason host realm"}},
		{"a wrong password", login("alice", "wrong 1", 401), []string{"warn login failed: client_ip user reason host realm"}},
		{"the same wrong password", login("alice", "wrong 1", 401), []string{"warn login failed: client_ip user reason repeated host realm"}},
		{"more wrong passwords, and the limit", func() {
			for i := range 2 {
				login("alice", fmt.Sprint("guess ", i), 401)()
			}
			for i := range 20 {
				login("alice", fmt.Sprint("too many ", i), 429)()
			}
		}, []string{
			"warn login failed: client_ip user reason host realm", "warn login failed: client_ip user reason host realm",
			"warn login rate limit exceeded; responding 429 until the window ends: client_ip user limit failures window host realm"}},
		{"the failed logins are cleared", func() { s.ask("DELETE", "/htpasswd/throttle") }, []string{"info failed logins cleared: entries"}},
		{"the files are reloaded by hand", func() { s.ask("POST", "/htpasswd/reload") }, nil},
		{"the configuration is reloaded", func() { must(t, s.reload(site+"\n")) }, []string{
			"info requests need a password: server hosts requests files group_files"}},
	} {
		step.do()
		all = append(all, step.want...)
		if step.want == nil {
			time.Sleep(500 * time.Millisecond) // longer than it takes to read a changed file
		} else {
			eventually(t, step.name, func() bool { return len(ownLines(t, s.log())) >= len(all) })
		}
		if got := ownLines(t, s.log()); !slices.Equal(got, all) {
			t.Fatalf("%s: got the lines\n%s\nwant\n%s", step.name, strings.Join(got, "\n"), strings.Join(all, "\n"))
		}
	}
	for _, secret := range []string{"wrong 1", "guess", "hunter2", "$2y$", "{SHA}"} {
		if strings.Contains(s.log(), secret) {
			t.Errorf("the log shows %q", secret)
		}
	}
}

// ownLines returns the lines of this plugin in a log, except at level DEBUG: level, message
// and field names. It fails if a file is not named by its absolute path.
func ownLines(t *testing.T, log string) (lines []string) {
	t.Helper()
	for line := range strings.Lines(log) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil || !strings.Contains(fmt.Sprint(fields["logger"]), "htpasswd") || fields["level"] == "debug" {
			continue
		}
		if file, ok := fields["file"].(string); ok && !filepath.IsAbs(file) {
			t.Errorf("got the file %q, want an absolute path", file)
		}
		var names []string
		decoder := json.NewDecoder(strings.NewReader(line))
		for depth := 0; ; { // in the order of the line
			token, err := decoder.Token()
			if err != nil {
				break
			}
			if delim, ok := token.(json.Delim); ok {
				if delim == '{' || delim == '[' {
					depth++
				} else {
					depth--
				}
				continue
			}
			if name, ok := token.(string); ok && depth == 1 {
				if !slices.Contains([]string{"level", "ts", "logger", "msg"}, name) {
					names = append(names, name)
				}
				var value json.RawMessage
				must(t, decoder.Decode(&value))
			}
		}
		lines = append(lines, strings.TrimSuffix(fmt.Sprintf("%s %s: %s", fields["level"], fields["msg"], strings.Join(names, " ")), ": "))
	}
	return lines
}

package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// logLine is a line of Caddy's log.
type logLine map[string]any

func (l logLine) String() string {
	text, _ := json.Marshal(l)
	return string(text)
}

// validation is the result of "caddy validate" for a configuration.
type validation struct {
	err   error
	lines []logLine // of this module
}

// validated loads a configuration as "caddy validate" does. In a Caddyfile, {htpasswd}
// stands for a whole directive. A text that begins with { is JSON.
func validated(t *testing.T, s *server, config string) validation {
	t.Helper()
	text, err := s.adapt(strings.ReplaceAll(config, "{htpasswd}", "htpasswd {\n\tfile {dir}/users\n}"))
	if err != nil {
		return validation{err: err}
	}
	return validatedJSON(t, s, text)
}

func validatedJSON(t *testing.T, s *server, text []byte) validation {
	t.Helper()
	before, _ := os.ReadFile(filepath.Join(s.dir, "log")) // none yet
	var cfg caddy.Config
	must(t, json.Unmarshal(text, &cfg))
	v := validation{err: caddy.Validate(&cfg)}
	for line := range strings.Lines(s.log()[len(before):]) {
		var l logLine
		must(t, json.Unmarshal([]byte(line), &l))
		if logger, _ := l["logger"].(string); logger == "http.handlers.htpasswd" || logger == "upstream_groups" {
			v.lines = append(v.lines, l)
		}
	}
	return v
}

// warnings returns the lines at level WARN, except those about the test's own files.
func (v validation) warnings() (found []string) {
	for _, line := range v.lines {
		if line["level"] == "warn" && !strings.Contains(fmt.Sprint(line["msg"]), "weak password") {
			found = append(found, line.String())
		}
	}
	return found
}

func (v validation) infos() (found []logLine) {
	for _, line := range v.lines {
		if line["msg"] == "requests need a password" {
			found = append(found, line)
		}
	}
	return found
}

// wantNothing fails unless the configuration loads without a warning.
func (v validation) wantNothing(t *testing.T) {
	t.Helper()
	if v.err != nil {
		t.Errorf("got error %v, want none", v.err)
	}
	if got := v.warnings(); len(got) > 0 {
		t.Errorf("got warnings, want none:\n%s", strings.Join(got, "\n"))
	}
}

// wantWarning fails unless the configuration loads with one warning that contains all
// texts.
func (v validation) wantWarning(t *testing.T, texts ...string) {
	t.Helper()
	if v.err != nil {
		t.Errorf("got error %v, want none", v.err)
	}
	got := v.warnings()
	if len(got) != 1 {
		t.Errorf("got %d warnings, want 1:\n%s", len(got), strings.Join(got, "\n"))
		return
	}
	for _, text := range texts {
		if !strings.Contains(got[0], text) {
			t.Errorf("got the warning %s, want %q in it", got[0], text)
		}
	}
}

// wantRefusal fails unless the configuration is refused with an error that contains all
// texts.
func (v validation) wantRefusal(t *testing.T, texts ...string) {
	t.Helper()
	if v.err == nil {
		t.Fatal("loaded, want a refusal")
	}
	for _, text := range texts {
		if !strings.Contains(v.err.Error(), text) {
			t.Errorf("got error %v, want %q in it", v.err, text)
		}
	}
}

// checkedServer returns a server with a file users in its directory, with alice and bob,
// both with the password secret1.
func checkedServer(t *testing.T) *server {
	t.Helper()
	s := startServer(t, "")
	s.write("users", "alice:"+shaSecret1+"\nbob:"+shaSecret1+"\n")
	return s
}

func tlsSite(body string) string { return "https://localhost:{https} {\n" + body + "\n}\n" }

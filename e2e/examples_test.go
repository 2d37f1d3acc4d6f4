package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// exampleFiles returns the Caddyfiles of the examples, as paths in the repository.
func exampleFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"../examples/Caddyfile", "../examples/*/Caddyfile"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range found {
			files = append(files, strings.TrimPrefix(file, "../"))
		}
	}
	return files
}

// adapt returns the output of "caddy adapt" for a file in a directory. A warning
// fails the test.
func adapt(t *testing.T, dir, file string) []byte {
	t.Helper()
	binary := caddyBinary
	if strings.Contains(readText(t, filepath.Join(dir, file)), "fleet redis {") {
		var err error
		binary, err = fleetBinary()
		must(t, err)
	}
	cmd := exec.Command(binary, "adapt", "--adapter", "caddyfile", "--config", file)
	cmd.Dir, cmd.Env = dir, environment(t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	config, err := cmd.Output()
	if err != nil || strings.Contains(stderr.String(), `"level":"warn"`) {
		t.Fatalf("%s: %v: %s", file, err, stderr.String())
	}
	return config
}

// TestExamplesAdapt compares the JSON of each example with the file in
// testdata/examples. With UPDATE_EXAMPLES=1 in the environment, it writes the file.
func TestExamplesAdapt(t *testing.T) {
	parallel(t)
	for _, file := range exampleFiles(t) {
		t.Run(file, func(t *testing.T) {
			var got bytes.Buffer
			must(t, json.Indent(&got, adapt(t, "..", file), "", "\t"))
			golden := filepath.Join("testdata", "examples", strings.ReplaceAll(strings.TrimPrefix(filepath.Dir(file), "examples"), "/", "")+".json")
			if filepath.Base(golden) == ".json" {
				golden = filepath.Join("testdata", "examples", "demo.json")
			}
			if os.Getenv("UPDATE_EXAMPLES") != "" {
				must(t, os.WriteFile(golden, got.Bytes(), 0o600))
			}
			if want := readText(t, golden); got.String() != want {
				t.Errorf("got\n%s\nwant the content of %s", got.String(), golden)
			}
		})
	}
}

// TestExampleDemo asks what its text says.
func TestExampleDemo(t *testing.T) {
	parallel(t)
	e := loadExample(t, "", "9002", fmt.Sprint(freePorts(t, 1)[0]))
	e.start()
	const anonymous, ask = "curl -k -i https://localhost:8443/api/doctor/1", "curl -k -u admin:swordfish https://localhost:8443/api/doctor/1"
	eventually(t, "it answers", func() bool {
		_, ok := e.run(anonymous)
		return ok
	})
	checkStatus(t, e.ask(e.said(anonymous)), http.StatusUnauthorized, `Basic realm="Administrator's Area", charset="UTF-8"`)
	one, two := e.ask(e.said(ask)).Body, e.ask(ask).Body
	if one == two || !json.Valid([]byte(one)) || !strings.Contains(one+two, "server one") || !strings.Contains(one+two, "server two") {
		t.Errorf("got %q and %q, want JSON of each server", one, two)
	}
	e.checkAll()
	e.checkAnswer("curl -k -i https://localhost:8443/", exampleAnswer{status: 200, body: "Ask for /api/doctor/1. It needs a user name and a password, and two servers answer in turn."})
}

// TestExamplesLogNoWarnings starts the examples in directories that every user can
// enter, as a clone often is: with the commands of their text the log has no warning of
// the plugin, and without the one that changes the mode it has.
func TestExamplesLogNoWarnings(t *testing.T) {
	parallel(t)
	const readable = `"mode":"-rw-r--r--"`
	for _, name := range []string{"", "behind-proxy", "certificates", "cors", "device-cookie", "fail2ban", "office", "prometheus", "read-write", "systemd", "user-directories", "users-from-environment", "websocket"} {
		t.Run(name, func(t *testing.T) {
			warnings := func(change func(e *example)) string {
				t.Helper()
				e := loadExample(t, name, "9002", fmt.Sprint(freePorts(t, 1)[0]))
				testkit.OpenDirectories(t, filepath.Join(e.dir, "examples", ".htpasswd"))
				for _, line := range e.commands {
					if strings.HasPrefix(line, "openssl req") {
						e.run(line)
					}
				}
				change(e)
				e.start()
				lines := e.log()
				if name == "fail2ban" { // writes the plugin's lines to a file
					lines += readText(t, filepath.Join(e.dir, "build", "htpasswd.log"))
				}
				var found strings.Builder
				for line := range strings.Lines(lines) {
					if strings.Contains(line, "htpasswd") && (strings.Contains(line, `"level":"warn"`) || strings.Contains(line, `"level":"error"`)) {
						found.WriteString(line)
					}
				}
				return found.String()
			}
			if got := warnings(func(*example) {}); got != "" {
				t.Errorf("got warnings, want none:\n%s", got)
			}
			without := func(e *example) {
				e.commands = slices.DeleteFunc(e.commands, func(line string) bool { return strings.HasPrefix(line, "chmod ") })
			}
			if got := warnings(without); !strings.Contains(got, readable) {
				t.Errorf("without chmod: got %q, want a warning", got)
			}
		})
	}
}

// counted says how often each of names answered, and whether others did.
func counted(answers []string, names ...string) string {
	counts := make(map[string]int)
	others := 0
	for _, name := range answers {
		if slices.Contains(names, name) {
			counts[name]++
		} else {
			others++
		}
	}
	var out []string
	for _, name := range names {
		if counts[name] > 0 {
			out = append(out, fmt.Sprintf("%s=%d", name, counts[name]))
		}
	}
	if others > 0 {
		out = append(out, fmt.Sprintf("others=%d", others))
	}
	return strings.Join(out, " ")
}

// TestExampleUpstream runs the example, and sends the requests of its text.
func TestExampleUpstream(t *testing.T) {
	parallel(t)
	text, err := os.ReadFile("../examples/upstream/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	// The three servers have consecutive ports.
	first := freePorts(t, 3)[0]
	s := startServer(t, "")
	replaced := strings.NewReplacer(
		"9011-9013", fmt.Sprintf("%d-%d", first, first+2), "9011-9012", fmt.Sprintf("%d-%d", first, first+1),
		"9011", fmt.Sprint(first), "9012", fmt.Sprint(first+1), "9013", fmt.Sprint(first+2),
		"http://localhost:8090 {", "http://localhost:{http} {").Replace(string(text))
	if err := s.Reload(replaced); err != nil {
		t.Fatal(err)
	}
	ask := func(path string) string {
		a := s.Plain(path, nil)
		if a.Status != http.StatusOK {
			t.Errorf("%s: got status %d, want 200", path, a.Status)
		}
		return strings.TrimPrefix(strings.TrimSpace(a.Body), "server ")
	}
	count := func(path string, n int) string {
		var got []string
		for range n {
			got = append(got, ask(path))
		}
		var names []string
		for i := range 3 {
			names = append(names, fmt.Sprint(first+i))
		}
		return strings.NewReplacer(names[0], "a", names[1], "b", names[2], "c").Replace(counted(got, names...))
	}
	if got := count("/round_robin", 40); got != "a=30 b=10" {
		t.Errorf("round_robin: got %s, want a=30 b=10", got)
	}
	if got := count("/least_conn", 30); got != "a=10 b=10 c=10" {
		t.Errorf("least_conn, one request at a time: got %s, want a=10 b=10 c=10", got)
	}
	if got := count("/least_time", 60); !strings.Contains(got, "a=") || !strings.Contains(got, "b=") || !strings.Contains(got, "c=") {
		t.Errorf("least_time: got %s, want all servers", got)
	}
	for _, path := range []string{"/ip_hash", "/hash?user=alice", "/hash?user=bob"} {
		if got := count(path, 10); !strings.HasSuffix(got, "=10") {
			t.Errorf("%s: got %s, want one server for all 10", path, got)
		}
	}
	if got := count("/sticky", 10); got != "a=5 b=5" {
		t.Errorf("sticky, new sessions: got %s, want a=5 b=5", got)
	}
	for route, want := range map[string]int{"a": first, "b": first + 1, "c": first + 2} {
		a := s.Plain("/sticky", http.Header{"Cookie": {"srv=" + route}})
		if got := strings.TrimSpace(a.Body); got != fmt.Sprint("server ", want) || cookiesIn(a) != "srv="+route {
			t.Errorf("sticky, a session of %s: got %s with the cookie %s, want server %d", route, got, cookiesIn(a), want)
		}
	}
	if got := count("/random", 100); !strings.Contains(got, "a=") || !strings.Contains(got, "b=") || strings.Contains(got, "c=") {
		t.Errorf("random: got %s, want a and b, and no c", got)
	}
	if got := count("/h2c", 30); got != "a=20 b=10" {
		t.Errorf("h2c: got %s, want a=20 b=10", got)
	}
}

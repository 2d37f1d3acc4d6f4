package caddyhtpasswd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// exampleFiles are the Caddyfiles of the examples.
func exampleFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"examples/Caddyfile", "examples/*/Caddyfile"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		files = append(files, found...)
	}
	return files
}

// TestExamplesAdapt compares each example with the JSON in testdata/examples
// that it is to become. With UPDATE_EXAMPLES=1 in the environment it writes that.
func TestExamplesAdapt(t *testing.T) {
	for _, file := range exampleFiles(t) {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(text, map[string]any{"filename": file})
			if err != nil || len(warnings) > 0 {
				t.Fatal(err, warnings)
			}
			var got bytes.Buffer
			if err := json.Indent(&got, config, "", "\t"); err != nil {
				t.Fatal(err)
			}
			got.WriteByte('\n')
			golden := filepath.Join("testdata", "examples", strings.ReplaceAll(strings.TrimPrefix(filepath.Dir(file), "examples"), "/", "")+".json")
			if filepath.Base(golden) == ".json" {
				golden = filepath.Join("testdata", "examples", "demo.json")
			}
			if os.Getenv("UPDATE_EXAMPLES") != "" {
				if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("not as in %s:\n%s", golden, got.String())
			}
		})
	}
}

// TestExampleUpstream runs the example and asks what its text says.
func TestExampleUpstream(t *testing.T) {
	text, err := os.ReadFile("examples/upstream/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	// The three servers have ports in a row.
	first := freePorts(t, 3)[0]
	s := startServer(t, "")
	replaced := strings.NewReplacer(
		"9011-9013", fmt.Sprintf("%d-%d", first, first+2), "9011-9012", fmt.Sprintf("%d-%d", first, first+1),
		"9011", fmt.Sprint(first), "9012", fmt.Sprint(first+1), "9013", fmt.Sprint(first+2),
		"http://localhost:8090 {", "http://localhost:{http} {").Replace(string(text))
	if err := s.reload(replaced); err != nil {
		t.Fatal(err)
	}
	ask := func(path string) string {
		a := s.plain(path, nil)
		if a.status != http.StatusOK {
			t.Errorf("%s: status %d", path, a.status)
		}
		return strings.TrimPrefix(strings.TrimSpace(a.body), "server ")
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
		t.Errorf("round_robin: %s", got)
	}
	if got := count("/least_conn", 30); got != "a=10 b=10 c=10" {
		t.Errorf("least_conn, one request at a time: %s", got)
	}
	for _, path := range []string{"/ip_hash", "/hash?user=alice", "/hash?user=bob"} {
		if got := count(path, 10); !strings.HasSuffix(got, "=10") {
			t.Errorf("%s: %s", path, got)
		}
	}
	if got := count("/random", 100); !strings.Contains(got, "a=") || !strings.Contains(got, "b=") || strings.Contains(got, "c=") {
		t.Errorf("random: %s", got)
	}
}

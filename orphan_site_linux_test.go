package caddyhtpasswd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOrphanedSite removes a user from a file that is mounted by itself.
func TestOrphanedSite(t *testing.T) {
	source, path := filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(source, []byte(fileA), 0o640))
	must(t, os.WriteFile(path, nil, 0o640))
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("this test needs the right to mount (root): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	caddyfile := strings.ReplaceAll(`{
	admin localhost:{admin}
	htpasswd {
		poll 100ms
	}
}
https://localhost:{https} {
	route {
		metrics /metrics
		htpasswd {
			file PATH
		}
		respond ok
	}
}`, "PATH", path)
	s := startServer(t, caddyfile)
	checkStatus(t, s.get("/", "ann", "secret1"), 200, "")
	replace(t, source, fileB)
	metric := func(name string) float64 { return s.scrape()[name+`{file="`+path+`",kind="users"}`] }
	eventually(t, "the metric shows it", func() bool {
		return metric("file_last_load_successful") == 0 && metric("file_load_failures_total") == 1
	})
	if _, body := s.ask("GET", "/htpasswd"); !strings.Contains(body, `"last_error":"replaced or deleted outside the container`) {
		t.Errorf("GET /htpasswd: got %s, want the error that the file has been replaced outside the container", body)
	}
	if status, body := s.ask("POST", "/htpasswd/reload"); status != 500 || !strings.Contains(body, "mount the directory instead of the file") {
		t.Errorf("POST /htpasswd/reload: got %d %s, want 500 with what to do", status, body)
	}
	if err := s.reload(caddyfile); err == nil || !strings.Contains(err.Error(), "mount the directory instead of the file") {
		t.Errorf("caddy reload: got error %v, want one with what to do", err)
	}
	checkStatus(t, s.get("/", "ann", "secret1"), 200, "") // the previous version is kept
	if n := strings.Count(s.log(), "cannot load file"); n != 1 {
		t.Errorf("%d lines, want 1", n)
	}
	if strings.Contains(s.log(), shaSecret1) {
		t.Error("got a hash in the log, want none")
	}
}

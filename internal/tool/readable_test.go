//go:build unix

package tool

import (
	"os"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

func TestToolCheckWorldReadable(t *testing.T) {
	path := writeFile(t, toolFile)
	must(t, os.Chmod(path, 0o604))
	const message = "is world-readable"
	if got := runTool(t, "", "--check", path); got.code != 0 || strings.Contains(got.out, message) {
		t.Errorf("in a directory that nobody else can enter: %d %s%s", got.code, got.out, got.err)
	}
	testkit.OpenDirectories(t, path)
	if got := runTool(t, "", "--check", path); got.code != 0 || !strings.Contains(got.out, message) {
		t.Errorf("in a directory that everybody can enter: %d %s%s", got.code, got.out, got.err)
	}
}

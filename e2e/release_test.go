package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSupportedVersions compares the versions in SECURITY.md, in the Makefile and in
// go.mod.
func TestSupportedVersions(t *testing.T) {
	t.Parallel()
	text, makefile, goMod := readText(t, "../SECURITY.md"), readText(t, "../Makefile"), readText(t, "../go.mod")
	find := func(text, pattern string) string {
		t.Helper()
		found := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if found == nil {
			t.Fatalf("found nothing for %s", pattern)
		}
		return found[1]
	}
	caddy := find(goMod, `\tgithub\.com/caddyserver/caddy/v2 (\S+)\n`)
	if got := find(makefile, `\nCADDY +:= (\S+)\n`); got != caddy {
		t.Errorf("the Makefile builds Caddy %s, want %s as in go.mod", got, caddy)
	}
	for _, want := range []string{"| Caddy | " + caddy + " |", "| Go | " + find(goMod, `\ngo (\d+\.\d+)`) + " |"} {
		if !strings.Contains(text, want) {
			t.Errorf("SECURITY.md has no row %q", want)
		}
	}
}

// TestChangelog checks the form of CHANGELOG.md: a section for what is unreleased, a
// link for each version, and the groups of Keep a Changelog.
func TestChangelog(t *testing.T) {
	t.Parallel()
	text := readText(t, "../CHANGELOG.md")
	versions := regexp.MustCompile(`(?m)^## \[(.+?)\]( - \d{4}-\d\d-\d\d)?$`).FindAllStringSubmatch(text, -1)
	if n := strings.Count(text, "\n## "); len(versions) != n || n == 0 || versions[0][0] != "## [Unreleased]" {
		t.Errorf("got the versions %q, want each as '## [v0.1.0] - 2006-01-02', and '## [Unreleased]' first", versions)
	}
	for i, version := range versions {
		if i > 0 && version[2] == "" {
			t.Errorf("version %s has no date", version[1])
		}
		if !strings.Contains(text, "\n["+version[1]+"]: https://") {
			t.Errorf("version %s has no link", version[1])
		}
	}
	groups := []string{"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
	for _, m := range regexp.MustCompile(`(?m)^### (.*)$`).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(groups, m[1]) {
			t.Errorf("got the group %q, want one of %q", m[1], groups)
		}
	}
}

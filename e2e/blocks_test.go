package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documented maps each block of the documentation to the test that runs it: each
// line of a console block, and the first line of any other block. Caddyfiles need no
// entry, because TestDocsConfigurations and TestReadmeConfigurations find all of them.
var documented = make(map[string]string)

// ranBy records which test runs a console line, or the block that begins with a line.
// It returns true, so that a package-level variable can call it.
func ranBy(test string, lines ...string) bool {
	for _, line := range lines {
		documented[line] = test
	}
	return true
}

// ranWhole has, by page and language, the test that runs all blocks of a language on a page.
var ranWhole = map[string]string{
	"docs/from-nginx.md nginx":     "TestDocsNginx",
	"docs/from-apache.md apache":   "TestDocsApache",
	"docs/browsers.md js":          "TestDocsBrowsers",
	"docs/architecture.md mermaid": "TestArchitectureArrows",
	"README.md nginx":              "TestReadmeFromNginx",
}

// docsPages returns all pages under docs.
func docsPages(t *testing.T) []string {
	t.Helper()
	var pages []string
	err := filepath.WalkDir("../docs", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil || len(pages) < 10 {
		t.Fatalf("got %q %v, want at least 10 pages", pages, err)
	}
	return pages
}

var (
	_ = ranBy("TestReadmeDemo",
		"go run ./cmd/caddy run --config examples/Caddyfile",
		"curl -k -i https://localhost:8443/api/doctor/1",
		"curl -k -u admin:swordfish https://localhost:8443/api/doctor/1",
		"go run ./cmd/caddy htpasswd -b examples/.htpasswd watson elementary",
		"curl -k -u watson:elementary https://localhost:8443/api/doctor/1",
		"curl localhost:2019/htpasswd",
		"curl -X POST localhost:2019/htpasswd/reload",
		"curl localhost:2019/htpasswd/throttle/alice",
		"curl -X DELETE localhost:2019/htpasswd/throttle/alice",
		"curl -X DELETE localhost:2019/htpasswd/throttle/192.0.2.7",
		"curl -X DELETE localhost:2019/htpasswd/throttle",
		"curl localhost:2019/metrics")
	_ = ranBy("TestHarness", // beside which "make xcaddy" builds with the checkout
		"xcaddy build --with github.com/seed10b5b978/caddy-htpasswd")
	_ = ranBy("TestPrompts",
		"sudo caddy htpasswd -c /etc/caddy/.htpasswd alice",
		"sudo caddy htpasswd /etc/caddy/.htpasswd alice",
		"caddy htpasswd /etc/caddy/.htpasswd alice")
	_ = ranBy("TestExampleCertificates", certificateCommands...)
	_ = ranBy("TestReadmeGrammar",
		"htpasswd [<matcher>] {", "htpasswd {", "upstream <group> {", "proxy_pass [<matcher>] <group> {",
		"caddy htpasswd [-c] [-i | --generate] [-B2m5dsp | --argon2id] [-C <cost>] [-r <rounds>] <file> <user>")
	_ = ranBy("TestJSONReference", "{") // the example
	_ = ranBy("TestDocsConsole",
		"find /srv/site -name .htaccess -o -name '.htpasswd*'",
		`perl -MDB_File -e 'tie my %h, "DB_File", "users", O_RDONLY or die $!; print "$_:$h{$_}\n" for sort keys %h' > .htpasswd`)
	_ = ranBy("TestAdminExceeded",
		`{"limit":"login","client_ip":"192.0.2.7","user":"alice","file":"/etc/caddy/.htpasswd","until":"2026-03-01T09:41:00Z"}`)
	_ = ranBy("TestProtectedIsLogged",
		`{"level":"info","logger":"http.handlers.htpasswd","msg":"requests need a password","server":"srv0","hosts":["example.com"],"requests":"path /admin*","files":["/etc/caddy/.htpasswd"],"exempt":"path /admin/health"}`)
)

// codeBlock is a block of code in a Markdown file.
type codeBlock struct{ language, text string }

// codeBlocks returns all blocks of code in a Markdown file.
func codeBlocks(t *testing.T, file string) []codeBlock {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []codeBlock
	for _, m := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		found = append(found, codeBlock{m[1], m[2]})
	}
	return found
}

// blocks returns the code blocks of a language in a Markdown file.
func blocks(t *testing.T, file, language string) []string {
	t.Helper()
	var found []string
	for _, b := range codeBlocks(t, file) {
		if b.language == language {
			found = append(found, b.text)
		}
	}
	return found
}

// block returns the one code block of a language that contains text.
func block(t *testing.T, file, language, text string) string {
	t.Helper()
	found := slices.DeleteFunc(blocks(t, file, language), func(b string) bool { return !strings.Contains(b, text) })
	if len(found) != 1 {
		t.Fatalf("%s: got %d blocks of %s with %q, want one", file, len(found), language, text)
	}
	return found[0]
}

// section returns the text of a page from a heading to the next.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, text, found := strings.Cut(readText(t, page), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("%s has no %s", page, heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// sectionBlocks returns the code blocks of a language in a section.
func sectionBlocks(t *testing.T, page, heading, language string) []string {
	t.Helper()
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(section(t, page, heading), -1) {
		found = append(found, m[1])
	}
	return found
}

// TestEveryBlockIsRun looks for a test of each block in the README and docs.
func TestEveryBlockIsRun(t *testing.T) {
	parallel(t)
	tests := testSources(t)
	hasTest := func(where, name string) {
		t.Helper()
		if !strings.Contains(tests, "\nfunc "+name+"(") {
			t.Errorf("%s: there is no test %q", where, name)
		}
	}
	for _, page := range append(docsPages(t), "../README.md") {
		short := strings.TrimPrefix(filepath.ToSlash(page), "../")
		for _, b := range codeBlocks(t, page) {
			if whole := ranWhole[short+" "+b.language]; whole != "" {
				hasTest(short, whole)
				continue
			}
			lines := strings.Split(strings.TrimSpace(b.text), "\n")
			switch b.language {
			case "caddyfile":
				continue
			case "console":
			default:
				lines = lines[:1]
			}
			for _, line := range lines {
				line = strings.TrimSpace(line)
				test, isKnown := documented[line]
				switch {
				case line == "" || strings.HasPrefix(line, "#") && b.language == "console":
				case !isKnown:
					t.Errorf("%s: no test runs the block of %s with %q", short, b.language, line)
				default:
					hasTest(short+": "+line, test)
				}
			}
		}
	}
}

// testSources returns the text of all tests.
func testSources(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	for _, pattern := range []string{"../*_test.go", "../internal/*/*_test.go", "../fleet/*/*_test.go", "*_test.go", "fleet/*_test.go"} {
		names, err := filepath.Glob(pattern)
		must(t, err)
		for _, name := range names {
			text.WriteString(readText(t, name))
		}
	}
	return text.String()
}

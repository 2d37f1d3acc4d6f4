package fleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// exampleCommand is a command in the text above the example.
var exampleCommand = regexp.MustCompile(`(?m)^#\t(.*)$`)

// TestExampleFleet runs the commands of the example, in their order, on other ports. Each
// must print what the text says.
func TestExampleFleet(t *testing.T) {
	parallel(t)
	program(t, "redis-server")
	program(t, "curl")
	program(t, "openssl")
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "build"), 0o700))
	must(t, os.CopyFS(filepath.Join(dir, "examples"), os.DirFS("../../examples")))
	must(t, os.Symlink(caddyBinary, filepath.Join(dir, "build", "caddy")))
	ports := testkit.FreePorts(t, 5)
	var pairs []string
	for i, port := range []string{"6390", "8081", "8082", "2021", "2022"} {
		pairs = append(pairs, port, fmt.Sprint(ports[i]))
	}
	replaced := strings.NewReplacer(pairs...)
	text := testkit.ReadText(t, filepath.Join(dir, "examples", "fleet", "Caddyfile"))
	for _, name := range []string{"Caddyfile", "redis.conf"} {
		path := filepath.Join(dir, "examples", "fleet", name)
		must(t, os.WriteFile(path, []byte(replaced.Replace(testkit.ReadText(t, path))), 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, ".curlrc"), []byte("silent\nshow-error\nmax-time = 30\n"), 0o600))
	env := append(os.Environ(), "HOME="+dir, "CURL_HOME="+dir, "XDG_CONFIG_HOME="+dir, "PATH="+os.Getenv("PATH")+":/usr/sbin")
	run := func(line string) string {
		cmd := exec.Command("sh", "-c", replaced.Replace(line))
		cmd.Dir, cmd.Env = dir, env
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%s: %v: %s", line, err, out)
		}
		return string(out)
	}
	want := map[string]*regexp.Regexp{ // by the beginning of a command
		"openssl rand":         regexp.MustCompile(`^$`),
		"build/caddy htpasswd": regexp.MustCompile(`alice`),
		"curl -u alice:swordfish http://localhost:8081/": regexp.MustCompile(`Hello, alice, from port ` + fmt.Sprint(ports[1])),
		"curl -u alice:swordfish http://localhost:8082/": regexp.MustCompile(`Hello, alice, from port ` + fmt.Sprint(ports[2])),
		"for i in":                            regexp.MustCompile(`^(401\n){10}(429\n){2}$`),
		"curl -i -u":                          regexp.MustCompile(`^HTTP/1\.1 429 (?s:.*)\r\nRetry-After: [1-9]`),
		"curl -X DELETE":                      regexp.MustCompile(``),
		"curl http://localhost:2021/htpasswd": regexp.MustCompile(`"connected": ?true`),
	}
	seen := 0
	var server *testkit.Process // Redis
	for _, m := range exampleCommand.FindAllStringSubmatch(text, -1) {
		line := m[1]
		switch {
		case strings.Contains(line, "go build"): // is the binary of the tests
		case strings.HasPrefix(line, "redis-server "), strings.Contains(line, "build/caddy run "):
			p := testkit.Start(t, dir, env, "sh", "-c", "exec env "+replaced.Replace(line))
			if server == nil {
				server = p
			}
			eventually(t, "it runs: "+line, func() bool {
				if p.Ended() {
					t.Fatalf("%s: %s", line, p.Said())
				}
				return strings.Contains(p.Said(), "Ready to accept connections") || strings.Contains(p.Said(), "serving initial configuration")
			})
		default:
			found := false
			for prefix, pattern := range want {
				if !strings.HasPrefix(line, prefix) {
					continue
				}
				found = true
				out := ""
				if strings.HasPrefix(prefix, "for") { // cannot be repeated
					if out = run(line); !pattern.MatchString(out) {
						t.Errorf("%s: got %q, want %s", line, out, pattern)
					}
					continue
				}
				eventually(t, line, func() bool {
					out = run(line)
					return pattern.MatchString(out)
				})
			}
			if !found {
				t.Errorf("no expectation for the command %q", line)
			}
			seen++
		}
	}
	if seen < 9 {
		t.Errorf("the text has only %d commands", seen)
	}
	server.Stop(stop)
	for _, port := range []string{"8081", "8082"} {
		line := "curl -u alice:swordfish http://localhost:" + port + "/"
		if out := run(line); !strings.Contains(out, "Hello, alice") {
			t.Errorf("without Redis: %s: %s", line, out)
		}
	}
}

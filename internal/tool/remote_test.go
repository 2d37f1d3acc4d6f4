//go:build unix

package tool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed10b5b978/caddy-htpasswd/internal/fileapi"
)

// fakeCaddy is the admin API of a running Caddy with the files fleet://staff, fleet://new,
// which nobody has written, and the group file storage://groups.
type fakeCaddy struct {
	t      testing.TB
	dir    string
	mutex  sync.Mutex
	texts  map[string]string
	bodies []string // of all requests
	asked  []string // the addresses

	fail func(method string) (AdminAnswer, error, bool) //nolint:revive // the order of an AdminAPI
}

func newFakeCaddy(t testing.TB) *fakeCaddy {
	t.Helper()
	c := &fakeCaddy{t: t, dir: t.TempDir(), texts: make(map[string]string)}
	c.write("fleet://staff", toolFile)
	c.write("storage://groups", "staff: ann bob\n")
	return c
}

func (c *fakeCaddy) copyOf(url string) string {
	scheme, name, _ := strings.Cut(url, "://")
	return filepath.Join(c.dir, "htpasswd", scheme, name)
}

func (c *fakeCaddy) write(url, text string) {
	c.t.Helper()
	c.texts[url] = text
	path := c.copyOf(url)
	must(c.t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(c.t, os.WriteFile(path, []byte("# revision 7 digest abc\n"+text), 0o600))
}

func (c *fakeCaddy) admin(address, method, path string, body []byte) (AdminAnswer, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.asked, c.bodies = append(c.asked, address), append(c.bodies, string(body))
	answer := AdminAnswer{Address: "localhost:2019", Status: 200}
	if c.fail != nil {
		if failed, err, ok := c.fail(method); ok {
			return failed, err
		}
	}
	if method == "GET" {
		files := []any{map[string]any{"path": "/etc/caddy/.htpasswd", "kind": "users", "users": 3}}
		for url, kind := range map[string]string{"fleet://staff": "users", "fleet://new": "users", "storage://groups": "groups"} {
			files = append(files, map[string]any{"path": url, "kind": kind, "users": 1, "copy": c.copyOf(url)})
		}
		answer.Body, _ = json.Marshal(map[string]any{"files": files})
		return answer, nil
	}
	source, err := fileapi.ParsePath(path)
	must(c.t, err)
	file := fileapi.File{Source: source, IsGroups: source.Name == "groups", MaxText: fileapi.MaxFleetText}
	request, err := fileapi.Decode(body)
	must(c.t, err)
	err = request.Check(file)
	var edited string
	var made fileapi.Answer
	if err == nil {
		edited, made, err = request.Apply(file, c.texts[source.String()])
	}
	if e, ok := errors.AsType[*fileapi.Error](err); ok {
		answer.Status = e.Status
		answer.Body, _ = json.Marshal(map[string]string{"error": e.Error()})
		return answer, nil
	}
	must(c.t, err)
	c.write(source.String(), edited)
	answer.Body, _ = json.Marshal(made)
	return answer, nil
}

// run runs the tool with this Caddy.
func (c *fakeCaddy) run(stdin string, args ...string) run {
	c.t.Helper()
	var got run
	var out, errs bytes.Buffer
	cmd := &cobra.Command{Use: "htpasswd", SilenceUsage: true}
	SetUp(cmd, c.admin, func(code ExitCode, err error) error {
		got.code = code
		return err
	})
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(append([]string{}, args...))
	if err := cmd.Execute(); (err != nil) != (got.code != 0) {
		c.t.Errorf("%q: got error %v with exit code %d", args, err, got.code)
	}
	got.out, got.err = out.String(), errs.String()
	return got
}

// TestFilesOfOtherServers runs the tool with files that are not on disk. Among the
// arguments, F is a file with toolFile in it, H a page, and L a file in Latin-1.
func TestFilesOfOtherServers(t *testing.T) {
	for _, test := range []struct {
		name  string
		args  string
		stdin string
		code  ExitCode
		out   string // standard output
		err   string // a part of standard error
		text  string // of fleet://staff afterwards, with ? for a new hash; "" for toolFile
	}{
		{"new user", "-b fleet://staff carl canary", "", 0, "", "Adding password for user carl\n", toolFile + "carl:?\n"},
		{"another password", "-b fleet://staff ann canary", "", 0, "", "Updating password for user ann\n", "# people\nann:?:first\nbob:" + toolSHA + "\nlocked:*\nbroken:?\n"},
		{"from a pipe", "-i -C4 fleet://staff carl", "canary\n", 0, "", "Adding", toolFile + "carl:?\n"},
		{"overwrite", "-cb fleet://staff carl canary", "", 0, "", "overwriting fleet://staff (had 1 users who could log in)", "carl:?\n"},
		{"a file that nobody has written", "-b fleet://new carl canary", "", 0, "", "Adding password for user carl", ""},
		{"a password that is too long", "-b fleet://staff carl " + strings.Repeat("canary", 20), "", ExitTooLong, "", "at most 72 bytes", ""},
		{"remove", "-D fleet://staff bob", "", 0, "", "Deleting password for user bob\n", "# people\nann:{SHA}old:first\nlocked:*\nbroken:?\n"},
		{"remove nobody", "-D fleet://staff carl", "", 0, "", "User carl not found\n", ""},
		{"right", "-vb fleet://staff bob secret1", "", 0, "", "Password for user bob correct.\n", ""},
		{"wrong", "-vb fleet://staff bob canary", "", ExitWrong, "", "password verification failed", ""},
		{"unknown", "-vb fleet://staff carl canary", "", ExitIllegal, "", "User carl not found", ""},
		{"of an invalid line", "-vb fleet://staff broken canary", "", ExitWrong, "", "run: caddy htpasswd --check fleet://staff", ""},
		{"verify with a file that nobody has written", "-vb fleet://new carl canary", "", ExitFile, "", "create its first user with: caddy htpasswd fleet://new USER", ""},
		{"list", "--list fleet://staff", "", 0, "bob\n", "not listed: 3", ""},
		{"check", "--check fleet://staff", "", 0, "fleet://staff: users who can log in: 1\n  sha1 (weak): 1\nfleet://staff:3: weak hash (sha1): user bob; reset this password\nfleet://staff:4: locked: user locked\n" +
			"fleet://staff:2: invalid line (user cannot log in): sha1: not the base64 of a 20-byte digest\nfleet://staff:5: invalid line (user cannot log in): unknown password hash format (a plain-text password needs the prefix {PLAIN})\n", "", ""},
		{"export", "--export fleet://staff", "", 0, toolFile, "", ""},
		{"export groups", "--export storage://groups", "", 0, "staff: ann bob\n", "", ""},
		{"import", "--import fleet://new F", "", 0, "", "fleet://new has the text of F (users who can log in: 1)\nWarning: 2 invalid lines", ""},
		{"import over users", "--import fleet://staff F", "", ExitFile, "", "fleet://staff has lines already; to replace all of them, use --import with -c", ""},
		{"overwrite by an import", "--import -c fleet://staff G", "", 0, "", "fleet://staff has the text of G", "carl:{PLAIN}canary\n"},
		{"import a page", "--import fleet://new H", "", ExitNotAFile, "", "H: import: a server would refuse this text", ""},
		{"import Latin-1", "--import fleet://new L", "", ExitNotAFile, "", "not UTF-8, which fleet://new must be; convert it, for example with: iconv", ""},
		{"import nothing", "--import fleet://new N", "", ExitFile, "", "N does not exist\n", ""},
		{"import from another source", "--import fleet://new fleet://staff", "", 0, "", "fleet://new has the text of fleet://staff", ""},

		{"a group file", "-b storage://groups carl canary", "", ExitNotAFile, "", "is a group file", ""},
		{"remove from a group file", "-D storage://groups carl", "", ExitNotAFile, "", "is a group file", ""},
		{"check of a group file", "--check storage://groups", "", ExitNotAFile, "", "is a group file", ""},
		{"a source that is not used", "-b storage://staff carl canary", "", ExitFile, "", "the running configuration of Caddy does not use storage://staff; add it", ""},
		{"a name with a slash", "-b fleet://a/b carl canary", "", ExitUsage, "", "expected fleet:// or storage://", ""},
		{"another scheme", "-b fleets://staff carl canary", "", ExitUsage, "", "unknown kind of URL; expected a path, fleet://<name> or storage://<name>", ""},
		{"a new file with another scheme", "-bc s3://bucket carl canary", "", ExitUsage, "", "unknown kind of URL", ""},
		{"a scheme in capitals", "--list FLEET://staff", "", ExitUsage, "", "in lower case", ""},
		{"check of another scheme", "--check F redis://staff", "", ExitUsage, "", "unknown kind of URL", ""},
		{"import from another scheme", "--import fleet://new https://example.com/x", "", ExitUsage, "", "unknown kind of URL", ""},
		{"check of a name with a slash", "--check fleet://a/b", "", ExitUsage, "", "expected fleet:// or storage://", ""},
		{"export of a path", "--export F", "", ExitUsage, "", "expected fleet://<name> or storage://<name>, found a path", ""},
		{"import to a path", "--import F F", "", ExitUsage, "", "found a path", ""},
		{"import without a file", "--import fleet://new", "", ExitUsage, "", "expected <source> <file>", ""},
		{"export of two", "--export fleet://new fleet://staff", "", ExitUsage, "", "too many arguments; expected <source>", ""},
		{"-D and --export", "-D --export fleet://new", "", ExitUsage, "", "only one of", ""},
		{"-c and --export", "-c --export fleet://new", "", ExitUsage, "", "only one of", ""},
		{"-b and --import", "-b --import fleet://new F", "", ExitUsage, "", "leave out -b and -i", ""},
		{"--generate and --export", "--generate --export fleet://new", "", ExitUsage, "", "leave it out with --export and --import", ""},
		{"an address without a port", "--address localhost --list fleet://staff", "", ExitUsage, "", "--address: expected host:port, such as localhost:2019, or unix//path, found 'localhost'", ""},
		{"a URL as the address", "--address http://localhost:2019 --list fleet://staff", "", ExitUsage, "", "found 'http://localhost:2019'", ""},
		{"an address for a path", "--address localhost:1 -b F carl canary", "", ExitUsage, "", "--address is only for", ""},
		{"a name that is not UTF-8", "-b fleet://staff a\xff canary", "", ExitIllegal, "", "not UTF-8", ""},
		{"a name with a colon", "-b fleet://staff a:b canary", "", ExitIllegal, "", "':'", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newFakeCaddy(t)
			t.Chdir(t.TempDir())
			for name, text := range map[string]string{"F": toolFile, "G": "carl:{PLAIN}canary\n", "H": "<html>\ncanary\n", "L": "j\xf6rg:" + toolSHA + "\n"} {
				must(t, os.WriteFile(name, []byte(text), 0o600))
			}
			got := c.run(test.stdin, strings.Split(test.args, " ")...)
			if got.code != test.code || got.out != test.out || !strings.Contains(got.err, test.err) {
				t.Errorf("exit code %d, standard output %q, standard error %q", got.code, got.out, got.err)
			}
			if strings.Contains(got.out+got.err, "canary") {
				t.Errorf("the password is shown: %q", got.err)
			}
			for _, body := range c.bodies {
				if strings.Contains(body, "canary") && !strings.Contains(body, "{PLAIN}") {
					t.Errorf("the password has left the tool: %s", body)
				}
			}
			want := test.text
			if want == "" {
				want = toolFile
			}
			if text := c.texts["fleet://staff"]; !fits(want, text) {
				t.Errorf("the file is now %q", text)
			}
			if text := readText(t, "F"); text != toolFile {
				t.Errorf("the file on disk is now %q", text)
			}
		})
	}
}

func TestGeneratedPasswordOfOtherServers(t *testing.T) {
	c := newFakeCaddy(t)
	got := c.run("", "--generate", "fleet://staff", "carl")
	password := strings.TrimSuffix(got.out, "\n")
	if got.code != 0 || len(password) != generatedLen || strings.Contains(got.err, password) {
		t.Fatalf("got exit code %d, %q and %q, want a password on standard output only", got.code, got.out, got.err)
	}
	if strings.Contains(strings.Join(c.bodies, ""), password) {
		t.Error("the password has left the tool")
	}
	if got := c.run("", "-vb", "fleet://staff", "carl", password); got.code != 0 {
		t.Errorf("got exit code %d and %q for the generated password, want 0", got.code, got.err)
	}

	c.fail = func(method string) (AdminAnswer, error, bool) { //nolint:revive // the order of an AdminAPI
		return AdminAnswer{Address: "localhost:2019"}, errors.New("connection reset"), method == "POST"
	}
	if got := c.run("", "--generate", "fleet://staff", "dave"); got.code != ExitFile || got.out != "" {
		t.Errorf("got exit code %d and %q, want no password that the file may not have", got.code, got.out)
	}
}

// TestCheckOfOtherServersAsJSON checks a file on disk and one that is not together.
func TestCheckOfOtherServersAsJSON(t *testing.T) {
	c := newFakeCaddy(t)
	got := c.run("", "--check", "--json", writeFile(t, toolFile), "fleet://staff")
	var report struct {
		Files []map[string]any `json:"files"`
	}
	must(t, json.Unmarshal([]byte(got.out), &report))
	if len(report.Files) != 2 || got.code != 0 {
		t.Fatalf("got exit code %d and %s, want two files", got.code, got.out)
	}
	disk, remote := report.Files[0], report.Files[1]
	if remote["path"] != "fleet://staff" || remote["mode"] != nil || remote["owner"] != nil || remote["world_readable"] != false || strings.Contains(got.out, c.dir) {
		t.Errorf("got %v, want the URL, and nothing about permissions", remote)
	}
	a, _ := json.Marshal(disk["invalid_lines"])
	b, _ := json.Marshal(remote["invalid_lines"])
	if string(a) != string(b) {
		t.Errorf("got the invalid lines %s, want %s as of the same text on disk", b, a)
	}
	c.write("fleet://staff", "<html>\n")
	if got := c.run("", "--check", "fleet://staff"); got.code != ExitNotAFile || !strings.Contains(got.out, "fleet://staff: a server would refuse this file") {
		t.Errorf("got exit code %d and %q, want 7 for a text that a server refuses", got.code, got.out)
	}
}

// TestFaultsOfTheAdminAPI checks what the tool says if Caddy or the copy is not as expected.
func TestFaultsOfTheAdminAPI(t *testing.T) {
	const canary = "canary-of-an-answer"
	answering := func(on string, status int, body string) func(string) (AdminAnswer, error, bool) { //nolint:revive // the order of an AdminAPI
		return func(method string) (AdminAnswer, error, bool) {
			return AdminAnswer{"localhost:2019", status, []byte(body)}, nil, method == on
		}
	}
	refusing := func(on, text string) func(string) (AdminAnswer, error, bool) { //nolint:revive // the order of an AdminAPI
		return func(method string) (AdminAnswer, error, bool) {
			return AdminAnswer{Address: "localhost:2019"}, errors.New(text), method == on
		}
	}
	set := []string{"-b", "fleet://staff", "carl", canary}
	list := []string{"--list", "fleet://staff"}
	for _, test := range []struct {
		name string
		args []string
		fail func(string) (AdminAnswer, error, bool) //nolint:revive // the order of an AdminAPI
		code ExitCode
		want string
	}{
		{"Caddy is not running", set, refusing("GET", "dial tcp 127.0.0.1:2019: connect: connection refused"), ExitFile,
			"no answer from Caddy's admin API at localhost:2019: dial tcp 127.0.0.1:2019: connect: connection refused; fleet://staff needs a running Caddy: start it, or write its admin address after --address; with 'admin off' it is not possible"},
		{"a socket of another user", list, refusing("GET", "dial unix /run/caddy.sock: connect: permission denied"), ExitFile, "permission denied; run this with sudo"},
		{"no plugin", list, answering("GET", 404, `{"error":"resource not found: /htpasswd"}`), ExitFile, "the Caddy at localhost:2019 has no htpasswd plugin"},
		{"an origin that is not allowed", list, answering("GET", 403, `{"error":"host not allowed: x"}`), ExitFile, "the Caddy at localhost:2019: host not allowed: x"},
		{"another program", list, answering("GET", 200, "<html>"+canary), ExitFile, "what answers at localhost:2019 is not Caddy's admin API"},
		{"an answer that controls the terminal", list, answering("GET", 500, `{"error":"\u001b[2J\nbad"}`), ExitFile, `\x1b[2J\nbad`},
		{"an answer without a reason", list, answering("GET", 502, canary), ExitFile, "status 502"},
		{"the store is down", set, answering("POST", 503, `{"error":"fleet://staff cannot be written now: no connection"}`), ExitFile, "fleet://staff cannot be written now: no connection"},
		{"the connection ends", set, refusing("POST", "EOF"), ExitFile, "whether fleet://staff was changed is not known; run the command again"},
		{"the text was refused", set, answering("POST", 409, `{"error":"not an htpasswd file"}`), ExitNotAFile, "not an htpasswd file"},
		{"reloaded without it meanwhile", set, answering("POST", 404, `{"error":"the running configuration does not use fleet://staff"}`), ExitFile, "does not use fleet://staff"},
		{"a copy elsewhere", list, answering("GET", 200, `{"files":[{"path":"fleet://staff","kind":"users","copy":"/etc/passwd"}]}`), ExitFile, "names /etc/passwd as the copy of fleet://staff, which it cannot be"},
		{"no copy", list, answering("GET", 200, `{"files":[{"path":"fleet://staff","kind":"users"}]}`), ExitFile, "fleet://staff has no copy on this machine yet"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newFakeCaddy(t)
			c.fail = test.fail
			got := c.run("", test.args...)
			if got.code != test.code || !strings.Contains(got.err, test.want) || got.out != "" {
				t.Errorf("got exit code %d, %q and %q, want %d and '%s'", got.code, got.out, got.err, test.code, test.want)
			}
			if strings.Contains(got.err, canary) {
				t.Errorf("got %q, want nothing of the password or the answer", got.err)
			}
			onlyShown(t, got.err)
		})
	}

	c := newFakeCaddy(t)
	must(t, os.WriteFile(c.copyOf("fleet://staff"), []byte(toolFile[len("# people\n"):]), 0o600))
	if got := c.run("", list...); got.code != ExitFile || !strings.Contains(got.err, "is not a copy that Caddy has written") {
		t.Errorf("got exit code %d and %q for a copy without its first line, want 1", got.code, got.err)
	}
	if os.Geteuid() != 0 {
		must(t, os.Chmod(c.copyOf("fleet://staff"), 0))
		if got := c.run("", list...); got.code != ExitFile || !strings.Contains(got.err, "only Caddy's user may read the copy") || !strings.Contains(got.err, "run this with sudo") {
			t.Errorf("got exit code %d and %q for a copy of another user, want 1 and advice", got.code, got.err)
		}
	}
}

func TestAddressOfTheAdminAPI(t *testing.T) {
	c := newFakeCaddy(t)
	for _, address := range []string{"", "localhost:2020", "unix//run/caddy.sock"} {
		c.asked = nil
		args := []string{"--list", "fleet://staff"}
		if address != "" {
			args = append([]string{"--address", address}, args...)
		}
		if got := c.run("", args...); got.code != 0 || len(c.asked) != 1 || c.asked[0] != address {
			t.Errorf("got exit code %d and the addresses %q, want %q: %s", got.code, c.asked, address, got.err)
		}
	}
}

// TestHungCaddy checks that the tool gives up, and that a signal ends it.
func TestHungCaddy(t *testing.T) {
	hung := make(chan struct{})
	defer close(hung)
	tool := &tool{err: new(bytes.Buffer), adminTimeout: 10 * time.Millisecond, admin: func(string, string, string, []byte) (AdminAnswer, error) {
		<-hung
		return AdminAnswer{}, nil
	}}
	staff := fileapi.Source{Scheme: fileapi.SchemeFleet, Name: "staff"}
	if _, err := tool.look(t.Context(), staff); codeOf(err) != ExitFile || !strings.Contains(err.Error(), "no answer within 10ms") {
		t.Errorf("got %v, want no answer", err)
	}
	tool.adminTimeout = time.Minute
	if _, err := tool.look(endedContext(t), staff); codeOf(err) != ExitInterrupted || err.Error() != errInterrupted.Error() {
		t.Errorf("got %v, want that nothing was changed", err)
	}
	_, err := tool.post(endedContext(t), staff, &fileapi.Request{Remove: &fileapi.Remove{User: "ann"}})
	if codeOf(err) != ExitInterrupted || !strings.Contains(err.Error(), "whether fleet://staff was changed is not known") {
		t.Errorf("got %v, want that it is not known", err)
	}
}

// endedContext returns a context as after a signal.
func endedContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

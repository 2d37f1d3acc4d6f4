//go:build unix

package tool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed10b5b978/caddy-htpasswd/internal/atomicfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// run is the result of one run of "caddy htpasswd".
type run struct {
	code     ExitCode
	out, err string
}

// runTool runs "caddy htpasswd" in this process.
func runTool(t testing.TB, stdin string, args ...string) run {
	t.Helper()
	var got run
	var out, errs bytes.Buffer
	cmd := &cobra.Command{Use: "htpasswd", SilenceUsage: true}
	SetUp(cmd, nil, func(code ExitCode, err error) error {
		got.code = code
		return err
	})
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(append([]string{}, args...))
	if err := cmd.Execute(); (err != nil) != (got.code != 0) {
		t.Errorf("%q: got error %v with exit code %d", args, err, got.code)
	}
	got.out, got.err = out.String(), errs.String()
	return got
}

// toolVariable makes the test binary run as "caddy htpasswd".
const toolVariable = "CADDY_HTPASSWD_TEST_TOOL"

func TestMain(m *testing.M) {
	if os.Getenv(toolVariable) == "" {
		os.Exit(m.Run())
	}
	cmd := &cobra.Command{Use: "htpasswd", SilenceUsage: true}
	SetUp(cmd, nil, func(code ExitCode, _ error) error {
		os.Exit(int(code))
		return nil
	})
	if cmd.Execute() != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// toolProcess returns "caddy htpasswd" as a separate process.
func toolProcess(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), toolVariable+"=1", "GORACE=atexit_sleep_ms=0") // the race detector waits a second else
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}                          // without a terminal
	return cmd
}

var (
	must       = testkit.Must
	eventually = testkit.Eventually
)

// toolSHA is a hash of "secret1" (htpasswd -nbs bob secret1).
const toolSHA = "{SHA}AMr9EmGC6KnnwBuy8N/QBJa+ck8="

// writeFile writes a new file, and returns its path.
func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".htpasswd")
	must(t, os.WriteFile(path, []byte(text), 0o640))
	return path
}

// readText returns the text of a file.
func readText(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

// toolFile is the file of TestTool.
const toolFile = "# people\nann:{SHA}old:first\nbob:" + toolSHA + "\nlocked:*\nbroken:?\n"

// TestTool runs the tool with all sorts of arguments. Among them, F is a file
// with toolFile in it, H a page, N does not exist and D is a directory.
func TestTool(t *testing.T) {
	long := strings.Repeat("a", 256)
	for _, test := range []struct {
		name  string
		args  string // split at spaces; _ stands for a space
		stdin string
		code  ExitCode
		out   string // standard output, with ? for the hash
		err   string // a part of standard error
		file  string // text of F afterwards, with ? for a new hash; "" for toolFile
	}{
		{"new user", "-b F carl pw", "", 0, "", "Adding password for user carl\n", toolFile + "carl:?\n"},
		{"another password keeps comment and place", "-b F ann pw", "", 0, "", "Updating password for user ann\n", "# people\nann:?:first\nbob:" + toolSHA + "\nlocked:*\nbroken:?\n"},
		{"a locked user is unlocked", "-b F locked pw", "", 0, "", "Updating", "# people\nann:{SHA}old:first\nbob:" + toolSHA + "\nlocked:?\nbroken:?\n"},
		{"from a pipe", "-i F carl", "p w\r\n", 0, "", "Adding", toolFile + "carl:?\n"},
		{"from a pipe, only one line end is cut", "-i F carl", "pw\n\n", ExitIllegal, "", "control character", ""},
		{"from an empty pipe", "-i F carl", "", ExitUsage, "", "no password on standard input (for an empty password, send an empty line)", ""},
		{"an empty line is an empty password", "-ni carl", "\n", 0, "carl:?\n", "Warning: the password is empty", ""},
		{"too long from a pipe", "-i F carl", strings.Repeat("p", 2000), ExitTooLong, "", "longer than 1024 bytes", ""},
		{"grouped flags, overwritten", "-cbB F carl pw", "", 0, "", "overwriting F (had 4 users)", "carl:?\n"},
		{"print", "-nb carl pw", "", 0, "carl:?\n", "", ""},
		{"password that looks like a flag", "-nb carl -pw", "", 0, "carl:?\n", "", ""},
		{"the last format wins", "-nbBs carl secret1", "", 0, "carl:" + toolSHA + "\n", "Warning: sha1 is weak", ""},
		{"DES warns of a truncated password", "-nbd carl 123456789", "", 0, "carl:?\n", "only the first 8 bytes", ""},
		{"plain", "-nbp carl pw", "", 0, "carl:{PLAIN}pw\n", "Warning: plain is weak", ""},
		{"cost for a format without one", "-nbm -C 7 carl pw", "", 0, "carl:?\n", "ignored for apr1", ""},
		{"cost", "-nb -C4 carl pw", "", 0, "carl:?\n", "", ""},
		{"remove", "-D F bob", "", 0, "", "Deleting password for user bob\n", "# people\nann:{SHA}old:first\nlocked:*\nbroken:?\n"},
		{"remove, with a password that Apache's htpasswd accepts", "-Db F bob canary", "", 0, "", "Deleting", "# people\nann:{SHA}old:first\nlocked:*\nbroken:?\n"},
		{"remove from no file", "-D N bob", "", ExitFile, "", "N does not exist\n", ""},
		{"verify with no file", "-vb N bob pw", "", ExitFile, "", "N does not exist\n", ""},
		{"list of no file", "--list N", "", ExitFile, "", "no such file", ""},
		{"list of a page", "--list H", "", ExitNotAFile, "", "would refuse", ""},
		{"remove an unknown user", "-D F carl", "", 0, "", "User carl not found\n", ""},
		{"right", "-vb F bob secret1", "", 0, "", "Password for user bob correct.\n", ""},
		{"right, from a pipe", "-vi F bob", "secret1\n", 0, "", "Password for user bob correct.\n", ""},
		{"wrong", "-vb F bob secret2", "", ExitWrong, "", "password verification failed", ""},
		{"of a locked user", "-vb F locked secret1", "", ExitWrong, "", "is locked", ""},
		{"of an invalid line", "-vb F broken secret1", "", ExitWrong, "", "line of user broken is invalid; for the reason, run: caddy htpasswd --check F", ""},
		{"of an unknown user", "-vb F carl secret1", "", ExitIllegal, "", "User carl not found", ""},

		{"no file", "-b N carl pw", "", ExitFile, "", "N does not exist; use -c to create it", ""},
		{"no directory", "-cb N/f carl pw", "", ExitFile, "", "its directory does not exist", ""},
		{"a directory", "-b D carl pw", "", ExitFile, "", "is a directory", ""},
		{"not a password file", "-b H carl pw", "", ExitNotAFile, "", "is not an htpasswd file", ""},
		{"not a password file, to be overwritten", "-cb H carl pw", "", ExitNotAFile, "", "is not an htpasswd file", ""},
		{"not a password file, user to be removed", "-D H carl", "", ExitNotAFile, "", "is not an htpasswd file", ""},

		{"no arguments", "", "", ExitUsage, "", "missing argument; expected <file> <user>\n", ""},
		{"no user", "F", "", ExitUsage, "", "missing argument; expected <file> <user>\n", ""},
		{"no password after -b", "-b F carl", "", ExitUsage, "", "missing argument; expected <file> <user> <password>", ""},
		{"password without -b", "F carl canary", "", ExitUsage, "", "use -b for a password on the command line", ""},
		{"flag after the file", "F carl --sha", "", ExitUsage, "", "write flags before them", ""},
		{"too many after -b", "-b F carl canary more", "", ExitUsage, "", "too many arguments; expected <file> <user> <password>", ""},
		{"too many after -D", "-D F carl more", "", ExitUsage, "", "too many arguments; expected <file> <user>", ""},
		{"unknown short flag", "-bcanary F carl pw", "", ExitUsage, "", "unknown flag -a", ""},
		{"unknown long flag", "--canary F carl pw", "", ExitUsage, "", "unknown flag; write flags before the file", ""},
		{"not a number", "-C canary F carl", "", ExitUsage, "", "--cost needs a whole number", ""},
		{"no number", "-C", "", ExitUsage, "", "--cost needs a value", ""},
		{"cost above what servers accept", "-nb -C 15 carl pw", "", ExitUsage, "", "the cost of bcrypt must be between 4 and 14, got 15", ""},
		{"negative cost", "-nb -C -1 carl pw", "", ExitUsage, "", "--cost needs a whole number above 0", ""},
		{"cost of 0", "-nb -C 0 carl pw", "", ExitUsage, "", "--cost needs a whole number above 0", ""},
		{"cost with a leading zero, which is decimal", "-nb -C 08 carl pw", "", 0, "carl:?\n", "", ""},
		{"value for a flag without one", "--batch=canary F carl", "", ExitUsage, "", "--batch takes no value", ""},
		{"too few rounds", "-nb5 -r 10 carl pw", "", ExitUsage, "", "the cost of sha512crypt must be between 1000 and 1000000, got 10", ""},
		{"-c and -n", "-cn F carl", "", ExitUsage, "", "only one of", ""},
		{"-D and -v", "-Dv F carl", "", ExitUsage, "", "only one of", ""},
		{"-b and -i", "-bi F carl pw", "", ExitUsage, "", "or -i (from standard input), not both", ""},
		{"--json alone", "--json F", "", ExitUsage, "", "--json requires --check", ""},
		{"--check without a file", "--check", "", ExitUsage, "", "missing argument; expected <file>", ""},
		{"--list of two", "--list F F", "", ExitUsage, "", "too many arguments; expected <file>", ""},
		{"no terminal", "F carl", "", ExitUsage, "", "no terminal", ""},

		{"long name", "-b F " + long + " pw", "", ExitTooLong, "", "longer than 255 bytes", ""},
		{"name with a colon", "-b F a:b pw", "", ExitIllegal, "", "user name contains ':'", ""},
		{"name with a line end", "-b F a\nb pw", "", ExitIllegal, "", "user name contains a control character", ""},
		{"name that is a comment", "-b F #a pw", "", ExitIllegal, "", "user name begins with '#'", ""},
		{"name that begins with a space", "-b F _a pw", "", ExitIllegal, "", "begins with '#', whitespace", ""},
		{"name that begins with a byte order mark", "-b F \uFEFFa pw", "", ExitIllegal, "", "byte order mark", ""},
		{"name that ends with a space", "-b F a_ pw", "", ExitIllegal, "", "user name ends with a space", ""},
		{"no name", "-vb F  pw", "", ExitIllegal, "", "no user name", ""},
		{"password of 73 bytes", "-b F carl " + long[:73], "", ExitTooLong, "", "bcrypt accepts at most 72 bytes, got 73", ""},
		{"password with a control character", "-b F carl canary\x1b", "", ExitIllegal, "", "control character", ""},
		{"plain with a colon", "-bp F carl canary:", "", ExitIllegal, "", "must not contain ':'", ""},
		{"plain with a space at the end", "-bp F carl canary_", "", ExitIllegal, "", "end with whitespace", ""},

		{"list", "--list F", "", 0, "bob\n", "not listed: 3", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			must(t, os.WriteFile("F", []byte(toolFile), 0o640))
			must(t, os.WriteFile("H", []byte("<a href='http:x'>\npage\n"), 0o640))
			must(t, os.Mkdir("D", 0o750))
			var args []string
			for _, arg := range strings.Split(test.args, " ") {
				args = append(args, strings.ReplaceAll(arg, "_", " "))
			}
			if test.args == "" {
				args = nil
			}
			var got run
			if test.name == "no terminal" { // the tests may run on a terminal
				cmd := toolProcess(args...)
				var errs bytes.Buffer
				cmd.Stderr = &errs
				_ = cmd.Run()
				got = run{ExitCode(cmd.ProcessState.ExitCode()), "", errs.String()}
			} else {
				got = runTool(t, test.stdin, args...)
			}
			if got.code != test.code || !fits(test.out, got.out) || !strings.Contains(got.err, test.err) {
				t.Errorf("exit code %d, standard output %q, standard error %q", got.code, got.out, got.err)
			}
			if strings.Contains(got.out+got.err, "canary") {
				t.Errorf("the password is shown: %q", got.err)
			}
			want := test.file
			if want == "" {
				want = toolFile
			}
			if text := readText(t, "F"); !fits(want, text) {
				t.Errorf("the file is now %q", text)
			}
			if page := readText(t, "H"); !strings.HasSuffix(page, "page\n") {
				t.Errorf("the page is now %q", page)
			}
			if names, err := os.ReadDir("."); err != nil || len(names) != 3 {
				t.Errorf("left behind: %v, %v", names, err)
			}
		})
	}
}

// fits reports whether text equals want, in which a "?" other than that of toolFile
// stands for a hash.
func fits(want, text string) bool {
	want = strings.Replace(want, "broken:?", "broken:!", 1)
	text = strings.Replace(text, "broken:?", "broken:!", 1)
	before, after, hash := strings.Cut(want, "?")
	if !hash {
		return text == want
	}
	rest, ok := strings.CutPrefix(text, before)
	rest, ok2 := strings.CutSuffix(rest, after)
	users, err := htfile.Parse("u:" + rest)
	if err != nil || len(users.All) != 1 {
		return false
	}
	u := users.All[0]
	return ok && ok2 && u.State == htfile.StateUsable && u.Hash == rest
}

// TestToolLeavesNoUserBehind checks that the tool does not remove a user if a server
// would then refuse the file and keep the previous version, with that user.
func TestToolLeavesNoUserBehind(t *testing.T) {
	path := writeFile(t, "ann:?\nbob:"+toolSHA+"\n")
	if got := runTool(t, "", "-D", path, "bob"); got.code != ExitNotAFile || !strings.Contains(got.err, "user bob not removed") {
		t.Errorf("%+v", got)
	}
	if got := runTool(t, "", "-D", path, "ann"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if got := runTool(t, "", "-D", path, "bob"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if text, err := os.ReadFile(path); err != nil || len(text) != 0 {
		t.Errorf("%q, %v", text, err)
	}
}

// TestToolFixesAFile resets the password of a file whose only line is invalid.
func TestToolFixesAFile(t *testing.T) {
	path := writeFile(t, "bob:oops\n")
	if got := runTool(t, "", "-bs", path, "ann", "pw"); got.code != ExitNotAFile {
		t.Errorf("%+v", got)
	}
	if got := runTool(t, "", "-bs", path, "bob", "secret1"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "bob:"+toolSHA+"\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// randomPasswords returns n passwords of characters that are special for shells,
// files or browsers.
func randomPasswords(n, maxBytes int) []string {
	parts := []string{" ", "$", `"`, "'", `\`, "`", "!", "*", ":", "#", "-", "%", "&", "a", "B", "7", "ä", "ß", "€", "日", "🔒", "\u0301", "\u00a0"}
	passwords := make([]string, n)
	for i := range passwords {
		size := 1 + rand.IntN(maxBytes)
		for {
			part := parts[rand.IntN(len(parts))]
			if len(passwords[i])+len(part) > size {
				break
			}
			passwords[i] += part
		}
		if passwords[i] == "" {
			passwords[i] = "-"
		}
	}
	return passwords
}

// TestToolAndHtpasswd checks that Apache's htpasswd verifies what the tool writes,
// and the other way round, in each format that both support.
func TestToolAndHtpasswd(t *testing.T) {
	htpasswd := testkit.Program(t, "htpasswd")
	apache := func(t *testing.T, password string, args ...string) {
		t.Helper()
		cmd := exec.Command(htpasswd, args...)
		cmd.Stdin = strings.NewReader(password)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("htpasswd %q, password %q: %v: %s", args, password, err, out)
		}
	}
	ours := func(t *testing.T, password string, args ...string) {
		t.Helper()
		if got := runTool(t, password, args...); got.code != 0 {
			t.Fatalf("%q, password %q: %+v", args, password, got)
		}
	}
	formats := [][]string{{"-B", "-C4"}, {"-2"}, {"-2", "-r1000"}, {"-5"}, {"-5", "-r6000"}, {"-m"}, {"-s"}, {"-d"}}
	for _, flags := range formats {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), ".htpasswd")
			passwords := randomPasswords(100, 70)
			// Alternating, so that each changes files of the other, too.
			for i, password := range passwords {
				write, verify := ours, apache
				if i%2 == 1 {
					write, verify = apache, ours
				}
				create := "-i"
				if i == 0 {
					create = "-ci"
				}
				name := fmt.Sprintf("user %d", i)
				write(t, password, append(flags, create, path, name)...)
				verify(t, password, "-vi", path, name)
			}
			for i, password := range passwords {
				name := fmt.Sprintf("user %d", i)
				ours(t, password, "-vi", path, name)
				apache(t, password, "-vi", path, name)
				wrong := "x" + password
				if got := runTool(t, wrong, "-vi", path, name); got.code != ExitWrong {
					t.Fatalf("ours accepts %q for %q", wrong, password)
				}
				cmd := exec.Command(htpasswd, "-vi", path, name)
				cmd.Stdin = strings.NewReader(wrong)
				if err := cmd.Run(); cmd.ProcessState.ExitCode() != int(ExitWrong) {
					t.Fatalf("htpasswd accepts %q for %q: %v", wrong, password, err)
				}
			}
			ours(t, "", "-D", path, "user 1")
			apache(t, "", "-D", path, "user 2")
			users, err := htfile.Parse(readText(t, path))
			if err != nil || users.Valid != 98 || users.InvalidCount != 0 {
				t.Errorf("%+v, %v", users.Findings, err)
			}
		})
	}
}

// TestToolArgon2id checks that the tool verifies its own Argon2id hashes, which
// Apache's htpasswd does not support.
func TestToolArgon2id(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".htpasswd")
	if got := runTool(t, "", "-cb", "--argon2id", path, "ann", "pä ss"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if text := readText(t, path); !strings.HasPrefix(text, "ann:$argon2id$v=19$m=65536,t=3,p=4$") {
		t.Errorf("%q", text)
	}
	for password, code := range map[string]ExitCode{"pä ss": 0, "pä s": ExitWrong} {
		if got := runTool(t, "", "-vb", path, "ann", password); got.code != code {
			t.Errorf("%q: %+v", password, got)
		}
	}
}

// TestToolConcurrent adds users to one file by 50 processes at once.
func TestToolConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".htpasswd")
	if got := runTool(t, "", "-cbs", path, "first", "pw"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	const n = 50
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			if out, err := toolProcess("-bs", path, fmt.Sprint("user", i), "pw").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	group.Wait()
	users, err := htfile.Parse(readText(t, path))
	if err != nil || len(users.All) != n+1 || users.Valid != n+1 || users.DuplicateCount != 0 {
		t.Errorf("%d users, %+v, %v", len(users.All), users.Findings, err)
	}
}

// TestToolKilled kills processes that add a user, at random moments. The file is
// always a complete version.
func TestToolKilled(t *testing.T) {
	var b strings.Builder
	for i := range 10_000 { // so that writing it takes a while
		fmt.Fprintf(&b, "user%d:%s\n", i, toolSHA)
	}
	path := writeFile(t, b.String())
	before := readText(t, path)
	var took time.Duration
	killed, changed := 0, 0
	for i := range 110 {
		cmd := toolProcess("-bs", path, fmt.Sprint("new", i), "pw")
		began := time.Now()
		must(t, cmd.Start())
		if i%11 == 0 { // to measure how long it takes
			must(t, cmd.Wait())
			took = time.Since(began)
		} else {
			timer := time.AfterFunc(time.Duration(rand.Int64N(int64(took))), func() { _ = cmd.Process.Kill() })
			if cmd.Wait() != nil {
				killed++
			}
			timer.Stop()
		}
		after := readText(t, path)
		if after != before {
			changed++
			if line, ok := strings.CutPrefix(after, before); !ok || !strings.HasPrefix(line, fmt.Sprintf("new%d:{SHA}", i)) || strings.Count(line, "\n") != 1 {
				t.Fatalf("neither the old nor the new version: %d bytes, before %d", len(after), len(before))
			}
		}
		before = after
	}
	if killed < 10 || changed < 10 {
		t.Errorf("%d were killed, %d changed the file", killed, changed)
	}
	if got := runTool(t, "", "-bs", path, "last", "pw"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

// TestToolNewFile checks that a new file is readable by its group only, and that the
// tool prints how to let the server read it.
func TestToolNewFile(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), ".htpasswd")
	got := runTool(t, "", "-cbs", path, "ann", "pw")
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != 0o640 || !strings.Contains(got.err, path) || !strings.Contains(got.err, "New file") {
		t.Errorf("%s, %+v", info.Mode(), got)
	}

	is := func(name string) (*user.Group, error) { return &user.Group{Gid: "4711", Name: name}, nil }
	isNot := func(string) (*user.Group, error) { return nil, errors.New("no such group") }
	for _, test := range []struct {
		path          string
		isTamperProof bool
		lookup        func(string) (*user.Group, error)
		euid          int
		group         int
		advice        string
	}{
		{"f", true, is, 0, 4711, ", readable by the group caddy"},
		{"f", true, is, 1000, -1, "; to let the server read it, run: sudo chgrp caddy f"},
		{"f", true, isNot, 0, -1, "; to let the server read it, run: chgrp <group> f"},
		{"f", true, isNot, 1000, -1, "; to let the server read it, run: chgrp <group> f"},
		{"x;reboot", true, is, 1000, -1, "; to let the server read it, run: sudo chgrp caddy 'x;reboot'"},
		{"x\n%s", true, isNot, 0, -1, `; to let the server read it, run: chgrp <group> $'x\012%s'`},
		{"f", false, is, 1000, -1, "; change its group to the server's group, but not as root: other users can replace the file"},
	} {
		group, advice := newFileGroup(test.lookup, test.euid)
		if got := advice(test.path, test.isTamperProof); group != test.group || got != test.advice {
			t.Errorf("%q: got %d, %q, want %d, %q", test.path, group, got, test.group, test.advice)
		}
	}
}

// TestToolKeeps checks that symlinks, mode, owner and group are kept.
func TestToolKeeps(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "real"), 0o777))
	path, link := filepath.Join(dir, "real", "users"), filepath.Join(dir, "link")
	must(t, os.Symlink("real/users", link)) // which does not exist yet
	if got := runTool(t, "", "-cbs", link, "ann", "pw"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	must(t, os.Chmod(path, 0o604))
	if os.Geteuid() == 0 {
		must(t, os.Chown(path, 4711, 4712))
	}
	before, err := os.Stat(path)
	must(t, err)
	if got := runTool(t, "", "-bs", link, "bob", "pw"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	after, err := os.Stat(path)
	must(t, err)
	if target, err := os.Readlink(link); err != nil || target != "real/users" {
		t.Errorf("the link is now %q, %v", target, err)
	}
	b, a := before.Sys().(*syscall.Stat_t), after.Sys().(*syscall.Stat_t)
	if a.Uid != b.Uid || a.Gid != b.Gid || a.Mode != b.Mode || a.Ino == b.Ino {
		t.Errorf("%s %d %d %d, before %s %d %d %d", after.Mode(), a.Uid, a.Gid, a.Ino, before.Mode(), b.Uid, b.Gid, b.Ino)
	}
}

// TestToolCheck compares the reports on a file with all kinds of lines.
func TestToolCheck(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	must(t, os.WriteFile("users", []byte("# people\n"+
		"ann:$2y$04$bQ5GWxJ6bzCjZ3Ra1nSg9./FyxwgOMNCNm2YjVGyXwJdSrNYBZ0Su\n"+ // htpasswd -nbBC 4 ann secret1
		"bob:"+toolSHA+"\n"+
		"bob:x\n"+
		"canary\n"+
		"carl:$2y$canary\n"+
		"dora:*\n"+
		"\u202eevil:"+toolSHA+"\n"), 0o600))
	must(t, os.WriteFile("page", []byte("<html>canary</html>\n"), 0o604))
	must(t, os.Chmod("page", 0o604))
	owner, group := follow.OwnerOf("users")
	text := fmt.Sprintf(`users: users who can log in: 3; -rw------- %s %s
  bcrypt 04: 1
  sha1 (weak): 2
users:3: weak hash (sha1): user bob; reset this password
users:7: locked: user dora
users:8: weak hash (sha1): user "\u202eevil"; reset this password
users:5: invalid line (user cannot log in): no colon between user name and hash
users:6: invalid line (user cannot log in): bcrypt: the hash is not 60 characters long
users:4: duplicate user; the first line wins
`, owner, group)
	if got := runTool(t, "", "--check", "users"); got != (run{0, text, ""}) {
		t.Errorf("%d, %q\n%s", got.code, got.err, got.out)
	}
	text += fmt.Sprintf(`page: a server would refuse this file: no valid user:hash line (invalid lines: 1); line 1: no colon between user name and hash
page: users who can log in: 0; -rw----r-- %s %s
page:1: invalid line (user cannot log in): no colon between user name and hash
none: a server would refuse this file: no such file or directory
`, owner, group)
	if got := runTool(t, "", "--check", "users", "page", "none"); got != (run{ExitNotAFile, text, "caddy htpasswd: a server would refuse page, none\n"}) {
		t.Errorf("%d, %q\n%s", got.code, got.err, got.out)
	}

	want := fmt.Sprintf(`{"files":[{"path":"users","users":[{"line":2,"name":"ann","format":"bcrypt","cost":"04"},{"line":3,"name":"bob","format":"sha1","weak":true},`+
		`{"line":7,"name":"dora","locked":true},{"line":8,"name":"\u202eevil","format":"sha1","weak":true}],`+
		`"formats":[{"format":"bcrypt","cost":"04","weak":false,"users":1},{"format":"sha1","weak":true,"users":2}],`+
		`"invalid_lines":[{"line":5,"reason":"no colon between user name and hash"},{"line":6,"reason":"bcrypt: the hash is not 60 characters long"}],`+
		`"duplicates":[4],"mode":"-rw-------","owner":%q,"group":%q,"world_readable":false},`+
		`{"path":"none","refused":"no such file or directory","users":[],"formats":[],"invalid_lines":[],"duplicates":[],"world_readable":false}]}`, owner, group)
	got := runTool(t, "", "--check", "--json", "users", "none")
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(got.out)); err != nil || got.code != ExitNotAFile || want != compact.String() {
		t.Errorf("%v, %d\n%s", err, got.code, compact.String())
	}
}

// TestToolVerifiesAsServers checks that a password that servers reject is wrong, even
// if it matches the hash.
func TestToolVerifiesAsServers(t *testing.T) {
	hash, err := crypt.Make("sha1", 0, []byte("a\tb"))
	must(t, err)
	path := writeFile(t, "ann:"+hash+"\n")
	if got := runTool(t, "", "-vb", path, "ann", "a\tb"); got.code != ExitWrong {
		t.Errorf("%+v", got)
	}
}

// TestToolInterrupted checks that hashing, and waiting for other processes, end at
// once.
func TestToolInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := tool{batch: true, format: "bcrypt", cost: 14, out: io.Discard, err: io.Discard}
	if hash, _, err := p.newHash(ctx, "ann", []string{"pw"}); !errors.Is(err, errInterrupted) {
		t.Errorf("%q, %v", hash, err)
	}
	path := writeFile(t, toolFile)
	file, err := atomicfile.Open(t.Context(), path, func() {})
	must(t, err)
	defer file.Close()
	if err := p.runRemove(ctx, path, "bob"); !errors.Is(err, errInterrupted) {
		t.Error(err)
	}
	if readText(t, path) != toolFile {
		t.Error("the file has changed")
	}
}

// TestToolOutput checks that a failed write is an error, and that an unchanged file
// is not replaced.
func TestToolOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full")
	}
	defer full.Close()
	cmd := toolProcess("-nbs", "ann", "pw")
	cmd.Stdout = full
	_ = cmd.Run()
	if code := ExitCode(cmd.ProcessState.ExitCode()); code != ExitFile {
		t.Errorf("exit code %d", code)
	}

	path := writeFile(t, toolFile)
	before, err := os.Stat(path)
	must(t, err)
	if got := runTool(t, "", "-D", path, "nobody"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was replaced, or %v", err)
	}
}

func TestMayRead(t *testing.T) {
	nobody, err := user.LookupId("65534")
	if err != nil {
		t.Skip(err)
	}
	nobody.Username = "caddy"
	ids, err := nobody.GroupIds()
	must(t, err)
	own, err := user.LookupGroupId(ids[0])
	must(t, err)
	for _, test := range []struct {
		owner, group string
		mode         os.FileMode
		want         bool
	}{
		{"root", "root", 0o600, false},
		{"root", "root", 0o640, false},
		{"root", "root", 0o644, true},
		{"root", own.Name, 0o640, true},
		{"root", own.Name, 0o604, false}, // the group's bits decide
		{"root", own.Gid, 0o640, true},   // a group without a name
		{"caddy", "root", 0o600, true},
		{"caddy", own.Name, 0o040, false}, // the owner's bits decide
	} {
		if got := mayRead(nobody, test.owner, test.group, test.mode); got != test.want {
			t.Errorf("%+v: %t", test, got)
		}
	}
}

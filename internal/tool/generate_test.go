//go:build unix

package tool

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/passwordpolicy"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// generatedIn returns the password that the last line of a text consists of.
func generatedIn(t testing.TB, text string) string {
	t.Helper()
	lines := strings.SplitAfter(text, "\n")
	if len(lines) < 2 || lines[len(lines)-1] != "" {
		t.Fatalf("got %q, want a line end at the end", text)
	}
	password := strings.TrimSuffix(lines[len(lines)-2], "\n")
	if len(password) != generatedLen || strings.Trim(password, generatedChars) != "" {
		t.Fatalf("got %q, want a password on the last line", text)
	}
	return password
}

// TestGenerate checks that the printed password is the one in the file, with each
// format and each way to write it.
func TestGenerate(t *testing.T) {
	for _, test := range []struct{ name, flags, warning string }{
		{"default", "", ""},
		{"cost", "-C4", ""},
		{"bcrypt", "-B -C5", ""},
		{"Argon2id", "--argon2id", ""},
		{"SHA-512 crypt", "-5 -r 1000", ""},
		{"SHA-256 crypt", "-2", ""},
		{"apr1", "-m", ""},
		{"SHA-1", "-s", "Warning: sha1 is weak"},
		{"plain text", "-p", "Warning: plain is weak"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeFile(t, toolFile)
			flags := append(strings.Fields(test.flags), "--generate")
			var got run
			checks := func(password string) {
				t.Helper()
				if got := runTool(t, "", "-vb", path, "carl", password); got.code != 0 {
					t.Errorf("the printed password is not that of the file: %+v", got)
				}
				if policy := (passwordpolicy.Policy{MinLength: passwordpolicy.DefaultMinLength}); policy.Check("carl", password) != passwordpolicy.ReasonNone {
					t.Error("the page would refuse the password")
				}
				if strings.Count(got.err, "Warning") != strings.Count(test.warning, "Warning") || !strings.Contains(got.err, test.warning) {
					t.Errorf("got %q, want only '%s'", got.err, test.warning)
				}
			}

			got = runTool(t, "", append(flags, path, "carl")...)
			first := generatedIn(t, got.out)
			if got.code != 0 || got.out != first+"\n" || strings.Contains(got.err, first) || !strings.Contains(got.err, "Adding password for user carl\n") {
				t.Errorf("new user: %+v", got)
			}
			checks(first)
			if !strings.HasPrefix(readText(t, path), toolFile) {
				t.Error("the other lines have changed")
			}

			got = runTool(t, "", append(flags, path, "carl")...)
			second := generatedIn(t, got.out)
			if first == second || !strings.Contains(got.err, "Updating password for user carl\n") {
				t.Errorf("existing user: %+v", got)
			}
			checks(second)

			path = filepath.Join(t.TempDir(), "new")
			got = runTool(t, "", append(flags, "-c", path, "carl")...)
			third := generatedIn(t, got.out)
			if got.code != 0 || got.out != third+"\n" || !strings.Contains(got.err, "New file "+path) {
				t.Errorf("new file: %+v", got)
			}
			checks(third)

			got = runTool(t, "", append(flags, "-n", "carl")...)
			fourth := generatedIn(t, got.err)
			line, end := strings.CutSuffix(got.out, "\n")
			if got.code != 0 || !end || strings.Contains(line, "\n") || !strings.HasPrefix(line, "carl:") || test.name != "plain text" && strings.Contains(got.out, fourth) {
				t.Errorf("line only: %+v", got)
			}
			path = writeFile(t, got.out)
			checks(fourth)
		})
	}
}

// TestGenerateUsage checks that wrong usage says what to write, and prints no password.
func TestGenerateUsage(t *testing.T) {
	for args, want := range map[string]string{
		"--generate -b F carl canary":           "use --generate (a random password) or -b (password on the command line), not both",
		"--generate -nb carl canary":            "use --generate (a random password) or -b (password on the command line), not both",
		"--generate -i F carl":                  "use --generate (a random password) or -i (from standard input), not both",
		"--generate -v F carl":                  "--generate sets a new password; leave it out with -v, -D, --check and --list",
		"--generate -D F carl":                  "--generate sets a new password; leave it out with -v, -D, --check and --list",
		"--generate --check F":                  "--generate sets a new password; leave it out with -v, -D, --check and --list",
		"--generate --list F":                   "--generate sets a new password; leave it out with -v, -D, --check and --list",
		"--generate -d F carl":                  "--generate creates 20 characters, and DES crypt uses only the first 8; leave out -d",
		"--generate F carl canary":              "too many arguments; expected <file> <user>; --generate creates the password, so leave it out",
		"--generate -n carl canary":             "too many arguments; expected <user>; --generate creates the password, so leave it out",
		"--generate F":                          "missing argument; expected <file> <user>",
		"--generate -n":                         "missing argument; expected <user>",
		"--generate -cn F carl":                 "only one of",
		"--generate=canary F carl":              "--generate takes no value",
		"--generate -C 15 F carl":               "the cost of bcrypt must be between 4 and 14, got 15",
		"--generate --json F carl":              "--json requires --check",
		"--generate F a:b":                      "user name contains ':'",
		"--generate N carl":                     "N does not exist; use -c to create it",
		"--generate -c N/f carl":                "its directory does not exist",
		"--generate H carl":                     "is not an htpasswd file",
		"--generate D carl":                     "is a directory",
		"--generate hardlink carl":              "hard links",
		"F carl --generate":                     "write flags before them",
		"--generate -s -d F carl":               "DES crypt uses only the first 8",
		"--generate -d -B -C 4 -n carl surplus": "too many arguments", // the last format wins
	} {
		t.Run(args, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for _, name := range []string{"F", "linked"} {
				must(t, os.WriteFile(name, []byte(toolFile), 0o640))
			}
			must(t, os.Link("linked", "hardlink"))
			must(t, os.WriteFile("H", []byte("<a href='http:x'>\npage\n"), 0o640))
			must(t, os.Mkdir("D", 0o750))
			got := runTool(t, "", strings.Fields(args)...)
			if got.code == 0 || got.out != "" || !strings.Contains(got.err, want) || strings.Contains(got.err, "canary") {
				t.Errorf("got %+v, want '%s'", got, want)
			}
			if readText(t, "F") != toolFile || readText(t, "linked") != toolFile {
				t.Error("a file has changed")
			}
		})
	}
}

// TestGenerateOutputFails checks that a password that cannot be printed is an error.
func TestGenerateOutputFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full")
	}
	defer full.Close()
	path := writeFile(t, toolFile)
	var errs bytes.Buffer
	cmd := toolProcess("--generate", "-C4", path, "carl")
	cmd.Stdout, cmd.Stderr = full, &errs
	_ = cmd.Run()
	if code := ExitCode(cmd.ProcessState.ExitCode()); code != ExitFile || !strings.Contains(errs.String(), "the new password of user carl could not be printed") {
		t.Errorf("exit code %d, %q", code, errs.String())
	}

	errs.Reset()
	cmd = toolProcess("--generate", "-nC4", "carl")
	cmd.Stdout, cmd.Stderr = full, &errs
	_ = cmd.Run()
	if code := ExitCode(cmd.ProcessState.ExitCode()); code != ExitFile || strings.Count(errs.String(), "\n") != 1 || !strings.HasPrefix(errs.String(), "caddy htpasswd: standard output: ") {
		t.Errorf("the line was not printed: exit code %d, %q", code, errs.String())
	}
}

// TestGenerateInterrupted sends signals at random moments: if the file has changed,
// the password is printed, and otherwise nothing is.
func TestGenerateInterrupted(t *testing.T) {
	path := writeFile(t, toolFile)
	took := time.Second
	interrupted, finished := 0, 0
	for i := range 60 {
		before := readText(t, path)
		var out bytes.Buffer
		cmd := toolProcess("--generate", "-C8", path, "carl")
		cmd.Stdout = &out
		began := time.Now()
		must(t, cmd.Start())
		if i%10 > 0 {
			time.AfterFunc(time.Duration(rand.Int64N(int64(took))), func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
		}
		_ = cmd.Wait()
		if i%10 == 0 { // to measure how long it takes
			took = time.Since(began)
		}
		if readText(t, path) == before {
			interrupted++
			if out.Len() > 0 || cmd.ProcessState.Success() {
				t.Fatalf("%s, the file is unchanged, but the output is %q", cmd.ProcessState, out.String())
			}
			continue
		}
		finished++
		if got := runTool(t, "", "-vb", path, "carl", generatedIn(t, out.String())); got.code != 0 {
			t.Fatalf("the printed password is not that of the file: %+v", got)
		}
	}
	if interrupted < 5 || finished < 6 {
		t.Errorf("%d were interrupted, %d finished", interrupted, finished)
	}
}

// TestGeneratePasswordIsFair counts the characters of many passwords.
func TestGeneratePasswordIsFair(t *testing.T) {
	const n = 20_000
	count := make(map[byte]int)
	seen := make(map[string]bool)
	for range n {
		password := generatePassword()
		if len(password) != generatedLen || seen[string(password)] {
			t.Fatalf("got %q", password)
		}
		seen[string(password)] = true
		for _, c := range password {
			count[c]++
		}
	}
	want := float64(n*generatedLen) / float64(len(generatedChars))
	chi2 := 0.0
	for _, c := range []byte(generatedChars) {
		chi2 += math.Pow(float64(count[c])-want, 2) / want
	}
	// 55 degrees of freedom: above 130, less than once in ten million runs. A byte
	// modulo 56 gives 1,100 here.
	if len(count) != len(generatedChars) || chi2 > 130 {
		t.Errorf("got %d characters, chi-squared %.0f", len(count), chi2)
	}
}

func TestGeneratedCharsAreUnambiguous(t *testing.T) {
	if strings.ContainsAny(generatedChars, "0O1lIo|!") {
		t.Error("characters that look alike")
	}
	seen := make(map[rune]bool)
	for _, c := range generatedChars {
		if seen[c] {
			t.Errorf("%c is in it twice", c)
		}
		seen[c] = true
	}
	if bits := generatedLen * math.Log2(float64(len(generatedChars))); math.Floor(bits) != 116 {
		t.Errorf("got %.1f bits, but the documentation says 116", bits)
	}
}

// TestGenerateForApache checks that Apache's htpasswd verifies a generated password.
func TestGenerateForApache(t *testing.T) {
	htpasswd := testkit.Program(t, "htpasswd")
	path := writeFile(t, toolFile)
	got := runTool(t, "", "--generate", "-C4", path, "carl")
	cmd := exec.Command(htpasswd, "-vi", path, "carl")
	cmd.Stdin = strings.NewReader(got.out)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestWarningOfAPassword checks that the tool warns of passwords that the page of
// change_password would refuse, and sets them all the same.
func TestWarningOfAPassword(t *testing.T) {
	const (
		short  = "Warning: the password has fewer than 15 characters; use more, for example several random words, or use --generate\n"
		common = "Warning: the password is easy to guess: it consists of common passwords, repetitions, or sequences of characters or keys; use a password that nobody else would choose, for example several random words, or use --generate\n"
		name   = "Warning: the password is derived from the user name; use a password that nobody else would choose, for example several random words, or use --generate\n"
		accent = "Warning: the password contains an accent as a separate character, which other devices may encode differently; use letters without accents, or type the password instead of pasting it, or use --generate\n"
		bytes  = "Warning: the password is not encoded in UTF-8; use letters without accents, or type the password instead of pasting it, or use --generate\n"
		empty  = "Warning: the password is empty; anyone who knows the user name can log in\n"
	)
	for password, want := range map[string]string{
		"my dog ate the blue homework":        "",
		"kD8!vq2Lz#m9WpX":                     "",
		"secret":                              short,
		"passwordpassword":                    common,
		"carl.gauss1777 carl.gauss":           name,
		"gru\u0308n wie die Wiese im Mai":     accent,
		"gr\xfcn wie die Wiese im Mai":        bytes,
		"":                                    empty,
		strings.Repeat("many words ", 6)[:66]: "",
	} {
		path := writeFile(t, toolFile)
		const user = "carl.gauss1777"
		for way, args := range map[string][]string{
			"-b":  {"-bC4", path, user, password},
			"-i":  {"-iC4", path, user},
			"-nb": {"-nbC4", user, password},
			"-ni": {"-niC4", user},
		} {
			got := runTool(t, password+"\n", args...)
			warning := ""
			for line := range strings.Lines(got.err) {
				if strings.HasPrefix(line, "Warning") {
					warning += line
				}
			}
			if got.code != 0 || warning != want {
				t.Errorf("%s, %q: got exit code %d and %q, want %q", way, password, got.code, warning, want)
			}
			if password != "" && strings.Contains(got.err, password) {
				t.Errorf("%s, %q: the password is shown", way, password)
			}
		}
		for _, args := range [][]string{{"-vb", path, user, password}, {"-D", path, user}, {"-D", path, user}} {
			if got := runTool(t, "", args...); got.code != 0 || strings.Contains(got.err, "Warning") {
				t.Errorf("%q: %+v", args, got)
			}
		}
	}
	long := strings.Repeat("many other words ", 6)
	if got := runTool(t, "", "-nb", "--argon2id", "carl", long); got.code != 0 || got.err != "" {
		t.Errorf("a password of %d bytes, of which Argon2id uses all: %+v", len(long), got)
	}
}

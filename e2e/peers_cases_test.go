package e2e

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// basic is an Authorization header of these credentials.
func basic(userAndPassword string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(userAndPassword))
}

// request is the bytes of a request for the place of a password file.
func request(file string, headers ...string) string {
	return requestFor("/"+file+"/", headers...)
}

func requestFor(target string, headers ...string) string {
	lines := append([]string{"GET " + target + " HTTP/1.1", "Host: localhost", "Connection: close"}, headers...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// fastHash makes a hash that costs little.
func fastHash(t testing.TB, password string) string {
	t.Helper()
	hash, err := crypt.Make("bcrypt", 4, []byte(password))
	must(t, err)
	return hash
}

// sha1Hash makes one of any password, as caddy htpasswd would not.
func sha1Hash(password string) string {
	sum := sha1.Sum([]byte(password))
	return "{SHA}" + base64.StdEncoding.EncodeToString(sum[:])
}

// vector is a hash of "secret" that a real tool has made.
func vector(t testing.TB, format, cost string) string {
	t.Helper()
	text, err := os.ReadFile("../internal/crypt/testdata/vectors.txt")
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); len(f) == 4 && f[0] == format && f[1] == cost && f[2] == `"secret"` {
			return f[3]
		}
	}
	t.Fatalf("no vector of %s, %s", format, cost)
	return ""
}

// What stands in the password file of the requests beside alice and secret.
const (
	composed   = "zo\u00e9"  // NFC
	decomposed = "zoe\u0301" // NFD
	latin1     = "zo\xe9"

	urlPassword = "ab\xff\xff\xff" // the end of url:ab... is //// in base64
)

var (
	bytes72   = strings.Repeat("0123456789ab", 6)
	bytes1024 = strings.Repeat("p", 1024)
	user255   = strings.Repeat("u", 255)
)

func requestUsers(t testing.TB) string {
	var b strings.Builder
	for _, u := range [][2]string{
		{"alice", "secret"}, {"a", ":b"}, {"nopass", ""}, {"tab", "se\tcret"}, {"esc", "se\x1bcret"}, {"del", "secret\x7f"}, {"lf", "secret\n"},
		{"long", bytes72}, {"url", urlPassword}, {composed, "secret"}, {latin1, "secret"}, {"nfc", composed}, {"latin1", latin1},
	} {
		fmt.Fprintf(&b, "%s:%s\n", u[0], fastHash(t, u[1]))
	}
	fmt.Fprintf(&b, "apr1:%s\n", vector(t, "apr1", "-"))
	fmt.Fprintf(&b, "sha1:%s\n", sha1Hash("secret"))
	fmt.Fprintf(&b, "p1024:%s\np1025:%s\n", sha1Hash(bytes1024), sha1Hash(bytes1024+"p"))
	fmt.Fprintf(&b, "%s:%s\n%su:%[2]s\n", user255, fastHash(t, "secret"), user255)
	return b.String()
}

// requestCases are R1 to R10: names and the bytes of requests.
func requestCases() [][2]string {
	const file = "requests"
	credentials := base64.StdEncoding.EncodeToString([]byte("alice:secret")) // no padding
	header := func(values ...string) string {
		lines := make([]string, len(values))
		for i, v := range values {
			lines[i] = "Authorization: " + v
		}
		return request(file, lines...)
	}
	login := func(userAndPassword string) string { return request(file, basic(userAndPassword)) }
	raw := func(userAndPassword string) string {
		return base64.RawStdEncoding.EncodeToString([]byte(userAndPassword))
	}
	return [][2]string{
		{"R1 no header", header()},
		{"R1 good credentials", header("Basic " + credentials)},
		{"R1 wrong password", login("alice:wrong")},
		{"R1 unknown user", login("mallory:secret")},
		{"R1 user name in other case", login("Alice:secret")},
		{"R1 an empty header", request(file, "Authorization:")},
		{"R1 `Bearer`", header("Bearer " + credentials)},
		{"R1 `Digest`", header(`Digest username="alice"`)},
		{"R1 `Basics`, a scheme that begins alike", header("Basics " + credentials)},
		{"R1 no blank behind `Basic`", header("Basic" + credentials)},
		{"R1 `Basic` alone", header("Basic")},
		{"R1 `Basic` and a blank", header("Basic ")},
		{"R1 only padding", header("Basic ====")},
		{"R1 a character in the middle that is none of base64", header("Basic YWxp*2U6c2VjcmV0")},
		{"R1 good credentials and `*` behind", header("Basic " + credentials + "*")},
		{"R1 good credentials and a word behind", header("Basic " + credentials + " x")},
		{"R1 base64 with `/`", login("url:" + urlPassword)},
		{"R1 the same for URLs (`_` for `/`)", header("Basic " + base64.URLEncoding.EncodeToString([]byte("url:"+urlPassword)))},
		{"R1 a blank within", header("Basic YWxpY2U6 c2VjcmV0")},
		{"R1 padding within", header("Basic YWxpY2U=c2VjcmV0")},
		{"R1 one base64 digit too many", header("Basic " + credentials + "Y")},
		{"R1 two base64 digits too many", header("Basic " + credentials + "YQ")},
		{"R1 not encoded", header("Basic alice:secret")},
		{"R1 twice in one header, with a comma between", header("Basic " + credentials + ", Basic " + credentials)},
		{"R1 no colon", login("alice")},
		{"R1 nothing but a colon", login(":")},

		{"R2 `basic`", header("basic " + credentials)},
		{"R2 `BASIC`", header("BASIC " + credentials)},
		{"R2 `bAsIc`", header("bAsIc " + credentials)},

		{"R3 two spaces", header("Basic  " + credentials)},
		{"R3 a tab", header("Basic\t" + credentials)},
		{"R3 a space and a tab", header("Basic \t" + credentials)},
		{"R3 blanks behind", header("Basic " + credentials + " \t")},
		{"R3 one `=` of padding left out", header("Basic " + raw("nfc:"+composed))},
		{"R3 two `=` of padding left out", header("Basic " + raw("a::b"))},
		{"R3 padding where there should be none", header("Basic " + credentials + "==")},

		{"R4 two headers, good and wrong", header("Basic "+credentials, "Basic "+raw("alice:wrong!"))},
		{"R4 two headers, wrong and good", header("Basic "+raw("alice:wrong!"), "Basic "+credentials)},
		{"R4 two headers, both the same", header("Basic "+credentials, "Basic "+credentials)},
		{"R4 two headers, `Basic` and `Bearer`", header("Basic "+credentials, "Bearer x")},
		{"R4 two headers, `Bearer` and `Basic`", header("Bearer x", "Basic "+credentials)},
		{"R4 two headers, an empty one and a good one", request(file, "Authorization:", "Authorization: Basic "+credentials)},

		{"R5 `a::b`", login("a::b")},
		{"R5 `a:b`", login("a:b")},
		{"R5 a colon behind the password", login("alice:secret:")},
		{"R5 no user", login(":secret")},
		{"R5 no password", login("alice:")},
		{"R5 no password, and that is right", login("nopass:")},

		{"R6 a tab in the password, which is right", login("tab:se\tcret")},
		{"R6 ESC in the password, which is right", login("esc:se\x1bcret")},
		{"R6 DEL in the password, which is right", login("del:secret\x7f")},
		{"R6 LF at the end of the password, which is right", login("lf:secret\n")},
		{"R6 CR at the end of a password", login("alice:secret\r")},
		{"R6 LF at the end of a password", login("alice:secret\n")},
		{"R6 CR and LF in the user", login("alice\r\n:secret")},
		{"R6 LF and another user in the user", login("mallory\nalice:secret")},
		{"R6 NUL at the end of the user", login("alice\x00:secret")},
		{"R6 NUL before the colon, and no user", login("\x00:secret")},
		{"R6 NUL between user and colon, with more behind", login("alice\x00x:secret")},
		{"R6 a control character as it is in the header", header("Basic " + credentials + "\x01")},
		{"R6 NUL as it is in the header", header("Basic " + credentials + "\x00")},

		{"R7 NUL at the end of the password (bcrypt)", login("alice:secret\x00")},
		{"R7 NUL at the end of the password (apr1)", login("apr1:secret\x00")},
		{"R7 NUL at the end of the password ({SHA})", login("sha1:secret\x00")},
		{"R7 `secret`, NUL, `secret` (bcrypt)", login("alice:secret\x00secret")},
		{"R7 `secret`, NUL, `x` (bcrypt)", login("alice:secret\x00x")},
		{"R7 `secret`, NUL, `x` (apr1)", login("apr1:secret\x00x")},
		{"R7 bcrypt of 72 bytes, and these", login("long:" + bytes72)},
		{"R7 bcrypt of 72 bytes, and one more", login("long:" + bytes72 + "x")},
		{"R7 bcrypt of 72 bytes, and one less", login("long:" + bytes72[:71])},

		{"R8 a name in UTF-8, composed, as it is in the file", login(composed + ":secret")},
		{"R8 the same decomposed (NFD)", login(decomposed + ":secret")},
		{"R8 a name in Latin-1, as it is in the file", login(latin1 + ":secret")},
		{"R8 a password in UTF-8, composed, as it was hashed", login("nfc:" + composed)},
		{"R8 the same decomposed", login("nfc:" + decomposed)},
		{"R8 the same in Latin-1", login("nfc:" + latin1)},
		{"R8 a password in Latin-1, as it was hashed", login("latin1:" + latin1)},

		{"R9 a password of 1,024 bytes, which is right", login("p1024:" + bytes1024)},
		{"R9 a password of 1,025 bytes, which is right", login("p1025:" + bytes1024 + "p")},
		{"R9 a user name of 255 bytes", login(user255 + ":secret")},
		{"R9 a user name of 256 bytes", login(user255 + "u:secret")},
		{"R9 a password of 10,000 bytes", login("alice:" + strings.Repeat("p", 10000))},
		{"R9 good credentials behind 10,000 blanks", header("Basic" + strings.Repeat(" ", 10000) + credentials)},

		{"R10 `Proxy-Authorization`", request(file, "Proxy-Authorization: Basic "+credentials)},
		{"R10 user info in the address", requestFor("http://alice:secret@localhost/" + file + "/")},
		{"R10 user info in the address, and good credentials", requestFor("http://mallory:wrong@localhost/"+file+"/", "Authorization: Basic "+credentials)},
		{"R10 user info in `Host`", strings.Replace(request(file), "Host: ", "Host: alice:secret@", 1)},
		{"R10 credentials in the query", requestFor("/" + file + "/?Authorization=Basic%20" + credentials)},
	}
}

// fileCase is a log-in to the place of a password file.
type fileCase struct{ name, file, login string }

// fileTexts are the password files of F1 to F6 and F8 to F10 that are there from the start.
func fileTexts(t testing.TB) map[string]string {
	alice, bob := "alice:"+fastHash(t, "secret"), "bob:"+fastHash(t, "secret")
	hash, other := fastHash(t, "secret"), fastHash(t, "other")
	long := strings.Repeat("x", 300<<10)
	texts := map[string]string{
		"requests":   requestUsers(t),
		"empty":      "",
		"comments":   "# nobody\n\n   \n#x\n",
		"bom":        "\ufeff" + alice + "\n" + bob + "\n",
		"crlf":       alice + "\r\n" + bob + ":a comment\r\n\r\n# x\r\ncarol:" + hash + "\r\n",
		"crlfplain":  "plain:{PLAIN}secret\r\nsha1:" + sha1Hash("secret") + "\r\n",
		"noend":      alice + "\n" + bob,
		"noise":      "\n# a comment\n\n \t\n  # indented\n" + alice + "\n\n#carol:" + hash + "\n #dave:" + hash + "\n" + bob + ":Bob, office 7:more\n",
		"blanks":     "  front:" + hash + "\n\ttab:" + hash + "\nbehind:" + hash + "  \nname :" + hash + "\nvalue: " + hash + "\nvaluetab:\t" + hash + "\nin the name:" + hash + "\n",
		"twice":      "alice:" + hash + "\nalice:" + other + "\nbad\nbad:" + hash + "\nunknown:$9$x\nunknown:" + hash + "\nlocked:!\nlocked:" + hash + "\nempty:\nempty:" + hash + "\n",
		"bad":        "alice\n:\n:" + hash + "\nnothing:\n" + bob + "\n",
		"longhash":   alice + "\nlong:" + long + "\n" + bob + "\n",
		"longname":   alice + "\n" + long + ":" + hash + "\n" + bob + "\n",
		"longend":    alice + "\nlong:" + hash + ":" + long + "\n" + bob + "\n",
		"longline":   alice + "\n# " + long + "\n" + bob + "\n",
		"longinside": alice + "\n# " + long + bob + "\n" + long + "bob:" + hash + "\n",
		"note4k":     "noted:" + hash + ":" + long[:4096] + "\n" + bob + "\n",
		"note9k":     "noted:" + hash + ":" + long[:9000] + "\n" + bob + "\n",
		"nul":        "alice:" + hash + "\x00\nal\x00ice:" + other + "\nplain:{PLAIN}secret\x00x\n\x00\x00\x00\n" + bob + "\n",
		"plaintext":  "alice:secret\n" + bob + "\nbrace:{FOO}secret\nlower:{plain}secret\n",
	}
	for name, hash := range marks(hash) {
		texts["marks"] += name + ":" + hash + "\n"
	}
	texts["marks"] += bob + "\n"
	for _, f := range formats {
		texts["formats"] += f[0] + ":" + formatHash(t, f) + "\n"
		for i, cut := range truncations(t, f) {
			texts["truncated"] += truncatedUser(f, i) + ":" + cut + "\n"
		}
	}
	texts["truncated"] += bob + "\n"
	return texts
}

// marks are those of accounts without a password, by the name of a user.
func marks(hash string) map[string]string {
	return map[string]string{"excl": "!", "star": "*", "two": "!!", "x": "x", "nothing": "", "behind": "!" + hash, "behindstar": "*" + hash, "star0": "*0", "star1": "*1", "np": "*NP*"}
}

// formats have a hash of "secret" each: what the row says, and its place in the vectors.
var formats = [][3]string{
	{"bcrypt", "bcrypt", "04"}, {"apr1", "apr1", "-"}, {"md5crypt", "md5crypt", "-"}, {"SHA-256 crypt", "sha256crypt", "1000"}, {"SHA-512 crypt", "sha512crypt", "1000"},
	{"{SHA}", "sha1", "-"}, {"{SSHA}", "ssha1", "-"}, {"DES crypt", "descrypt", "-"}, {"yescrypt", "yescrypt", "j75"}, {"scrypt `$7$`", "scrypt", "86..../...."},
	{"{PLAIN}", "plain", "-"}, {"scrypt `$scrypt$`", "scrypt", "ln=4,r=1,p=3"}, {"PBKDF2", "pbkdf2-sha256", "1000"}, {"Argon2id", "argon2id", "m=64,t=2,p=1"}, {"Argon2i", "argon2i", "m=64,t=2,p=1"},
}

func formatHash(t testing.TB, format [3]string) string { return vector(t, format[1], format[2]) }

// truncations are all the hashes of a format with something cut off the end.
func truncations(t testing.TB, format [3]string) []string {
	hash := formatHash(t, format)
	cuts := make([]string, len(hash))
	for i := range cuts {
		cuts[i] = hash[:i]
	}
	return cuts
}

func truncatedUser(format [3]string, n int) string {
	return fmt.Sprintf("%s-%s-%d", format[1], strings.Trim(format[2], "./$"), n)
}

func fileCases(t testing.TB, texts map[string]string) []fileCase {
	hashOf := func(file, user string) string {
		for line := range strings.Lines(texts[file]) {
			if hash, found := strings.CutPrefix(line, user+":"); found {
				return strings.TrimSuffix(hash, "\n")
			}
		}
		t.Fatalf("%s has no %s", file, user)
		return ""
	}
	cases := []fileCase{
		{"F1 an empty file", "empty", "alice:secret"},
		{"F1 only comments", "comments", "alice:secret"},
		{"F2 a byte order mark: the first user", "bom", "alice:secret"},
		{"F2 a byte order mark: the second user", "bom", "bob:secret"},
		{"F3 CRLF", "crlf", "alice:secret"},
		{"F3 CRLF behind a comment field", "crlf", "bob:secret"},
		{"F3 CRLF, behind a blank line and a comment", "crlf", "carol:secret"},
		{"F3 CRLF behind {PLAIN}", "crlfplain", "plain:secret"},
		{"F3 CRLF behind {SHA}", "crlfplain", "sha1:secret"},
		{"F3 no newline at the end", "noend", "bob:secret"},
		{"F3 behind comments and blank lines", "noise", "alice:secret"},
		{"F3 a line with a comment field", "noise", "bob:secret"},
		{"F3 a user commented out", "noise", "carol:secret"},
		{"F3 a user commented out, with the `#`", "noise", "#carol:secret"},
		{"F3 a user commented out behind a blank, with both", "noise", " #dave:secret"},
		{"F3 blanks before the name", "blanks", "front:secret"},
		{"F3 blanks before the name, sent too", "blanks", "  front:secret"},
		{"F3 a tab before the name", "blanks", "tab:secret"},
		{"F3 blanks behind the hash", "blanks", "behind:secret"},
		{"F3 a blank behind the name", "blanks", "name:secret"},
		{"F3 a blank behind the name, sent too", "blanks", "name :secret"},
		{"F3 a blank before the hash", "blanks", "value:secret"},
		{"F3 a tab before the hash", "blanks", "valuetab:secret"},
		{"F3 blanks within the name", "blanks", "in the name:secret"},
		{"F4 a user twice: the first password", "twice", "alice:secret"},
		{"F4 a user twice: the second password", "twice", "alice:other"},
		{"F4 a line without a colon before the good one", "twice", "bad:secret"},
		{"F4 a line with an unknown hash before the good one", "twice", "unknown:secret"},
		{"F4 a locked line before the good one", "twice", "locked:secret"},
		{"F4 an empty hash before the good one", "twice", "empty:secret"},
		{"F5 `alice`", "bad", "alice:secret"},
		{"F5 `alice`, no password", "bad", "alice:"},
		{"F5 `:`, neither user nor password", "bad", ":"},
		{"F5 `:hash`, no user", "bad", ":secret"},
		{"F5 `nothing:`", "bad", "nothing:secret"},
		{"F5 `nothing:`, no password", "bad", "nothing:"},
		{"F5 a user behind bad lines", "bad", "bob:secret"},
		{"F6 a hash of 300 kB: a user before it", "longhash", "alice:secret"},
		{"F6 a hash of 300 kB: its user", "longhash", "long:secret"},
		{"F6 a hash of 300 kB: a user behind it", "longhash", "bob:secret"},
		{"F6 a name of 300 kB: a user behind it", "longname", "bob:secret"},
		{"F6 a comment field of 300 kB: its user", "longend", "long:secret"},
		{"F6 a comment field of 300 kB: a user behind it", "longend", "bob:secret"},
		{"F6 a comment of 300 kB: a user behind it", "longline", "bob:secret"},
		{"F6 a user's line within 300 kB", "longinside", "bob:secret"},
		{"F6 a comment field of 4 kB", "note4k", "noted:secret"},
		{"F6 a comment field of 9 kB", "note9k", "noted:secret"},
		{"F6 a comment field of 9 kB: a user behind it", "note9k", "bob:secret"},
		{"F8 NUL behind a hash", "nul", "alice:secret"},
		{"F8 NUL in a name", "nul", "al:other"},
		{"F8 NUL in a name, sent too", "nul", "al\x00ice:other"},
		{"F8 NUL in a password behind {PLAIN}", "nul", "plain:secret"},
		{"F8 a user behind lines with NUL", "nul", "bob:secret"},
	}
	for _, m := range []string{"excl", "star", "two", "x", "nothing", "star0", "star1", "np"} {
		mark := hashOf("marks", m)
		shown := "`" + mark + "`"
		if mark == "" {
			shown = "nothing"
		}
		cases = append(cases,
			fileCase{"F9 locked with " + shown, "marks", m + ":secret"},
			fileCase{"F9 locked with " + shown + ", and no password", "marks", m + ":"})
		if mark != "" {
			cases = append(cases, fileCase{"F9 locked with " + shown + ", and that as the password", "marks", m + ":" + mark})
		}
	}
	cases = append(cases,
		fileCase{"F9 locked with `!` before the hash", "marks", "behind:secret"},
		fileCase{"F9 locked with `*` before the hash", "marks", "behindstar:secret"},
		fileCase{"F9 the text of a bcrypt hash as the password", "formats", "bcrypt:" + hashOf("formats", "bcrypt")},
		fileCase{"F9 the text of a {PLAIN} line as the password", "formats", "{PLAIN}:{PLAIN}secret"},
		fileCase{"F9 the text of an Argon2id hash as the password", "formats", "Argon2id:" + hashOf("formats", "Argon2id")},
		fileCase{"F9 a plain password without {PLAIN}", "plaintext", "alice:secret"},
		fileCase{"F9 `{FOO}`, an unknown prefix", "plaintext", "brace:secret"},
		fileCase{"F9 `{FOO}`, and that line as the password", "plaintext", "brace:{FOO}secret"},
		fileCase{"F9 `{plain}` in small letters", "plaintext", "lower:secret"},
	)
	for _, f := range formats {
		cases = append(cases, fileCase{"F10 a whole hash: " + f[0], "formats", f[0] + ":secret"})
	}
	return cases
}

// comparePeers asks all there is to ask.
func comparePeers(t *testing.T) []comparison {
	dir := testkit.PublicDir(t)
	texts := fileTexts(t)
	for name, text := range texts {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	good := "alice:" + fastHash(t, "secret") + "\n"
	for _, name := range append(slices.Sorted(maps.Keys(replacements)), "cut") {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(good), 0o644))
	}
	s := startThree(t, dir, slices.Concat(slices.Sorted(maps.Keys(texts)), slices.Sorted(maps.Keys(replacements)), []string{"cut"}))

	var found []comparison
	for _, c := range requestCases() {
		found = append(found, s.ask(c[0], c[1]))
	}
	for _, realm := range [][2]string{
		{"R11 a realm with quotes", `the "inner" circle`},
		{"R11 a realm with a backslash", `one\two`},
		{"R11 a realm with a backslash at the end", `one\`},
		{"R11 a realm in UTF-8", "Z\u00fcrich"},
		{"R11 a control character in the realm", "one\x01two"},
		{"R11 a line end in the realm", "one\nX-Two: three"},
	} {
		found = append(found, s.compareRealm(realm[0], realm[1]))
	}
	for _, c := range fileCases(t, texts) {
		found = append(found, s.ask(c.name, request(c.file, basic(c.login))))
	}
	for _, f := range formats {
		found = append(found, s.compareTruncations(f))
	}
	found = append(found, s.compareReplacements(good)...)
	found = append(found,
		s.ask("R18 plain HTTP without `allow_http`: no header", requestFor(notAllowed)),
		s.ask("R18 plain HTTP without `allow_http`: good credentials", requestFor(notAllowed, basic("alice:secret"))))
	slices.SortStableFunc(found, func(a, b comparison) int { return place(t, a.name) - place(t, b.name) })
	return found
}

// place orders cases: R1, R2 and so on, then F1, F2.
func place(t testing.TB, name string) int {
	t.Helper()
	var letter rune
	var n int
	_, err := fmt.Sscanf(name, "%c%d ", &letter, &n)
	must(t, err)
	if letter == 'F' {
		n += 1000
	}
	return n
}

// compareRealm compares the challenges for a realm, or that it is refused.
func (s *threeServers) compareRealm(name, realm string) comparison {
	t, file := s.t, filepath.Join(s.dir, "empty")
	c := comparison{name: name, answers: [3]string{"refused", "refused", "refused"}}
	challenge := func(port int) string {
		said := askRaw(t, port, requestFor("/"))
		if !bytes.HasPrefix(said, []byte("HTTP/1.1 401 ")) {
			return verdict(t, said)
		}
		_, value, found := bytes.Cut(said, []byte("uthenticate: ")) // with the control characters that net/http would not read
		if !found || bytes.Contains(value, []byte("uthenticate: ")) {
			t.Errorf("%s: not one challenge: %q", name, said)
		}
		value, _, _ = bytes.Cut(value, []byte("\r\n"))
		return "`" + strings.NewReplacer("\n", "<LF>", "\x01", "<01>").Replace(string(value)) + "`"
	}
	if conf := nginxConf(s.dir, nginxPlace("/", realm, file)); testkit.Accepts(t, conf, testkit.NginxCommand) {
		p := startNginx(t, conf)
		c.answers[nginx] = challenge(p.Port)
		p.Process.Stop(syscall.SIGTERM)
	}
	if conf := apacheConf(s.dir, apachePlace("/", realm, file)); testkit.Accepts(t, conf, apacheCommand) {
		p := startApache(t, conf)
		c.answers[apache] = challenge(p.Port)
		p.Process.Stop(syscall.SIGTERM)
	}
	if sites := caddySite(caddyPlace("*", realm, file)); validates(t, caddyGlobal, sites) {
		p := startCaddy(t, caddyGlobal, sites)
		testkit.AwaitPort(t, p.HTTP)
		c.answers[here] = challenge(p.HTTP)
		p.process.Stop(os.Interrupt)
	}
	return c
}

// compareTruncations logs in with the right password to every truncation of a
// hash, and says which answers there are.
func (s *threeServers) compareTruncations(format [3]string) comparison {
	c := comparison{name: "F10 all truncations: " + format[0]}
	for i, port := range s.ports {
		count := make(map[string]int)
		for n := range truncations(s.t, format) {
			count[verdict(s.t, askRaw(s.t, port, request("truncated", basic(truncatedUser(format, n)+":secret"))))]++
		}
		var parts []string
		for _, answer := range slices.Sorted(maps.Keys(count)) {
			part := answer
			if len(count) > 1 {
				part = fmt.Sprintf("%d times %s", count[answer], answer)
			}
			parts = append(parts, part)
		}
		c.answers[i] = strings.Join(parts, ", ")
	}
	return c
}

// replacement is what takes the place of a password file with alice and
// secret, and must not be used.
type replacement struct {
	what  string
	write func(path, good string) error
}

var replacements = map[string]replacement{
	"cr": {"F3 lines that end with CR alone", func(path, good string) error {
		return os.WriteFile(path, []byte(strings.ReplaceAll(good+strings.Replace(good, "alice", "bob", 1), "\n", "\r")), 0o644)
	}},
	"toolarge": {"F7 257 MiB (sparse), with Bob added", func(path, good string) error {
		if err := os.WriteFile(path, []byte(good+strings.Replace(good, "alice", "bob", 1)), 0o644); err != nil {
			return err
		}
		return os.Truncate(path, 257<<20)
	}},
	"page": {"F8 an error page in HTML instead", func(path, _ string) error {
		return os.WriteFile(path, []byte("<!DOCTYPE html>\n<html>\n<head><title>502 Bad Gateway</title></head>\n<body style=\"color: red\">\n<h1>Error: 502</h1>\n</body>\n</html>\n"), 0o644)
	}},
	"random": {"F8 random bytes instead", func(path, _ string) error {
		b := make([]byte, 64<<10)
		rand.NewChaCha8([32]byte{1}).Read(b)
		return os.WriteFile(path, b, 0o644)
	}},
	"zeros": {"F8 4 kB of NUL instead", func(path, _ string) error { return os.WriteFile(path, make([]byte, 4096), 0o644) }},
}

// compareReplacements has files replaced by what must not be used, while the
// servers run and before they start.
func (s *threeServers) compareReplacements(good string) []comparison {
	t := s.t
	var found []comparison
	login := func(file, user string) string { return request(file, basic(user+":secret")) }
	cut := filepath.Join(s.dir, "cut")
	for { // asked within the grace of 3 s, or once more
		must(t, os.WriteFile(cut, []byte(good), 0o644))
		eventually(t, "the file is there", func() bool { return s.ask("", login("cut", "alice")).answers[here] == "200" })
		before := time.Now()
		must(t, os.Truncate(cut, 0))
		c := s.ask("F1 a file cut to nothing while it is served: at once", login("cut", "alice"))
		if time.Since(before) < 2*time.Second {
			found = append(found, c)
			break
		}
	}
	names := slices.SortedFunc(maps.Keys(replacements), func(a, b string) int { return strings.Compare(replacements[a].what, replacements[b].what) })
	for _, name := range names {
		must(t, replacements[name].write(filepath.Join(s.dir, name), good))
	}
	eventually(t, "the bad files are noticed", func() bool {
		failing := s.failing()
		return !slices.ContainsFunc(names, func(name string) bool { return !failing[filepath.Join(s.dir, name)] })
	})
	for _, name := range names {
		r := replacements[name]
		found = append(found, s.ask(r.what+", while it is served: a user from before", login(name, "alice")))
		if name == "toolarge" || name == "cr" {
			found = append(found, s.ask(r.what+", while it is served: Bob, who is new", login(name, "bob")))
		}
		file := filepath.Join(s.dir, name)
		c := comparison{name: r.what + ", at the start"}
		for i, starts := range []bool{
			testkit.Accepts(t, nginxConf(s.dir, nginxPlace("/", "x", file)), testkit.NginxCommand),
			testkit.Accepts(t, apacheConf(s.dir, apachePlace("/", "x", file)), apacheCommand),
			validates(t, caddyGlobal, caddySite(caddyPlace("*", "x", file))),
		} {
			c.answers[i] = map[bool]string{true: "starts", false: "refused"}[starts]
		}
		found = append(found, c)
	}
	eventually(t, "the grace ends", func() bool { return s.ask("", login("cut", "alice")).answers[here] == "401" })
	return append(found, s.ask("F1 a file cut to nothing while it is served: after the grace", login("cut", "alice")))
}

// failing returns the files whose present version can't be used.
func (s *threeServers) failing() map[string]bool {
	resp, err := http.Get(fmt.Sprintf("http://localhost:%d/htpasswd", s.caddy.Admin))
	must(s.t, err)
	defer resp.Body.Close()
	var status struct {
		Files []struct {
			Path      string `json:"path"`
			LastError string `json:"last_error"`
		} `json:"files"`
	}
	must(s.t, json.NewDecoder(resp.Body).Decode(&status))
	failing := make(map[string]bool)
	for _, f := range status.Files {
		failing[f.Path] = f.LastError != ""
	}
	return failing
}

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

// basic returns the Authorization header of these credentials.
func basic(userAndPassword string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(userAndPassword))
}

// request returns the bytes of a request to the path of a password file.
func request(file string, headers ...string) string {
	return requestFor("/"+file+"/", headers...)
}

func requestFor(target string, headers ...string) string {
	lines := append([]string{"GET " + target + " HTTP/1.1", "Host: localhost", "Connection: close"}, headers...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// fastHash returns a hash of a password that is fast to verify.
func fastHash(t testing.TB, password string) string {
	t.Helper()
	hash, err := crypt.Make("bcrypt", 4, []byte(password))
	must(t, err)
	return hash
}

// sha1Hash returns a {SHA} hash, also of passwords that caddy htpasswd refuses.
func sha1Hash(password string) string {
	sum := sha1.Sum([]byte(password))
	return "{SHA}" + base64.StdEncoding.EncodeToString(sum[:])
}

// vector returns a hash of "secret" that another program has created.
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

// User names and passwords in the password file of requestCases.
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

// group is the subject of a case. docs/differences.md has the cases in this order,
// with a heading for each group.
type group int

const (
	groupHeader group = iota
	groupTwoHeaders
	groupColons
	groupControl
	groupEncodings
	groupLengths
	groupElsewhere
	groupRealm
	groupPlainHTTP
	groupEmptyFiles
	groupLines
	groupDuplicates
	groupIncomplete
	groupLong
	groupNUL
	groupLocked
	groupFormats
)

var headings = [...]string{
	groupHeader:     "Authorization header",
	groupTwoHeaders: "Two Authorization headers",
	groupColons:     "Colons, empty names and empty passwords",
	groupControl:    "Control characters",
	groupEncodings:  "Character encodings",
	groupLengths:    "Lengths",
	groupElsewhere:  "Credentials in other places",
	groupRealm:      "Realm",
	groupPlainHTTP:  "Plain HTTP",
	groupEmptyFiles: "Empty files",
	groupLines:      "Line ends, comments and whitespace",
	groupDuplicates: "Users listed twice",
	groupIncomplete: "Incomplete lines",
	groupLong:       "Long lines and large files",
	groupNUL:        "NUL, and files of another kind",
	groupLocked:     "Locked users and invalid hashes",
	groupFormats:    "Hash formats",
}

// requestCase is a request, byte for byte. Its name is unique among all cases.
type requestCase struct {
	group   group
	name    string
	request string
}

// requestCases returns requests to the path of the password file of requestUsers.
func requestCases() []requestCase {
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
	return []requestCase{
		{groupHeader, "no header", header()},
		{groupHeader, "valid credentials", header("Basic " + credentials)},
		{groupHeader, "wrong password", login("alice:wrong")},
		{groupHeader, "unknown user", login("mallory:secret")},
		{groupHeader, "user name in another case", login("Alice:secret")},
		{groupHeader, "empty header", request(file, "Authorization:")},
		{groupHeader, "scheme `Bearer`", header("Bearer " + credentials)},
		{groupHeader, "scheme `Digest`", header(`Digest username="alice"`)},
		{groupHeader, "scheme `Basics`, which only begins with `Basic`", header("Basics " + credentials)},
		{groupHeader, "no space after `Basic`", header("Basic" + credentials)},
		{groupHeader, "`Basic` alone", header("Basic")},
		{groupHeader, "`Basic` and a space, nothing else", header("Basic ")},
		{groupHeader, "only padding", header("Basic ====")},
		{groupHeader, "a character in the middle that is not base64", header("Basic YWxp*2U6c2VjcmV0")},
		{groupHeader, "valid credentials followed by `*`", header("Basic " + credentials + "*")},
		{groupHeader, "valid credentials followed by a word", header("Basic " + credentials + " x")},
		{groupHeader, "base64 that contains `/`", login("url:" + urlPassword)},
		{groupHeader, "URL-safe base64 (`_` instead of `/`)", header("Basic " + base64.URLEncoding.EncodeToString([]byte("url:"+urlPassword)))},
		{groupHeader, "a space within the base64", header("Basic YWxpY2U6 c2VjcmV0")},
		{groupHeader, "padding within the base64", header("Basic YWxpY2U=c2VjcmV0")},
		{groupHeader, "one base64 digit too many", header("Basic " + credentials + "Y")},
		{groupHeader, "two base64 digits too many", header("Basic " + credentials + "YQ")},
		{groupHeader, "credentials that are not encoded", header("Basic alice:secret")},
		{groupHeader, "valid credentials twice in one header, with a comma between", header("Basic " + credentials + ", Basic " + credentials)},
		{groupHeader, "no colon", login("alice")},
		{groupHeader, "only a colon", login(":")},

		{groupHeader, "scheme in lower case (`basic`)", header("basic " + credentials)},
		{groupHeader, "scheme in upper case (`BASIC`)", header("BASIC " + credentials)},
		{groupHeader, "scheme in mixed case (`bAsIc`)", header("bAsIc " + credentials)},

		{groupHeader, "two spaces after the scheme", header("Basic  " + credentials)},
		{groupHeader, "a tab after the scheme", header("Basic\t" + credentials)},
		{groupHeader, "a space and a tab after the scheme", header("Basic \t" + credentials)},
		{groupHeader, "whitespace after the credentials", header("Basic " + credentials + " \t")},
		{groupHeader, "one `=` of padding left out", header("Basic " + raw("nfc:"+composed))},
		{groupHeader, "two `=` of padding left out", header("Basic " + raw("a::b"))},
		{groupHeader, "padding where there should be none", header("Basic " + credentials + "==")},

		{groupTwoHeaders, "valid credentials, then a wrong password", header("Basic "+credentials, "Basic "+raw("alice:wrong!"))},
		{groupTwoHeaders, "a wrong password, then valid credentials", header("Basic "+raw("alice:wrong!"), "Basic "+credentials)},
		{groupTwoHeaders, "valid credentials twice", header("Basic "+credentials, "Basic "+credentials)},
		{groupTwoHeaders, "`Basic`, then `Bearer`", header("Basic "+credentials, "Bearer x")},
		{groupTwoHeaders, "`Bearer`, then `Basic`", header("Bearer x", "Basic "+credentials)},
		{groupTwoHeaders, "an empty header, then valid credentials", request(file, "Authorization:", "Authorization: Basic "+credentials)},

		{groupColons, "`a::b`, and the password is `:b`", login("a::b")},
		{groupColons, "`a:b`, and the password is `:b`", login("a:b")},
		{groupColons, "a colon after the correct password", login("alice:secret:")},
		{groupColons, "empty user name", login(":secret")},
		{groupColons, "empty password, which is wrong", login("alice:")},
		{groupColons, "empty password, which is correct", login("nopass:")},

		{groupControl, "a tab in the correct password", login("tab:se\tcret")},
		{groupControl, "ESC in the correct password", login("esc:se\x1bcret")},
		{groupControl, "DEL in the correct password", login("del:secret\x7f")},
		{groupControl, "LF at the end of the correct password", login("lf:secret\n")},
		{groupControl, "CR after the correct password", login("alice:secret\r")},
		{groupControl, "LF after the correct password", login("alice:secret\n")},
		{groupControl, "CR and LF after the user name", login("alice\r\n:secret")},
		{groupControl, "an unknown user, LF and a user of the file", login("mallory\nalice:secret")},
		{groupControl, "NUL after the user name", login("alice\x00:secret")},
		{groupControl, "NUL as the user name", login("\x00:secret")},
		{groupControl, "NUL and `x` after the user name", login("alice\x00x:secret")},
		{groupControl, "a control character in the header itself", header("Basic " + credentials + "\x01")},
		{groupControl, "NUL in the header itself", header("Basic " + credentials + "\x00")},

		{groupControl, "NUL after the correct password (bcrypt)", login("alice:secret\x00")},
		{groupControl, "NUL after the correct password (apr1)", login("apr1:secret\x00")},
		{groupControl, "NUL after the correct password ({SHA})", login("sha1:secret\x00")},
		{groupControl, "`secret`, NUL, `secret` (bcrypt)", login("alice:secret\x00secret")},
		{groupControl, "`secret`, NUL, `x` (bcrypt)", login("alice:secret\x00x")},
		{groupControl, "`secret`, NUL, `x` (apr1)", login("apr1:secret\x00x")},
		{groupLengths, "bcrypt of 72 bytes: all of them", login("long:" + bytes72)},
		{groupLengths, "bcrypt of 72 bytes: one more", login("long:" + bytes72 + "x")},
		{groupLengths, "bcrypt of 72 bytes: one less", login("long:" + bytes72[:71])},

		{groupEncodings, "user name in UTF-8, composed as in the file", login(composed + ":secret")},
		{groupEncodings, "user name in UTF-8, decomposed (NFD)", login(decomposed + ":secret")},
		{groupEncodings, "user name in Latin-1, as in the file", login(latin1 + ":secret")},
		{groupEncodings, "password in UTF-8, composed as it was hashed", login("nfc:" + composed)},
		{groupEncodings, "password in UTF-8, decomposed (NFD)", login("nfc:" + decomposed)},
		{groupEncodings, "password in Latin-1 that was hashed in UTF-8", login("nfc:" + latin1)},
		{groupEncodings, "password in Latin-1, as it was hashed", login("latin1:" + latin1)},

		{groupLengths, "correct password of 1,024 bytes", login("p1024:" + bytes1024)},
		{groupLengths, "correct password of 1,025 bytes", login("p1025:" + bytes1024 + "p")},
		{groupLengths, "user name of 255 bytes", login(user255 + ":secret")},
		{groupLengths, "user name of 256 bytes", login(user255 + "u:secret")},
		{groupLengths, "wrong password of 10,000 bytes", login("alice:" + strings.Repeat("p", 10000))},
		{groupLengths, "valid credentials after 10,000 spaces", header("Basic" + strings.Repeat(" ", 10000) + credentials)},

		{groupElsewhere, "credentials in `Proxy-Authorization`", request(file, "Proxy-Authorization: Basic "+credentials)},
		{groupElsewhere, "user info in the request target", requestFor("http://alice:secret@localhost/" + file + "/")},
		{groupElsewhere, "user info in the request target, and valid credentials in the header", requestFor("http://mallory:wrong@localhost/"+file+"/", "Authorization: Basic "+credentials)},
		{groupElsewhere, "user info in `Host`", strings.Replace(request(file), "Host: ", "Host: alice:secret@", 1)},
		{groupElsewhere, "credentials in the query", requestFor("/" + file + "/?Authorization=Basic%20" + credentials)},
	}
}

// fileCase is a login at the path of a password file.
type fileCase struct {
	group       group
	name        string
	file, login string
}

// fileTexts returns the password files that exist from the start: those of
// requestCases and fileCases, and "truncated" for compareTruncations.
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
		"whitespace": "  front:" + hash + "\n\ttab:" + hash + "\nbehind:" + hash + "  \nname :" + hash + "\nvalue: " + hash + "\nvaluetab:\t" + hash + "\nin the name:" + hash + "\n",
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
		"schemes":    "crypt:{CRYPT}" + hash + "\nsha512:{SHA512-CRYPT}" + vector(t, "sha512crypt", "1000") + "\n" + bob + "\n",
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

// marks returns the marks of accounts without a password, by user name.
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

// truncations returns a hash of a format, cut off at every length.
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
		{groupEmptyFiles, "empty file", "empty", "alice:secret"},
		{groupEmptyFiles, "file of comments only", "comments", "alice:secret"},
		{groupLines, "byte order mark: the first user", "bom", "alice:secret"},
		{groupLines, "byte order mark: the second user", "bom", "bob:secret"},
		{groupLines, "CRLF after the hash", "crlf", "alice:secret"},
		{groupLines, "CRLF after a comment field", "crlf", "bob:secret"},
		{groupLines, "CRLF: a user after an empty line and a comment", "crlf", "carol:secret"},
		{groupLines, "CRLF after {PLAIN}", "crlfplain", "plain:secret"},
		{groupLines, "CRLF after {SHA}", "crlfplain", "sha1:secret"},
		{groupLines, "no newline at the end of the file", "noend", "bob:secret"},
		{groupLines, "a user after comments and empty lines", "noise", "alice:secret"},
		{groupLines, "a line with a comment field", "noise", "bob:secret"},
		{groupLines, "commented-out user", "noise", "carol:secret"},
		{groupLines, "commented-out user, sent with the `#`", "noise", "#carol:secret"},
		{groupLines, "commented-out user with a space before the `#`, sent with both", "noise", " #dave:secret"},
		{groupLines, "spaces before the name", "whitespace", "front:secret"},
		{groupLines, "spaces before the name, sent with them", "whitespace", "  front:secret"},
		{groupLines, "a tab before the name", "whitespace", "tab:secret"},
		{groupLines, "spaces after the hash", "whitespace", "behind:secret"},
		{groupLines, "a space after the name", "whitespace", "name:secret"},
		{groupLines, "a space after the name, sent with it", "whitespace", "name :secret"},
		{groupLines, "a space before the hash", "whitespace", "value:secret"},
		{groupLines, "a tab before the hash", "whitespace", "valuetab:secret"},
		{groupLines, "spaces within the name", "whitespace", "in the name:secret"},
		{groupDuplicates, "the password of the first line", "twice", "alice:secret"},
		{groupDuplicates, "the password of the second line", "twice", "alice:other"},
		{groupDuplicates, "a valid line after one without a colon", "twice", "bad:secret"},
		{groupDuplicates, "a valid line after one with an unknown hash", "twice", "unknown:secret"},
		{groupDuplicates, "a valid line after a locked one", "twice", "locked:secret"},
		{groupDuplicates, "a valid line after one with an empty hash", "twice", "empty:secret"},
		{groupIncomplete, "`alice`, no colon", "bad", "alice:secret"},
		{groupIncomplete, "`alice`, no colon; empty password sent", "bad", "alice:"},
		{groupIncomplete, "`:`; empty user name and password sent", "bad", ":"},
		{groupIncomplete, "`:hash`; empty user name sent", "bad", ":secret"},
		{groupIncomplete, "`nothing:`, no hash", "bad", "nothing:secret"},
		{groupIncomplete, "`nothing:`, no hash; empty password sent", "bad", "nothing:"},
		{groupIncomplete, "a user after invalid lines", "bad", "bob:secret"},
		{groupLong, "hash of 300 kB: a user before it", "longhash", "alice:secret"},
		{groupLong, "hash of 300 kB: its user", "longhash", "long:secret"},
		{groupLong, "hash of 300 kB: a user after it", "longhash", "bob:secret"},
		{groupLong, "user name of 300 kB: a user after it", "longname", "bob:secret"},
		{groupLong, "comment field of 300 kB: its user", "longend", "long:secret"},
		{groupLong, "comment field of 300 kB: a user after it", "longend", "bob:secret"},
		{groupLong, "comment of 300 kB: a user after it", "longline", "bob:secret"},
		{groupLong, "a user's entry at the end of a line of 300 kB", "longinside", "bob:secret"},
		{groupLong, "comment field of 4 kB: its user", "note4k", "noted:secret"},
		{groupLong, "comment field of 9 kB: its user", "note9k", "noted:secret"},
		{groupLong, "comment field of 9 kB: a user after it", "note9k", "bob:secret"},
		{groupNUL, "NUL after a hash", "nul", "alice:secret"},
		{groupNUL, "NUL in a name, sent up to it", "nul", "al:other"},
		{groupNUL, "NUL in a name, sent with it", "nul", "al\x00ice:other"},
		{groupNUL, "NUL in a password after {PLAIN}, sent up to it", "nul", "plain:secret"},
		{groupNUL, "a user after lines with NUL", "nul", "bob:secret"},
	}
	for _, m := range []string{"excl", "star", "two", "x", "nothing", "star0", "star1", "np"} {
		mark := hashOf("marks", m)
		name := "`" + mark + "` instead of a hash"
		if mark == "" {
			name = "no hash"
		}
		cases = append(cases,
			fileCase{groupLocked, name, "marks", m + ":secret"},
			fileCase{groupLocked, name + ", empty password sent", "marks", m + ":"})
		if mark != "" {
			cases = append(cases, fileCase{groupLocked, name + ", sent as the password", "marks", m + ":" + mark})
		}
	}
	cases = append(cases,
		fileCase{groupLocked, "`!` before the hash", "marks", "behind:secret"},
		fileCase{groupLocked, "`*` before the hash", "marks", "behindstar:secret"},
		fileCase{groupLocked, "the text of a bcrypt hash, sent as the password", "formats", "bcrypt:" + hashOf("formats", "bcrypt")},
		fileCase{groupLocked, "the text of a {PLAIN} line, sent as the password", "formats", "{PLAIN}:{PLAIN}secret"},
		fileCase{groupLocked, "the text of an Argon2id hash, sent as the password", "formats", "Argon2id:" + hashOf("formats", "Argon2id")},
		fileCase{groupLocked, "plain password without {PLAIN}", "plaintext", "alice:secret"},
		fileCase{groupLocked, "unknown prefix `{FOO}`", "plaintext", "brace:secret"},
		fileCase{groupLocked, "unknown prefix `{FOO}`, sent as the password", "plaintext", "brace:{FOO}secret"},
		fileCase{groupLocked, "prefix `{plain}` in lower case", "plaintext", "lower:secret"},
	)
	for _, f := range formats {
		cases = append(cases, fileCase{groupFormats, "whole hash: " + f[0], "formats", f[0] + ":secret"})
	}
	return append(cases,
		fileCase{groupFormats, "`{CRYPT}` before a bcrypt hash", "schemes", "crypt:secret"},
		fileCase{groupFormats, "`{SHA512-CRYPT}` before a SHA-512 crypt hash", "schemes", "sha512:secret"})
}

// comparePeers returns the comparisons of all cases.
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
		found = append(found, s.ask(c.group, c.name, c.request))
	}
	for _, realm := range [][2]string{
		{"realm with quotes", `the "inner" circle`},
		{"realm with a backslash", `one\two`},
		{"realm with a backslash at the end", `one\`},
		{"realm in UTF-8", "Z\u00fcrich"},
		{"realm with a control character", "one\x01two"},
		{"realm with a line end", "one\nX-Two: three"},
	} {
		found = append(found, s.compareRealm(realm[0], realm[1]))
	}
	for _, c := range fileCases(t, texts) {
		found = append(found, s.ask(c.group, c.name, request(c.file, basic(c.login))))
	}
	for _, f := range formats {
		found = append(found, s.compareTruncations(f))
	}
	found = append(found, s.compareReplacements(good)...)
	found = append(found,
		s.ask(groupPlainHTTP, "without `allow_http`: no header", requestFor(notAllowed)),
		s.ask(groupPlainHTTP, "without `allow_http`: valid credentials", requestFor(notAllowed, basic("alice:secret"))))
	slices.SortStableFunc(found, func(a, b comparison) int { return int(a.group - b.group) })
	return found
}

// compareRealm compares the challenges of a realm, or whether it is refused.
func (s *threeServers) compareRealm(name, realm string) comparison {
	t, file := s.t, filepath.Join(s.dir, "empty")
	c := comparison{group: groupRealm, name: name, answers: [3]string{"refused", "refused", "refused"}}
	challenge := func(port int) string {
		said := askRaw(t, port, requestFor("/"))
		if !bytes.HasPrefix(said, []byte("HTTP/1.1 401 ")) {
			return verdict(t, said)
		}
		_, value, found := bytes.Cut(said, []byte("uthenticate: ")) // with control characters, which net/http rejects
		if !found || bytes.Contains(value, []byte("uthenticate: ")) {
			t.Errorf("%s: got %q, want one challenge", name, said)
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

// compareTruncations logs in with the right password for every truncation of a
// hash, and returns the different answers.
func (s *threeServers) compareTruncations(format [3]string) comparison {
	c := comparison{group: groupFormats, name: "every truncation: " + format[0]}
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

// replacement is the content that replaces a password file with alice and secret,
// and must not be loaded.
type replacement struct {
	group group
	what  string
	write func(path, good string) error
}

var replacements = map[string]replacement{
	"cr": {groupLines, "lines that end with CR alone", func(path, good string) error {
		return os.WriteFile(path, []byte(strings.ReplaceAll(good+strings.Replace(good, "alice", "bob", 1), "\n", "\r")), 0o644)
	}},
	"toolarge": {groupLong, "file of 257 MiB (sparse), with Bob added", func(path, good string) error {
		if err := os.WriteFile(path, []byte(good+strings.Replace(good, "alice", "bob", 1)), 0o644); err != nil {
			return err
		}
		return os.Truncate(path, 257<<20)
	}},
	"page": {groupNUL, "an error page in HTML instead of a password file", func(path, _ string) error {
		return os.WriteFile(path, []byte("<!DOCTYPE html>\n<html>\n<head><title>502 Bad Gateway</title></head>\n<body style=\"color: red\">\n<h1>Error: 502</h1>\n</body>\n</html>\n"), 0o644)
	}},
	"random": {groupNUL, "random bytes instead of a password file", func(path, _ string) error {
		b := make([]byte, 64<<10)
		rand.NewChaCha8([32]byte{1}).Read(b)
		return os.WriteFile(path, b, 0o644)
	}},
	"zeros": {groupNUL, "4 kB of NUL instead of a password file", func(path, _ string) error { return os.WriteFile(path, make([]byte, 4096), 0o644) }},
}

// compareReplacements replaces files by content that must not be loaded, while
// the servers run and before they start.
func (s *threeServers) compareReplacements(good string) []comparison {
	t := s.t
	var found []comparison
	login := func(file, user string) string { return request(file, basic(user+":secret")) }
	cut := filepath.Join(s.dir, "cut")
	for { // repeat if the request was not sent within the grace period of 3 s
		must(t, os.WriteFile(cut, []byte(good), 0o644))
		eventually(t, "the file is loaded", func() bool { return s.answers(login("cut", "alice"))[here] == "200" })
		before := time.Now()
		must(t, os.Truncate(cut, 0))
		c := s.ask(groupEmptyFiles, "file truncated to nothing, while served: at once", login("cut", "alice"))
		if time.Since(before) < 2*time.Second {
			found = append(found, c)
			break
		}
	}
	names := slices.SortedFunc(maps.Keys(replacements), func(a, b string) int { return strings.Compare(replacements[a].what, replacements[b].what) })
	for _, name := range names {
		must(t, replacements[name].write(filepath.Join(s.dir, name), good))
	}
	eventually(t, "the invalid files are noticed", func() bool {
		failing := s.failing()
		return !slices.ContainsFunc(names, func(name string) bool { return !failing[filepath.Join(s.dir, name)] })
	})
	for _, name := range names {
		r := replacements[name]
		found = append(found, s.ask(r.group, r.what+", while served: a user of the previous version", login(name, "alice")))
		if name == "toolarge" || name == "cr" {
			found = append(found, s.ask(r.group, r.what+", while served: Bob, who is new", login(name, "bob")))
		}
		file := filepath.Join(s.dir, name)
		c := comparison{group: r.group, name: r.what + ", at startup"}
		for i, starts := range []bool{
			testkit.Accepts(t, nginxConf(s.dir, nginxPlace("/", "x", file)), testkit.NginxCommand),
			testkit.Accepts(t, apacheConf(s.dir, apachePlace("/", "x", file)), apacheCommand),
			validates(t, caddyGlobal, caddySite(caddyPlace("*", "x", file))),
		} {
			c.answers[i] = map[bool]string{true: "starts", false: "refused"}[starts]
		}
		found = append(found, c)
	}
	eventually(t, "the grace period ends", func() bool { return s.answers(login("cut", "alice"))[here] == "401" })
	return append(found, s.ask(groupEmptyFiles, "file truncated to nothing, while served: after the grace period", login("cut", "alice")))
}

// failing returns the files whose present version cannot be loaded.
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

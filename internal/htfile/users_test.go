package htfile

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// Lines of users without their names, made with Apache's htpasswd.
const (
	bcrypt4Secret1 = "$2y$04$bCbS8zR0YIiuV5FiStSKFuwL6FSA8iQ1PQ5Hcj7xo6ATupORK9WWS" // htpasswd -nbB -C 4 alice secret1
	bcrypt5Secret2 = "$2y$05$AnzGiguqQlbEj7a9ac6PrOdOTtE7CWHZ6.wDOdpBAxXucH0rxKDx2" // htpasswd -nbB -C 5 alice secret2
	apr1Secret1    = "$apr1$Hse2nJ7N$ZREGY5i0imc3467PrksTg/"                        // htpasswd -nbm alice secret1
	shaSecret1     = "{SHA}AMr9EmGC6KnnwBuy8N/QBJa+ck8="                            // htpasswd -nbs alice secret1
	phcEnd         = "c2FsdHNhbHQ$AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA"      // salt and digest of nothing
	digest43       = "japDxBfHcSVGcyn00bW518Ndv09CHo6WdVnm01mosE2"                  // of 32 bytes, for crypt(3)
)

// states lists the users with their states: "name+" for a usable one, "name!" for a
// locked one, "name-" for an invalid one.
func (t *Users) states() string {
	var all []string
	for i := range t.All {
		all = append(all, t.All[i].Name+string("-!+"[t.All[i].State]))
	}
	return strings.Join(all, " ")
}

// refused reports whether err is the expected problem of a file. Without a problem,
// it fails if there is an error.
func refused(t *testing.T, err error, problem string) bool {
	t.Helper()
	if problem == "" {
		if err != nil {
			t.Fatal(err)
		}
		return false
	}
	if err == nil || !strings.Contains(err.Error(), problem) {
		t.Errorf("error %v, want one with %q", err, problem)
	}
	return true
}

func TestParse(t *testing.T) {
	const (
		h    = shaSecret1
		long = 300 << 10
	)
	name255 := strings.Repeat("n", 255)
	for _, test := range []struct {
		name, text   string
		want         string // see states
		invalid, dup int    // number of invalid lines, and of duplicates
		problem      string // part of the error, if there is one
	}{
		{name: "empty", text: ""},
		{name: "only comments, empty lines and a BOM", text: "\uFEFF# nobody\n\n \t \n  # yet\r\n"},
		{name: "BOM", text: "\uFEFFalice:" + h + "\nbob:" + h, want: "alice+ bob+"},
		{name: "BOM before a comment", text: "\uFEFF#x\nalice:" + h, want: "alice+"},
		{name: "a second BOM is part of the name", text: "\uFEFF\uFEFFalice:" + h, want: "\uFEFFalice+"},
		{name: "CRLF, empty lines, comments, no last newline", text: "# x\r\n\r\nalice:" + h + "\r\n  \n\t# y\nbob:" + h, want: "alice+ bob+"},
		{name: "whitespace around the line and the hash", text: " \talice: " + h + "\t \r\n\v\fbob:" + h + " :c\n", want: "alice+ bob+"},
		{name: "whitespace within the name is part of it", text: "al ice:" + h, want: "al ice+"},
		{name: "a space at the end of the name", text: "alice :" + h + "\nbob:" + h, want: "alice - bob+", invalid: 1},
		{name: "a comment after a second colon", text: "alice:" + h + ":Alice: the first\nbob:!:" + h, want: "alice+ bob!"},
		{name: "duplicate: the first wins", text: "alice:" + h + "\nalice:!\nalice:rubbish\nbob:" + h, want: "alice+ bob+", dup: 2},
		{name: "a locked first line shadows later ones", text: "alice:!\nalice:" + h, want: "alice!", dup: 1},
		{name: "a first line with an invalid hash shadows later ones", text: "alice:rubbish\nalice:" + h + "\nbob:" + h, want: "alice- bob+", invalid: 1, dup: 1},
		{name: "a first line without colon shadows later ones", text: "alice\nalice:" + h + "\nbob:" + h, want: "alice- bob+", invalid: 1, dup: 1},
		{name: "a first line that is too long shadows later ones", text: "alice:" + strings.Repeat("x", long) + "\nalice:" + h + "\nbob:" + h, want: "alice- bob+", invalid: 1, dup: 1},
		{name: "names differ by case, whitespace and composition", text: "alice:" + h + "\nAlice:!\nalice :rubbish\ne\u0301:" + h + "\n\u00e9:" + h, want: "alice+ Alice! alice - e\u0301+ \u00e9+", invalid: 1},
		{name: "no colon, no name", text: "alice\n:\n:" + h + "\nbob:" + h, want: "alice- bob+", invalid: 3},
		{name: "nothing after the colon: locked", text: "alice:\nbob::comment\ncarol: \t", want: "alice! bob! carol!"},
		{name: "a line of 300 kB, then others", text: strings.Repeat("x", long) + "\nalice:" + h + "\ncarol:" + h + strings.Repeat(":", long) + "\nbob:" + h, want: "alice+ carol- bob+", invalid: 2},
		{name: "the longest line", text: "alice:" + h + ":" + strings.Repeat("x", MaxLineLen-len("alice:"+h+":")), want: "alice+"},
		{name: "a byte more", text: "bob:" + h + "\nalice:" + h + ":" + strings.Repeat("x", MaxLineLen-len("alice:"+h+":")+1), want: "bob+ alice-", invalid: 1},
		{name: "an HTML page", text: "<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n<body style=\"margin: 0\">\n<a href=\"https://example.com/\">back</a>\n</body></html>\n", problem: "no valid user:hash line (invalid lines: 5); line 1: no colon between user name and hash"},
		{name: "an HTML page with a line that looks like a locked account", text: "<html><body>\n<p>The request was rejected. Your support ID is:\n<b>42</b></body></html>\n", problem: "valid user:hash line"},
		{name: "NUL bytes", text: strings.Repeat("\x00", 4096), problem: "user name longer than 255 bytes"},
		{name: "UTF-16", text: "\xff\xfea\x00:\x00!\x00\n\x00", problem: "user name contains a control character"},
		{name: "one valid line among NULs", text: "\x00\x00:\n\x00alice:" + h + "\nbob:" + h + "\n\x00", want: "bob+", invalid: 3},
		{name: "plain-text passwords", text: "alice:secret1\nbob:secret2\n", want: "", problem: "unknown password hash format"},
		{name: "a text with exclamation marks", text: "<script>s={ok:!1,e:502}</script>\nnote: *important*, the file has moved\n", problem: "valid user:hash line"},
		{name: "YAML with tags", text: "Resources:\n  Key: !Ref Foo\n  Name: bar\n", problem: "valid user:hash line"},
		{name: "lock marks", text: "a:*\nb:!\nc:!!\nd:x\ne:\nf:!" + bcrypt4Secret1 + "\ng:*LK*\nh:!*", want: "a! b! c! d! e! f! g! h!"},
		{name: "schemes of Dovecot and LDAP", text: "a:{CRYPT}" + bcrypt4Secret1 + "\nb:{blf-crypt}" + bcrypt4Secret1 + "\nc:{MD5}AMr9EmGC6KnnwBuy8N/QBJa+ck8=\nd:{CRYPT}{PLAIN}x\ne:{CRYPT}secret\nf:{CRYPT}", want: "a+ b+ c- d- e- f-", invalid: 4},
		{name: "lock marks with a scheme", text: "a:!{CRYPT}" + bcrypt4Secret1 + "\nb:{CRYPT}!" + bcrypt4Secret1 + "\nc:{CRYPT}!\nd:{CRYPT}*\ne:{crypt}x\nf:{CRYPT}!!\ng:{SHA512-CRYPT}!" + bcrypt4Secret1, want: "a! b! c! d! e! f! g!"},
		{name: "almost lock marks with a scheme", text: "a:{CRYPT}xx\nb:{CRYPT}?\nc:{NONE}!\nd:{PLAIN}!\ne:!{CRYPT}rubbish\nf:" + h, want: "a- b- c- d+ e- f+", invalid: 4},
		{name: "a locked user is a valid line, or a lock would not take effect", text: "alice:!\nbob:rubbish", want: "alice! bob-", invalid: 1},
		{name: "almost lock marks", text: "a:xx\nb:X\nc:-\nd:" + h, want: "a- b- c- d+", invalid: 3},
		{name: "unknown prefixes", text: "a:$9$x$y\nb:{MD5}AMr9EmGC6KnnwBuy8N/QBJa+ck8=\nc:plain\nd:{sha}AMr9EmGC6KnnwBuy8N/QBJa+ck8=\ne:" + h, want: "a- b- c- d- e+", invalid: 4},
		{name: "truncated hashes", text: "a:" + h[:len(h)-1] + "\nb:" + bcrypt4Secret1[:59] + "\nc:" + apr1Secret1[:36] + "\nd:rqXexS6ZhobK\ne:$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AQIDBAUGBwgJCgsM\nf:" + h, want: "a- b- c- d- e- f+", invalid: 5},
		{name: "bcrypt costs", text: "a:$2y$31$" + bcrypt4Secret1[7:] + "\nb:$2y$99$" + bcrypt4Secret1[7:] + "\nc:$2y$-4$" + bcrypt4Secret1[7:] + "\nd:" + h, want: "a- b- c- d+", invalid: 3},
		{name: "argon2 costs", text: "a:$argon2id$v=19$m=4194304,t=1,p=1$" + phcEnd + "\nb:$argon2id$v=19$m=64,t=0,p=1$" + phcEnd + "\nc:$argon2id$v=19$m=64,t=1,p=0$" + phcEnd +
			"\nd:$argon2i$v=19$m=64,t=1,p=1$" + phcEnd[11:] + "\ne:$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$\nf:$argon2id$v=19$m=64,t=4294967295,p=1$" + phcEnd + "\ng:" + h, want: "a- b- c- d- e- f- g+", invalid: 6},
		{name: "rounds", text: "a:$5$rounds=999999999$s$" + digest43 + "\nb:$5$rounds=10$s$" + digest43 + "\nc:$5$rounds=0$s$" + digest43 + "\nd:$5$rounds=0100$s$" + digest43 + "\ne:$5$rounds=4294967295$s$" + digest43 +
			"\nf:$pbkdf2-sha256$4294967295$" + phcEnd + "\ng:$5$rounds=1000$s$" + digest43, want: "a- b- c- d- e- f- g+", invalid: 6},
		{name: "scrypt and yescrypt costs", text: "a:$scrypt$ln=40,r=8,p=1$" + phcEnd + "\nb:$7$z6..../....salt$" + digest43 + "\nc:$y$jzT$salt$" + digest43 + "\nd:$y$jFT$salt$" + digest43 + "\ne:$y$j9T$salt$" + digest43, want: "a- b- c- d- e+", invalid: 4},
		{name: "DES in a file like /etc/passwd", text: "alice:rqXexS6ZhobKA\nbob:rqXexS6ZhobKA:1001:1001:Bob:/home/bob:/bin/sh\n", want: "alice+ bob+"},
		{name: "{PLAIN}", text: "a:{PLAIN}secret\nb:{PLAIN}\nc:{PLAIN}two words\nd:{PLAIN}x:y\ne:{PLAIN}\x01", want: "a+ b- c+ d+ e-", invalid: 2},
		{name: "name of 255 bytes", text: name255 + ":" + h, want: name255 + "+"},
		{name: "name of 256 bytes", text: name255 + "n:" + h + "\nalice:" + h, want: "alice+", invalid: 1},
		{name: "control characters in the name", text: "a\x00b:" + h + "\na\tb:" + h + "\na\x7fb:" + h + "\na\x1bb:" + h + "\nalice:" + h, want: "alice+", invalid: 4},
		{name: "names that are not UTF-8", text: "\xe9\xff:" + h + "\n\xe9:!", want: "\xe9\xff+ \xe9!"},
	} {
		t.Run(test.name, func(t *testing.T) {
			table, err := Parse(test.text)
			if refused(t, err, test.problem) {
				return
			}
			if got := table.states(); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			if table.InvalidCount != test.invalid || table.DuplicateCount != test.dup {
				t.Errorf("got %d invalid lines and %d duplicates, want %d and %d", table.InvalidCount, table.DuplicateCount, test.invalid, test.dup)
			}
			checkTable(t, table)
		})
	}
}

// checkTable checks what holds for every table.
func checkTable(t testing.TB, table *Users) {
	t.Helper()
	if len(table.index) != len(table.All) {
		t.Errorf("%d names for %d entries", len(table.index), len(table.All))
	}
	counts := make([]int, len(table.Classes))
	locks := 0
	for i := range table.All {
		e := &table.All[i]
		if at, ok := table.index[e.Name]; !ok || int(at) != i {
			t.Errorf("%q is entry %d, but found at %d, %v", e.Name, i, at, ok)
		}
		if e.Name == "" || len(e.Name) > MaxUserLen || strings.ContainsRune(e.Name, ':') || HasControl(e.Name) {
			t.Errorf("user %q", e.Name)
		}
		switch e.State {
		case StateLocked:
			locks++
		case StateUsable:
			class, err := crypt.Parse(e.Hash)
			if err != nil || table.Classes[e.Class].Class != class {
				t.Errorf("%q: class %v, %v", e.Name, class, err)
			}
			counts[e.Class]++
		}
	}
	used := 0
	for i, c := range table.Classes {
		if counts[i] != c.Count || c.Count == 0 {
			t.Errorf("class %s %s: %d entries, counted %d", c.Format.Name, c.Cost, counts[i], c.Count)
		}
		if s := &table.All[c.Sample]; s.State != StateUsable || int(s.Class) != i {
			t.Errorf("class %s %s: its sample is of another", c.Format.Name, c.Cost)
		}
		used += c.Count
	}
	if table.Valid < used || table.Valid > used+locks {
		t.Errorf("%d valid lines, of %d usable and %d locked ones", table.Valid, used, locks)
	}
	if len(table.Invalid) != min(table.InvalidCount, MaxFindings) || len(table.Duplicates) > min(table.DuplicateCount, MaxFindings) {
		t.Errorf("%d of %d invalid lines and %d of %d duplicates are listed",
			len(table.Invalid), table.InvalidCount, len(table.Duplicates), table.DuplicateCount)
	}
}

func TestParseRandomBytes(t *testing.T) {
	random := rand.New(rand.NewChaCha8([32]byte{8}))
	for i := range 200 {
		b := make([]byte, random.IntN(4096))
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		table, err := Parse(string(b))
		checkTable(t, table)
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("%d: error of %d bytes", i, len(err.Error()))
		}
		for j := range table.All {
			if table.All[j].State == StateUsable {
				t.Errorf("%d: a usable entry", i)
			}
		}
	}
}

// TestParseMemory checks the memory for large files without users: they have more
// lines than any file of users.
func TestParseMemory(t *testing.T) {
	const size = 4 << 20
	for _, test := range []struct{ name, text string }{
		{"empty lines", strings.Repeat("\n", size)},
		{"comments", strings.Repeat("#\n", size/2)},
		{"the same name again and again", strings.Repeat("a\n", size/2)},
	} {
		t.Run(test.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			table, _ := Parse(test.text)
			runtime.ReadMemStats(&after)
			if len(table.All) > 1 {
				t.Errorf("%d entries", len(table.All))
			}
			// A file of users takes less than five bytes of memory for each of its bytes.
			if took := after.TotalAlloc - before.TotalAlloc; took > 5*size {
				t.Errorf("%d bytes of table for a file of %d without users", took, size)
			}
		})
	}
}

func TestFindingsAreCapped(t *testing.T) {
	var text strings.Builder
	text.WriteString("alice:" + shaSecret1 + "\n")
	for i := range 25 {
		fmt.Fprintf(&text, "bad%d:rubbish\nalice:%d\n", i, i)
	}
	table, err := Parse(text.String())
	if err != nil {
		t.Fatal(err)
	}
	if table.InvalidCount != 25 || len(table.Invalid) != MaxFindings || table.DuplicateCount != 25 || len(table.Duplicates) != MaxFindings {
		t.Errorf("got %d/%d invalid lines and %d/%d duplicates, want %d/25 of both",
			len(table.Invalid), table.InvalidCount, len(table.Duplicates), table.DuplicateCount, MaxFindings)
	}
	if got, want := table.Left(), 2*(25-MaxFindings); got != want {
		t.Errorf("got %d lines left, want %d", got, want)
	}
	if got := table.Invalid[0].Line; got != 2 {
		t.Errorf("got line %d as the first invalid one, want 2", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "\n", "\uFEFF", "# comment\n", ":", "::", "alice", "alice:", "alice:x", "alice:!" + shaSecret1, "alice:" + shaSecret1,
		"\uFEFFalice:" + shaSecret1 + "\r\nbob:" + apr1Secret1 + ":comment\r\n\r\n# x\r\nalice:*",
		"a:" + bcrypt4Secret1 + "\nb:" + bcrypt5Secret2 + "\nc:" + shaSecret1 + "\nd:plain\ne\n:f",
		"\xff\xfea\x00:\x00!\x00\n\x00", "<html>\n<p>a: b</p>", "\x00\n\x00:\x00", strings.Repeat("a", 256) + ":" + shaSecret1,
		"a:" + strings.ReplaceAll(bcrypt4Secret1, "$", "$$"),
		"a:$5$rounds=1000$salt$x\nb:$6$rounds=999999999$salt$x\na:" + shaSecret1,
		"a:{CRYPT}" + bcrypt4Secret1 + "\nb:{crypt}!" + bcrypt4Secret1 + "\nc:!{BLF-CRYPT}" + bcrypt4Secret1 + "\nd:{CRYPT}{CRYPT}!\ne:{MD5}",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		table, err := Parse(text)
		checkTable(t, table)
		again, err2 := Parse(text)
		if fmt.Sprint(err) != fmt.Sprint(err2) || table.states() != again.states() || !slices.Equal(table.Invalid, again.Invalid) ||
			!slices.Equal(table.Duplicates, again.Duplicates) || !slices.Equal(table.Classes, again.Classes) {
			t.Error("parsing again gives another table")
		}
		if err != nil && len(table.Classes) > 0 {
			t.Error("an error, though a user could log in")
		}
		if err == nil && table.InvalidCount > 0 && table.Valid == 0 {
			t.Error("accepted, though no line is valid")
		}
		if err != nil {
			if problem, _, _ := strings.Cut(err.Error(), "; each $ is doubled"); len(problem) > 200 { // the hint after it is constant
				t.Error("long error:", err)
			}
		}
	})
}

package caddyhtpasswd

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// Lines of users without their names, made with Apache's htpasswd.
const (
	bcrypt4Secret1  = "$2y$04$bCbS8zR0YIiuV5FiStSKFuwL6FSA8iQ1PQ5Hcj7xo6ATupORK9WWS" // htpasswd -nbB -C 4 alice secret1
	bcrypt4Secret1b = "$2y$04$RfQgexYWsllfGWemtnQvv.9Jy8JGN90Zjr9Pp1fK.3u0eE8hFN3/q" // the same again: another salt
	bcrypt4Secret2  = "$2y$04$fN6Tuix04DwPmwvVnMmk6u4pFK/fJg/eZALiIOtoATCJeoAdFUoLa" // htpasswd -nbB -C 4 alice secret2
	bcrypt5Secret2  = "$2y$05$AnzGiguqQlbEj7a9ac6PrOdOTtE7CWHZ6.wDOdpBAxXucH0rxKDx2" // htpasswd -nbB -C 5 alice secret2
	bcrypt6Secret1  = "$2y$06$bD3BcEy3/CZvKelPYphkiOZGwGsnP/n8OkkoIDVtf7U7CBbPcNJIG" // htpasswd -nbB -C 6 alice secret1
	apr1Secret1     = "$apr1$Hse2nJ7N$ZREGY5i0imc3467PrksTg/"                        // htpasswd -nbm alice secret1
	apr1Secret2     = "$apr1$f.IlLLKL$HrW9sdnWeM1RSiGem9NTT/"                        // htpasswd -nbm alice secret2
	phcEnd          = "c2FsdHNhbHQ$AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA"      // salt and digest of nothing
	digest43        = "japDxBfHcSVGcyn00bW518Ndv09CHo6WdVnm01mosE2"                  // of 32 bytes, for crypt(3)
	apr1ShortSalt   = "$apr1$salt$Qzr9EOCUO3GZGBqZVAbKi."                            // of no password
	shaSecret1      = "{SHA}AMr9EmGC6KnnwBuy8N/QBJa+ck8="                            // htpasswd -nbs alice secret1
)

// observed returns a logger for every level, and what is logged to it.
func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	return zap.New(core), logs
}

// logText returns everything in the logs, fields included.
func logText(logs *observer.ObservedLogs) string {
	var text strings.Builder
	for _, e := range logs.All() {
		fmt.Fprintln(&text, e.Level, e.Message, e.ContextMap())
	}
	return text.String()
}

// states shows what the lines came to: "name+" for a usable entry, "name!"
// for a locked one, "name-" for a denied one.
func (t *userTable) states() string {
	var all []string
	for i := range t.entries {
		all = append(all, t.entries[i].user+string("-!+"[t.entries[i].state]))
	}
	return strings.Join(all, " ")
}

// refused reports whether err is the problem that a file is to be refused for;
// without one there must be no error.
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

func TestParseUsers(t *testing.T) {
	const (
		h    = shaSecret1
		long = 300 << 10
	)
	name255 := strings.Repeat("n", 255)
	for _, test := range []struct {
		name, text string
		want       string // see states
		bad, dup   int
		problem    string // part of the error, if the file is bad
	}{
		{name: "F1 empty", text: ""},
		{name: "F1 only comments, blank lines and a BOM", text: "\uFEFF# nobody\n\n \t \n  # yet\r\n"},
		{name: "F2 BOM", text: "\uFEFFalice:" + h + "\nbob:" + h, want: "alice+ bob+"},
		{name: "F2 BOM before a comment", text: "\uFEFF#x\nalice:" + h, want: "alice+"},
		{name: "F2 a second BOM is part of the name", text: "\uFEFF\uFEFFalice:" + h, want: "\uFEFFalice+"},
		{name: "F3 CRLF, blank lines, comments, no last newline", text: "# x\r\n\r\nalice:" + h + "\r\n  \n\t# y\nbob:" + h, want: "alice+ bob+"},
		{name: "F3 blanks around the line and the hash", text: " \talice: " + h + "\t \r\n\v\fbob:" + h + " :c\n", want: "alice+ bob+"},
		{name: "F3 blanks within the name are part of it", text: "al ice:" + h, want: "al ice+"},
		{name: "F5 a blank at the end of the name", text: "alice :" + h + "\nbob:" + h, want: "alice - bob+", bad: 1},
		{name: "F3 a comment behind a second colon", text: "alice:" + h + ":Alice: the first\nbob:!:" + h, want: "alice+ bob!"},
		{name: "F4 duplicate: the first wins", text: "alice:" + h + "\nalice:!\nalice:rubbish\nbob:" + h, want: "alice+ bob+", dup: 2},
		{name: "F4 a locked first line shadows later ones", text: "alice:!\nalice:" + h, want: "alice!", dup: 1},
		{name: "F4 a first line with a bad hash shadows later ones", text: "alice:rubbish\nalice:" + h + "\nbob:" + h, want: "alice- bob+", bad: 1, dup: 1},
		{name: "F4 a first line without colon shadows later ones", text: "alice\nalice:" + h + "\nbob:" + h, want: "alice- bob+", bad: 1, dup: 1},
		{name: "F4 a first line that is too long shadows later ones", text: "alice:" + strings.Repeat("x", long) + "\nalice:" + h + "\nbob:" + h, want: "alice- bob+", bad: 1, dup: 1},
		{name: "F4 names differ by case, blanks and composition", text: "alice:" + h + "\nAlice:!\nalice :rubbish\ne\u0301:" + h + "\n\u00e9:" + h, want: "alice+ Alice! alice - e\u0301+ \u00e9+", bad: 1},
		{name: "F5 no colon, no name", text: "alice\n:\n:" + h + "\nbob:" + h, want: "alice- bob+", bad: 3},
		{name: "F5 nothing behind the colon: locked", text: "alice:\nbob::comment\ncarol: \t", want: "alice! bob! carol!"},
		{name: "F6 a line of 300 kB, then others", text: strings.Repeat("x", long) + "\nalice:" + h + "\ncarol:" + h + strings.Repeat(":", long) + "\nbob:" + h, want: "alice+ carol- bob+", bad: 2},
		{name: "F6 the longest line", text: "alice:" + h + ":" + strings.Repeat("x", maxLineLen-len("alice:"+h+":")), want: "alice+"},
		{name: "F6 a byte more", text: "bob:" + h + "\nalice:" + h + ":" + strings.Repeat("x", maxLineLen-len("alice:"+h+":")+1), want: "bob+ alice-", bad: 1},
		{name: "F8 an HTML page", text: "<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n<body style=\"margin: 0\">\n<a href=\"https://example.com/\">back</a>\n</body></html>\n", problem: "none of its 5 lines is a valid user:hash line; line 1: no colon between user name and hash"},
		{name: "F8 an HTML page with a line that looks like a locked account", text: "<html><body>\n<p>The request was rejected. Your support ID is:\n<b>42</b></body></html>\n", problem: "valid user:hash line"},
		{name: "F8 NUL bytes", text: strings.Repeat("\x00", 4096), problem: "user name longer than 255 bytes"},
		{name: "F8 UTF-16", text: "\xff\xfea\x00:\x00!\x00\n\x00", problem: "control character in the user name"},
		{name: "F8 one good line among NULs", text: "\x00\x00:\n\x00alice:" + h + "\nbob:" + h + "\n\x00", want: "bob+", bad: 3},
		{name: "F8 plain-text passwords", text: "alice:secret1\nbob:secret2\n", want: "", problem: "unknown password hash format"},
		{name: "F8 a text with exclamation marks", text: "<script>s={ok:!1,e:502}</script>\nnote: *important*, the file has moved\n", problem: "valid user:hash line"},
		{name: "F8 YAML with tags", text: "Resources:\n  Key: !Ref Foo\n  Name: bar\n", problem: "valid user:hash line"},
		{name: "F9 lock marks", text: "a:*\nb:!\nc:!!\nd:x\ne:\nf:!" + bcrypt4Secret1 + "\ng:*LK*\nh:!*", want: "a! b! c! d! e! f! g! h!"},
		{name: "F8 marks of locked accounts count, or a lock would not take effect", text: "alice:!\nbob:rubbish", want: "alice! bob-", bad: 1},
		{name: "F9 almost lock marks", text: "a:xx\nb:X\nc:-\nd:" + h, want: "a- b- c- d+", bad: 3},
		{name: "F9 unknown prefixes", text: "a:$9$x$y\nb:{MD5}AMr9EmGC6KnnwBuy8N/QBJa+ck8=\nc:plain\nd:{sha}AMr9EmGC6KnnwBuy8N/QBJa+ck8=\ne:" + h, want: "a- b- c- d- e+", bad: 4},
		{name: "F10 truncated hashes", text: "a:" + h[:len(h)-1] + "\nb:" + bcrypt4Secret1[:59] + "\nc:" + apr1Secret1[:36] + "\nd:rqXexS6ZhobK\ne:$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AQIDBAUGBwgJCgsM\nf:" + h, want: "a- b- c- d- e- f+", bad: 5},
		{name: "F11 bcrypt costs", text: "a:$2y$31$" + bcrypt4Secret1[7:] + "\nb:$2y$99$" + bcrypt4Secret1[7:] + "\nc:$2y$-4$" + bcrypt4Secret1[7:] + "\nd:" + h, want: "a- b- c- d+", bad: 3},
		{name: "F12 argon2 costs", text: "a:$argon2id$v=19$m=4194304,t=1,p=1$" + phcEnd + "\nb:$argon2id$v=19$m=64,t=0,p=1$" + phcEnd + "\nc:$argon2id$v=19$m=64,t=1,p=0$" + phcEnd +
			"\nd:$argon2i$v=19$m=64,t=1,p=1$" + phcEnd[11:] + "\ne:$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$\nf:$argon2id$v=19$m=64,t=4294967295,p=1$" + phcEnd + "\ng:" + h, want: "a- b- c- d- e- f- g+", bad: 6},
		{name: "F13 rounds", text: "a:$5$rounds=999999999$s$" + digest43 + "\nb:$5$rounds=10$s$" + digest43 + "\nc:$5$rounds=0$s$" + digest43 + "\nd:$5$rounds=0100$s$" + digest43 + "\ne:$5$rounds=4294967295$s$" + digest43 +
			"\nf:$pbkdf2-sha256$4294967295$" + phcEnd + "\ng:$5$rounds=1000$s$" + digest43, want: "a- b- c- d- e- f- g+", bad: 6},
		{name: "F14 scrypt and yescrypt costs", text: "a:$scrypt$ln=40,r=8,p=1$" + phcEnd + "\nb:$7$z6..../....salt$" + digest43 + "\nc:$y$jzT$salt$" + digest43 + "\nd:$y$jFT$salt$" + digest43 + "\ne:$y$j9T$salt$" + digest43, want: "a- b- c- d- e+", bad: 4},
		{name: "DES in a file as of old", text: "alice:rqXexS6ZhobKA\nbob:rqXexS6ZhobKA:1001:1001:Bob:/home/bob:/bin/sh\n", want: "alice+ bob+"},
		{name: "{PLAIN}", text: "a:{PLAIN}secret\nb:{PLAIN}\nc:{PLAIN}two words\nd:{PLAIN}x:y\ne:{PLAIN}\x01", want: "a+ b- c+ d+ e-", bad: 2},
		{name: "name of 255 bytes", text: name255 + ":" + h, want: name255 + "+"},
		{name: "name of 256 bytes", text: name255 + "n:" + h + "\nalice:" + h, want: "alice+", bad: 1},
		{name: "control characters in the name", text: "a\x00b:" + h + "\na\tb:" + h + "\na\x7fb:" + h + "\na\x1bb:" + h + "\nalice:" + h, want: "alice+", bad: 4},
		{name: "R8 names that are not UTF-8", text: "\xe9\xff:" + h + "\n\xe9:!", want: "\xe9\xff+ \xe9!"},
	} {
		t.Run(test.name, func(t *testing.T) {
			table, err := parseUsers(test.text)
			if refused(t, err, test.problem) {
				return
			}
			if got := table.states(); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			if table.badCount != test.bad || table.dupCount != test.dup {
				t.Errorf("%d bad lines and %d duplicates, want %d and %d", table.badCount, table.dupCount, test.bad, test.dup)
			}
			checkTable(t, table)
		})
	}
}

// checkTable checks what holds for every table.
func checkTable(t testing.TB, table *userTable) {
	t.Helper()
	if len(table.index) != len(table.entries) {
		t.Errorf("%d names for %d entries", len(table.index), len(table.entries))
	}
	counts := make([]int, len(table.classes))
	locks := 0
	for i := range table.entries {
		e := &table.entries[i]
		if at, ok := table.index[e.user]; !ok || int(at) != i {
			t.Errorf("%q is entry %d, but found at %d, %v", e.user, i, at, ok)
		}
		if e.user == "" || len(e.user) > maxUserLen || strings.ContainsRune(e.user, ':') || hasControl(e.user) {
			t.Errorf("user %q", e.user)
		}
		if e.verified.Load() != nil {
			t.Errorf("%q is verified from the start", e.user)
		}
		switch e.state {
		case locked:
			locks++
		case usable:
			class, err := crypt.Parse(e.hash)
			if err != nil || table.classes[e.class].Class != class {
				t.Errorf("%q: class %v, %v", e.user, class, err)
			}
			counts[e.class]++
		}
	}
	used := 0
	for i, c := range table.classes {
		if counts[i] != c.count || c.count == 0 {
			t.Errorf("class %s %s: %d entries, counted %d", c.Format.Name, c.Cost, counts[i], c.count)
		}
		if s := &table.entries[c.sample]; s.state != usable || int(s.class) != i {
			t.Errorf("class %s %s: its sample is of another", c.Format.Name, c.Cost)
		}
		used += c.count
	}
	if table.good < used || table.good > used+locks {
		t.Errorf("%d good lines, of %d usable and %d locked ones", table.good, used, locks)
	}
	if len(table.bad) != min(table.badCount, maxNoted) || len(table.duplicates) > min(table.dupCount, maxNoted) {
		t.Errorf("%d of %d bad lines and %d of %d duplicates are noted",
			len(table.bad), table.badCount, len(table.duplicates), table.dupCount)
	}
}

func TestParseUsersRandomBytes(t *testing.T) {
	random := rand.New(rand.NewChaCha8([32]byte{8}))
	for i := range 200 { // F8
		b := make([]byte, random.IntN(4096))
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		table, err := parseUsers(string(b))
		checkTable(t, table)
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("%d: error of %d bytes", i, len(err.Error()))
		}
		for j := range table.entries {
			if table.entries[j].state == usable {
				t.Errorf("%d: a usable entry", i)
			}
		}
	}
}

// TestParseUsersMemory is about what a file that is within the size limit, but
// nearly empty, may cost: it has more lines than any file of users.
func TestParseUsersMemory(t *testing.T) {
	const size = 4 << 20
	for _, test := range []struct{ name, text string }{
		{"F7 blank lines", strings.Repeat("\n", size)},
		{"F7 comments", strings.Repeat("#\n", size/2)},
		{"F7 the same name again and again", strings.Repeat("a\n", size/2)},
	} {
		t.Run(test.name, func(t *testing.T) {
			var before, after memStats
			before.read()
			table, _ := parseUsers(test.text)
			after.read()
			if len(table.entries) > 1 {
				t.Errorf("%d entries", len(table.entries))
			}
			// A file of users takes less than five bytes of table for each of its own.
			if took := after.TotalAlloc - before.TotalAlloc; took > 5*size {
				t.Errorf("%d bytes of table for a file of %d without users", took, size)
			}
		})
	}
}

func TestFindingsAreCapped(t *testing.T) {
	logger, logs := observed()
	store := newUserStore("/f")
	var text strings.Builder
	text.WriteString("alice:" + shaSecret1 + "\n")
	for i := range 25 {
		fmt.Fprintf(&text, "bad%d:rubbish\nalice:%d\n", i, i) // F5
	}
	if err := store.load(text.String(), logger); err != nil {
		t.Fatal(err)
	}
	table := store.current.Load()
	if table.badCount != 25 || len(table.bad) != maxNoted || table.dupCount != 25 || len(table.duplicates) != maxNoted {
		t.Errorf("%d/%d bad lines and %d/%d duplicates", len(table.bad), table.badCount, len(table.duplicates), table.dupCount)
	}
	if first := table.bad[0]; first.line != 2 {
		t.Errorf("first bad line: %d", first.line)
	}
	bad := logs.FilterMessageSnippet("bad line skipped")
	dup := logs.FilterMessageSnippet("duplicate user")
	if bad.Len() != maxNoted || dup.Len() != maxNoted {
		t.Errorf("logged %d bad lines and %d duplicates", bad.Len(), dup.Len())
	}
	more := logs.FilterMessageSnippet("more lines").All()
	if len(more) != 1 || more[0].ContextMap()["bad_lines"] != int64(25) || more[0].ContextMap()["duplicates"] != int64(25) {
		t.Errorf("%v", more)
	}
	if entry := bad.All()[0].ContextMap(); entry["file"] != "/f" || entry["line"] != int64(2) || entry["reason"] == "" {
		t.Errorf("%v", entry)
	}
	if weak := logs.FilterMessageSnippet("weak password hashes").All(); len(weak) != 1 ||
		!maps.Equal(weak[0].ContextMap()["entries"].(map[string]int), map[string]int{"sha1": 1}) {
		t.Errorf("%v", weak)
	}
}

// TestWeakWarning changes a file again and again: the warning of weak hashes
// comes when there is something new to say.
func TestWeakWarning(t *testing.T) {
	const strong = "carl:$2y$04$bQ5GWxJ6bzCjZ3Ra1nSg9./FyxwgOMNCNm2YjVGyXwJdSrNYBZ0Su\n"
	store := newUserStore("/f")
	logger, logs := observed()
	for _, test := range []struct {
		name, text string
		entries    map[string]int // that a warning counts; nil: there is none
	}{
		{"the first load", "ann:" + shaSecret1 + "\n", map[string]int{"sha1": 1}},
		{"a user with a strong hash is added", "ann:" + shaSecret1 + "\n" + strong, nil},
		{"another user is the one with the weak hash", "bob:" + shaSecret1 + "\n" + strong, nil},
		{"one more weak hash", "ann:" + shaSecret1 + "\nbob:" + shaSecret1 + "\n", map[string]int{"sha1": 2}},
		{"another format", "ann:" + shaSecret1 + "\nbob:{PLAIN}secret1\n", map[string]int{"sha1": 1, "plain": 1}},
		{"an invalid version", "<html>\n", nil},
		{"the previous version with a comment", "# staff\nann:" + shaSecret1 + "\nbob:{PLAIN}secret1\n", nil},
		{"fewer", "ann:" + shaSecret1 + "\n", map[string]int{"sha1": 1}},
		{"none", strong, nil},
		{"one again", "ann:" + shaSecret1 + "\n" + strong, map[string]int{"sha1": 1}},
	} {
		_ = store.load(test.text, logger)
		var got map[string]int
		warnings := logs.FilterMessageSnippet("weak password hashes").TakeAll()
		if len(warnings) > 0 {
			got = warnings[0].ContextMap()["entries"].(map[string]int)
		}
		if logs.TakeAll(); len(warnings) > 1 || !maps.Equal(got, test.entries) {
			t.Errorf("%s: %d warnings, of %v, want %v", test.name, len(warnings), got, test.entries)
		}
	}
}

// TestNoHashIsLogged has hashes, and passwords, where people put them by
// mistake (R16).
func TestNoHashIsLogged(t *testing.T) {
	const (
		canary = "CANARY"
		salt   = "CANARYCANARYCANARYCANA"
		digest = "CANARYCANARYCANARYCANARYCANARYa"
		bcrypt = "$2y$04$" + salt + digest
	)
	hashes := []string{
		bcrypt, "$2y$04$" + salt, "$2y$31$" + salt + digest, "$2x$04$" + salt + digest, "$2y$04$" + salt + digest[1:] + "!",
		"$apr1$CANARYCA$CANARYCANARYCANARYCANA", "$apr1$CANARYCANARY$CANARY", "$1$CANARY$CANARY",
		"{SHA}CANARYCANARYCANARYCANARYCAN=", "{SHA}CANARY", "{SSHA}CANARY", "{CANARY}x", "$CANARY$x", "CANARY",
		"$5$rounds=1$CANARY$x", "$5$rounds=CANARY$CANARY$x", "$6$CANARY$CANARY", "!CANARY", "*CANARY",
	}
	for _, test := range []struct{ name, text string }{ // HASH stands for each of the hashes
		{"hash", "alice:HASH"},
		{"hash again", "alice:HASH\nalice:HASH"},
		{"comment", "alice:" + shaSecret1 + ":HASH"},
		{"no name", ":HASH\n:HASH"},
		{"no name and no colon, twice", "HASH\nHASH"},
		{"a comment, but no name, twice", "HASH:Alice\nHASH:Alice"},
		{"the line wrapped", "alice:\nHASH\nbob:\nHASH"},
		{"a blank for the colon, twice", "alice HASH\nalice HASH"},
		{"control character", "alice\tHASH\nali\x00ce:HASH"},
		{"too long", "alice:HASH" + strings.Repeat(":HASH", 2000)},
	} {
		t.Run("R16 "+test.name, func(t *testing.T) {
			for _, hash := range hashes {
				for _, also := range []string{"", "\nzoe:" + shaSecret1} { // a file that is bad, and one that isn't
					logger, logs := observed()
					err := newUserStore("/f").load(strings.ReplaceAll(test.text, "HASH", hash)+also, logger)
					if text := fmt.Sprint(err, "\n", logText(logs)); strings.Contains(text, canary) {
						t.Fatal(text)
					}
				}
			}
		})
	}
}

func TestFindAcrossFiles(t *testing.T) {
	first := storeOf(t, "alice:"+shaSecret1+"\nbob:!\ncarol:rubbish\ndave\n")
	second := storeOf(t, "alice:"+apr1Secret2+"\nbob:"+shaSecret1+"\ncarol:"+shaSecret1+"\ndave:"+shaSecret1+"\neve:"+shaSecret1)
	stores := userStores{first, second}
	m := &cachePolicy{now: clock}
	for _, test := range []struct {
		name, user, password string
		want                 result
	}{
		{"F4 the first file that names the user decides", "alice", "secret1", resultPassed},
		{"F4 the second one doesn't", "alice", "secret2", resultWrongPassword},
		{"F4 a locked line in the first file shadows the second", "bob", "secret1", resultDeniedUser},
		{"F4 a bad hash in the first file shadows the second", "carol", "secret1", resultDeniedUser},
		{"F4 a line without colon in the first file shadows the second", "dave", "secret1", resultDeniedUser},
		{"F4 who is only in the second file", "eve", "secret1", resultPassed},
		{"F4 nobody", "mallory", "secret1", resultUnknownUser},
		{"F9 the hash as the password", "alice", shaSecret1, resultWrongPassword},
		{"F9 the hash as the password, bad line", "carol", "rubbish", resultDeniedUser},
		{"F9 the lock mark as the password", "bob", "!", resultDeniedUser},
		{"F9 no password", "bob", "", resultDeniedUser},
		{"R8 another case", "Alice", "secret1", resultUnknownUser},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, user := checkIn(t, stores, test.user, test.password, m)
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if (user != "") != (test.want == resultPassed) || user != "" && user != test.user {
				t.Errorf("user %q", user)
			}
		})
	}
}

// TestHashAsPassword gives each user their own hash for a password.
func TestHashAsPassword(t *testing.T) {
	for _, hash := range []string{bcrypt4Secret1, apr1Secret1, shaSecret1, "!" + shaSecret1, "plain", "x", "*"} {
		stores := userStores{storeOf(t, "alice:"+hash+"\nbob:"+shaSecret1)}
		for _, password := range []string{hash, strings.TrimPrefix(hash, "!")} {
			if got, _ := checkIn(t, stores, "alice", password, &cachePolicy{now: clock}); got == resultPassed {
				t.Errorf("F9: %q is a good password for %q", password, hash)
			}
		}
	}
}

func TestLoadKeepsTheVersionBefore(t *testing.T) {
	logger, logs := observed()
	store := storeOf(t, "alice:"+shaSecret1)
	before := store.current.Load()
	for _, text := range []string{"<html>\n", "alice:rubbish", "\x00"} { // F8
		err := store.load(text, logger)
		if err == nil {
			t.Errorf("%q: no error", text)
		} else if strings.Contains(err.Error(), "rubbish") || strings.Contains(err.Error(), "html") {
			t.Errorf("%q: content of the file in %v", text, err)
		}
		if store.current.Load() != before {
			t.Fatalf("%q: the table is another", text)
		}
	}
	if logs.Len() > 0 {
		t.Error(logText(logs))
	}
	if err := store.load("", logger); err != nil || len(store.current.Load().entries) != 0 { // F1
		t.Error(err)
	}
	if logs.FilterMessageSnippet("names no user").Len() != 1 {
		t.Error(logText(logs))
	}
}

func TestParseGroups(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       string
		bad        int
		problem    string
	}{
		{name: "empty", text: ""},
		{name: "comments", text: "\uFEFF# x\r\n\n"},
		{name: "one", text: "admins: alice bob", want: "alice=admins bob=admins"},
		{name: "no blank, more blanks, CRLF", text: "\uFEFF admins :alice\t bob \r\n", want: "alice=admins bob=admins"},
		{name: "several lines, sorted and once each", text: "z: alice\na: alice bob alice\nz: bob alice\n", want: "alice=a,z bob=a,z"},
		{name: "no members", text: "admins:\n"},
		{name: "colons in names of users", text: "admins: a:b", want: "a:b=admins"},
		{name: "commas do not part users", text: "admins: alice,bob", want: "alice,bob=admins"},
		{name: "bad lines", text: "admins\n: alice\na b: alice\na,b: alice\na\tb: alice\na\x00b: alice\nok: alice", want: "alice=ok", bad: 6},
		{name: "none good", text: "admins alice\n", problem: "none of its 1 lines is a valid group: user user ... line; line 1: no colon"},
		{name: "an htpasswd file has no users in common", text: "alice:" + shaSecret1, want: shaSecret1 + "=alice"},
		{name: "R8 a no-break space is part of a name", text: "admins: al\u00a0ice al\u2003ice", want: "al\u00a0ice=admins al\u2003ice=admins"},
		{name: "R8 not UTF-8", text: "admins: \xe9 \xa0x", want: "\xa0x=admins \xe9=admins"},
	} {
		t.Run(test.name, func(t *testing.T) {
			table, err := parseGroups(test.text)
			if refused(t, err, test.problem) {
				return
			}
			var all []string
			for _, user := range slices.Sorted(maps.Keys(table.groups)) {
				all = append(all, user+"="+strings.Join(table.groups[user], ","))
			}
			if got := strings.Join(all, " "); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			if table.badCount != test.bad {
				t.Errorf("%d bad lines, want %d", table.badCount, test.bad)
			}
		})
	}
}

func TestGroupsOfSeveralFiles(t *testing.T) {
	files := func(texts ...string) (all groupStores) {
		for _, text := range texts {
			store := newGroupStore("/g")
			if err := store.load(text, zap.NewNop()); err != nil {
				t.Fatal(err)
			}
			all = append(all, store)
		}
		return all
	}
	for _, test := range []struct {
		name  string
		files groupStores
		want  []string
	}{
		{"no file", nil, nil},
		{"in none", files("a: bob"), nil},
		{"in one", files("b: alice\na: alice"), []string{"a", "b"}},
		{"in several, sorted and once each", files("m: alice\nz: alice", "a: alice\nz: alice", "b: alice"), []string{"a", "b", "m", "z"}},
		{"only in the last", files("a: bob", "", "b: alice"), []string{"b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // the tables are as before
				if got := test.files.of("alice"); !slices.Equal(got, test.want) {
					t.Errorf("got %q, want %q", got, test.want)
				}
			}
		})
	}
	shared := files("a: alice\nb: alice\nc: alice", "d: alice")
	first, second := shared.of("alice"), groupStores{shared[0], files("e: alice")[0]}.of("alice")
	if !slices.Equal(first, []string{"a", "b", "c", "d"}) || !slices.Equal(second, []string{"a", "b", "c", "e"}) {
		t.Errorf("handlers write into each other's groups: %q %q", first, second)
	}
}

func TestGroupsKeepTheVersionBefore(t *testing.T) {
	store := newGroupStore("/g")
	logger, logs := observed()
	if err := store.load("admins: alice\nrubbish CANARY", logger); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(logText(logs), "CANARY") || logs.FilterMessageSnippet("bad line").Len() != 1 {
		t.Error(logText(logs))
	}
	if err := store.load("<html>", logger); err == nil || strings.Contains(err.Error(), "html") { // F8
		t.Error(err)
	}
	if got := (groupStores{store}).of("alice"); !slices.Equal(got, []string{"admins"}) {
		t.Error(got)
	}
}

func FuzzParseUsers(f *testing.F) {
	for _, text := range []string{
		"", "\n", "\uFEFF", "# comment\n", ":", "::", "alice", "alice:", "alice:x", "alice:!" + shaSecret1, "alice:" + shaSecret1,
		"\uFEFFalice:" + shaSecret1 + "\r\nbob:" + apr1Secret1 + ":comment\r\n\r\n# x\r\nalice:*",
		"a:" + bcrypt4Secret1 + "\nb:" + bcrypt5Secret2 + "\nc:" + shaSecret1 + "\nd:plain\ne\n:f",
		"\xff\xfea\x00:\x00!\x00\n\x00", "<html>\n<p>a: b</p>", "\x00\n\x00:\x00", strings.Repeat("a", 256) + ":" + shaSecret1,
		"a:$5$rounds=1000$salt$x\nb:$6$rounds=999999999$salt$x\na:" + shaSecret1,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		table, err := parseUsers(text)
		checkTable(t, table)
		again, err2 := parseUsers(text)
		if fmt.Sprint(err) != fmt.Sprint(err2) || table.states() != again.states() || !slices.Equal(table.bad, again.bad) ||
			!slices.Equal(table.duplicates, again.duplicates) || !slices.Equal(table.classes, again.classes) {
			t.Error("parsed again, the table is another")
		}
		if err != nil && len(table.classes) > 0 {
			t.Error("refused, though somebody could log in")
		}
		if err == nil && table.badCount > 0 && table.good == 0 {
			t.Error("accepted, though no line is good")
		}
		if err != nil && len(err.Error()) > 200 {
			t.Error("long error:", err)
		}
		logger, _ := observed()
		store := newUserStore("/f")
		if store.load(text, logger) != nil {
			return
		}
		for _, c := range table.classes {
			if c.Format.Name != "sha1" && c.Format.Name != "apr1" {
				return // too slow for a fuzzer
			}
		}
		for i := range table.entries[:min(8, len(table.entries))] {
			e := &table.entries[i]
			for _, password := range []string{"", e.hash, strings.TrimLeft(e.hash, "!*")} {
				if hasControl(password) || len(password) > crypt.MaxPasswordLen {
					continue
				}
				got, _ := checkIn(t, userStores{store}, e.user, password, &cachePolicy{now: clock})
				if e.state != usable && got != resultDeniedUser {
					t.Errorf("%q, not usable: %v", e.user, got)
				}
				if got == resultPassed && password != "" { // the hash of its own text is not what a fuzzer finds
					t.Errorf("%q gets in with %q", e.user, password)
				}
			}
		}
	})
}

func FuzzParseGroups(f *testing.F) {
	for _, text := range []string{"", "a: b", "a:b c\nb: c\na: c c\n", "\uFEFF a : b\r\n", ":", "a", "a b: c", "# x\n", "\x00: \x00", "a: \u00a0 \xa0"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		table, err := parseGroups(text)
		again, _ := parseGroups(text)
		if !maps.EqualFunc(table.groups, again.groups, slices.Equal) {
			t.Error("parsed again, the table is another")
		}
		if (err != nil) != (table.good == 0 && table.badCount > 0) {
			t.Errorf("%d good and %d bad lines: %v", table.good, table.badCount, err)
		}
		for user, groups := range table.groups {
			if user == "" || strings.ContainsAny(user, blanks+"\n") || len(groups) == 0 || !strings.Contains(text, user) {
				t.Errorf("%q is in %q", user, groups)
			}
			for i, g := range groups {
				if g == "" || strings.ContainsAny(g, " ,:") || hasControl(g) || i > 0 && g <= groups[i-1] {
					t.Errorf("%q is in %q", user, groups)
				}
			}
		}
	})
}

// memStats are figures of the memory of this process.
type memStats struct{ runtime.MemStats }

func (m *memStats) read() { runtime.ReadMemStats(&m.MemStats) }

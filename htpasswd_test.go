package caddyhtpasswd

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
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
	phcEnd          = "c2FsdHNhbHQ$AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA"      // a salt and digest of no password
	digest43        = "japDxBfHcSVGcyn00bW518Ndv09CHo6WdVnm01mosE2"                  // of 32 bytes, for crypt(3)
	apr1ShortSalt   = "$apr1$salt$Qzr9EOCUO3GZGBqZVAbKi."                            // of no password
	shaSecret1      = "{SHA}AMr9EmGC6KnnwBuy8N/QBJa+ck8="                            // htpasswd -nbs alice secret1
)

// observed returns a logger for every level, and the logs that it writes.
func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	return zap.New(core), logs
}

// logText returns the text of all log entries, including fields.
func logText(logs *observer.ObservedLogs) string {
	var text strings.Builder
	for _, e := range logs.All() {
		fmt.Fprintln(&text, e.Level, e.Message, e.ContextMap())
	}
	return text.String()
}

func TestLoggedFindingsAreCapped(t *testing.T) {
	t.Parallel()
	logger, logs := observed()
	store := newUserStore("/f")
	var text strings.Builder
	text.WriteString("alice:" + shaSecret1 + "\n")
	for i := range 25 {
		fmt.Fprintf(&text, "bad%d:rubbish\nalice:%d\n", i, i)
	}
	if err := store.load(text.String(), logger); err != nil {
		t.Fatal(err)
	}
	table := store.current.Load().file
	if table.InvalidCount != 25 || len(table.Invalid) != htfile.MaxFindings || table.DuplicateCount != 25 || len(table.Duplicates) != htfile.MaxFindings {
		t.Errorf("got %d/%d invalid lines and %d/%d duplicates, want %d/25 of each",
			len(table.Invalid), table.InvalidCount, len(table.Duplicates), table.DuplicateCount, htfile.MaxFindings)
	}
	if first := table.Invalid[0]; first.Line != 2 {
		t.Errorf("got line %d as the first invalid one, want 2", first.Line)
	}
	bad := logs.FilterMessageSnippet("invalid line skipped")
	dup := logs.FilterMessageSnippet("duplicate user")
	if bad.Len() != htfile.MaxFindings || dup.Len() != htfile.MaxFindings {
		t.Errorf("got %d invalid lines and %d duplicates in the log, want %d of each", bad.Len(), dup.Len(), htfile.MaxFindings)
	}
	more := logs.FilterMessageSnippet("more invalid or duplicate lines").All()
	if len(more) != 1 || more[0].ContextMap()["invalid_lines"] != int64(25) || more[0].ContextMap()["duplicates"] != int64(25) {
		t.Errorf("got %v, want one line that counts 25 invalid lines and 25 duplicates", more)
	}
	if entry := bad.All()[0].ContextMap(); entry["file"] != "/f" || entry["line"] != int64(2) || entry["reason"] == "" {
		t.Errorf("got %v, want file /f, line 2 and a reason", entry)
	}
	if weak := logs.FilterMessageSnippet("weak password hashes").All(); len(weak) != 1 ||
		!maps.Equal(weak[0].ContextMap()["entries"].(map[string]int), map[string]int{"sha1": 1}) {
		t.Errorf("got %v, want one warning that counts 1 of sha1", weak)
	}
}

// TestWeakWarning changes a file several times. The warning about weak hashes is logged
// only when the number of users with a weak hash changes.
func TestWeakWarning(t *testing.T) {
	t.Parallel()
	const strong = "carl:$2y$04$bQ5GWxJ6bzCjZ3Ra1nSg9./FyxwgOMNCNm2YjVGyXwJdSrNYBZ0Su\n"
	store := newUserStore("/f")
	logger, logs := observed()
	for _, test := range []struct {
		name, text string
		entries    map[string]int // in the warning; nil for no warning
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

// TestNoHashIsLogged has hashes and passwords in places where users put them by mistake.
func TestNoHashIsLogged(t *testing.T) {
	t.Parallel()
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
		{"a space for the colon, twice", "alice HASH\nalice HASH"},
		{"control character", "alice\tHASH\nali\x00ce:HASH"},
		{"too long", "alice:HASH" + strings.Repeat(":HASH", 2000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, hash := range hashes {
				for _, also := range []string{"", "\nzoe:" + shaSecret1} { // a file that cannot be loaded, and one that can
					logger, logs := observed()
					err := newUserStore("/f").load(strings.ReplaceAll(test.text, "HASH", hash)+also, logger)
					if text := fmt.Sprint(err, "\n", logText(logs)); strings.Contains(text, canary) {
						t.Fatalf("got %q with part of a hash, want none", text)
					}
				}
			}
		})
	}
}

func TestFindAcrossFiles(t *testing.T) {
	t.Parallel()
	first := storeOf(t, "alice:"+shaSecret1+"\nbob:!\ncarol:rubbish\ndave\n")
	second := storeOf(t, "alice:"+apr1Secret2+"\nbob:"+shaSecret1+"\ncarol:"+shaSecret1+"\ndave:"+shaSecret1+"\neve:"+shaSecret1)
	stores := userStores{first, second}
	m := &cachePolicy{now: clock}
	for _, test := range []struct {
		name, user, password string
		want                 result
	}{
		{"the first file with the user takes precedence", "alice", "secret1", resultPassed},
		{"the second file does not", "alice", "secret2", resultWrongPassword},
		{"a locked line in the first file shadows the second", "bob", "secret1", resultLockedUser},
		{"an invalid hash in the first file shadows the second", "carol", "secret1", resultInvalidLine},
		{"a line without colon in the first file shadows the second", "dave", "secret1", resultInvalidLine},
		{"a user only in the second file", "eve", "secret1", resultPassed},
		{"an unknown user", "mallory", "secret1", resultUnknownUser},
		{"the hash as the password", "alice", shaSecret1, resultWrongPassword},
		{"the hash as the password, invalid line", "carol", "rubbish", resultInvalidLine},
		{"the lock mark as the password", "bob", "!", resultLockedUser},
		{"no password", "bob", "", resultLockedUser},
		{"another letter case", "Alice", "secret1", resultUnknownUser},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, user := checkLogin(t, stores, test.user, test.password, m)
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if (user != "") != (test.want == resultPassed) || user != "" && user != test.user {
				t.Errorf("got user %q, want %q if the password is right, else none", user, test.user)
			}
		})
	}
}

// TestHashAsPassword sends the hash of each user as the password.
func TestHashAsPassword(t *testing.T) {
	t.Parallel()
	for _, hash := range []string{bcrypt4Secret1, apr1Secret1, shaSecret1, "!" + shaSecret1, "plain", "x", "*"} {
		stores := userStores{storeOf(t, "alice:"+hash+"\nbob:"+shaSecret1)}
		for _, password := range []string{hash, strings.TrimPrefix(hash, "!")} {
			if got, _ := checkLogin(t, stores, "alice", password, &cachePolicy{now: clock}); got == resultPassed {
				t.Errorf("password %q for hash %q: got %v, want another", password, hash, got)
			}
		}
	}
}

func TestLoadKeepsThePreviousVersion(t *testing.T) {
	t.Parallel()
	logger, logs := observed()
	store := storeOf(t, "alice:"+shaSecret1)
	before := store.current.Load()
	for _, text := range []string{"<html>\n", "alice:rubbish", "\x00"} {
		err := store.load(text, logger)
		if err == nil {
			t.Errorf("%q: got no error, want one", text)
		} else if strings.Contains(err.Error(), "rubbish") || strings.Contains(err.Error(), "html") {
			t.Errorf("%q: got error %q, want nothing of the file in it", text, err)
		}
		if store.current.Load() != before {
			t.Fatalf("%q: got another table, want the previous one", text)
		}
	}
	if logs.Len() > 0 {
		t.Errorf("got the log\n%s\nwant nothing", logText(logs))
	}
	if err := store.load("", logger); err != nil || len(store.current.Load().file.All) != 0 {
		t.Error(err)
	}
	if logs.FilterMessageSnippet("contains no users").Len() != 1 {
		t.Errorf("got the log\n%s\nwant one line that the file contains no users", logText(logs))
	}
}

func TestGroupsOfSeveralFiles(t *testing.T) {
	t.Parallel()
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
			for range 2 { // the second time with the same tables
				if got := test.files.of("alice"); !slices.Equal(got, test.want) {
					t.Errorf("got %q, want %q", got, test.want)
				}
			}
		})
	}
	shared := files("a: alice\nb: alice\nc: alice", "d: alice")
	first, second := shared.of("alice"), groupStores{shared[0], files("e: alice")[0]}.of("alice")
	if !slices.Equal(first, []string{"a", "b", "c", "d"}) || !slices.Equal(second, []string{"a", "b", "c", "e"}) {
		t.Errorf("got groups %q and %q, want a to d, and a, b, c, e: handlers write into each other's", first, second)
	}
}

func TestGroupsKeepThePreviousVersion(t *testing.T) {
	t.Parallel()
	store := newGroupStore("/g")
	logger, logs := observed()
	if err := store.load("admins: alice\nrubbish CANARY", logger); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(logText(logs), "CANARY") || logs.FilterMessageSnippet("invalid group line").Len() != 1 {
		t.Errorf("got the log\n%s\nwant one invalid line, without its content", logText(logs))
	}
	if err := store.load("<html>", logger); err == nil || strings.Contains(err.Error(), "html") {
		t.Error(err)
	}
	if got := (groupStores{store}).of("alice"); !slices.Equal(got, []string{"admins"}) {
		t.Errorf("got groups %q, want those of the previous version: admins", got)
	}
}

// FuzzUsersLogIn checks for any file that nothing is cached at first, and that no text in
// the file is a password.
func FuzzUsersLogIn(f *testing.F) {
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
		logger, _ := observed()
		store := newUserStore("/f")
		if store.load(text, logger) != nil {
			return
		}
		table := store.current.Load()
		if len(table.memories) != len(table.file.All) {
			t.Errorf("got %d memories, want one for each of %d users", len(table.memories), len(table.file.All))
		}
		for i := range table.memories {
			if m := &table.memories[i]; m.verified.Load() != nil || m.clients.Load() != nil {
				t.Errorf("%q: got a verified password or clients from the start, want none", table.file.All[i].Name)
			}
		}
		for _, c := range table.file.Classes {
			if c.Format.Name != "sha1" && c.Format.Name != "apr1" {
				return // too slow for a fuzzer
			}
		}
		for i := range table.file.All[:min(8, len(table.file.All))] {
			e := &table.file.All[i]
			for _, password := range []string{"", e.Hash, strings.TrimLeft(e.Hash, "!*")} {
				if htfile.HasControl(password) || len(password) > crypt.MaxPasswordLen {
					continue
				}
				got, _ := checkLogin(t, userStores{store}, e.Name, password, &cachePolicy{now: clock})
				if want := map[htfile.State]result{htfile.StateLocked: resultLockedUser, htfile.StateInvalid: resultInvalidLine}[e.State]; e.State != htfile.StateUsable && got != want {
					t.Errorf("%q, not usable: got %v, want %v", e.Name, got, want)
				}
				if got == resultPassed && password != "" { // a fuzzer finds no hash of its own text
					t.Errorf("%q with password %q: got in, want a refusal", e.Name, password)
				}
			}
		}
	})
}

// memStats are figures of the memory of this process.
type memStats struct{ runtime.MemStats }

func (m *memStats) read() { runtime.ReadMemStats(&m.MemStats) }

package caddyhtpasswd

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/rendezvous"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

// testKey is the key for the choice of decoys in tests.
var testKey = keyring.Secret("0123456789abcdef0123456789abcdef").Subkey(keyring.DecoysPurpose)

// fileOf returns a file with a number of users for each of these hashes.
func fileOf(counts map[string]int) string {
	var text strings.Builder
	n := 0
	for _, hash := range []string{bcrypt4Secret1, bcrypt5Secret2, apr1Secret1, apr1ShortSalt, shaSecret1} {
		for range counts[hash] {
			fmt.Fprintf(&text, "user%d:%s\n", n, hash)
			n++
		}
	}
	return text.String()
}

func TestDecoys(t *testing.T) {
	t.Parallel()
	const names = 10_000
	for _, test := range []struct {
		name  string
		files []map[string]int
	}{
		{"one class", []map[string]int{{shaSecret1: 3}}},
		{"two classes with as many users", []map[string]int{{bcrypt4Secret1: 1, shaSecret1: 1}}},
		{"the cost is part of the class", []map[string]int{{bcrypt4Secret1: 30, bcrypt5Secret2: 10}}},
		{"four classes", []map[string]int{{bcrypt4Secret1: 70, bcrypt5Secret2: 20, apr1Secret1: 9, shaSecret1: 1}}},
		{"the length of the salt is part of the class", []map[string]int{{apr1Secret1: 30, apr1ShortSalt: 10}}},
		{"two files", []map[string]int{{bcrypt4Secret1: 50, shaSecret1: 10}, {shaSecret1: 40}}},
		{"an empty file among others", []map[string]int{{}, {bcrypt4Secret1: 3, apr1Secret1: 1}, {}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stores userStores
			wants, total := map[string]float64{}, 0.0
			for i, counts := range test.files {
				s := newUserStore(fmt.Sprintf("/decoys/%d", i))
				reloadStore(t, s, fileOf(counts))
				stores = append(stores, s)
				for hash, n := range counts {
					wants[fmt.Sprint(i, hash)] += float64(n)
					total += float64(n)
				}
			}
			got := map[string]float64{}
			for i := range names {
				f := stores.decoy(testKey, fmt.Appendf(nil, "name%d", i))
				if !f.entry.exists() || f.entry.State != htfile.StateUsable {
					t.Fatalf("name%d: got no decoy, want one", i)
				}
				for j := range stores {
					if stores[j] == f.store {
						got[fmt.Sprint(j, f.entry.Hash)]++
					}
				}
			}
			for class, n := range wants {
				p := n / total
				tolerance := 6*math.Sqrt(names*p*(1-p)) + 1 // six standard deviations
				if math.Abs(got[class]-names*p) > tolerance {
					t.Errorf("%s: got %.0f of %d names, want %.0f +- %.0f", class, got[class], names, names*p, tolerance)
				}
			}
			if len(got) != len(wants) {
				t.Errorf("classes: got %v, want %v", got, wants)
			}
		})
	}
}

// TestDecoysArePinned has decoys on which servers of all versions must agree.
func TestDecoysArePinned(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"a few classes", fileOf(map[string]int{bcrypt4Secret1: 3, apr1Secret1: 2, shaSecret1: 1}), "bcrypt04 bcrypt04 bcrypt04 apr1 apr1 apr1 bcrypt04 apr1"},
		{"many classes", fileOfClasses(slices.Repeat([]int{1, 2}, 500)), "sha256crypt1381 sha256crypt1483 sha256crypt1065 sha256crypt1233 sha256crypt1426 sha256crypt1243 sha256crypt1701 sha256crypt1429"},
	} {
		s := newUserStore("/decoys")
		s.name.add("users")
		reloadStore(t, s, test.text)
		var got []string
		for i := range 8 {
			class := userStores{s}.decoy(testKey, fmt.Appendf(nil, "name%d", i)).class()
			got = append(got, class.Format.Name+class.Cost)
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("%s: got  %s\nwant %s", test.name, got, test.want)
		}
	}
}

// TestManyDecoyClasses has far more classes than are compared one by one, some with many
// entries and most with few. Names are distributed over all classes like entries.
func TestManyDecoyClasses(t *testing.T) {
	t.Parallel()
	const names = 40_000
	for _, test := range []struct {
		name  string
		count func(class int) int
	}{
		{"all classes are rare", func(int) int { return 1 }},
		{"a few classes have most entries", func(class int) int { return 1 + 1000/(1+class) }},
		{"as many entries in common classes as in rare ones", func(class int) int {
			if class < rendezvous.MaxCommon {
				return 10
			}
			return 1
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var counts []int
			for class := range 10 * rendezvous.MaxCommon {
				counts = append(counts, test.count(class))
			}
			stores := userStores{storeOf(t, fileOfClasses(counts))}
			table := stores[0].current.Load()
			if n := len(table.file.Classes); n != len(counts) {
				t.Fatalf("got %d classes, want %d", n, len(counts))
			}
			got := make([]int, len(counts))
			for i := range names {
				f := stores.decoy(testKey, fmt.Appendf(nil, "name%d", i))
				if !f.entry.exists() {
					t.Fatalf("name%d: got no decoy, want one", i)
				}
				got[f.entry.Class]++
			}
			// Pearson's statistic, which is nearly normal with so many classes.
			var statistic float64
			for class, n := range counts {
				want := names * float64(n) / float64(len(table.file.All))
				statistic += (float64(got[class]) - want) * (float64(got[class]) - want) / want
			}
			freedom := float64(len(counts) - 1)
			if math.Abs(statistic-freedom) > 6*math.Sqrt(2*freedom) {
				t.Errorf("Pearson's statistic: got %.0f, want %.0f +- %.0f", statistic, freedom, 6*math.Sqrt(2*freedom))
			}
		})
	}
}

// fileOfClasses returns a file with the given number of entries for each class.
func fileOfClasses(counts []int) string {
	var text strings.Builder
	for class, n := range counts {
		for i := range n {
			fmt.Fprintf(&text, "user%d-%d:$5$rounds=%d$s$%s\n", class, i, 1000+class, digest43)
		}
	}
	return text.String()
}

// TestDecoyStays edits files. Most unknown names keep their decoy, so that the time of a
// login does not reveal them.
func TestDecoyStays(t *testing.T) {
	t.Parallel()
	const names = 10_000
	decoys := func(text string) []string {
		s := newUserStore("/decoys") // a new store each time, as after a restart
		reloadStore(t, s, text)
		all := make([]string, names)
		for i := range all {
			f := userStores{s}.decoy(testKey, fmt.Appendf(nil, "name%d", i))
			if f.entry.exists() {
				all[i] = f.class().Format.Name + f.class().Cost
			}
		}
		return all
	}
	counts := map[string]int{bcrypt4Secret1: 60, apr1Secret1: 30, shaSecret1: 10}
	many := fileOfClasses(slices.Repeat([]int{1, 2, 3}, 3*rendezvous.MaxCommon))
	for _, test := range []struct {
		name string
		old  string
		text string
		most int    // how many names may move
		to   string // the only class to which they may move
	}{
		{"the same file", fileOf(counts), fileOf(counts), 0, ""},
		{"the lines in another order", fileOf(counts), reversedLines(fileOf(counts)), 0, ""},
		{"invalid and locked lines", fileOf(counts), "a:!\nb:rubbish\n" + fileOf(counts), 0, ""},
		{"one user more", fileOf(counts), fileOf(counts) + "new:" + shaSecret1, names * 3 / 100, "sha1"},
		{"one user more, of a new class", fileOf(counts), fileOf(counts) + "new:" + bcrypt5Secret2, names * 3 / 100, "bcrypt05"},
		{"many classes, the lines in another order", many, reversedLines(many), 0, ""},
		{"many classes, one more", many, many + "new:" + shaSecret1, names * 3 / 100, ""},
		{"many classes, one less", many[strings.IndexByte(many, '\n')+1:], many, names * 3 / 100, ""},
		{"one class too many to weigh each", fileOfClasses(slices.Repeat([]int{1}, rendezvous.MaxCommon)),
			fileOfClasses(slices.Repeat([]int{1}, rendezvous.MaxCommon+1)), names * 5 / 100, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			moved, before := 0, decoys(test.old)
			for i, class := range decoys(test.text) {
				if class != before[i] {
					moved++
					if class != test.to && test.to != "" {
						t.Errorf("name%d moved from %q: got %q, want %q", i, before[i], class, test.to)
					}
				}
			}
			if moved > test.most || test.most > 0 && moved == 0 {
				t.Errorf("got %d names that moved, want at most %d, and some unless that is 0", moved, test.most)
			}
		})
	}
}

// reversedLines returns a text with its last line first.
func reversedLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, j := 0, len(lines)-1; i < j; i, j = i+1, j-1 {
		lines[i], lines[j] = lines[j], lines[i]
	}
	return strings.Join(lines, "\n")
}

// TestSameAnswer checks that known, unknown, locked and invalid users with a wrong
// password need one hash and get the same answer.
func TestSameAnswer(t *testing.T) {
	s := startSite(t, nil, map[string]string{"users": alice + "bad:nonsense\n" + locked1}, httpsSite(`
	handle_errors {
		respond "{err.status_code} {err.status_text} {err.message} {err.trace} {http.auth.user.id}"
	}
	htpasswd {
		file {dir}/users
	}
	respond ok`))
	for version, client := range s.clients() {
		var first answer
		for _, row := range []struct{ name, user string }{
			{"known user", "alice"}, {"unknown user", "nobody"}, {"locked user", "mallory"}, {"user of an invalid line", "bad"}, {"empty user", ""},
			{"user name of 255 bytes", strings.Repeat("u", 255)},
		} {
			t.Run(row.name+", "+version, func(t *testing.T) {
				var a answer
				if computed := hashes(func() { a = s.in(t, client).send("/", authorization(basic(row.user, "wrong by "+version))) }); computed != 1 {
					t.Errorf("got %d hashes, want 1", computed)
				}
				checkStatus(t, a, 401, restricted)
				a.header.Del("Date")
				if first.header == nil {
					first = a
				}
				if a.body != first.body || !maps.EqualFunc(a.header, first.header, slices.Equal) {
					t.Errorf("got %+v, want what a known user gets: %+v", a, first)
				}
				if strings.Contains(a.body, row.user) && row.user != "" {
					t.Errorf("got %q, want no user in it", a.body)
				}
			})
		}
	}
	t.Run("one hash for the right password, then none", func(t *testing.T) {
		s := s.in(t)
		if n := hashes(func() { checkStatus(t, s.get("/", "alice", "secret"), 200, "") }); n != 1 {
			t.Errorf("got %d hashes, want 1", n)
		}
		if n := hashes(func() { checkStatus(t, s.get("/", "alice", "secret"), 200, "") }); n != 0 {
			t.Errorf("got %d hashes, want none", n)
		}
	})
}

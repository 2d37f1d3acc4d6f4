package devicecookie

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// texts returns the candidates as a text.
func texts(c *Candidates) string { return strings.Join(c.texts[:c.n], " ") }

func TestCandidates(t *testing.T) {
	t.Parallel()
	a, b, c := token(keysA, alice, 1), token(keysA, bob, 2), token(keysB, alice, 3)
	long, short := strings.Repeat("l", MaxTextLen), strings.Repeat("s", MinTextLen)
	for _, row := range []struct {
		name, want string
		fields     []string
	}{
		{"no field", "", nil},
		{"an empty field", "", []string{""}},
		{"alone", a, []string{name + "=" + a}},
		{"two tokens", a + " " + b, []string{name + "=" + a + "." + b}},
		{"first of three", a, []string{name + "=" + a + "; x=y; z=1"}},
		{"second of three", a, []string{"x=y; " + name + "=" + a + "; z=1"}},
		{"last of three", a, []string{"x=y; z=1; " + name + "=" + a}},
		{"odd whitespace", a, []string{" x=y;\t " + name + "= " + a + "\t ;z=1"}},
		{"no whitespace", a, []string{"x=y;" + name + "=" + a + ";z=1"}},
		{"twice in a field", a + " " + b, []string{name + "=" + a + "; " + name + "=" + b}},
		{"two fields", a + " " + b, []string{name + "=" + a, name + "=" + b}},
		{"crumbs of HTTP/2", a, []string{"x=y", name + "=" + a, "z=1"}},
		{"in upper case", "", []string{strings.ToUpper(name) + "=" + a}},
		{"in lower case", "", []string{strings.ToLower(name) + "=" + a}},
		{"a name that ends so", "", []string{"x" + name + "=" + a}},
		{"a name that begins so", "", []string{name + "x=" + a}},
		{"whitespace after the name", "", []string{name + " =" + a}},
		{"another name before it", "", []string{"x " + name + "=" + a}},
		{"in a value", "", []string{"x=" + name + "=" + a}},
		{"in a value in quotation marks", a, []string{`x="; ` + name + "=" + a + `; "`}},
		{"no value", "", []string{name + "=; x=y"}},
		{"no equals sign", "", []string{name + "; x=y"}},
		{"only a name", "", []string{name}},
		{"the name twice", "", []string{name + name + "=" + a}},
		{"the name as its value", a, []string{name + "=" + name + "; " + name + "=" + a}},
		{"too short", "", []string{name + "=" + short[1:]}},
		{"as short as allowed", short, []string{name + "=" + short}},
		{"as long as allowed", long, []string{name + "=" + long}},
		{"too long", "", []string{name + "=" + long + "l"}},
		{"four as long as allowed", strings.Repeat(" "+long, 4)[1:], []string{name + "=" + strings.Repeat("."+long, 4)[1:]}},
		{"too long by a period", "", []string{name + "=" + strings.Repeat(long+".", 4)}},
		{"other characters for the underscores", "", []string{"xyHost-htpasswd-device=" + a + "; x_Host-htpasswd-device=" + a}},
		{"fewer underscores", "", []string{"Host-htpasswd-device=" + a + ";_Host-htpasswd-device=" + a, "_" + name[2:] + "=" + a}},
		{"more underscores", "", []string{"_" + name + "=" + a + ";_____" + name + "=" + a}},
		{"too long altogether", c, []string{name + "=" + strings.Repeat("."+long, 5)[1:], name + "=" + c}},
		{"8 kB", c, []string{name + "=" + strings.Repeat("x", 8192) + "; " + name + "=" + c}},
		{"empty texts", a + " " + b, []string{name + "=." + a + ".." + b + "."}},
		{"eight", strings.Repeat(" "+a, 8)[1:], []string{name + "=" + strings.Repeat("."+a, 4)[1:], name + "=" + strings.Repeat("."+a, 4)[1:]}},
		{"a hundred of the name", strings.Repeat(" "+a, 8)[1:], []string{strings.Repeat(name+"="+a+"; ", 100)}},
		{"a hundred empty ones before it", "", []string{strings.Repeat(name+"=; ", 100) + name + "=" + a}},
		{"a hundred periods before it", "", []string{name + "=" + strings.Repeat(".", 100) + a}},
		{"not ASCII", "", []string{name + "=\xff\x00ä; " + name + "\x00=" + a}},
	} {
		got, _ := Take(http.Header{"Cookie": row.fields}, name)
		if texts(&got) != row.want || got.Len() != len(strings.Fields(row.want)) {
			t.Errorf("%s: got  %s\nwant %s", row.name, texts(&got), row.want)
		}
	}
}

// TestIssueKeeps has a row for each rule about the other tokens of a cookie.
func TestIssueKeeps(t *testing.T) {
	t.Parallel()
	carol, dave, erin := &Owner{User: []byte("carol")}, &Owner{User: []byte("dave")}, &Owner{User: []byte("erin")}
	a, a2, b, c, d, e := token(keysA, alice, 1), token(keysA, alice, 2), token(keysA, bob, 3), token(keysA, carol, 4), token(keysA, dave, 5), token(keysA, erin, 6)
	elsewhere := token(keysA, &Owner{User: alice.User, Hash: "other"}, 7) // another realm, or before a password change
	elsewhere2 := token(keysA, &Owner{User: alice.User, Hash: "another"}, 8)
	later := "Ag" + strings.Repeat("-_", 40) // of a later version
	rehashed := &Owner{User: alice.User, Hash: "new", Previous: []string{alice.Hash}}
	for _, row := range []struct {
		name, before string
		keys         *Keys
		owner        *Owner
		others       string
	}{
		{"the first", "", keysA, alice, ""},
		{"a second user", b, keysA, alice, b},
		{"order of the others", d + "." + b + "." + c, keysA, alice, d + "." + b + "." + c},
		{"a fifth user", e + "." + d + "." + c + "." + b, keysA, alice, e + "." + d + "." + c},
		{"eight tokens", e + "." + d + "." + c + "." + b + ".x.x.x." + later, keysA, alice, e + "." + d + "." + c},
		{"the owner's old one", a, keysA, alice, ""},
		{"the owner's old ones", a + "." + b + "." + a2, keysA, alice, b},
		{"the owner's old one, expired", token(keysA, alice, 9), keysA, alice, ""},
		{"four, one of them the owner's", a + "." + b + "." + c + "." + d, keysA, alice, b + "." + c + "." + d},
		{"the owner's, of the old secret", a + "." + b, keysBA, alice, b},
		{"the owner's, of a secret that is gone", a + "." + b, keysB, alice, a + "." + b},
		{"the owner's, bound to a previous hash", a + "." + b, keysA, rehashed, b},
		{"the same user name in another realm", elsewhere + "." + b, keysA, alice, elsewhere + "." + b},
		{"first displaced: of the same user name", elsewhere + "." + b + "." + c + "." + d, keysA, alice, b + "." + c + "." + d},
		{"first displaced: the last of the same user name", elsewhere + "." + b + "." + elsewhere2 + "." + d, keysA, alice, elsewhere + "." + b + "." + d},
		{"a later version", later + "." + b, keysA, alice, later + "." + b},
		{"malformed", "x." + strings.Repeat("%", textLen) + "." + strings.Repeat("=", textLen) + "." + b, keysA, alice, b},
		{"characters that a cookie cannot have", strings.Repeat("ä", textLen/2) + "." + strings.Repeat(",", textLen), keysA, alice, ""},
		{"repeated", b + "." + b + "." + c + "." + b, keysA, alice, b + "." + c},
	} {
		now := start.Add(life + day)
		got := row.keys.Issue(parsed(row.before), row.owner, now)
		first, others, _ := strings.Cut(got, ".")
		if others != row.others {
			t.Errorf("%s: got  %s\nwant %s", row.name, others, row.others)
		}
		if token, found := row.keys.Find(parsed(first), row.owner, nil, now, life); !found || token.Renew {
			t.Errorf("%s: got first token %v %+v", row.name, found, token)
		}
	}
	decoy := *alice
	decoy.Decoy = true
	if got := keysA.Issue(nobody, &decoy, start); got != "" {
		t.Errorf("a decoy: got %s", got)
	}
	if got := (*Keys)(nil).Issue(nobody, alice, start); got != "" {
		t.Errorf("no keys: got %s", got)
	}
	if one, two := keysA.Issue(nobody, alice, start), keysA.Issue(nobody, alice, start); one == two {
		t.Error("got the same token twice")
	}
}

// modelToken is a token as the model knows it.
type modelToken struct {
	text, user, hash string
	secret           int
	issued           time.Time
}

// TestBrowserModel compares the cookie of a browser with a model of the rules, while users
// log in at servers with different secrets, change their passwords and are rehashed.
func TestBrowserModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 18))
		b := &browserModel{random: random, now: start}
		for step := range 60 {
			if fault := b.step(); fault != "" {
				t.Fatalf("seed %d, step %d: %s", seed, step, fault)
			}
		}
	}
}

type browserModel struct {
	random *rand.Rand
	now    time.Time
	value  string       // of the cookie
	tokens []modelToken // in it
	caches map[string]*Cache
}

// step is one successful login.
func (m *browserModel) step() string {
	m.now = m.now.Add(time.Duration(m.random.Int64N(int64(20*day)) - int64(2*day)).Truncate(time.Second))
	server := m.random.IntN(3)
	keys := []*Keys{keysA, keysBA, keysB}[server]
	secrets := [][]int{{'A'}, {'B', 'A'}, {'B'}}[server]
	user := string(rune('a' + m.random.IntN(6)))
	hashes := []string{fmt.Sprint("hash", m.random.IntN(2))}
	if m.random.IntN(4) == 0 {
		hashes = append(hashes, "hash1", "hash2")
	}
	owner := &Owner{User: []byte(user), Hash: hashes[0], Previous: hashes[1:]}

	want := "none"
	for _, t := range m.tokens {
		age := m.now.Sub(t.issued)
		if !slices.Contains(secrets, t.secret) || t.user != user || !slices.Contains(hashes, t.hash) || age < -MaxAhead || age >= life {
			continue
		}
		if age >= life/2 || t.secret != secrets[0] || t.hash != hashes[0] {
			if want == "none" {
				want = "renew"
			}
			continue
		}
		want = "valid"
	}
	key := fmt.Sprint(user, hashes)
	if m.caches == nil {
		m.caches = make(map[string]*Cache)
	}
	if m.caches[key] == nil {
		m.caches[key] = new(Cache)
	}
	for _, cache := range []*Cache{nil, m.caches[key], m.caches[key]} {
		got := "none"
		if token, found := keys.Find(parsed(m.value), owner, cache, m.now, life); found && token.Renew {
			got = "renew"
		} else if found {
			got = "valid"
		}
		if got != want {
			return fmt.Sprintf("found %s, want %s", got, want)
		}
	}
	if want == "valid" && m.random.IntN(4) > 0 {
		return ""
	}

	m.value = keys.Issue(parsed(m.value), owner, m.now)
	var kept []modelToken
	for _, t := range m.tokens {
		if !slices.Contains(secrets, t.secret) || t.user != user || !slices.Contains(hashes, t.hash) {
			kept = append(kept, t)
		}
	}
	for len(kept) > 3 {
		drop := 3
		for i, t := range kept {
			if t.user == user && slices.Contains(secrets, t.secret) {
				drop = i
			}
		}
		kept = slices.Delete(kept, drop, drop+1)
	}
	text, rest, _ := strings.Cut(m.value, ".")
	m.tokens = append([]modelToken{{text, user, hashes[0], secrets[0], m.now}}, kept...)
	var others []string
	for _, t := range kept {
		others = append(others, t.text)
	}
	if rest != strings.Join(others, ".") {
		return fmt.Sprintf("kept %s, want %v", rest, others)
	}
	return ""
}

package devicecookie

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	name = "__Host-htpasswd-device"
	day  = 24 * time.Hour
	life = 90 * day
)

var (
	subkeyA = []byte("subkey A of 32 bytes............")
	subkeyB = []byte("subkey B of 32 bytes............")
	keysA   = NewKeys(subkeyA, nil)
	keysB   = NewKeys(subkeyB, nil)
	keysBA  = NewKeys(subkeyB, subkeyA)

	start = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

	alice  = &Owner{User: []byte("alice"), Hash: "$2y$10$alice"}
	bob    = &Owner{User: []byte("bob"), Hash: "$2y$10$bob"}
	nobody = new(Candidates)
)

// parsed returns the candidates in values of cookies.
func parsed(values ...string) *Candidates {
	var fields []string
	for _, value := range values {
		fields = append(fields, name+"="+value)
	}
	c, _ := Take(http.Header{"Cookie": fields}, name)
	return &c
}

// nonceOf returns a nonce of equal bytes.
func nonceOf(b byte) Nonce { return Nonce(bytes.Repeat([]byte{b}, nonceLen)) }

// token returns a token that was issued at start, with a nonce of equal bytes.
func token(k *Keys, o *Owner, nonce byte) string { return k.issue(nobody, o, start, nonceOf(nonce)) }

// TestFormat pins tokens: servers of a fleet can run different versions. The tokens were
// made by testdata/make_tokens.py.
func TestFormat(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		keys  *Keys
		owner *Owner
		nonce byte
		want  string
	}{
		{keysA, alice, 1, "AQEBAQEBAQEBAQEBAQEBAQGEIQh-Nti-Jv0dGhc4yTjpPdtmtSUq4Aw3JE23"},
		{keysB, alice, 2, "AQICAgICAgICAgICAgICAgJDf99r7g19MHSIBbBIlwofPH-DGRJ_lkRsT9ud"},
		{keysA, &Owner{User: []byte(""), Hash: ""}, 3, "AQMDAwMDAwMDAwMDAwMDAwMTBX_UYR6oT7DxRdvKFpfkvs3K1d8HommsZO_m"},
		{keysA, &Owner{User: []byte("ä:b"), Hash: strings.Repeat("h", 200)}, 4, "AQQEBAQEBAQEBAQEBAQEBAQEHHrZ-j0XslC2MPOh-yX373kHBv7Qs2y-hajk"},
	} {
		if got := token(row.keys, row.owner, row.nonce); got != row.want {
			t.Errorf("nonce %d: got  %s\nwant %s", row.nonce, got, row.want)
		}
	}
}

// TestEncryptionIsCounterMode compares with the mode of the standard library.
func TestEncryptionIsCounterMode(t *testing.T) {
	t.Parallel()
	raw, _ := base64.RawURLEncoding.DecodeString(token(keysA, alice, 7))
	var pad [blockLen]byte
	issued, user := keysA.current.open((*[tokenLen]byte)(raw), &pad)
	plain := make([]byte, timeLen+userLen)
	cipher.NewCTR(keysA.current.time, raw[nonceAt:timeAt]).XORKeyStream(plain, raw[timeAt:macAt])
	if int64(issued) != start.Unix() || user != keysA.current.digest(alice.User) || !bytes.Equal(plain[timeLen:], user[:]) {
		t.Errorf("got time %d and user %x, want %d and %x", issued, user, start.Unix(), plain[timeLen:])
	}
	if keysA.current.time.BlockSize() != aes.BlockSize {
		t.Error("got another block size")
	}
}

// TestFind has a row for each way in which a token can be invalid.
func TestFind(t *testing.T) {
	t.Parallel()
	good := token(keysA, alice, 1)
	const none, valid, renew = "none", "valid", "renew"
	rehashed := &Owner{User: alice.User, Hash: "$2y$12$alice", Previous: []string{"$2y$11$alice", alice.Hash}}
	for _, row := range []struct {
		name  string
		value string
		keys  *Keys
		owner *Owner
		age   time.Duration
		want  string
	}{
		{"just issued", good, keysA, alice, 0, valid},
		{"just before half its time", good, keysA, alice, life/2 - time.Second, valid},
		{"half its time", good, keysA, alice, life / 2, renew},
		{"its last second", good, keysA, alice, life - time.Second, renew},
		{"expired", good, keysA, alice, life, none},
		{"expired long ago", good, keysA, alice, 20 * life, none},
		{"five minutes in the future", good, keysA, alice, -MaxAhead, valid},
		{"more than five minutes in the future", good, keysA, alice, -MaxAhead - time.Second, none},
		{"far in the future", good, keysA, alice, -30 * 365 * day, none},
		{"before 1970", good, keysA, alice, -80 * 365 * day, none},
		{"another user", good, keysA, bob, 0, none},
		{"another user with the same hash", good, keysA, &Owner{User: bob.User, Hash: alice.Hash}, 0, none},
		{"a name that differs in case", good, keysA, &Owner{User: []byte("Alice"), Hash: alice.Hash}, 0, none},
		{"another site with the same user name", good, keysA, &Owner{User: alice.User, Hash: bob.Hash}, 0, none},
		{"a part of the name in the hash", good, keysA, &Owner{User: []byte("alic"), Hash: "e" + alice.Hash}, 0, none},
		{"a hash that continues", good, keysA, &Owner{User: alice.User, Hash: alice.Hash + "x"}, 0, none},
		{"a user who cannot log in", good, keysA, &Owner{User: alice.User, Hash: alice.Hash, Decoy: true}, 0, none},
		{"after a rehash", good, keysA, rehashed, 0, renew},
		{"after a rehash, issued again", token(keysA, rehashed, 1), keysA, rehashed, 0, valid},
		{"after a rehash, expired", good, keysA, rehashed, life, none},
		{"another secret", good, keysB, alice, 0, none},
		{"the old secret", good, keysBA, alice, 0, renew},
		{"the old secret, expired", good, keysBA, alice, life, none},
		{"the new secret while there is an old one", token(keysBA, alice, 1), keysBA, alice, 0, valid},
		{"the old secret after a rehash", good, keysBA, rehashed, 0, renew},
		{"a token of two secrets on a server with the new one", token(keysBA, alice, 1), keysB, alice, 0, valid},
		{"no secret", good, nil, alice, 0, none},
		{"empty", "", keysA, alice, 0, none},
		{"no token", strings.Repeat("A", textLen), keysA, alice, 0, none},
		{"zero bytes", strings.Repeat("\x00", textLen), keysA, alice, 0, none},
		{"a truncated token", good[:textLen-1], keysA, alice, 0, none},
		{"a truncated token in base64", good[:textLen-4], keysA, alice, 0, none},
		{"a longer token", good + "AAAA", keysA, alice, 0, none},
		{"padding", good + "=", keysA, alice, 0, none},
		{"standard base64", strings.Repeat("+/", textLen/2), keysA, alice, 0, none},
		{"line breaks", good[:textLen-4] + "\r\n\r\n", keysA, alice, 0, none},
		{"quotation marks", `"` + good + `"`, keysA, alice, 0, none},
		{"whitespace inside", good[:20] + " " + good[21:], keysA, alice, 0, none},
		{"percent-encoding", strings.Replace(good, good[:1], "%41", 1), keysA, alice, 0, none},
		{"after another user's token", token(keysA, bob, 2) + "." + good, keysA, alice, 0, valid},
		{"the fourth", strings.Repeat(token(keysA, bob, 2)+".", 3) + good, keysA, alice, 0, valid},
		{"after malformed texts", "x...y." + good, keysA, alice, 0, valid},
		{"the ninth text", "x.x.x.x.x.x.x.x." + good, keysA, alice, 0, none},
		{"the eighth text", "x.x.x.x.x.x.x." + good, keysA, alice, 0, valid},
	} {
		var cache Cache
		for _, cached := range []string{"not cached", "cached"} {
			token, found := row.keys.Find(parsed(row.value), row.owner, &cache, start.Add(row.age), life)
			got := none
			switch {
			case found && token.Nonce != nonceOf(1):
				got = fmt.Sprintf("nonce %x", token.Nonce)
			case found && token.Renew:
				got = renew
			case found:
				got = valid
			case token != Token{}:
				got = "a token that was not found"
			}
			if got != row.want {
				t.Errorf("%s, %s: got %s, want %s", row.name, cached, got, row.want)
			}
		}
	}
}

// TestAbsurdClocks checks that no time overflows.
func TestAbsurdClocks(t *testing.T) {
	t.Parallel()
	c := parsed(token(keysA, alice, 1))
	for _, now := range []time.Time{{}, time.Unix(0, 0), time.Unix(1<<40, 0), time.Unix(-1<<40, 0), time.Unix(1<<62, 0), start.AddDate(584, 6, 20), start.AddDate(-2000, 0, 0)} {
		if _, found := keysA.Find(c, alice, nil, now, 1<<62); found {
			t.Errorf("%v: got a valid token", now)
		}
		keysA.Issue(c, alice, now)
	}
	for year := 0; year < 10000; year += 7 {
		now := start.AddDate(year, 0, 0)
		if _, found := keysA.Find(c, alice, nil, now, 365*day); found != (year == 0) {
			t.Errorf("%v: got %v", now, found)
		}
	}
}

// TestForged changes each bit of a token.
func TestForged(t *testing.T) {
	t.Parallel()
	good := token(keysA, alice, 1)
	raw, _ := base64.RawURLEncoding.DecodeString(good)
	var cache Cache
	if _, found := keysA.Find(parsed(good), alice, &cache, start, life); !found {
		t.Fatal("got no token")
	}
	for i := range tokenLen * 8 {
		forged := bytes.Clone(raw)
		forged[i/8] ^= 1 << (i % 8)
		text := base64.RawURLEncoding.EncodeToString(forged)
		if _, found := keysA.Find(parsed(text), alice, &cache, start, life); found {
			t.Errorf("bit %d of byte %d changed: got a valid token", i%8, i/8)
		}
	}
	for i := range textLen {
		for _, c := range []byte("A-z=") {
			text := good[:i] + string(c) + good[i+1:]
			if _, found := keysA.Find(parsed(text), alice, nil, start, life); found && text != good {
				t.Errorf("character %d changed to %c: got a valid token", i, c)
			}
		}
	}
}

// TestDecodeStartsAfresh checks that no byte of the token before is left in the next one.
// The decoder of the standard library skips line breaks.
func TestDecodeStartsAfresh(t *testing.T) {
	t.Parallel()
	good := token(keysA, alice, 1)
	v := newVerifier(keysA, alice)
	if !v.decode(good) {
		t.Fatal("got no token")
	}
	for _, text := range []string{good[:textLen-4] + "\n\r\n\r", strings.Repeat("\n", textLen), "\n" + good[1:]} {
		if v.decode(text) {
			t.Errorf("%q: got a token", text)
		}
	}
}

// TestOtherVersion checks that a token of another version is not read as one of this
// version, even if it has a valid MAC of this version.
func TestOtherVersion(t *testing.T) {
	t.Parallel()
	raw, _ := base64.RawURLEncoding.DecodeString(token(keysA, alice, 1))
	for _, other := range []byte{0, version, version + 1} {
		raw[0] = other
		mac := sign(keysA.current.bind(alice.User, alice.Hash), (*[tokenLen]byte)(raw))
		copy(raw[macAt:], mac[:])
		c := parsed(base64.RawURLEncoding.EncodeToString(raw))
		if _, found := keysA.Find(c, alice, nil, start, life); found != (other == version) {
			t.Errorf("version %d: got %v", other, found)
		}
		if kept := strings.Contains(keysA.Issue(c, alice, start), c.texts[0]); kept != (other != version) {
			t.Errorf("version %d: kept %v in a new cookie", other, kept)
		}
	}
}

// TestPrefersTokensThatStay checks which of several valid tokens is found. Otherwise two
// servers with different secrets would replace each other's token with each request.
func TestPrefersTokensThatStay(t *testing.T) {
	t.Parallel()
	old, current, second := token(keysA, alice, 1), token(keysB, alice, 2), token(keysB, alice, 3)
	for _, row := range []struct {
		name, value string
		nonce       byte
		renew       bool
	}{
		{"the old secret's", old, 1, true},
		{"first the old secret's", old + "." + current, 2, false},
		{"first the new secret's", current + "." + old, 2, false},
		{"two that stay", current + "." + second, 2, false},
	} {
		for _, cached := range []string{"", old, current, second, old + "." + current} {
			var cache Cache
			for _, text := range strings.Split(cached, ".") {
				keysBA.Find(parsed(text), alice, &cache, start, life)
			}
			want := Token{nonceOf(row.nonce), row.renew}
			if cached == second && row.value == current+"."+second {
				want.Nonce = nonceOf(3) // of two that stay, the cached one is preferred
			}
			for range 2 {
				if got, found := keysBA.Find(parsed(row.value), alice, &cache, start, life); !found || got != want {
					t.Errorf("%s, cached %q: got %v %+v, want %+v", row.name, cached, found, got, want)
				}
				if row.value == current+"."+second {
					break // now both are cached
				}
			}
		}
	}
}

// TestNothingIsReadable checks that tokens show nothing but their version, and that two
// tokens of a user have nothing else in common.
func TestNothingIsReadable(t *testing.T) {
	t.Parallel()
	counts := make([]int, tokenLen*8)
	const n = 4000
	for range n {
		text := keysA.Issue(nobody, alice, start)
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(text) != textLen || raw[0] != version {
			t.Fatalf("got token %s", text)
		}
		for i := range counts {
			counts[i] += int(raw[i/8] >> (i % 8) & 1)
		}
	}
	for i, ones := range counts[8:] {
		if ones < n/2-300 || ones > n/2+300 { // over nine standard deviations
			t.Errorf("bit %d is 1 in %d of %d tokens of one user and time", i+8, ones, n)
		}
	}
}

// TestKeysDiffer checks that each secret and each purpose has its own key.
func TestKeysDiffer(t *testing.T) {
	t.Parallel()
	plain := make([]byte, blockLen)
	var all []string
	for _, k := range []*key{keysA.current, keysB.current} {
		block := make([]byte, blockLen)
		k.time.Encrypt(block, plain)
		all = append(all, string(k.user), string(k.binding), string(block))
	}
	slices.Sort(all)
	if len(slices.Compact(all)) != 6 {
		t.Error("got the same key twice")
	}
	if NewKeys(nil, nil) != nil || NewKeys(nil, subkeyA) != nil || NewKeys([]byte{}, subkeyA) != nil {
		t.Error("got keys without a current subkey")
	}
}

// FuzzFind checks that no other text than an issued one is a valid token.
func FuzzFind(f *testing.F) {
	good := token(keysBA, alice, 1)
	for _, seed := range []string{"", good, good + "." + good, "x." + good, good[1:] + "A", token(keysA, alice, 2), token(keysA, bob, 3)} {
		f.Add(seed)
	}
	issued := []string{good, token(keysA, alice, 2)}
	f.Fuzz(func(t *testing.T, value string) {
		var cache Cache
		c := parsed(value)
		_, found := keysBA.Find(c, alice, &cache, start, life)
		want := false
		for _, text := range c.texts[:c.n] {
			want = want || slices.Contains(issued, text)
		}
		if found != want {
			t.Errorf("%q: got %v, want %v", value, found, want)
		}
		if _, again := keysBA.Find(c, alice, &cache, start, life); again != found {
			t.Errorf("%q: got %v with a cache", value, again)
		}
		next := keysBA.Issue(c, alice, start)
		if _, found := keysBA.Find(parsed(next), alice, nil, start, life); !found || strings.Count(next, separator) >= MaxTokens {
			t.Errorf("%q: got new value %q", value, next)
		}
	})
}

package caddyhtpasswd

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

func encoded(userAndPassword string) string {
	return base64.StdEncoding.EncodeToString([]byte(userAndPassword))
}

func TestParseCredentials(t *testing.T) {
	t.Parallel()
	const secret = "YWxpY2U6c2VjcmV0" // alice:secret, without padding
	pass1024, user255 := strings.Repeat("p", 1024), strings.Repeat("u", 255)
	for _, test := range []struct {
		name, header   string
		user, password string
		malformed      bool
	}{
		{name: "no header", header: "", malformed: true},
		{name: "another scheme", header: "Bearer " + secret, malformed: true},
		{name: "a scheme that begins alike", header: "Basics " + secret, malformed: true},
		{name: "the base64 right behind the scheme", header: "Basic" + secret, malformed: true},
		{name: "whitespace before the scheme", header: " Basic " + secret, malformed: true},
		{name: "the scheme alone", header: "Basic", malformed: true},
		{name: "the scheme and a space", header: "Basic ", malformed: true},
		{name: "only padding", header: "Basic ====", malformed: true},
		{name: "a character that is not of base64", header: "Basic YWxp*2U6c2VjcmV0", malformed: true},
		{name: "the base64 alphabet for URLs", header: "Basic " + base64.URLEncoding.EncodeToString([]byte("a:\xff\xff\xff")), malformed: true},
		{name: "a space within the base64", header: "Basic YWxpY2U6 c2VjcmV0", malformed: true},
		{name: "padding within the base64", header: "Basic YWxpY2U=c2VjcmV0", malformed: true},
		{name: "one character of base64 too many", header: "Basic YWxpY2U6c2VjcmV0Y", malformed: true},
		{name: "credentials that are not encoded", header: "Basic alice:secret", malformed: true},
		{name: "two values in one header", header: "Basic " + secret + ", Basic " + secret, malformed: true},
		{name: "no colon between user and password", header: "Basic " + encoded("alice"), malformed: true},
		{name: "the scheme as the RFC writes it", header: "Basic " + secret, user: "alice", password: "secret"},
		{name: "the scheme in lower case", header: "basic " + secret, user: "alice", password: "secret"},
		{name: "the scheme in upper case", header: "BASIC " + secret, user: "alice", password: "secret"},
		{name: "a long s is no letter of the scheme", header: "Ba\u017fic " + secret, malformed: true},
		{name: "two spaces behind the scheme", header: "Basic  " + secret, user: "alice", password: "secret"},
		{name: "tabs and spaces behind the scheme", header: "Basic\t \t" + secret, user: "alice", password: "secret"},
		{name: "whitespace behind the base64", header: "Basic " + secret + " \t", user: "alice", password: "secret"},
		{name: "one padding character", header: "Basic " + encoded("alice:secre"), user: "alice", password: "secre"},
		{name: "one padding character left out", header: "Basic " + strings.TrimRight(encoded("alice:secre"), "="), user: "alice", password: "secre"},
		{name: "two padding characters", header: "Basic " + encoded("alice:secr"), user: "alice", password: "secr"},
		{name: "two padding characters left out", header: "Basic " + strings.TrimRight(encoded("alice:secr"), "="), user: "alice", password: "secr"},
		{name: "a colon in the password", header: "Basic " + encoded("a::b"), user: "a", password: ":b"},
		{name: "colons at the end of the password", header: "Basic " + encoded("a:b::"), user: "a", password: "b::"},
		{name: "an empty password", header: "Basic " + encoded("alice:"), user: "alice"},
		{name: "an empty user", header: "Basic " + encoded(":secret"), password: "secret"},
		{name: "only a colon", header: "Basic " + encoded(":")},
		{name: "NUL in the password", header: "Basic " + encoded("alice:se\x00cret"), malformed: true},
		{name: "NUL behind the password", header: "Basic " + encoded("alice:secret\x00"), malformed: true},
		{name: "NUL in the user", header: "Basic " + encoded("al\x00ice:secret"), malformed: true},
		{name: "CR in the user", header: "Basic " + encoded("alice\r:secret"), malformed: true},
		{name: "LF in the user", header: "Basic " + encoded("alice\n:secret"), malformed: true},
		{name: "LF in the password", header: "Basic " + encoded("alice:secret\n"), malformed: true},
		{name: "tab in the password", header: "Basic " + encoded("alice:se\tcret"), malformed: true},
		{name: "ESC in the password", header: "Basic " + encoded("alice:se\x1bcret"), malformed: true},
		{name: "DEL in the password", header: "Basic " + encoded("alice:secret\x7f"), malformed: true},
		{name: "a password repeated behind a NUL, as bcrypt repeats it", header: "Basic " + encoded("alice:secret\x00secret"), malformed: true},
		{name: "user and password in NFC", header: "Basic " + encoded("\u00e9:\u00fc"), user: "\u00e9", password: "\u00fc"},
		{name: "user and password in NFD", header: "Basic " + encoded("e\u0301:u\u0308"), user: "e\u0301", password: "u\u0308"},
		{name: "user and password in Latin-1", header: "Basic " + encoded("\xe9:\xfc"), user: "\xe9", password: "\xfc"},
		{name: "C1 controls are bytes like others", header: "Basic " + encoded("\x80:\x9f"), user: "\x80", password: "\x9f"},
		{name: "a password of 1024 bytes", header: "Basic " + encoded("alice:"+pass1024), user: "alice", password: pass1024},
		{name: "a password of 1025 bytes", header: "Basic " + encoded("alice:"+pass1024+"p"), malformed: true},
		{name: "a password of 1 MiB", header: "Basic " + encoded("alice:"+strings.Repeat("p", 1<<20)), malformed: true},
		{name: "a user of 255 bytes", header: "Basic " + encoded(user255+":"+pass1024), user: user255, password: pass1024},
		{name: "a user of 255 bytes, without padding", header: "Basic " + strings.TrimRight(encoded(user255+":"+pass1024), "="), user: user255, password: pass1024},
		{name: "a user of 256 bytes", header: "Basic " + encoded(user255+"u:p"), malformed: true},
		{name: "a user of 255 bytes with a password of 1025", header: "Basic " + encoded(user255+":"+pass1024+"p"), malformed: true},
		{name: "a megabyte of spaces behind the scheme", header: "Basic " + strings.Repeat(" ", 1<<20) + secret, user: "alice", password: "secret"},
		{name: "a megabyte of padding behind the base64", header: "Basic " + secret + strings.Repeat("=", 1<<20), user: "alice", password: "secret"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := parseCredentials(test.header)
			defer c.release()
			if c.malformed != test.malformed {
				t.Fatalf("got malformed %t, want %t", c.malformed, test.malformed)
			}
			if c.malformed {
				if c.digest != (digest{}) {
					t.Errorf("got digest %x of malformed credentials, want none", c.digest)
				}
				if v, err := handlerOf(nil, new(cachePolicy)).check(t.Context(), origin{}, c); v.result != resultMalformed || err != nil {
					t.Errorf("got %v, error %v, want %v", v.result, err, resultMalformed)
				}
				return
			}
			if string(c.user) != test.user || string(c.password) != test.password {
				t.Errorf("got user %q with password %q, want %q with %q", c.user, c.password, test.user, test.password)
			}
		})
	}
}

func TestIsBasic(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]bool{
		"": false, "basi": false, "basic": true, "Basic ": true, "bAsIc x": true, "BASIC\tx": true,
		"Basic,": false, "Basic=": false, "Basic\x00": false, "Basic\u00a0x": false, "Digest x": false, " basic x": false,
	} {
		if got := isBasic(header); got != want {
			t.Errorf("%q: got %t, want %t", header, got, want)
		}
	}
}

// TestDigest checks the digests that distinguish passwords.
func TestDigest(t *testing.T) {
	t.Parallel()
	of := func(password string) digest {
		c := parseCredentials("Basic " + encoded("alice:"+password))
		defer c.release()
		return c.digest
	}
	seen := make(map[digest]string)
	for _, password := range []string{"", ":", "secret", "Secret", "secret ", " secret", "secre", "\u00e9", "e\u0301", "\xe9", strings.Repeat("p", 72), strings.Repeat("p", 73)} {
		sum := of(password)
		if sum == (digest{}) || sum != of(password) {
			t.Errorf("%q: got digest %x, want one that is not zero and always the same", password, sum)
		}
		if other, ok := seen[sum]; ok {
			t.Errorf("%q and %q: got one digest, want two", password, other)
		}
		seen[sum] = password
	}
	alice, bob := parseCredentials("Basic "+encoded("alice:secret")), parseCredentials("Basic "+encoded("bob:secret"))
	if alice.digest != bob.digest {
		t.Errorf("same password of two users: got digests %x and %x, want one", alice.digest, bob.digest)
	}
	alice.release()
	bob.release()
}

// TestRelease looks for parts of user and password in credentials that go back to the
// pool, including the state of the hash.
func TestRelease(t *testing.T) {
	const canary = "CANARY"
	long := strings.Repeat(canary, 2000)
	for _, test := range []struct{ name, header string }{
		{"well-formed", "Basic " + encoded(canary+":"+canary)},
		{"longest", "Basic " + encoded(long[:htfile.MaxUserLen]+":"+long[:crypt.MaxPasswordLen])},
		{"no colon between user and password", "Basic " + encoded(canary+canary)},
		{"control character", "Basic " + encoded(canary+":"+canary+"\x00")},
		{"password too long", "Basic " + encoded("a:"+long[:crypt.MaxPasswordLen+1])},
		{"user too long", "Basic " + encoded(long[:htfile.MaxUserLen+1]+":")},
		{"invalid base64 at the end", "Basic " + strings.TrimRight(encoded(canary+":"+canary+canary), "=") + "*"},
		{"invalid base64 at the end of the longest", "Basic " + encoded(long[:maxUserPassLen-3]) + "*"},
		{"credentials that are not encoded", "Basic " + canary},
		{"too long", "Basic " + encoded(long)},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := parseCredentials(test.header)
			held := holds(c, []byte(canary)) || holds(c, []byte(encoded(canary)[:8]))
			if wants := test.name != "too long"; held != wants {
				t.Fatalf("before the release: held %v, want %v: the test looks in the wrong place", held, wants)
			}
			sum := c.digest
			c.release()
			for _, left := range []string{canary, canary[1:], encoded(canary)[:8], encoded("x" + canary)[4:8]} {
				if holds(c, []byte(left)) {
					t.Errorf("after the release: got %q, want nothing left of it", left)
				}
			}
			if sum != (digest{}) && holds(c, sum[:]) {
				t.Errorf("after the release: got the digest %x, want nothing left of it", sum)
			}
			if !allZero(c.encoded[:]) || !allZero(c.decoded[:]) || c.user != nil || c.password != nil || c.used != 0 {
				t.Errorf("after the release: got user %q, password %q, %d bytes used, want everything zero", c.user, c.password, c.used)
			}
		})
	}
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// holds reports whether the bytes what are in anything that v leads to.
func holds(v any, what []byte) bool {
	seen := make(map[uintptr]bool)
	var look func(v reflect.Value) bool
	look = func(v reflect.Value) bool {
		switch v.Kind() {
		case reflect.Pointer:
			if v.IsNil() || seen[v.Pointer()] {
				return false
			}
			seen[v.Pointer()] = true
			return look(v.Elem())
		case reflect.Interface:
			return !v.IsNil() && look(v.Elem())
		case reflect.Struct:
			for i := range v.NumField() {
				if look(v.Field(i)) {
					return true
				}
			}
		case reflect.Slice, reflect.Array:
			if v.Type().Elem().Kind() != reflect.Uint8 {
				return false
			}
			if v.Kind() == reflect.Slice {
				v = v.Slice(0, v.Cap())
			}
			b := make([]byte, v.Len())
			for i := range b {
				b[i] = byte(v.Index(i).Uint())
			}
			return bytes.Contains(b, what)
		}
		return false
	}
	return look(reflect.ValueOf(v))
}

// TestPoolLeaksNothing parses malformed credentials with an object from the pool that had
// valid credentials before.
func TestPoolLeaksNothing(t *testing.T) {
	reused := 0
	for _, header := range []string{
		"", "Basic", "Basic *", "Basic " + encoded("mallory"), "Basic " + encoded("mallory:\x00"), "Basic " + encoded("mal\x00lory:x"),
		"Basic " + encoded("mallory:"+strings.Repeat("p", 1025)), "Basic " + strings.Repeat("A", 4096), "Bearer x", "Basic " + encoded(""),
	} {
		for range 10 { // the pool does not always return the same object, and with -race drops some
			good := parseCredentials("Basic " + encoded("alice:secret"))
			good.release()
			c := parseCredentials(header)
			if c == good {
				reused++
			}
			if !c.malformed || c.digest != (digest{}) {
				t.Errorf("%.20q: got malformed %t, digest %x, want malformed and no digest", header, c.malformed, c.digest)
			}
			if u := string(c.user); u != "" && u != "mallory" && u != "mal\x00lory" {
				t.Errorf("%.20q: got user %q, want the one it was sent with or none", header, c.user)
			}
			if bytes.Contains(c.password, []byte("secret")) || holds(c, []byte("alice")) {
				t.Errorf("%.20q: got password %q, want nothing of the previous credentials", header, c.password)
			}
			c.release()
			short := parseCredentials("Basic " + encoded("a:b"))
			if string(short.user) != "a" || string(short.password) != "b" || cap(short.user) > cap(short.decoded[:]) {
				t.Errorf("got user %q with capacity %d, password %q, want %q, at most %d, %q", short.user, cap(short.user), short.password, "a", cap(short.decoded[:]), "b")
			}
			short.release()
		}
	}
	if reused == 0 {
		t.Error("got no credentials used again, want some: the test shows nothing")
	}
}

func FuzzParseCredentials(f *testing.F) {
	for _, header := range []string{
		"", "Basic", "basic ", "BASIC\t=", "Basic YWxpY2U6c2VjcmV0", "Basic  YWxpY2U6c2VjcmU=", "Basic YWxpY2U6c2VjcmU", "Basic Og==", "Basic YTo6Yg==",
		"Basic YWxpY2U=", "Basic YQA6Yg==", "Basic /:+", "Bearer x", "Basic YWxp\nY2U6c2VjcmV0", "Basic YWxpY2U6c2VjcmV=", "Basic " + strings.Repeat("QUJD", 500),
	} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		c := parseCredentials(header)
		if !c.malformed {
			fields := strings.Trim(header[len(basicScheme):], " \t=")
			want, err := base64.RawStdEncoding.DecodeString(fields)
			if !strings.EqualFold(header[:len(basicScheme)], basicScheme) || err != nil || fmt.Sprintf("%s:%s", c.user, c.password) != string(want) {
				t.Errorf("%q: got user %q and password %q, want %q (error %v)", header, c.user, c.password, want, err)
			}
			if bytes.ContainsRune(c.user, ':') || len(c.user) > htfile.MaxUserLen || len(c.password) > crypt.MaxPasswordLen ||
				htfile.HasControl(c.user) || htfile.HasControl(c.password) {
				t.Errorf("%q: got user %q and password %q, want none so long, no colon in the user and no control characters", header, c.user, c.password)
			}
		} else if c.digest != (digest{}) {
			t.Errorf("%q: got digest %x of malformed credentials, want none", header, c.digest)
		}
		c.release()
		if !allZero(c.encoded[:]) || !allZero(c.decoded[:]) || c.digest != (digest{}) {
			t.Errorf("%q: after the release: got digest %x or bytes that are left, want everything zero", header, c.digest)
		}
	})
}

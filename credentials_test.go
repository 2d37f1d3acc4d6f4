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
	const secret = "YWxpY2U6c2VjcmV0" // alice:secret, without padding
	pass1024, user255 := strings.Repeat("p", 1024), strings.Repeat("u", 255)
	for _, test := range []struct {
		name, header   string
		user, password string
		malformed      bool
	}{
		{name: "R1 no header", header: "", malformed: true},
		{name: "R1 other scheme", header: "Bearer " + secret, malformed: true},
		{name: "R1 a scheme that begins alike", header: "Basics " + secret, malformed: true},
		{name: "R1 a scheme that begins alike, no blank", header: "Basic" + secret, malformed: true},
		{name: "R1 another blank before the scheme", header: " Basic " + secret, malformed: true},
		{name: "R1 Basic alone", header: "Basic", malformed: true},
		{name: "R1 Basic and a blank", header: "Basic ", malformed: true},
		{name: "R1 only padding", header: "Basic ====", malformed: true},
		{name: "R1 bad base64", header: "Basic YWxp*2U6c2VjcmV0", malformed: true},
		{name: "R1 base64 for URLs", header: "Basic " + base64.URLEncoding.EncodeToString([]byte("a:\xff\xff\xff")), malformed: true},
		{name: "R1 a blank within", header: "Basic YWxpY2U6 c2VjcmV0", malformed: true},
		{name: "R1 padding within", header: "Basic YWxpY2U=c2VjcmV0", malformed: true},
		{name: "R1 one digit too many", header: "Basic YWxpY2U6c2VjcmV0Y", malformed: true},
		{name: "R1 not encoded", header: "Basic alice:secret", malformed: true},
		{name: "R1 two values", header: "Basic " + secret + ", Basic " + secret, malformed: true},
		{name: "R1 no colon", header: "Basic " + encoded("alice"), malformed: true},
		{name: "R2 as in the RFC", header: "Basic " + secret, user: "alice", password: "secret"},
		{name: "R2 lower case", header: "basic " + secret, user: "alice", password: "secret"},
		{name: "R2 upper case", header: "BASIC " + secret, user: "alice", password: "secret"},
		{name: "R2 the Kelvin sign and the long s are no letters of the scheme", header: "Ba\u017fic " + secret, malformed: true},
		{name: "R3 two spaces", header: "Basic  " + secret, user: "alice", password: "secret"},
		{name: "R3 tabs and spaces", header: "Basic\t \t" + secret, user: "alice", password: "secret"},
		{name: "R3 blanks behind", header: "Basic " + secret + " \t", user: "alice", password: "secret"},
		{name: "R3 one padding character", header: "Basic " + encoded("alice:secre"), user: "alice", password: "secre"},
		{name: "R3 without it", header: "Basic " + strings.TrimRight(encoded("alice:secre"), "="), user: "alice", password: "secre"},
		{name: "R3 two padding characters", header: "Basic " + encoded("alice:secr"), user: "alice", password: "secr"},
		{name: "R3 without them", header: "Basic " + strings.TrimRight(encoded("alice:secr"), "="), user: "alice", password: "secr"},
		{name: "R5 a colon in the password", header: "Basic " + encoded("a::b"), user: "a", password: ":b"},
		{name: "R5 colons at the end", header: "Basic " + encoded("a:b::"), user: "a", password: "b::"},
		{name: "R5 no password", header: "Basic " + encoded("alice:"), user: "alice"},
		{name: "R5 no user", header: "Basic " + encoded(":secret"), password: "secret"},
		{name: "R5 nothing but a colon", header: "Basic " + encoded(":")},
		{name: "R6 NUL in the password", header: "Basic " + encoded("alice:se\x00cret"), malformed: true},
		{name: "R6 NUL behind the password", header: "Basic " + encoded("alice:secret\x00"), malformed: true},
		{name: "R6 NUL in the user", header: "Basic " + encoded("al\x00ice:secret"), malformed: true},
		{name: "R6 CR in the user", header: "Basic " + encoded("alice\r:secret"), malformed: true},
		{name: "R6 LF in the user", header: "Basic " + encoded("alice\n:secret"), malformed: true},
		{name: "R6 LF in the password", header: "Basic " + encoded("alice:secret\n"), malformed: true},
		{name: "R6 tab in the password", header: "Basic " + encoded("alice:se\tcret"), malformed: true},
		{name: "R6 ESC in the password", header: "Basic " + encoded("alice:se\x1bcret"), malformed: true},
		{name: "R6 DEL in the password", header: "Basic " + encoded("alice:secret\x7f"), malformed: true},
		{name: "R7 bcrypt's repetition", header: "Basic " + encoded("alice:secret\x00secret"), malformed: true},
		{name: "R8 NFC", header: "Basic " + encoded("\u00e9:\u00fc"), user: "\u00e9", password: "\u00fc"},
		{name: "R8 NFD", header: "Basic " + encoded("e\u0301:u\u0308"), user: "e\u0301", password: "u\u0308"},
		{name: "R8 Latin-1", header: "Basic " + encoded("\xe9:\xfc"), user: "\xe9", password: "\xfc"},
		{name: "R8 C1 controls are bytes as others", header: "Basic " + encoded("\x80:\x9f"), user: "\x80", password: "\x9f"},
		{name: "R9 a password of 1024 bytes", header: "Basic " + encoded("alice:"+pass1024), user: "alice", password: pass1024},
		{name: "R9 one of 1025", header: "Basic " + encoded("alice:"+pass1024+"p"), malformed: true},
		{name: "R9 one of 1 MiB", header: "Basic " + encoded("alice:"+strings.Repeat("p", 1<<20)), malformed: true},
		{name: "R9 user of 255 bytes", header: "Basic " + encoded(user255+":"+pass1024), user: user255, password: pass1024},
		{name: "R9 user of 255 bytes, without padding", header: "Basic " + strings.TrimRight(encoded(user255+":"+pass1024), "="), user: user255, password: pass1024},
		{name: "R9 user of 256", header: "Basic " + encoded(user255+"u:p"), malformed: true},
		{name: "R9 too much in all", header: "Basic " + encoded(user255+":"+pass1024+"p"), malformed: true},
		{name: "R9 a megabyte of blanks", header: "Basic " + strings.Repeat(" ", 1<<20) + secret, user: "alice", password: "secret"},
		{name: "R9 a megabyte of padding", header: "Basic " + secret + strings.Repeat("=", 1<<20), user: "alice", password: "secret"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := parseCredentials(test.header)
			defer c.release()
			if c.malformed != test.malformed {
				t.Fatalf("malformed: %v", c.malformed)
			}
			if c.malformed {
				if c.digest != (digest{}) {
					t.Error("a digest of malformed credentials")
				}
				if v, err := handlerOf(nil, new(cachePolicy)).check(t.Context(), "", c); v.result != resultMalformed || err != nil {
					t.Error(v, err)
				}
				return
			}
			if string(c.user) != test.user || string(c.password) != test.password {
				t.Errorf("user %q with password %q", c.user, c.password)
			}
		})
	}
}

func TestIsBasic(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "basi": false, "basic": true, "Basic ": true, "bAsIc x": true, "BASIC\tx": true,
		"Basic,": false, "Basic=": false, "Basic\x00": false, "Basic\u00a0x": false, "Digest x": false, " basic x": false,
	} {
		if got := isBasic(header); got != want { // R1, R2
			t.Errorf("%q: %v", header, got)
		}
	}
}

// TestDigest is what passwords are told apart by.
func TestDigest(t *testing.T) {
	of := func(password string) digest {
		c := parseCredentials("Basic " + encoded("alice:"+password))
		defer c.release()
		return c.digest
	}
	seen := make(map[digest]string)
	for _, password := range []string{"", ":", "secret", "Secret", "secret ", " secret", "secre", "\u00e9", "e\u0301", "\xe9", strings.Repeat("p", 72), strings.Repeat("p", 73)} {
		sum := of(password)
		if sum == (digest{}) || sum != of(password) {
			t.Errorf("%q: %x", password, sum)
		}
		if other, ok := seen[sum]; ok {
			t.Errorf("%q and %q have the same digest", password, other)
		}
		seen[sum] = password
	}
	alice, bob := parseCredentials("Basic "+encoded("alice:secret")), parseCredentials("Basic "+encoded("bob:secret"))
	if alice.digest != bob.digest {
		t.Error("the digest is of more than the password")
	}
	alice.release()
	bob.release()
}

// TestRelease looks for what is left of user and password in what goes back
// to the pool, the state of the hash included (R16).
func TestRelease(t *testing.T) {
	const canary = "CANARY"
	long := strings.Repeat(canary, 2000)
	for _, test := range []struct{ name, header string }{
		{"good", "Basic " + encoded(canary+":"+canary)},
		{"longest", "Basic " + encoded(long[:htfile.MaxUserLen]+":"+long[:crypt.MaxPasswordLen])},
		{"no colon", "Basic " + encoded(canary+canary)},
		{"control character", "Basic " + encoded(canary+":"+canary+"\x00")},
		{"password too long", "Basic " + encoded("a:"+long[:crypt.MaxPasswordLen+1])},
		{"user too long", "Basic " + encoded(long[:htfile.MaxUserLen+1]+":")},
		{"bad base64 at the end", "Basic " + strings.TrimRight(encoded(canary+":"+canary+canary), "=") + "*"},
		{"bad base64 at the end of the longest", "Basic " + encoded(long[:maxUserPassLen-3]) + "*"},
		{"not encoded", "Basic " + canary},
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
					t.Errorf("%q is left", left)
				}
			}
			if sum != (digest{}) && holds(c, sum[:]) {
				t.Error("the digest is left")
			}
			if !allZero(c.encoded[:]) || !allZero(c.decoded[:]) || c.user != nil || c.password != nil || c.used != 0 {
				t.Error("something is left")
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

// TestPoolLeaksNothing parses malformed credentials with an object that had
// good ones before.
func TestPoolLeaksNothing(t *testing.T) {
	reused := 0
	for _, header := range []string{
		"", "Basic", "Basic *", "Basic " + encoded("mallory"), "Basic " + encoded("mallory:\x00"), "Basic " + encoded("mal\x00lory:x"),
		"Basic " + encoded("mallory:"+strings.Repeat("p", 1025)), "Basic " + strings.Repeat("A", 4096), "Bearer x", "Basic " + encoded(""),
	} {
		for range 10 { // the pool gives back at will, and with -race drops some on purpose
			good := parseCredentials("Basic " + encoded("alice:secret"))
			good.release()
			c := parseCredentials(header)
			if c == good {
				reused++
			}
			if !c.malformed || c.digest != (digest{}) {
				t.Errorf("%.20q: malformed %v, digest %x", header, c.malformed, c.digest)
			}
			if u := string(c.user); u != "" && u != "mallory" && u != "mal\x00lory" {
				t.Errorf("%.20q: user %q", header, c.user)
			}
			if bytes.Contains(c.password, []byte("secret")) || holds(c, []byte("alice")) {
				t.Errorf("%.20q: the credentials before shine through", header)
			}
			c.release()
			short := parseCredentials("Basic " + encoded("a:b"))
			if string(short.user) != "a" || string(short.password) != "b" || cap(short.user) > cap(short.decoded[:]) {
				t.Errorf("user %q, password %q", short.user, short.password)
			}
			short.release()
		}
	}
	if reused == 0 {
		t.Error("nothing was used again: the test shows nothing")
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
				t.Errorf("%q: %q %q, %v", header, c.user, c.password, err)
			}
			if bytes.ContainsRune(c.user, ':') || len(c.user) > htfile.MaxUserLen || len(c.password) > crypt.MaxPasswordLen ||
				htfile.HasControl(c.user) || htfile.HasControl(c.password) {
				t.Errorf("%q: %q %q", header, c.user, c.password)
			}
		} else if c.digest != (digest{}) {
			t.Error("a digest of malformed credentials")
		}
		c.release()
		if !allZero(c.encoded[:]) || !allZero(c.decoded[:]) || c.digest != (digest{}) {
			t.Errorf("%q: something is left", header)
		}
	})
}

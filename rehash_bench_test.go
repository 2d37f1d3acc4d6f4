//go:build unix

package caddyhtpasswd

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// BenchmarkRehashOff checks a cached password of a site without rehash.
func BenchmarkRehashOff(b *testing.B) {
	benchmarkCached(b, &Handler{Files: []string{writeFile(b, "alice:"+makeOf(b, "bcrypt", 4, "secret")+"\n")}})
}

// BenchmarkRehashOn does the same for a site with rehash, whose hash is strong, or whose
// file cannot be written because there is none.
func BenchmarkRehashOn(b *testing.B) {
	for name, hash := range map[string]string{"strong": makeOf(b, "bcrypt", 10, "secret"), "blocked": makeOf(b, "bcrypt", 4, "secret")} {
		b.Run(name, func(b *testing.B) {
			h := &Handler{Files: []string{writeFile(b, "alice:"+hash+"\n")}, Rehash: new(Rehash), shared: newShared(time.Now)}
			h.shared.guard.makeBcrypt = func(int, []byte, func()) (string, error) { return hash, nil }
			benchmarkCached(b, h)
		})
	}
}

func benchmarkCached(b *testing.B, h *Handler) {
	provision(b, h)
	check := func() {
		c := credentialsOf("alice", "secret")
		defer c.release()
		if v, err := h.check(b.Context(), origin{ip: "192.0.2.1"}, c); v.result != resultPassed || err != nil {
			b.Fatal(v.result, err)
		}
	}
	check()
	c := credentialsOf("alice", "secret")
	defer c.release()
	b.ReportAllocs()
	for b.Loop() {
		if v, err := h.check(b.Context(), origin{ip: "192.0.2.1"}, c); v.result != resultPassed || err != nil {
			b.Fatal(v.result, err)
		}
	}
}

// BenchmarkRehashBesideALogin logs a user in whose password is not cached, with bcrypt,
// alone and while the hashes of 500 others are replaced.
func BenchmarkRehashBesideALogin(b *testing.B) {
	const people = 500
	var text strings.Builder
	fmt.Fprintf(&text, "stranger:%s\n", makeOf(b, "bcrypt", 10, "secret"))
	for i := range people {
		fmt.Fprintf(&text, "user%d:%s\n", i, makeOf(b, "sha1", 0, fmt.Sprint("password ", i)))
	}
	for _, others := range []int{0, people} {
		b.Run(fmt.Sprint(others), func(b *testing.B) {
			s := newRehashSite(b, writeFile(b, text.String()), 0)
			s.cache.off = true
			for i := range others {
				s.passes(fmt.Sprint("user", i), fmt.Sprint("password ", i))
			}
			for b.Loop() {
				s.passes("stranger", "secret")
			}
			if pending, _, _ := s.users.fixed[0].rehash.state(); (pending > 0) != (others > 0) {
				b.Errorf("%d logins are pending, which makes the benchmark void", pending)
			}
		})
	}
}

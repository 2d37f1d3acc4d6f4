package devicecookie

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// otherCookies are those of a usual page, about 400 bytes.
const otherCookies = "_ga=GA1.1.1234567890.1700000000; session=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P; " +
	"theme=dark; lang=en; csrftoken=0123456789abcdef0123456789abcdef; consent=analytics%3Afalse%2Cads%3Afalse; _gid=GA1.1.987654321.1700000000; " +
	"last_seen=2026-11-26T12%3A00%3A00Z; __utmz=1.1700000000.1.1.utmcsr=direct"

// hotRequest does what a request with the option costs: it finds the user's cached token
// and removes the cookie.
func hotRequest(h http.Header, fields []string, cache *Cache) (Token, bool) {
	h["Cookie"] = fields
	c, _ := Take(h, name)
	return keysA.Find(&c, alice, cache, start, life)
}

// positions are Cookie fields with a cookie at each position.
func positions(value string) map[string][]string {
	cookie := name + "=" + value
	middle := strings.Index(otherCookies, "csrftoken")
	return map[string][]string{
		"alone":  {cookie},
		"first":  {cookie + "; " + otherCookies},
		"middle": {otherCookies[:middle] + cookie + "; " + otherCookies[middle:]},
		"last":   {otherCookies + "; " + cookie},
	}
}

// fullCache returns a cache in which the first token of alice is the last one.
func fullCache() *Cache {
	cache := new(Cache)
	for i := byte(CacheLen); i > 0; i-- {
		keysA.Find(parsed(token(keysA, alice, i)), alice, cache, start, life)
	}
	return cache
}

// fourUsers is the value of a cookie whose last token is one of alice.
func fourUsers() string {
	value := ""
	for i := range byte(3) {
		value += token(keysA, bob, 100+i) + "."
	}
	return value + token(keysA, alice, 1)
}

// TestHotRequestAllocatesOnce checks the target of a request with a cached token.
func TestHotRequestAllocatesOnce(t *testing.T) {
	cache := fullCache()
	for _, value := range []string{token(keysA, alice, 1), fourUsers()} {
		for position, fields := range positions(value) {
			h := make(http.Header)
			if n := testing.AllocsPerRun(100, func() {
				if _, found := hotRequest(h, fields, cache); !found {
					t.Fatal("got no token")
				}
			}); n > 1 {
				t.Errorf("%s: got %v allocations, want 1", position, n)
			}
		}
	}
}

// TestWithoutCookieAllocatesNothing checks requests without the cookie.
func TestWithoutCookieAllocatesNothing(t *testing.T) {
	for _, fields := range [][]string{nil, {""}, {otherCookies}, {name}, {"x" + name + "=1", "y=2"}} {
		h := http.Header{"Cookie": fields}
		if n := testing.AllocsPerRun(100, func() {
			c, taken := Take(h, name)
			if _, found := keysA.Find(&c, alice, nil, start, life); found || taken {
				t.Fatal("got a cookie")
			}
		}); n > 0 {
			t.Errorf("%q: got %v allocations, want 0", fields, n)
		}
	}
}

// BenchmarkDeviceCookieHot measures Take, and Find with a cached token.
func BenchmarkDeviceCookieHot(b *testing.B) {
	cache := fullCache()
	for _, users := range []int{1, 4} {
		value := token(keysA, alice, 1)
		if users == 4 {
			value = fourUsers()
		}
		all := positions(value)
		for _, position := range []string{"alone", "first", "middle", "last"} {
			b.Run(fmt.Sprintf("users=%d/%s", users, position), func(b *testing.B) {
				h, fields := make(http.Header), all[position]
				b.ReportAllocs()
				for b.Loop() {
					if _, found := hotRequest(h, fields, cache); !found {
						b.Fatal("got no token")
					}
				}
			})
		}
	}
}

// BenchmarkDeviceCookieNone measures requests with other cookies only.
func BenchmarkDeviceCookieNone(b *testing.B) {
	h, fields := make(http.Header), []string{otherCookies}
	b.ReportAllocs()
	for b.Loop() {
		hotRequest(h, fields, nil)
	}
}

// BenchmarkDeviceCookieFind measures tokens that are not in the cache.
func BenchmarkDeviceCookieFind(b *testing.B) {
	foreign := strings.Repeat("."+token(keysA, bob, 1), 4)[1:]
	forged := strings.Repeat("."+token(keysA, &Owner{User: alice.User, Hash: "other"}, 1), 4)[1:]
	rehashed := &Owner{User: alice.User, Hash: "new", Previous: []string{"previous"}}
	for _, bench := range []struct {
		name   string
		keys   *Keys
		owner  *Owner
		values []string
	}{
		{"valid", keysA, alice, []string{token(keysA, alice, 1)}},
		{"8_of_others", keysA, alice, []string{foreign, foreign}},
		{"8_with_wrong_MAC", keysA, alice, []string{forged, forged}},
		{"8_with_wrong_MAC,_2_secrets,_2_hashes", keysBA, rehashed, []string{forged, forged}},
	} {
		c := parsed(bench.values...)
		for _, decoy := range []bool{false, true} {
			owner := *bench.owner
			owner.Decoy = decoy
			b.Run(fmt.Sprintf("%s/decoy=%v", bench.name, decoy), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					bench.keys.Find(c, &owner, nil, start, life)
				}
			})
		}
	}
}

// BenchmarkDeviceCookieIssue measures a new cookie beside three other users.
func BenchmarkDeviceCookieIssue(b *testing.B) {
	c := parsed(fourUsers())
	b.ReportAllocs()
	for b.Loop() {
		SetCookie(name, keysA.Issue(c, alice, start), life)
	}
}

// BenchmarkBaseline measures what BenchmarkDeviceCookieHot adds: it sets and deletes the
// field.
func BenchmarkBaseline(b *testing.B) {
	h, fields := make(http.Header), []string{otherCookies}
	for b.Loop() {
		h["Cookie"] = fields
		delete(h, "Cookie")
	}
}

// BenchmarkDeviceCookieLargest measures Take for headers of 1 MB, the most that a server
// accepts.
func BenchmarkDeviceCookieLargest(b *testing.B) {
	const size = 1 << 20
	for kind, text := range map[string]string{
		"names":   name,
		"cookies": name + "=x;",
		"pairs":   "a;" + name + "=x;",
		"spaces":  strings.Repeat(" ", 1000) + name + "=",
		"_":       "_",
	} {
		b.Run(kind, func(b *testing.B) {
			h, fields := make(http.Header), []string{strings.Repeat(text, size/len(text))}
			for b.Loop() {
				hotRequest(h, fields, nil)
			}
		})
	}
	b.Run("fields", func(b *testing.B) {
		h, fields := make(http.Header), strings.Split(strings.Repeat(name+"=x|a|", size/(len(name)+5)), "|")
		for b.Loop() {
			hotRequest(h, fields, nil)
		}
	})
}

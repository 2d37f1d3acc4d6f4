package caddyhtpasswd

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/crypto/bcrypt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
)

// The benchmarks measure from the handler to next; compare figures of one run:
//
//	go test -run '^$' -bench 'Verified|Users' -benchtime 0.3s -count 20 .

// benchPassword is the password of every user in the benchmarks.
const benchPassword = "correct horse"

// BenchmarkVerified is a request whose password is already verified, for this
// module and for Caddy's own basic_auth with its cache.
func BenchmarkVerified(b *testing.B) {
	hash, err := bcrypt.GenerateFromPassword([]byte(benchPassword), bcrypt.MinCost)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("htpasswd", func(b *testing.B) {
		path := writeFile(b, "alice:"+string(hash)+"\n")
		benchmarkRequests(b, provision(b, &Handler{Files: []string{path}}), "alice")
	})
	b.Run("basic_auth", func(b *testing.B) {
		raw := fmt.Sprintf(`{"accounts": [{"username": "alice", "password": %q}], "hash_cache": {}}`, hash)
		h := &caddyauth.Authentication{ProvidersRaw: caddy.ModuleMap{"http_basic": json.RawMessage(raw)}}
		if err := h.Provision(configContext(b)); err != nil {
			b.Fatal(err)
		}
		benchmarkRequests(b, h, "alice")
	})
}

// BenchmarkUsers is the same check with few and with many users in the file.
func BenchmarkUsers(b *testing.B) {
	for _, n := range []int{1, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path := writeFile(b, manyUsers(n))
			benchmarkRequests(b, provision(b, &Handler{Files: []string{path}}), fmt.Sprintf("user%07d", n/2))
		})
	}
}

// BenchmarkParse is the reading of a file of a million users, {SHA} and bcrypt
// by turns. It reports what the table takes in memory, the text of the file
// included.
func BenchmarkParse(b *testing.B) {
	const n = 1_000_000
	text := manyUsers(n)
	path := writeFile(b, text)
	var before, after runtime.MemStats
	for b.Loop() {
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&before)
		store := newUserStore(path)
		b.StartTimer()
		text, _, err := follow.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		if err := store.load(text, zap.NewNop()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "bytes/user")
		runtime.KeepAlive(store)
		b.StartTimer()
	}
}

// manyUsers returns a file of n users with benchPassword, {SHA} and bcrypt by
// turns; the user in the middle has bcrypt.
func manyUsers(n int) string {
	hash, _ := bcrypt.GenerateFromPassword([]byte(benchPassword), bcrypt.MinCost)
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "user%07d:", i)
		if i%2 == 0 {
			text.Write(hash)
		} else {
			text.WriteString("{SHA}Va5aHlRIv6pZ8fU0d5eZqV5sKhM=")
		}
		text.WriteByte('\n')
	}
	return text.String()
}

// BenchmarkDecoy is the choice of a decoy for an unknown name, in files with so
// many classes of hashes.
func BenchmarkDecoy(b *testing.B) {
	for _, n := range []int{1, 4, 256, 10_000, 900_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			stores := userStores{storeOf(b, fileOfClasses(slices.Repeat([]int{1}, n)))}
			if got := len(stores[0].current.Load().file.Classes); got != n {
				b.Fatalf("%d classes", got)
			}
			b.ReportAllocs()
			name := []byte("nobody0000")
			for b.Loop() {
				name[len(name)-1]++
				if !stores.decoy(testKey, name).entry.exists() {
					b.Fatal("no decoy")
				}
			}
		})
	}
}

func benchmarkRequests(b *testing.B, h caddyhttp.MiddlewareHandler, user string) {
	b.Helper()
	var passed int
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		passed++
		return nil
	})
	r := newRequest("/")
	r.SetBasicAuth(user, benchPassword)
	header := r.Header["Authorization"]
	vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	vars[caddyhttp.ClientIPVarKey] = "192.0.2.1"
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		// The request is new each time: what a handler takes out is there again, what it keeps is not.
		r.Header["Authorization"] = header
		delete(vars, loginVar)
		if err := h.ServeHTTP(w, r, next); err != nil {
			b.Fatal(err)
		}
	}
	if passed != b.N {
		b.Fatalf("%d of %d requests passed", passed, b.N)
	}
}

// newRequest returns a request as Caddy hands it to a handler, come by TLS.
func newRequest(target string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://localhost"+target, nil)
	r.TLS = new(tls.ConnectionState)
	repl := caddy.NewReplacer()
	return caddyhttp.PrepareRequest(r, repl, nil, nil)
}

func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".htpasswd")
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

func configContext(t testing.TB) caddy.Context {
	t.Helper()
	storage, err := json.Marshal(map[string]string{"module": "file_system", "root": t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:      &caddy.AdminConfig{Disabled: true},
		StorageRaw: storage,
		Logging:    &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

func provision(t testing.TB, h *Handler) *Handler {
	t.Helper()
	if err := h.Provision(configContext(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Cleanup() })
	return h
}

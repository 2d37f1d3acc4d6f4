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
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// BenchmarkParse parses a file of a million users, alternating {SHA} and bcrypt. It
// reports the memory of the table, including the text of the file.
func BenchmarkParse(b *testing.B) {
	const n = 1_000_000
	path := writeFile(b, testkit.ManyUsers(b, n))
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

// BenchmarkDecoy chooses a decoy for an unknown user, in files with many classes of
// hashes.
func BenchmarkDecoy(b *testing.B) {
	for _, n := range []int{1, 4, 256, 10_000, 900_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			stores := userStores{storeOf(b, fileOfClasses(slices.Repeat([]int{1}, n)))}
			if got := len(stores[0].current.Load().file.Classes); got != n {
				b.Fatalf("got %d classes, want %d", got, n)
			}
			b.ReportAllocs()
			name := []byte("nobody0000")
			for b.Loop() {
				name[len(name)-1]++
				if !stores.decoy(testKey, name).entry.exists() {
					b.Fatal("got no decoy, want one")
				}
			}
		})
	}
}

// newRequest returns a request over TLS, as Caddy passes it to a handler.
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

// BenchmarkLogin measures a request with a cached password, from ServeHTTP to the next
// handler: with one file, with the files of a pattern, and from a client with an address,
// without a fleet and with the keys of one.
func BenchmarkLogin(b *testing.B) {
	for _, test := range []struct {
		name, source, ip string
		keyer            *keyer
	}{
		{"users", "users", "", nil},
		{"*.u", "*.u", "", nil},
		{"client", "users", "192.0.2.123", nil},
		{"fleet", "users", "192.0.2.123", keyerOf(1)},
	} {
		b.Run(test.name, func(b *testing.B) {
			dir := b.TempDir()
			for _, name := range []string{"users", "a.u", "b.u"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("alice:"+shaSecret1+"\n"), 0o600); err != nil {
					b.Fatal(err)
				}
			}
			h := &Handler{Files: []string{filepath.Join(dir, test.source)}}
			r := handlerRequest(true, http.Header{})
			if test.ip != "" {
				h.shared = newShared(time.Now)
				settings := *h.shared.active.get()
				settings.keyer, settings.recognized = test.keyer, func(uint64) {}
				h.shared.active.start(&settings)
				caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, test.ip)
			}
			provision(b, h)
			w, next := httptest.NewRecorder(), new(nextHandler)
			header := []string{basic("alice", "secret1")}
			for b.Loop() {
				r.Header["Authorization"] = header
				if err := h.ServeHTTP(w, r, next); err != nil {
					b.Fatal(err)
				}
			}
			if w.Code != http.StatusOK || next.calls == 0 {
				b.Fatalf("got status %d and %d calls of the next handler", w.Code, next.calls)
			}
		})
	}
}

// Package bench measures requests through the handlers of the plugin, provisioned
// by Caddy from a configuration, and compares them with Caddy's own handlers.
// Compare figures of one run only:
//
//	go test -run '^$' -bench 'Verified|Users' -benchtime 0.3s -count 20 ./bench
package bench

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	htpasswd "github.com/seed10b5b978/caddy-htpasswd"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// BenchmarkVerified measures a request with a cached password, from the handler to
// the next one, for this module and for Caddy's own basic_auth with its cache.
func BenchmarkVerified(b *testing.B) {
	hash, err := bcrypt.GenerateFromPassword([]byte(testkit.ManyUsersPassword), bcrypt.MinCost)
	testkit.Must(b, err)
	b.Run("htpasswd", func(b *testing.B) {
		benchmarkRequests(b, provision(b, writeFile(b, "alice:"+string(hash)+"\n")), "alice")
	})
	b.Run("basic_auth", func(b *testing.B) {
		raw := fmt.Sprintf(`{"accounts": [{"username": "alice", "password": %q}], "hash_cache": {}}`, hash)
		h := &caddyauth.Authentication{ProvidersRaw: caddy.ModuleMap{"http_basic": json.RawMessage(raw)}}
		testkit.Must(b, h.Provision(configContext(b)))
		benchmarkRequests(b, h, "alice")
	})
}

// BenchmarkUsers measures the same with one user, and with a million users, in the file.
func BenchmarkUsers(b *testing.B) {
	for _, n := range []int{1, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path := writeFile(b, testkit.ManyUsers(b, n))
			benchmarkRequests(b, provision(b, path), fmt.Sprintf("user%07d", n/2))
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
	r := httptest.NewRequest(http.MethodGet, "https://localhost/", nil)
	r.TLS = new(tls.ConnectionState)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, nil)
	r.SetBasicAuth(user, testkit.ManyUsersPassword)
	header := r.Header["Authorization"]
	vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	var clientIP any = "192.0.2.1"
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		// As in a new request: restore what the handler removes, and drop what it keeps.
		r.Header["Authorization"] = header
		clear(vars)
		vars[caddyhttp.ClientIPVarKey] = clientIP
		if err := h.ServeHTTP(w, r, next); err != nil {
			b.Fatal(err)
		}
	}
	if passed != b.N {
		b.Fatalf("got %d requests passed, want %d", passed, b.N)
	}
}

func writeFile(b *testing.B, text string) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), ".htpasswd")
	testkit.Must(b, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// configContext returns the context of a configuration without apps.
func configContext(b *testing.B) caddy.Context {
	b.Helper()
	storage, err := json.Marshal(map[string]string{"module": "file_system", "root": b.TempDir()})
	testkit.Must(b, err)
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:      &caddy.AdminConfig{Disabled: true},
		StorageRaw: storage,
		Logging:    &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}}}},
	})
	testkit.Must(b, err)
	return ctx
}

// provision returns a handler for a password file.
func provision(b *testing.B, path string) *htpasswd.Handler {
	b.Helper()
	h := &htpasswd.Handler{Files: []string{path}}
	testkit.Must(b, h.Provision(configContext(b)))
	b.Cleanup(func() { _ = h.Cleanup() })
	return h
}

// BenchmarkProxyPass compares requests per second through proxy_pass and through
// a plain reverse_proxy to the same servers: alternating rounds of both, and the
// median of the ratios.
func BenchmarkProxyPass(b *testing.B) {
	one, two := namedServer(b, "a"), namedServer(b, "b")
	ports := testkit.FreePorts(b, 2)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(fmt.Appendf(nil, `{
		admin off
		persist_config off
		storage file_system %s
		log {
			output discard
		}
		upstream web {
			server %s
			server %[3]s
		}
	}
	http://127.0.0.1:%[4]d {
		proxy_pass web
	}
	http://127.0.0.1:%[5]d {
		reverse_proxy %[2]s %[3]s {
			lb_policy round_robin
			lb_retries 1
			fail_duration 10s
		}
	}`, b.TempDir(), one.URL, two.URL, ports[0], ports[1]), map[string]any{"filename": "Caddyfile"})
	testkit.Must(b, err)
	testkit.Must(b, caddy.Load(config, true))
	b.Cleanup(func() { _ = caddy.Stop() })
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	round := func(port int) float64 {
		var n atomic.Int64
		var group sync.WaitGroup
		start := time.Now()
		for range 4 {
			group.Go(func() {
				for time.Since(start) < 300*time.Millisecond {
					resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					n.Add(1)
				}
			})
		}
		group.Wait()
		return float64(n.Load()) / time.Since(start).Seconds()
	}
	for b.Loop() {
		var ratios, ours []float64
		for range 21 {
			with, without := round(ports[0]), round(ports[1])
			ratios, ours = append(ratios, with/without), append(ours, with)
		}
		slices.Sort(ratios)
		slices.Sort(ours)
		b.ReportMetric(ours[10], "requests/s")
		b.ReportMetric(ratios[10], "ratio")
		b.ReportMetric(ratios[5], "ratio-25%")
		b.ReportMetric(ratios[15], "ratio-75%")
	}
}

// namedServer returns a server that answers with its name.
func namedServer(b *testing.B, name string) *httptest.Server {
	b.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }))
	b.Cleanup(s.Close)
	return s
}

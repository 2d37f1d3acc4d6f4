package caddyhtpasswd

import (
	"net/http"
	"strings"
	"testing"
)

// TestProxyFastCGISizes has fields that Caddy's FastCGI client would cut off or panic at,
// if max_header_size allows them.
func TestProxyFastCGISizes(t *testing.T) {
	p := &ProxyPass{isFastCGI: true, maxFieldSize: maxFastCGIField}
	long := strings.Repeat("x", 66000)
	for _, row := range []struct {
		name   string
		change func(r *http.Request)
		want   int
	}{
		{"an ordinary request", func(*http.Request) {}, 0},
		{"a long name", func(r *http.Request) { r.Header[long] = []string{"x"} }, 431},
		{"a long value", func(r *http.Request) { r.Header["X"] = []string{long} }, 431},
		{"values that are long together", func(r *http.Request) { r.Header["X"] = []string{long[:40000], long[:40000]} }, 431},
		{"a long query", func(r *http.Request) { r.URL.RawQuery = long }, 414},
		{"a long path", func(r *http.Request) { r.URL.Path = "/" + long }, 414},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRequest("/")
			row.change(r)
			got := 0
			if _, err := p.prepare(r); err != nil {
				got = statusOf(err)
			}
			if got != row.want {
				t.Errorf("got status %d, want %d", got, row.want)
			}
		})
	}
}

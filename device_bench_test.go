package caddyhtpasswd

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// otherCookies are cookies of a usual page, about 400 bytes.
var otherCookies = "session=" + strings.Repeat("x", 200) + "; theme=dark; " + strings.Repeat("_ga=GA1.1.1234567890.1700000000; ", 6) + "lang=en"

// BenchmarkDeviceLogin logs in with a cached password: without device_cookie, and with it
// and a valid cookie.
func BenchmarkDeviceLogin(b *testing.B) {
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	for _, row := range []struct {
		name  string
		use   bool
		other string
	}{{"off", false, ""}, {"cookie", true, ""}, {"off,_400_bytes_of_others", false, otherCookies}, {"cookie,_400_bytes_of_others", true, otherCookies}} {
		b.Run(row.name, func(b *testing.B) {
			h := new(Handler)
			if row.use {
				h.DeviceCookie = new(DeviceCookie)
			}
			d := newDeviceHandler(b, h, "alice:"+shaSecret1+"\n")
			cookie, _, _ := strings.Cut(d.get(b, "alice", "secret1").Header().Get("Set-Cookie"), ";")
			var fields []string
			if text := strings.TrimSuffix(row.other+"; "+cookie, "; "); text != "" {
				fields = []string{strings.TrimPrefix(text, "; ")}
			}
			d.get(b, "alice", "secret1", fields...) // the token is in the cache
			r, w := newRequest("/"), httptest.NewRecorder()
			values := []string{basic("alice", "secret1")}
			vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
			vars[caddyhttp.ClientIPVarKey] = "192.0.2.1"
			b.ReportAllocs()
			for b.Loop() {
				r.Header["Authorization"], r.Header["Cookie"] = values, fields
				delete(vars, sentAuthorizationVar)
				if err := d.ServeHTTP(w, r, next); err != nil {
					b.Fatal(err)
				}
			}
			if w.Header()["Set-Cookie"] != nil && row.use {
				b.Error("a cookie was set")
			}
		})
	}
}

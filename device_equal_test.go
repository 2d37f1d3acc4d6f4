package caddyhtpasswd

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/devicecookie"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

// TestDeviceSameWork sends wrong passwords with every kind of cookie. Known, unknown,
// locked and invalid users need one hash each, and have the same limits.
func TestDeviceSameWork(t *testing.T) {
	const file = "known:" + bcrypt4Secret1 + "\nfresh:" + bcrypt4Secret1 + "\nother:" + bcrypt4Secret1 + "\nlocked:!\ninvalid:nonsense\n"
	cookies := map[string]func(h *flooded, user string) string{
		"none":                 func(*flooded, string) string { return "" },
		"not a token":          func(*flooded, string) string { return strings.Repeat("x", 60) },
		"forged":               func(h *flooded, _ string) string { return "x" + h.tokenOf("other")[1:] },
		"of another user":      func(h *flooded, _ string) string { return h.tokenOf("other") },
		"of an old hash":       func(h *flooded, user string) string { return h.tokenFor(user, "old") },
		"eight, of other hash": func(h *flooded, user string) string { return strings.Repeat(h.tokenFor(user, "old")+".", 4)[:4*61-1] },
	}
	for name, cookie := range cookies {
		allocs := make(map[string]float64)
		withDevices(t, &App{}, file, func(t *testing.T, h *flooded) {
			h.expect("198.51.100.1", "known", "secret1", loginPassed)
			h.computeOneHashOf(10)
			for i, user := range []string{"known", "fresh", "nobody", "locked", "invalid"} {
				ip, token := fmt.Sprintf("192.0.%d.1", i), cookie(h, user)
				for guess := range 12 {
					before, start := h.cost(), time.Now()
					got := h.loginWith(token, ip, user, fmt.Sprint("guess", guess))
					hashes, took := h.cost().hashes-before.hashes, time.Since(start)
					if (got == loginThrottled) != (guess >= 10) || hashes == 1 != (guess < 10) || took != time.Duration(hashes)*hashTime {
						t.Fatalf("%s, cookie %s, guess %d: got %q with %d hashes in %s, want one hash for each of 10 guesses, then %q", user, name, guess, got, hashes, took, loginThrottled)
					}
				}
				// Each HMAC allocates, so allocations tell how many there are.
				c := credentialsOf(user, "guess")
				from := origin{devices: sending(h.device.name, token)}
				a := attempt{credentials: c, from: from, keyer: h.guard.keyer()}
				h.begin(&a, noClient)
				allocs[user] = testing.AllocsPerRun(20, func() { h.findDevice(&a) })
				if user == "known" && from.devices.candidates.Len() > 0 {
					allocs[user]++ // the owner is in memory
				}
				c.release()
			}
		})
		for user, n := range allocs {
			if n != allocs["known"] || (n > 0) == (name == "none") {
				t.Errorf("cookie %s, %s: got %v allocations, want as many as for a known user: %v", name, user, n, allocs["known"])
			}
		}
	}
}

// deviceHandler is a provisioned handler for users in a file, with a secret and an own
// clock, and next handlers that record the request.
type deviceHandler struct {
	*Handler
	now  time.Time
	seen http.Header // of the request that the next handler got; nil for none
}

func newDeviceHandler(t testing.TB, h *Handler, users string) *deviceHandler {
	t.Helper()
	d := &deviceHandler{Handler: h, now: time.Unix(1_700_000_000, 0)}
	d.shared = newShared(func() time.Time { return d.now })
	d.shared.active.fallback().keys = keyring.NewRing(new(keyring.Fallback))
	d.shared.active.fallback().keys.Set(keyring.NewKeys(secretA, ""))
	d.Files = []string{writeFile(t, users)}
	provision(t, d.Handler)
	return d
}

// get sends a request with an Authorization and Cookie fields.
func (d *deviceHandler) get(t testing.TB, user, password string, cookies ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := newRequest("/")
	r.Header["Authorization"] = []string{basic(user, password)}
	if cookies != nil {
		r.Header["Cookie"] = cookies
	}
	w := httptest.NewRecorder()
	d.seen = nil
	err := d.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		d.seen = r.Header.Clone()
		w.WriteHeader(http.StatusOK)
		return nil
	}))
	if err != nil {
		w.WriteHeader(statusOf(err))
	}
	return w
}

// TestTokensPerMinute has a program without cookies log in all the time. It gets 60
// tokens a minute, and each other user their own.
func TestTokensPerMinute(t *testing.T) {
	d := newDeviceHandler(t, &Handler{DeviceCookie: new(DeviceCookie)}, "alice:"+shaSecret1+"\nbob:"+shaSecret1+"\n")
	tokens := func(user string) (n int) {
		nonces := make(map[string]bool)
		for range 200 {
			for _, text := range d.get(t, user, "secret1").Header()["Set-Cookie"] {
				nonces[text] = true
			}
		}
		return len(nonces)
	}
	for range 2 {
		for user, want := range map[string]int{"alice": 60, "bob": 60} {
			if n := tokens(user); n != want {
				t.Errorf("%s: got %d tokens, want %d", user, n, want)
			}
		}
		if n := tokens("alice"); n != 0 {
			t.Errorf("within the same minute: got %d tokens, want none", n)
		}
		d.now = d.now.Add(time.Minute)
	}
	if n := d.shared.guard.tokensIssued.Load(); n != 240 {
		t.Errorf("the metric counts %d tokens, want 240", n)
	}
}

// TestNoTokenWithLocalSecret has no secret that outlives the process.
func TestNoTokenWithLocalSecret(t *testing.T) {
	d := newDeviceHandler(t, &Handler{DeviceCookie: new(DeviceCookie)}, "alice:"+shaSecret1+"\n")
	value := d.get(t, "alice", "secret1").Header().Get("Set-Cookie")
	d.shared.active.fallback().keys.Set(nil)
	if w := d.get(t, "alice", "secret1", value); w.Code != 200 || w.Header()["Set-Cookie"] != nil {
		t.Errorf("got %d with %q, want 200 without a cookie", w.Code, w.Header()["Set-Cookie"])
	}
	if d.seen["Cookie"] == nil {
		t.Error("the other attributes of the test's value are gone, want them to stay")
	}
}

// plainWriter is a ResponseWriter of the test that can be hijacked and flushed.
type plainWriter struct {
	*httptest.ResponseRecorder
	calls []string
}

func (p *plainWriter) FlushError() error {
	p.calls = append(p.calls, "flush")
	if p.Code = 200; p.HeaderMap.Get("Set-Cookie") != "" {
		p.calls = append(p.calls, "cookie")
	}
	return nil
}

// TestDeviceWriter has the next handler begin the response in each way. The cookie is set
// once, before the header.
func TestDeviceWriter(t *testing.T) {
	for name, next := range map[string]func(w http.ResponseWriter){
		"WriteHeader": func(w http.ResponseWriter) { w.WriteHeader(200); w.WriteHeader(500) },
		"Write":       func(w http.ResponseWriter) { fmt.Fprint(w, "a"); fmt.Fprint(w, "b") },
		"ReadFrom":    nil,
		"Flush":       func(w http.ResponseWriter) { must(t, http.NewResponseController(w).Flush()) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDeviceHandler(t, &Handler{DeviceCookie: new(DeviceCookie)}, "alice:"+shaSecret1+"\n")
			r := newRequest("/")
			r.Header["Authorization"] = []string{basic("alice", "secret1")}
			w := &plainWriter{ResponseRecorder: httptest.NewRecorder()}
			must(t, d.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
				if name == "ReadFrom" {
					_, err := w.(*headerHook).ReadFrom(strings.NewReader("a"))
					return err
				}
				next(w)
				return nil
			})))
			got := len(w.Result().Header["Set-Cookie"]) //nolint:bodyclose // a recorder
			if name == "Flush" {
				got = len(w.calls) - 1
			}
			if got != 1 {
				t.Errorf("got %d cookies, want 1", got)
			}
		})
	}
	t.Run("without a token to issue, the writer is the server's", func(t *testing.T) {
		d := newDeviceHandler(t, &Handler{DeviceCookie: new(DeviceCookie)}, "alice:"+shaSecret1+"\n")
		cookie, _, _ := strings.Cut(d.get(t, "alice", "secret1").Header().Get("Set-Cookie"), ";")
		r := newRequest("/")
		r.Header["Authorization"], r.Header["Cookie"] = []string{basic("alice", "secret1")}, []string{cookie}
		outer := httptest.NewRecorder()
		must(t, d.ServeHTTP(outer, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			if w != http.ResponseWriter(outer) {
				t.Errorf("the next handler got a %T, want the server's", w)
			}
			return nil
		})))
	})
}

// FuzzDeviceCookieField sends any Cookie field with a good and a bad password. Nothing
// panics, only the good one passes, the cookie is taken out, and what is issued is valid.
func FuzzDeviceCookieField(f *testing.F) {
	d := newDeviceHandler(f, &Handler{DeviceCookie: new(DeviceCookie)}, "alice:"+shaSecret1+"\nbob:"+shaSecret1+"\n")
	d.shared.guard.verify = func(_ crypt.Class, _ string, password []byte) bool { return string(password) == "secret1" }
	off := &Limit{Off: true}
	limits := &d.shared.active.fallback().limits
	for s := range limits {
		off.override(&limits[s])
	}
	keys := d.shared.guard.deviceSigners()
	issue := func(user string) string {
		l := d.users.now().find([]byte(user))
		return keys.Issue(new(devicecookie.Candidates), &devicecookie.Owner{User: []byte(user), Hash: l.entry.Hash}, d.now)
	}
	good := issue("alice")
	for _, text := range []string{
		"", ";", "a=1", defaultDevice, defaultDevice + good, "a=1; " + defaultDevice + good + "; b=2", defaultDevice + good + "." + issue("bob"),
		defaultDevice + good[:59], defaultDevice + strings.Repeat(good+".", 9), strings.Repeat(defaultDevice+good+";", 9), defaultDevice + `"` + good + `"`,
		" \t" + defaultDevice + "\t" + good + " ;", defaultDeviceCookie, "\x00" + defaultDevice + "\xff",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d.now = d.now.Add(time.Second)
		if w := d.get(t, "alice", "wrong", text); w.Code != 401 || d.seen != nil || w.Header()["Set-Cookie"] != nil {
			t.Fatalf("a wrong password: got %d with %q, want 401 without a cookie", w.Code, w.Header()["Set-Cookie"])
		}
		w := d.get(t, "alice", "secret1", text)
		if w.Code != 200 || d.seen == nil {
			t.Fatalf("the right password: got %d, want 200", w.Code)
		}
		want := http.Header{"Cookie": {text}}
		devicecookie.Take(want, defaultDeviceCookie)
		if !slices.Equal(d.seen["Cookie"], want["Cookie"]) {
			t.Fatalf("the next handler got %q, want %q", d.seen["Cookie"], want["Cookie"])
		}
		if _, found := devicecookie.Take(d.seen, defaultDeviceCookie); found {
			t.Fatalf("the next handler got the cookie: %q", d.seen["Cookie"])
		}
		set := w.Header()["Set-Cookie"]
		if len(set) > 1 {
			t.Fatalf("got %q, want at most one cookie", set)
		}
		if len(set) == 1 {
			pair, _, _ := strings.Cut(set[0], ";")
			_, value, _ := strings.Cut(pair, "=")
			first, _, _ := strings.Cut(value, ".")
			if raw, err := base64.RawURLEncoding.DecodeString(first); err != nil || len(raw) != 45 || bytes.ContainsAny([]byte(value), " ;,\"\\\x00\r\n") {
				t.Fatalf("got %q, want a token first, and only characters of cookies", set[0])
			}
			if again := d.get(t, "alice", "secret1", pair); again.Code != 200 || again.Header()["Set-Cookie"] != nil {
				t.Fatalf("with the cookie: got %d and %q, want 200 and no other", again.Code, again.Header()["Set-Cookie"])
			}
		}
	})
}

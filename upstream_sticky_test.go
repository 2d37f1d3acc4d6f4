package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/seed10b5b978/caddy-htpasswd/internal/balance"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

const (
	stickySecret keyring.Secret = "secret-of-the-fleet-0123456789abcdef"
	otherSecret  keyring.Secret = "another-secret-of-32-characters-or-more"
)

// stickyTest is a policy with a cookie, as it is inside a ProxyPass.
type stickyTest struct {
	*UpstreamGroup
	ring *keyring.Ring
	pool reverseproxy.UpstreamPool
}

func newStickyTest(t testing.TB, method, servers string, keys *keyring.Keys) *stickyTest {
	t.Helper()
	g, names := groupOf(t, method, servers)
	g.Sticky = &Sticky{Cookie: &StickyCookie{Name: "srv"}}
	s := &stickyTest{g, keyring.NewRing(new(keyring.Fallback)), plainPool(names...)}
	g.sessions = newStickySessions(*g.Sticky)
	g.sessions.group, g.sessions.keys = "web", s.ring
	if keys != nil {
		s.ring.Set(keys)
	}
	return s
}

// send sends a request with Cookie fields through one attempt. It returns the server, and
// the value of the cookie in the response.
func (s *stickyTest) send(cookies ...string) (server, cookie string) {
	r := proxied("/", "192.0.2.1")
	if cookies != nil {
		r.Header["Cookie"] = cookies
	}
	caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, false)
	answer := httptest.NewRecorder()
	w, done := s.observeResponse(answer, r)
	defer done()
	upstream := s.Select(s.pool, r, w)
	if upstream == nil {
		return "-", ""
	}
	w.WriteHeader(http.StatusOK)
	for _, c := range answer.Result().Cookies() {
		if c.Name == "srv" {
			return upstream.Dial, c.Value
		}
	}
	return upstream.Dial, ""
}

// TestStickyCookieValues pins the values: servers of a fleet can run different versions.
func TestStickyCookieValues(t *testing.T) {
	both := keyring.NewKeys(otherSecret, stickySecret)
	for name, row := range map[string]struct {
		keys *keyring.Keys
		want string
	}{
		"one secret":                  {keyring.NewKeys(stickySecret, ""), "jjKsVCkxXEOlN9ctkUm8Xg"},
		"a new secret and an old one": {both, "sIVHADUjyhrXtW_YCaHjyQ.jjKsVCkxXEOlN9ctkUm8Xg"},
	} {
		s := newStickyTest(t, "round_robin", "10.0.0.1", row.keys)
		if _, got := s.send(); got != row.want {
			t.Errorf("%s: got %s, want %s", name, got, row.want)
		}
	}
	s := newStickyTest(t, "round_robin", "10.0.0.1", both)
	s.Servers["10.0.0.1"] = UpstreamServer{Route: "a"}
	if _, got := s.send(); got != "a" {
		t.Errorf("with a route: got %s, want a", got)
	}
}

// TestStickyCookieOfTheFleet sends the cookie of one server of a fleet to another one, for
// each step of a change of the secret.
func TestStickyCookieOfTheFleet(t *testing.T) {
	before, during, after := keyring.NewKeys(stickySecret, ""), keyring.NewKeys(otherSecret, stickySecret), keyring.NewKeys(otherSecret, "")
	for name, row := range map[string]struct {
		from, to *keyring.Keys
		stays    bool
	}{
		"the same secret":                  {before, keyring.NewKeys(stickySecret, ""), true},
		"one server has both secrets":      {before, during, true},
		"and its cookie at the others":     {during, before, true},
		"one server has the new one alone": {during, after, true},
		"and its cookie at the others, ":   {after, during, true},
		"another secret":                   {before, after, false},
	} {
		from, to := newStickyTest(t, "round_robin", "a b c", row.from), newStickyTest(t, "round_robin", "a b c", row.to)
		want := newStickyTest(t, "round_robin", "a b c", row.to)
		for range 3 {
			server, cookie := from.send()
			for range 3 {
				got, renewed := to.send("srv=" + cookie)
				if stays := got == server; row.stays && !stays {
					t.Errorf("%s: got %s for a session of %s, want the same", name, got, server)
				}
				if _, expected := want.send("srv=" + renewed); renewed != expected {
					t.Errorf("%s: got the cookie %s, want a renewed one, %s", name, renewed, expected)
				}
			}
		}
		if !row.stays {
			server, cookie := from.send()
			if w := to.plan.Load().ids.Load().named(cookie); w != nil {
				t.Errorf("%s: got server %v for a session of %s, want none", name, w, server)
			}
		}
	}
}

// TestStickyCookieWithoutSecret has a cookie from the time before the secret was loaded.
// It stays valid in this process, and nowhere else.
func TestStickyCookieWithoutSecret(t *testing.T) {
	s := newStickyTest(t, "round_robin", "a b c", nil)
	server, local := s.send()
	s.ring.Set(keyring.NewKeys(stickySecret, ""))
	got, renewed := s.send("srv=" + local)
	if got != server || renewed == local {
		t.Errorf("got %s with the cookie %s, want %s and a renewed cookie", got, renewed, server)
	}
	other := newStickyTest(t, "round_robin", "a b c", keyring.NewKeys(stickySecret, ""))
	other.send()
	if w := other.plan.Load().ids.Load().named(local); w != nil {
		t.Error("another process knows the cookie, want only this one")
	}
	if got, _ := other.send("srv=" + renewed); got != server {
		t.Errorf("another process: got %s for the renewed cookie, want %s", got, server)
	}
}

// TestStickyCookieOfGroups has two groups with the same server: their cookies differ.
func TestStickyCookieOfGroups(t *testing.T) {
	one, two := newStickyTest(t, "round_robin", "a b", keyring.NewKeys(stickySecret, "")), newStickyTest(t, "round_robin", "a b", keyring.NewKeys(stickySecret, ""))
	two.sessions.group = "other"
	_, cookie := one.send()
	if _, other := two.send(); other == cookie {
		t.Error("got the same cookie of two groups, want different ones")
	}
}

// TestStickyAcceptsDigestsBesideRoutes adds a route to servers whose sessions have digests.
func TestStickyAcceptsDigestsBesideRoutes(t *testing.T) {
	keys := keyring.NewKeys(stickySecret, "")
	before, after := newStickyTest(t, "round_robin", "a b c", keys), newStickyTest(t, "round_robin", "a b c", keys)
	for name := range after.Servers {
		after.Servers[name] = UpstreamServer{Route: "the-" + name}
	}
	for range 3 {
		server, cookie := before.send()
		if got, renewed := after.send("srv=" + cookie); got != server || renewed != "the-"+server {
			t.Errorf("got %s with the cookie %s, want %s with its route", got, renewed, server)
		}
	}
}

// TestStickySharedRoute has servers that share a route, such as the addresses of a name.
// Each session stays at its server, and goes to another one of the route if its server is
// gone or has another address.
func TestStickySharedRoute(t *testing.T) {
	keys := keyring.NewKeys(otherSecret, stickySecret)
	group := func(servers string) *stickyTest {
		s := newStickyTest(t, "round_robin", servers, keys)
		for name := range s.Servers {
			s.Servers[name] = UpstreamServer{Route: "app.1"}
		}
		s.Servers["z"] = UpstreamServer{Route: "last"}
		return s
	}
	s := group("a b c z")
	for range 8 {
		server, cookie := s.send()
		for range 3 {
			if got, renewed := s.send("srv=" + cookie); got != server || renewed != cookie {
				t.Errorf("got %s with %s, want %s with %s", got, renewed, server, cookie)
			}
		}
		for range 3 {
			got, _ := group("d e z").send("srv=" + cookie)
			if (got == "z") != (server == "z") {
				t.Errorf("a session of %s after all addresses have changed: got %s", server, got)
			}
		}
		if got, renewed := group("d z").send("srv=" + cookie); server != "z" && (got != "d" || renewed != "app.1") {
			t.Errorf("a session of %s after one address is left: got %s with %s, want d with app.1", server, got, renewed)
		}
	}
	if got, _ := s.send("srv=app.1"); got != "a" {
		t.Errorf("from a time with one address: got %s, want a", got)
	}
	if got := len("app.1." + strings.Repeat("x", 45)); got > maxValueLen {
		t.Errorf("got a value of %d bytes, want at most %d", got, maxValueLen)
	}
}

// TestStickyCookieFields has cookies that are not one valid cookie.
func TestStickyCookieFields(t *testing.T) {
	s := newStickyTest(t, "round_robin", "a b c", keyring.NewKeys(stickySecret, ""))
	cookies := make(map[string]string) // by server
	for range 3 {
		server, cookie := s.send()
		cookies[server] = cookie
	}
	b := cookies["b"]
	for _, row := range []struct {
		name   string
		fields []string
		stays  bool // at b
	}{
		{"alone", []string{"srv=" + b}, true},
		{"between others", []string{"x=1; srv=" + b + "; y=2"}, true},
		{"without a space", []string{"x=1;srv=" + b + ";y=2"}, true},
		{"with whitespace", []string{"x=1;  srv=" + b + " \t; y"}, true},
		{"in another field", []string{"x=1", "srv=" + b}, true},
		{"after one of the name that is foreign", []string{"srv=1234; srv=" + b}, true},
		{"after one of another server", []string{"srv=" + b + "; srv=" + cookies["c"]}, true},
		{"after an empty one", []string{"srv=; srv; =; ; srv=" + b}, true},
		{"after a very long one", []string{"srv=" + strings.Repeat("x", 1<<20) + "; srv=" + b}, true},
		{"truncated", []string{"srv=" + b[:21]}, false},
		{"with more behind it", []string{"srv=" + b + "x"}, false},
		{"in quotes", []string{`srv="` + b + `"`}, false},
		{"another name", []string{"SRV=" + b + "; xsrv=" + b + "; srvx=" + b + "; srv =" + b}, false},
		{"twice, as if of two secrets", []string{"srv=" + b + "." + b[:21]}, false},
		{"of two secrets, the first unknown", []string{"srv=" + strings.Repeat("A", 22) + "." + b}, true},
		{"of two secrets, the second unknown", []string{"srv=" + b + "." + strings.Repeat("A", 22)}, true},
		{"bytes that are not text", []string{"srv=\x00\xff\xfe; \x80=\x01"}, false},
		{"empty", []string{""}, false},
		{"only semicolons", []string{strings.Repeat(";", 1<<16)}, false},
	} {
		stayed := 0
		for range 6 {
			got, renewed := s.send(row.fields...)
			if got == "b" {
				stayed++
			}
			if renewed != cookies[got] {
				t.Errorf("%s: got the cookie %q, want that of %s, %q", row.name, renewed, got, cookies[got])
			}
		}
		if want := map[bool]int{true: 6, false: 2}[row.stays]; stayed != want {
			t.Errorf("%s: %d of 6 requests stayed, want %d", row.name, stayed, want)
		}
	}
}

// FuzzStickyCookie reads Cookie fields. A server is named only by its own ID as the value
// of a cookie of the name.
func FuzzStickyCookie(f *testing.F) {
	s := newStickyTest(f, "round_robin", "a b c", keyring.NewKeys(otherSecret, stickySecret))
	s.Servers["c"] = UpstreamServer{Route: "third"}
	s.send()
	ids := s.plan.Load().ids.Load()
	for _, value := range ids.values {
		f.Add("x=1; srv="+value, "srv="+value)
	}
	f.Add("srv=third", "srv=;srv;=srv=third")
	f.Fuzz(func(t *testing.T, one, two string) {
		wanted := ids.inCookies([]string{one, two}, "srv")
		if len(wanted) > 1 {
			t.Fatalf("got %d servers, want at most one", len(wanted))
		}
		named := false
		for _, pair := range strings.Split(one+";"+two, ";") {
			value, found := strings.CutPrefix(strings.Trim(pair, " \t"), "srv=")
			if found && len(wanted) > 0 {
				for id, servers := range ids.wanted {
					named = named || slices.Equal(servers, wanted) && strings.Contains("."+value+".", "."+id+".")
				}
			}
		}
		if len(wanted) > 0 && !named {
			t.Errorf("got server %v for %q and %q, which do not name it", wanted, one, two)
		}
		if got, _ := s.send(one, two); !slices.Contains([]string{"a", "b", "c"}, got) {
			t.Errorf("got %s, want one of the servers", got)
		}
	})
}

// TestStickyRetry has a session whose server fails. The cookie names the server of the
// last attempt, also if a header_up line removed the request's cookies.
func TestStickyRetry(t *testing.T) {
	for _, method := range balance.Methods() {
		s := newStickyTest(t, string(method), "a b c", keyring.NewKeys(stickySecret, ""))
		server, cookie := s.send()
		r := proxied("/", "192.0.2.1")
		r.Header.Set("Cookie", "srv="+cookie)
		answer := httptest.NewRecorder()
		w, done := s.observeResponse(answer, r)
		first := s.Select(s.pool, r, w)
		r.Header.Del("Cookie")
		second := s.Select(s.pool, r, w)
		w.WriteHeader(http.StatusOK)
		done()
		if first.Dial != server || second == first {
			t.Errorf("%s: got %s, then %s, want %s, then another", method, first.Dial, second.Dial, server)
		}
		set := answer.Header()["Set-Cookie"]
		if index := slices.Index(s.pool, second); len(set) != 1 || !strings.HasPrefix(set[0], "srv="+s.plan.Load().ids.Load().values[index]+";") {
			t.Errorf("%s: got %q, want one cookie, of %s", method, set, second.Dial)
		}
	}
}

// TestStickyCookieOnAnswers has answers that may have the cookie, and others.
func TestStickyCookieOnAnswers(t *testing.T) {
	for _, row := range []struct {
		status int
		fields []string // Cache-Control
		want   bool
	}{
		{200, nil, true},
		{101, nil, true},
		{302, nil, true},
		{404, nil, true},
		{500, nil, true},
		{304, nil, false},
		{499, nil, false},
		{200, []string{"public"}, false},
		{200, []string{"max-age=60, PUBLIC"}, false},
		{200, []string{"max-age=60", "s-maxage=5"}, false},
		{200, []string{"no-cache, must-revalidate"}, false},
		{200, []string{"max-age=60"}, true},
		{200, []string{"no-cache"}, true},
		{200, []string{"private, must-revalidate"}, true},
		{200, []string{"no-store, no-cache, must-revalidate"}, true}, // of PHP sessions
		{200, []string{"must-revalidate", "no-store"}, true},
		{200, []string{`public, private="X-Field"`}, false},
		{200, []string{"", ",,=", "publicity, x-public"}, true},
	} {
		header := http.Header{"Cache-Control": row.fields, "Set-Cookie": {"srv=x", "srvx=1; Path=/", "srv=y; Path=/"}}
		a := &stickyAnswer{sessions: newStickySessions(Sticky{Cookie: &StickyCookie{Name: "srv"}}), value: "v", request: bareRequest}
		a.setCookie(header, row.status)
		want := []string{"srvx=1; Path=/", "srv=v; Path=/; HttpOnly; SameSite=Lax"}
		if !row.want {
			want = []string{"srv=x", "srvx=1; Path=/", "srv=y; Path=/"}
		}
		if got := header["Set-Cookie"]; !slices.Equal(got, want) {
			t.Errorf("%d %q: got %q, want %q", row.status, row.fields, got, want)
		}
	}
	header := make(http.Header)
	(&stickyAnswer{sessions: newStickySessions(Sticky{Cookie: &StickyCookie{Name: "srv"}}), request: bareRequest}).setCookie(header, 200)
	if len(header) > 0 {
		t.Errorf("without a server: got %v, want no cookie", header)
	}
}

func TestStickyCookieAttributes(t *testing.T) {
	r := proxied("/", "")
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	repl.Set("good", "example.com")
	repl.Set("bad", "example.com; Secure")
	for _, row := range []struct {
		cookie    StickyCookie
		encrypted bool
		want      string
	}{
		{StickyCookie{}, false, "; Path=/; HttpOnly; SameSite=Lax"},
		{StickyCookie{}, true, "; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{StickyCookie{Expires: caddy.Duration(90 * time.Minute)}, false, "; Path=/; Max-Age=5400; HttpOnly; SameSite=Lax"},
		{StickyCookie{Path: "/app", Domain: "example.com"}, false, "; Path=/app; Domain=example.com; HttpOnly; SameSite=Lax"},
		{StickyCookie{HTTPOnly: "off", SameSite: "off", Secure: "off"}, true, "; Path=/"},
		{StickyCookie{HTTPOnly: "on", SameSite: "strict", Secure: "on"}, false, "; Path=/; HttpOnly; Secure; SameSite=Strict"},
		{StickyCookie{SameSite: "none"}, true, "; Path=/; HttpOnly; Secure; SameSite=None"},
		{StickyCookie{SameSite: "none"}, false, "; Path=/; HttpOnly"},
		{StickyCookie{Domain: "{good}"}, false, "; Path=/; HttpOnly; Domain=example.com; SameSite=Lax"},
		{StickyCookie{Domain: "{bad}"}, false, "; Path=/; HttpOnly; SameSite=Lax"},
		{StickyCookie{Domain: "{none}"}, false, "; Path=/; HttpOnly; SameSite=Lax"},
	} {
		row.cookie.Name = "srv"
		if err := row.cookie.validate(); err != nil {
			t.Error(err)
		}
		if got := newCookieWriter(&row.cookie).text(r, "v", row.encrypted); got != "srv=v"+row.want {
			t.Errorf("%+v: got  %s\nwant srv=v%s", row.cookie, got, row.want)
		}
	}
}

// TestStickyRoute has routes of a request, the first of which decides.
func TestStickyRoute(t *testing.T) {
	g, names := groupOf(t, "round_robin", "a b c")
	g.Servers["a"], g.Servers["b"], g.Servers["c"] = UpstreamServer{Route: "one"}, UpstreamServer{Route: "two"}, UpstreamServer{}
	g.Sticky = &Sticky{Route: []string{"{http.request.cookie.route}", "{http.request.uri.query.route}"}}
	g.sessions = newStickySessions(*g.Sticky)
	pool := plainPool(names...)
	for _, row := range []struct{ cookie, path, want string }{
		{"route=two", "/", "b"},
		{"", "/?route=one", "a"},
		{"route=two", "/?route=one", "b"},
		{"route=none", "/?route=one", "abc"},
		{"route=TWO", "/", "abc"},
		{"route=two.", "/", "abc"},
		{"route=" + strings.Repeat("x", 1<<16), "/", "abc"},
		{"", "/", "abc"},
		{"route=c", "/", "abc"},
	} {
		seen := make(map[string]bool)
		for range 3 {
			r := proxied(row.path, "")
			if row.cookie != "" {
				r.Header.Set("Cookie", row.cookie)
			}
			seen[g.Select(pool, r, nil).Dial] = true
		}
		for _, name := range names {
			if seen[name] != strings.Contains(row.want, name) {
				t.Errorf("%.20s %s: got %v, want %s", row.cookie, row.path, seen, row.want)
			}
		}
	}
}

// TestStickyJSON has settings that Validate and Provision refuse.
func TestStickyJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                                   "",
		`{"sticky":{"cookie":{"name":"srv"}}}`: "",
		`{"sticky":{"route":["{x}"]},"servers":{"127.0.0.1:1":{"route":"x"}}}`: "",
		`{"sticky":{}}`: "sticky: expected cookie or route, found none",
		`{"sticky":{"cookie":{"name":"srv"},"route":["{x}"]}}`:                    "sticky: expected either cookie or route, found both",
		`{"sticky":{"route":["{x}"]}}`:                                            "sticky: route: expected at least one server with a route, found none",
		`{"sticky":{"route":["x{x}"]},"servers":{"127.0.0.1:1":{"route":"x"}}}`:   "sticky: route: expected a placeholder such as {http.request.cookie.route}, found 'x{x}'",
		`{"sticky":{"cookie":{}}}`:                                                "sticky: cookie: name: expected letters, digits",
		`{"sticky":{"cookie":{"name":"a b"}}}`:                                    "found 'a b'",
		`{"sticky":{"cookie":{"name":"srv","expires":"1ms"}}}`:                    "expires: expected at least 1s, found 1ms",
		`{"sticky":{"cookie":{"name":"srv","expires":-1}}}`:                       "expires: expected at least 1s",
		`{"sticky":{"cookie":{"name":"srv","domain":"a;b"}}}`:                     "domain: expected a domain such as example.com, found 'a;b'",
		`{"sticky":{"cookie":{"name":"srv","path":"x"}}}`:                         "path: expected a path that begins with '/'",
		`{"sticky":{"cookie":{"name":"srv","path":"/;x"}}}`:                       "path: expected a path",
		`{"sticky":{"cookie":{"name":"srv","http_only":"yes"}}}`:                  "http_only: unrecognized value 'yes'; expected one of: on, off",
		`{"sticky":{"cookie":{"name":"srv","secure":"yes"}}}`:                     "secure: unrecognized value 'yes'; expected one of: on, off, auto",
		`{"sticky":{"cookie":{"name":"srv","same_site":"yes"}}}`:                  "same_site: unrecognized value 'yes'; expected one of: strict, lax, none, off",
		`{"sticky":{"cookie":{"name":"srv","same_site":"none","secure":"off"}}}`:  "same_site: expected 'secure' with 'none'",
		`{"sticky":{"cookie":{"name":"__Host-srv","path":"/x"}}}`:                 "expected no domain and the path '/'",
		`{"sticky":{"cookie":{"name":"__Secure-srv","secure":"off"}}}`:            "for the prefix of '__Secure-srv'",
		`{"servers":{"127.0.0.1:1":{"drain":true,"down":true}}}`:                  "server 127.0.0.1:1: expected either drain or down, found both",
		`{"servers":{"127.0.0.1:1":{"route":"a b"}}}`:                             "server 127.0.0.1:1: route: expected 1 to 32 printable ASCII characters",
		`{"servers":{"127.0.0.1:1":{"route":"` + strings.Repeat("x", 33) + `"}}}`: "server 127.0.0.1:1: route: expected 1 to 32",
	} {
		config := fmt.Sprintf(`{"group":"web","proxy":{"handler":"reverse_proxy","upstreams":[{"dial":"127.0.0.1:1"}],"load_balancing":{"selection_policy":%s}}}`,
			strings.Replace(strings.Replace(text, "{", `{"policy":"upstream_group",`, 1), ",}", "}", 1))
		ctx := configContext(t)
		module, err := ctx.LoadModuleByID("http.handlers.proxy_pass", json.RawMessage(config))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got error %v, want %q", text, err, want)
		}
		if err != nil {
			continue
		}
		group := module.(*ProxyPass).proxy.LoadBalancing.SelectionPolicy.(*UpstreamGroup)
		if group.Sticky != nil && group.Sticky.Cookie != nil && (group.sessions.group != "web" || group.sessions.keys == nil) {
			t.Errorf("%s: got the group %q, want web, and keys", text, group.sessions.group)
		}
	}
	_, err := configContext(t).LoadModuleByID("http.handlers.reverse_proxy", json.RawMessage(
		`{"upstreams":[{"dial":"127.0.0.1:1"}],"load_balancing":{"selection_policy":{"policy":"upstream_group","sticky":{"cookie":{"name":"srv"}}}}}`))
	if err == nil || !strings.Contains(err.Error(), "expected a proxy_pass handler") {
		t.Errorf("without proxy_pass: got error %v, want one", err)
	}
}

// TestAdaptSticky has valid lines.
func TestAdaptSticky(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"sticky cookie srv":                                                  `{"cookie":{"name":"srv"}}`,
		"sticky cookie srv expires=1h":                                       `{"cookie":{"name":"srv","expires":3600000000000}}`,
		"sticky cookie srv expires=30d":                                      `{"cookie":{"name":"srv","expires":2592000000000000}}`,
		"sticky cookie srv expires=max":                                      `{"cookie":{"name":"srv","expires":315360000000000000}}`,
		"sticky cookie srv httponly secure":                                  `{"cookie":{"name":"srv","http_only":"on","secure":"on"}}`,
		"sticky cookie srv secure=off path=/x":                               `{"cookie":{"name":"srv","secure":"off","path":"/x"}}`,
		"sticky cookie srv httponly=off samesite=Strict domain=.example.com": `{"cookie":{"name":"srv","http_only":"off","same_site":"strict","domain":".example.com"}}`,
		"sticky cookie srv domain={host}":                                    `{"cookie":{"name":"srv","domain":"{http.request.host}"}}`,
		"sticky route {cookie.route} {route}":                                `{"route":["{http.request.cookie.route}","{route}"]}`,
	} {
		got := adaptedProxies(t, "{\nupstream web {\nserver a route=x weight=2\nserver b drain\n"+line+"\n}\n}\n:80 {\nproxy_pass web\n}\n", nil)
		var h struct {
			LoadBalancing struct {
				Policy struct{ Sticky, Servers json.RawMessage } `json:"selection_policy"`
			} `json:"load_balancing"`
		}
		must(t, json.Unmarshal([]byte(got), &h))
		sameJSON(t, string(h.LoadBalancing.Policy.Sticky), want)
		sameJSON(t, string(h.LoadBalancing.Policy.Servers), `{"a:80":{"weight":2,"route":"x"},"b:80":{"drain":true}}`)
	}
}

// TestStickyMistakes has lines that are refused.
func TestStickyMistakes(t *testing.T) {
	t.Parallel()
	for block, want := range map[string][]string{
		"sticky":                                     {"sticky: expected 'sticky cookie <name>' or 'sticky route <placeholder>...'", ":3"},
		"sticky srv":                                 {"sticky: unrecognized method 'srv'; expected one of: cookie, route", ":3"},
		"sticky learn create=$a lookup=$b":           {"sticky: unexpected method 'learn': write 'sticky cookie <name>'", "sticky route", ":3"},
		"sticky cookie":                              {"sticky: cookie: expected the name of a cookie, found nothing", ":3"},
		"sticky cookie expires=1h":                   {"sticky: cookie: expected the name of a cookie, found 'expires=1h'", ":3"},
		"sticky cookie a/b":                          {"sticky: cookie: name: expected letters, digits", "found 'a/b'", ":3"},
		"sticky cookie srv expires=1y":               {"found 'expires=1y': write a duration of at least 1s, such as 1h30m or 30d", ":3"},
		"sticky cookie srv expires=3600":             {"expected expires=<duration>|max, found 'expires=3600'", ":3"},
		"sticky cookie srv expires=":                 {"expected expires=<duration>|max, found 'expires='", ":3"},
		"sticky cookie srv expires":                  {"expected expires=<duration>|max, found 'expires'", ":3"},
		"sticky cookie srv expires=1ms":              {"at least 1s", ":3"},
		"sticky cookie srv path=x":                   {"path: expected a path that begins with '/'", "found 'x'", ":3"},
		"sticky cookie srv domain=a/b":               {"domain: expected a domain", ":3"},
		"sticky cookie srv httponly=yes":             {"expected httponly=on|off, found 'httponly=yes'", ":3"},
		"sticky cookie srv secure=":                  {"expected secure=auto|on|off, found 'secure='", ":3"},
		"sticky cookie srv samesite=any":             {"expected samesite=strict|lax|none|off, found 'samesite=any'", ":3"},
		"sticky cookie srv samesite=none secure=off": {"expected 'secure' with 'none'", ":3"},
		"sticky cookie srv path=/ path=/":            {"duplicate parameter 'path' (first used on line 3)", ":3"},
		"sticky cookie srv sametime=lax":             {"unrecognized parameter 'sametime=lax'", "did you mean 'samesite'?", ":3"},
		"sticky cookie srv =x":                       {"unrecognized parameter '=x'", ":3"},
		"sticky cookie srv;":                         {"semicolon", ":3"},
		"sticky route":                               {"sticky: route: expected a placeholder such as {cookie.route}, found nothing", ":3"},
		"sticky route $route":                        {"sticky: route: expected a placeholder", "found '$route'", "'map'", ":3"},
		"sticky route {cookie.a}x":                   {"expected a placeholder", ":3"},
		"server a\nsticky route {cookie.a}":          {"sticky: route: expected at least one server with 'route=<name>', found none", ":4"},
		"sticky cookie a\nsticky cookie b":           {"duplicate subdirective 'sticky' (first used on line 3)", ":4"},
		"server a route=":                            {"server a: route: expected 1 to 32 printable ASCII characters", "found ''", ":3"},
		"server a route=a,b":                         {"found 'a,b'", ":3"},
		"server a route={$NONE}x{y}":                 {"found 'x{y}'", ":3"},
		"server a route":                             {"unrecognized parameter 'route'", "route=<name>", ":3"},
		"server a drain=1":                           {"unrecognized parameter 'drain=1'", ":3"},
		"server a drain down":                        {"server a: expected either 'down' or 'drain', found both", ":3"},
	} {
		_, err := adaptCaddyfile("", "{\nupstream web {\n"+block+"\n}\n}\n")
		checkError(t, block, err, want)
	}
	_, err := adaptCaddyfile("", "{\nupstream web {\nserver a\n}\n}\n:80 {\nproxy_pass web {\nsticky cookie srv\n}\n}\n")
	checkError(t, "in proxy_pass", err, []string{"unexpected subdirective 'sticky': write this line in 'upstream web' on line 2", ":8"})
}

// TestAdaptDrainDefaults has servers that drain: they are worth a retry, and do not make
// the last other server one of two.
func TestAdaptDrainDefaults(t *testing.T) {
	t.Parallel()
	for servers, want := range map[string][2]string{
		"server 10.0.0.1\nserver 10.0.0.2 drain":                  {`"retries":1`, ""},
		"server 10.0.0.1\nserver 10.0.0.2\nserver 10.0.0.3 drain": {`"retries":2`, `"max_fails":1`},
		"server 10.0.0.1 drain\nserver 10.0.0.2 drain":            {`"retries":1`, ""},
	} {
		got := adaptedProxies(t, "{\nupstream web {\n"+servers+"\nsticky cookie srv\n}\n}\n:80 {\nproxy_pass web\n}\n", nil)
		if !strings.Contains(got, want[0]) || strings.Contains(got, "max_fails") != (want[1] != "") {
			t.Errorf("%q: got %s, want %q", servers, got, want)
		}
	}
}

// BenchmarkSticky selects a server for a request with a cookie, beside the same without
// sticky.
func BenchmarkSticky(b *testing.B) {
	for _, method := range balance.Methods() {
		for _, servers := range []string{"a:5 b c", "a b c d e f g h i j"} {
			s := newStickyTest(b, string(method), servers, keyring.NewKeys(stickySecret, ""))
			_, cookie := s.send()
			name := fmt.Sprintf("%s/servers=%d", method, len(s.pool))
			plain, _ := groupOf(b, string(method), servers)
			b.Run(name+"/without", func(b *testing.B) { benchmarkSticky(b, plain, s.pool, "") })
			b.Run(name+"/new", func(b *testing.B) { benchmarkSticky(b, s.UpstreamGroup, s.pool, "session=0123456789abcdef") })
			b.Run(name+"/known", func(b *testing.B) {
				benchmarkSticky(b, s.UpstreamGroup, s.pool, "session=0123456789abcdef; theme=dark; srv="+cookie)
			})
		}
	}
}

func benchmarkSticky(b *testing.B, g *UpstreamGroup, pool reverseproxy.UpstreamPool, cookies string) {
	r := proxied("/some/path", "192.0.2.1")
	if cookies != "" {
		r.Header.Set("Cookie", cookies)
	}
	vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	if g.observesResponses() {
		_, done := g.observeResponse(httptest.NewRecorder(), r)
		defer done()
	}
	b.ReportAllocs()
	for b.Loop() {
		stateOf(vars).request = nil // each request is new
		g.Select(pool, r, nil)
	}
}

// BenchmarkStickyResponse observes a response and sets the cookie.
func BenchmarkStickyResponse(b *testing.B) {
	s := newStickyTest(b, "round_robin", "a b c", keyring.NewKeys(stickySecret, ""))
	r := proxied("/", "192.0.2.1")
	caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, false)
	answer := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		clear(answer.Header())
		w, done := s.observeResponse(answer, r)
		w.(serverHook).before(http.StatusOK)
		done()
	}
}

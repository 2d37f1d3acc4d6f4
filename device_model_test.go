package caddyhtpasswd

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/ratelimit"
)

// limitsModel is a simple model of the limits, with and without cookies. Keys are texts.
type limitsModel struct {
	limits  [scopeCount]ratelimit.Limit
	windows map[string]*modelWindow
	clients map[string][]string // the recognized ones of a user, in the order of their places
	added   map[string]int
	wrong   map[string]bool
}

type modelWindow struct {
	begin time.Time
	n     int
}

func (m *limitsModel) count(s scope, key string, now time.Time) int {
	w := m.windows[fmt.Sprint(s, key)]
	if w == nil || now.Sub(w.begin) >= m.limits[s].Window {
		return 0
	}
	return w.n
}

func (m *limitsModel) add(s scope, key string, now time.Time) {
	if m.count(s, key, now) == 0 {
		m.windows[fmt.Sprint(s, key)] = &modelWindow{begin: now}
	}
	m.windows[fmt.Sprint(s, key)].n++
}

// modelLogin is a login. An empty cookie stands for none that is valid.
type modelLogin struct{ user, ip, cookie, password string }

// keys returns the keys that a login counts under, with or without its cookie.
func (l modelLogin) keys(byCookie bool) map[scope]string {
	if byCookie {
		return map[scope]string{scopeLogin: "cookie " + l.cookie, scopeUser: "cookie " + l.cookie}
	}
	return map[scope]string{scopeLogin: l.user + " at " + l.ip, scopeClient: l.ip, scopeUser: l.user}
}

// exceeded reports whether one of the limits of a login is exceeded.
func (m *limitsModel) exceeded(keys map[scope]string, now time.Time, scopes ...scope) bool {
	return slices.ContainsFunc(scopes, func(s scope) bool {
		key, ok := keys[s]
		return ok && m.limits[s].Max > 0 && m.count(s, key, now) >= m.limits[s].Max
	})
}

// login returns the result that a login must have, and records it.
func (m *limitsModel) login(l modelLogin, before, after time.Time) string {
	byCookie := l.cookie != "" && !m.exceeded(l.keys(true), before, scopeLogin, scopeUser)
	isRecognized := slices.Contains(m.clients[l.user], l.ip)
	switch {
	case byCookie:
	case isRecognized && m.exceeded(l.keys(false), before, scopeLogin),
		!isRecognized && m.exceeded(l.keys(false), before, scopeLogin, scopeClient, scopeUser):
		return loginThrottled
	}
	if l.password == "secret1" && l.user != "nobody" {
		if !isRecognized {
			if m.added[l.user]++; m.added[l.user] > recognizedPlaces {
				m.clients[l.user][(m.added[l.user]-1)%recognizedPlaces] = l.ip
			} else {
				m.clients[l.user] = append(m.clients[l.user], l.ip)
			}
		}
		return loginPassed
	}
	if !m.wrong[l.user+":"+l.password] {
		m.wrong[l.user+":"+l.password] = true
		for s, key := range l.keys(byCookie) {
			m.add(s, key, after)
		}
	}
	if l.user == "nobody" {
		return loginUnknown
	}
	return loginWrong
}

// remembersWrong reports whether the password of a login is known to be wrong.
func (h *flooded) remembersWrong(l modelLogin) bool {
	c := credentialsOf(l.user, l.password)
	defer c.release()
	a := attempt{credentials: c, keyer: h.guard.keyer()}
	h.begin(&a, noClient)
	return h.guard.wrong.has(a.keys[scopeUser], &c.digest)
}

// TestLimitsByModel compares random logins, with and without cookies, with a model.
func TestLimitsByModel(t *testing.T) {
	t.Parallel()
	exceeded, passed := uint64(0), 0
	for seed := range uint64(60) {
		settings := &App{Throttle: &Throttle{Login: &Limit{Failures: 3}, Client: &Limit{Failures: 7}, User: &Limit{Failures: 12}}}
		withDevices(t, settings, "alice:"+shaSecret1+"\nbob:"+shaSecret1+"\n", func(t *testing.T, h *flooded) {
			random := rand.New(rand.NewPCG(seed, 18)) //nolint:gosec // a test that can be repeated
			h.cache.off = seed%3 == 2
			m := limitsModel{limits: h.guard.settings().limits, windows: make(map[string]*modelWindow), clients: make(map[string][]string), added: make(map[string]int), wrong: make(map[string]bool)}
			tokens := make(map[string]string) // by the name of the cookie
			for _, user := range []string{"alice", "bob", "nobody"} {
				for i := range 3 {
					tokens[fmt.Sprint(user, i)] = h.tokenFor(user, h.users.now().find([]byte("alice")).entry.Hash)
				}
			}
			for i := range 400 {
				l := modelLogin{
					user:     []string{"alice", "alice", "bob", "nobody"}[random.IntN(4)],
					ip:       fmt.Sprintf("192.0.2.%d", random.IntN(1+int(seed)%13)),
					password: fmt.Sprint("guess", random.IntN(400)),
				}
				if random.IntN(6) == 0 {
					l.password = "secret1"
				}
				token := ""
				if name := []string{"", "alice0", "alice0", "alice1", "alice2", "bob0", "nobody0"}[random.IntN(7)]; name != "" {
					token = tokens[name]
					if name[:len(name)-1] == l.user && l.user != "nobody" {
						l.cookie = name
					}
				}
				// The server can forget a wrong password if another one takes its place.
				if key := l.user + ":" + l.password; m.wrong[key] != h.remembersWrong(l) {
					if m.wrong[key] = !m.wrong[key]; m.wrong[key] {
						t.Fatalf("seed %d, login %d, %+v: known to be wrong, though nobody has tried it", seed, i, l)
					}
				}
				before := time.Now()
				got := h.loginWith(token, l.ip, l.user, l.password)
				if want := m.login(l, before, time.Now()); got != want {
					t.Fatalf("seed %d, login %d, %+v: got %s, want %s", seed, i, l, got, want)
				}
				if got == loginPassed {
					passed++
				}
				if random.IntN(10) == 0 {
					time.Sleep(time.Duration(random.IntN(90)) * time.Second)
				}
			}
			exceeded += h.guard.deviceLimitsExceeded.Load()
		})
	}
	if exceeded < 100 || passed < 1000 {
		t.Errorf("limits of cookies were exceeded %d times, and %d logins passed, want at least 100 and 1000", exceeded, passed)
	}
}

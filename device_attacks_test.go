package caddyhtpasswd

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// These tests have the attacks of docs/security.md, each without device cookies and with
// them. Without them, the attack must succeed. Otherwise the test shows nothing.

// TestAttacksAndDeviceCookies locks alice out, and has her browser log in.
func TestAttacksAndDeviceCookies(t *testing.T) {
	const home, elsewhere = "192.0.2.1", "203.0.113.7"
	from := func(address string) http.Header { return http.Header{"X-Forwarded-For": {address}} }
	atOnce := func(address string, users ...string) func(s *server) {
		return func(s *server) {
			for _, user := range users { // each exceeds the limit login, and three the limit client
				s.guess(10, user, from(address))
			}
		}
	}
	fromMany := func(s *server) { // the limit user
		for i := range 100 {
			s.guess(1, "alice", from(fmt.Sprint("198.51.100.", i)))
		}
	}
	for _, test := range []struct {
		name    string
		restart bool // after the login, which is the same as another server
		attack  func(s *server)
		address string // where alice is then
	}{
		{"30 failed logins from the address of the user", false, atOnce(home, "alice", "bob", "nobody"), home},
		{"30 failed logins of other names, from the address that the user comes to", false, atOnce(elsewhere, "bob", "carol", "nobody"), elsewhere},
		{"the limit of the user exceeded, and the user comes from a new address", false, fromMany, elsewhere},
		{"the limit of the user exceeded after a restart, and the user is at home", true, fromMany, home},
		{"30 failed logins of other names, after a restart", true, atOnce(home, "bob", "carol", "nobody"), home},
	} {
		for _, withCookie := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, device cookies: %t", test.name, withCookie), func(t *testing.T) {
				config := deviceSite(behindProxies+"\nhtpasswd {\n\tsecret "+secretA+"\n}", "", "\trespond ok\n")
				want := 200
				if !withCookie {
					config, want = strings.Replace(config, "\t\tdevice_cookie\n", "", 1), 429
				}
				start := func() *server {
					return startSiteWith(t, testkit.ServerOptions{DefaultLimits: true}, nil, map[string]string{"users": alice + bob}, config)
				}
				s := start()
				cookie := defaultDevice + s.logIn("/", "alice", "secret", from(home)) // without the option, there is none
				if test.restart {
					s = start()
				}
				test.attack(s)
				checkStatus(t, s.withCookie("/", "alice", "secret", cookie, from(test.address)), want, "")
			})
		}
	}
}

// TestFloodsAndDeviceCookies has users log in while connections of ever new addresses keep
// one hash each in the queue. It counts the time in hashes.
func TestFloodsAndDeviceCookies(t *testing.T) {
	t.Parallel()
	const users = 40
	var file strings.Builder
	for i := range users {
		fmt.Fprintf(&file, "user%d:%s\n", i, shaSecret1)
	}
	for _, connections := range []int{32, 150} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d connections, known names: %t", connections, known), func(t *testing.T) {
				t.Parallel()
				withDevices(t, &App{Throttle: &Throttle{User: &Limit{Off: true}}}, file.String(), func(t *testing.T, h *flooded) {
					h.computeOneHashOf(1000)
					var group sync.WaitGroup
					stop := make(chan struct{})
					var mu sync.Mutex
					address := 0
					next := func() (int, string) {
						mu.Lock()
						defer mu.Unlock()
						address++
						return address, fmt.Sprintf("10.%d.%d.1", address>>8, address&255)
					}
					for range connections {
						group.Go(func() {
							for {
								select {
								case <-stop:
									return
								default:
								}
								i, ip := next()
								user := "nobody"
								if known {
									user = fmt.Sprint("user", i%users)
								}
								h.login(ip, user, fmt.Sprint("guess", i))
							}
						})
					}
					time.Sleep(time.Second)
					synctest.Wait()
					hashes := func(login func()) float64 {
						time.Sleep(hashTime / 3)
						start := time.Now()
						login()
						return float64(time.Since(start)) / float64(hashTime)
					}
					for i := range 20 {
						user, ip := fmt.Sprint("user", i), fmt.Sprintf("203.0.113.%d", i)
						if got := hashes(func() { h.loginWith(h.tokenOf(user), ip, user, "secret1") }); got > 3 {
							t.Errorf("%s, with the cookie, waited for %.1f hashes, want at most 3", user, got)
						}
					}
					if got := hashes(func() { h.login("198.51.100.1", "user30", "secret1") }); got < float64(connections)/2 {
						t.Errorf("without a cookie, the login waited for %.1f hashes, want about %d: the test shows nothing", got, connections)
					}
					close(stop)
					group.Wait()
				})
			})
		}
	}
}

// TestStolenCookieTellsItsUser has an attacker with a stolen cookie, who does not know
// whose it is, and whose own address has exceeded its limit. Trying names tells the user
// of the cookie, as docs/security.md says, and nothing about others.
func TestStolenCookieTellsItsUser(t *testing.T) {
	s := startSiteWith(t, testkit.ServerOptions{DefaultLimits: true}, nil, map[string]string{"users": alice + bob + "locked:!\n"}, deviceSite("", "", "\trespond ok\n"))
	cookie := defaultDevice + s.logIn("/", "alice", "secret", nil)
	s.guess(10, "carol", nil)
	s.guess(10, "dave", nil)
	s.guess(10, "erin", nil)
	for _, test := range []struct {
		user string
		want int
	}{{"bob", 429}, {"locked", 429}, {"nobody", 429}, {"alice", 401}} {
		a := s.withCookie("/", test.user, "guess", cookie, nil)
		if a.status != test.want {
			t.Errorf("%s: got %d, want %d", test.user, a.status, test.want)
		}
	}
}

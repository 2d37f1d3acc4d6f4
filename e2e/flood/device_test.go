//go:build unix

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/devicecookie"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

// TestTokens checks that a server with the secret would accept the device cookies.
func TestTokens(t *testing.T) {
	dir := t.TempDir()
	var text strings.Builder
	for i := range firstUsers {
		fmt.Fprintf(&text, "%s:hash %d\n", firstUser(i), i)
	}
	if err := os.WriteFile(filepath.Join(dir, "users"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	values, err := tokens(dir)
	if err != nil {
		t.Fatal(err)
	}
	secret := keyring.NewKeys(deviceSecret, "")
	keys := devicecookie.NewKeys(secret.Devices, secret.OldDevices)
	n := 0
	for i, value := range values {
		if value == "" {
			continue
		}
		n++
		candidates, _ := devicecookie.Take(http.Header{"Cookie": {deviceCookie + "=" + value}}, deviceCookie)
		owner := &devicecookie.Owner{User: []byte(firstUser(i)), Hash: fmt.Sprint("hash ", i)}
		if _, ok := keys.Find(&candidates, owner, nil, time.Now(), time.Hour); !ok {
			t.Fatalf("%s: the token is not valid", firstUser(i))
		}
	}
	if n != strangers-holders || n < 100 {
		t.Errorf("got %d tokens, want %d, at least 100", n, strangers-holders)
	}
}

func TestRotated(t *testing.T) {
	networks := make(map[string]map[netip.Prefix]bool)
	for _, source := range []string{manyNetworks, oneNetwork} {
		networks[source] = make(map[netip.Prefix]bool)
		for range 1000 {
			address := netip.MustParseAddr(rotated(source))
			bits := 24
			if address.Is6() {
				bits = 48
			}
			networks[source][netip.PrefixFrom(address, bits).Masked()] = true
		}
	}
	if one, many := len(networks[oneNetwork]), len(networks[manyNetworks]); one != 1 || many < 900 {
		t.Errorf("got %d networks and %d, want one, and about 1,000", one, many)
	}
}

// TestAtOnce has an office log in. All users are there at the same time, each with another
// address of one network.
func TestAtOnce(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all addresses of 127.0.0.0/8")
	}
	var arrived sync.WaitGroup
	arrived.Add(4)
	var mu sync.Mutex
	addresses := make(map[string]bool)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		address, _, _ := strings.Cut(r.RemoteAddr, ":")
		mu.Lock()
		addresses[address] = true
		mu.Unlock()
		arrived.Done()
		arrived.Wait()
		if user, _, _ := r.BasicAuth(); user == "first8" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	target, err := url.Parse(server.URL + "/private")
	if err != nil {
		t.Fatal(err)
	}
	r := load{Password: password, First: 5, Users: 4, Duration: time.Minute}.atOnce(target)
	if r.Statuses[http.StatusOK] != 3 || r.Statuses[http.StatusServiceUnavailable] != 1 || r.Failed != 0 || r.Median == 0 || len(addresses) != 4 {
		t.Errorf("got %+v from %v, want three logins and one 503 from four addresses", r, addresses)
	}
	for address := range addresses {
		if !strings.HasPrefix(address, "127.2.0.") {
			t.Errorf("got %s, want an address of the office", address)
		}
	}
}

// TestCookieMustBeAccepted has a server that sets a new cookie, because the one that the
// user has sent is not valid there.
func TestCookieMustBeAccepted(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all addresses of 127.0.0.0/8")
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie(deviceCookie); err != nil || c.Value != "good" {
			w.Header().Set("Set-Cookie", deviceCookie+"=good; Secure; Path=/")
		}
	}))
	defer server.Close()
	target, err := url.Parse(server.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	for cookie, accepted := range map[string]bool{"good": true, "other": false} {
		r := load{Password: password, Users: 1, Cookies: []string{cookie}, Duration: time.Minute}.firstLogins(target)
		if (r.Statuses[http.StatusOK] == 1) != accepted || (r.Failed == 0) != accepted {
			t.Errorf("%s: got %+v, want a login: %t", cookie, r, accepted)
		}
	}
}

func TestInHashes(t *testing.T) {
	const hash = 50 * time.Millisecond
	r := result{Statuses: map[int]int{200: 3, 503: 1}, Median: 60 * time.Millisecond, P99: 100 * time.Millisecond, Unfinished: time.Second}
	const want = "1.2, 2.0 | 3, and one not answered within 20.0 hashes; all: 3 times 200, 1 times 503"
	if got := r.inHashes(hash); got != want {
		t.Errorf("got '%s', want '%s'", got, want)
	}
}

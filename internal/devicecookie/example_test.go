package devicecookie_test

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/devicecookie"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

// A first login issues a cookie. The next request with it has a token, and its upstream
// does not see the cookie.
func Example() {
	const name, maxAge = "__Host-htpasswd-device", 90 * 24 * time.Hour
	secret := keyring.NewKeys(keyring.NewSecret(), "")
	keys := devicecookie.NewKeys(secret.Devices, secret.OldDevices)
	alice := &devicecookie.Owner{User: []byte("alice"), Hash: "$2y$10$..."}
	cache := new(devicecookie.Cache) // of the hash of alice

	request := http.Header{"Cookie": {"theme=dark; lang=en"}}
	candidates, _ := devicecookie.Take(request, name)
	_, found := keys.Find(&candidates, alice, cache, time.Now(), maxAge)
	fmt.Println("first login:", found)
	set := devicecookie.SetCookie(name, keys.Issue(&candidates, alice, time.Now()), maxAge)
	cookie, attributes, _ := strings.Cut(set, "; ")
	fmt.Println(attributes)

	request = http.Header{"Cookie": {"theme=dark; " + cookie + "; lang=en"}}
	candidates, _ = devicecookie.Take(request, name)
	token, found := keys.Find(&candidates, alice, cache, time.Now(), maxAge)
	fmt.Println("next login:", found, "renew:", token.Renew)
	fmt.Println("upstream gets:", request)

	alice.Hash = "$2y$12$..."
	cache = new(devicecookie.Cache)
	_, found = keys.Find(&candidates, alice, cache, time.Now(), maxAge)
	fmt.Println("after a password change:", found)
	// Output:
	// first login: false
	// Path=/; Max-Age=7776000; HttpOnly; Secure; SameSite=Lax
	// next login: true renew: false
	// upstream gets: map[Cookie:[theme=dark; lang=en]]
	// after a password change: false
}

// After a rehash, the server accepts tokens that are bound to the hash before, and renews
// them.
func ExampleOwner_previous() {
	keys := devicecookie.NewKeys([]byte("a subkey of the secret, 32 bytes"), nil)
	owner := &devicecookie.Owner{User: []byte("alice"), Hash: "{SHA}..."}
	cookie := func(value string) *devicecookie.Candidates {
		candidates, _ := devicecookie.Take(http.Header{"Cookie": {"device=" + value}}, "device")
		return &candidates
	}
	before := cookie(keys.Issue(cookie(""), owner, time.Now()))

	owner.Hash, owner.Previous = "$2y$10$...", []string{owner.Hash}
	token, found := keys.Find(before, owner, nil, time.Now(), time.Hour)
	fmt.Println("before:", found, "renew:", token.Renew)

	after := cookie(keys.Issue(before, owner, time.Now()))
	token, found = keys.Find(after, owner, nil, time.Now(), time.Hour)
	fmt.Println("after:", found, "renew:", token.Renew, "tokens:", after.Len())
	// Output:
	// before: true renew: true
	// after: true renew: false tokens: 1
}

func ExampleTake() {
	header := http.Header{"Cookie": {"a=1;  b=2; __Host-device=x.y; c=3", "__Host-device=malformed"}}
	candidates, found := devicecookie.Take(header, "__Host-device")
	fmt.Println(found, candidates.Len())
	fmt.Println(header)
	// Output:
	// true 0
	// map[Cookie:[a=1;  b=2; c=3]]
}

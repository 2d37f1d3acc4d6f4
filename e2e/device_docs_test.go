package e2e

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestExampleDeviceCookie exceeds a limit as the text says, and logs in with and without
// the cookie.
func TestExampleDeviceCookie(t *testing.T) {
	parallel(t)
	jar := filepath.Join(t.TempDir(), "cookies.txt")
	e := loadExample(t, "device-cookie", "/tmp/cookies.txt", jar)
	e.start()
	const hello = "Hello, admin. Your cookies: []\n"
	e.check([]exampleAnswer{{"curl -k -c /tmp/cookies.txt -u admin:swordfish https://localhost:8443/", 0, hello, nil}})
	if text := readText(t, jar); strings.Count(text, "__Host-htpasswd-device") != 1 {
		t.Fatalf("curl has written %q, want one device cookie", text)
	}
	guesses := "for i in 1 2 3 4 5 6 7 8 9 10; do curl -k -s -u admin:guess$i https://localhost:8443/; done"
	if out, ok := e.run(e.said(guesses)); !ok || out != "" {
		t.Fatalf("the wrong passwords got %q, want empty answers", out)
	}
	e.check([]exampleAnswer{
		{"curl -k -i -b /tmp/cookies.txt https://localhost:8443/", 401, "", http.Header{"Set-Cookie": nil}},
		{"curl -k -b /tmp/cookies.txt -u admin:swordfish https://localhost:8443/", 0, hello, nil},
	})
	limited := e.ask(e.said("curl -k -i -u admin:swordfish https://localhost:8443/"))
	if limited.Status != http.StatusTooManyRequests {
		t.Errorf("without the cookie: got %d, want 429", limited.Status)
	}
	e.checkAll()
}

package e2e

import (
	"net/http"
	"slices"
	"testing"
)

// Lines of a password file, created with the commands beside them.
const (
	alice     = "alice:$2y$04$xHDgvM0aETVLuR1UST16J.BTodXPBkDyVmRgT5Id/zUd6cbG28vdm\n" // htpasswd -nbB -C 4 alice secret
	bobSecret = "bob:$2y$04$naPDtgEpoCajJyGjrjYQkOlOp7dxVL5Xjv8cMt7q4TZAeLSkVN0CS\n"   // htpasswd -nbB -C 4 bob secret
	locked    = "mallory:!\n"
)

// secureSite returns a Caddyfile with one site over HTTPS.
func secureSite(directives string) string {
	return "https://localhost:{https} {\n\ttls internal\n" + directives + "\n}\n"
}

// checkStatus checks the status. A 401 has exactly one challenge, and every other
// status has none.
func checkStatus(t testing.TB, a answer, status int, challenge string) {
	t.Helper()
	var want []string
	if status == http.StatusUnauthorized {
		want = []string{challenge}
	}
	if got := a.Header.Values("Www-Authenticate"); a.Status != status || !slices.Equal(got, want) {
		t.Errorf("got status %d with challenges %q, want %d with %q", a.Status, got, status, want)
	}
}

// alicesSite starts a server with this Caddyfile. The file users contains alice.
func alicesSite(t testing.TB, caddyfile string) *server {
	t.Helper()
	s := startServer(t, "")
	s.Write("users", alice)
	must(t, s.Reload(caddyfile))
	return s
}

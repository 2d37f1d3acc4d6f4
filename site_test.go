package caddyhtpasswd

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// The lines of a password file, made with the commands beside them.
const (
	alice       = "alice:$2y$04$xHDgvM0aETVLuR1UST16J.BTodXPBkDyVmRgT5Id/zUd6cbG28vdm\n" // htpasswd -nbB -C 4 alice secret
	aliceOther  = "alice:$2y$04$lu7VIhfmLJUkEyKjHwimpesUnmCI2PjSP3NupduvcfeMTJcBRcP6a\n" // htpasswd -nbB -C 4 alice other
	aliceCanary = "alice:$2y$04$Mo1mims8ECyupLmpCqtd/ejufvSwEGYP3DBry1e6ELHoaGIy33Awm\n" // htpasswd -nbB -C 4 alice canary-PaSSw0rd-7f3a
	bob         = "bob:$apr1$Hskn4MzS$pvbG7hzhi8NQvHCYbzL7F.\n"                          // htpasswd -nbm bob hunter2
	bobSecret   = "bob:$2y$04$naPDtgEpoCajJyGjrjYQkOlOp7dxVL5Xjv8cMt7q4TZAeLSkVN0CS\n"   // htpasswd -nbB -C 4 bob secret
	carol       = "carol:{SHA}O6hCfsMLaweQqz5/hoXYDopRjKo=\n"                            // htpasswd -nbs carol carols
	userA       = "a:$2y$04$dPxoPO8IfezWkAkh6sm2KuN0G/T1GINbxdU4XckeWf83IRsRbYDCG\n"     // htpasswd -nbB -C 4 a :b
	eve         = "eve:{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=\n"                              // htpasswd -nbs eve ""
	juergenNFC  = "jürgen:$apr1$wJgDyP8C$PuoKq22O8qVlZtzJhEgFf.\n"                       // htpasswd -nbm jürgen grün
	juergenNFD  = "ju\u0308rgen:{SHA}kcSJyyRfZifZfCyKBHOYAXiX6q4=\n"                     // htpasswd -nbs jürgen nfd
	juergenL1   = "j\xfcrgen:{SHA}qplx6EsTQNjsrx1/aQoHiKRRh6M=\n"                        // htpasswd -nbs $(printf 'j\xfcrgen') $(printf 'gr\xfcn')
	slow        = "slow:$2y$10$y50gpMbMy/iPGNN.EbZCfOdNm6siLIV8Bql6/Zperovck2ZxMx47e\n"  // htpasswd -nbB -C 10 slow secret
	locked1     = "mallory:!\n"
)

const restricted = `Basic realm="Restricted", charset="UTF-8"`

// startSite starts a server with these files and this Caddyfile, in which {app} stands for
// the address of the application.
func startSite(t testing.TB, app *testkit.Witness, files map[string]string, caddyfile string) *server {
	t.Helper()
	return startSiteWith(t, testkit.ServerOptions{}, app, files, caddyfile)
}

// startSiteWith is startSite with other options.
func startSiteWith(t testing.TB, options testkit.ServerOptions, app *testkit.Witness, files map[string]string, caddyfile string) *server {
	t.Helper()
	s := startServerWith(t, options, "")
	for name, text := range files {
		s.write(name, text)
	}
	if app != nil {
		caddyfile = strings.ReplaceAll(caddyfile, "{app}", app.Listener.Addr().String())
	}
	if err := s.reload(caddyfile); err != nil {
		t.Fatal(err)
	}
	return s
}

// httpsSite is a Caddyfile of one site.
func httpsSite(directives string) string {
	return "https://localhost:{https} {\n\ttls internal\n" + directives + "\n}\n"
}

// basic is the value of an Authorization header.
func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func authorization(values ...string) http.Header { return http.Header{"Authorization": values} }

// hashes returns how many hashes the server computes during f.
func hashes(f func()) int64 {
	before := process.guard.hashCount()
	f()
	return process.guard.hashCount() - before
}

// checkStatus checks the status, and that there is exactly one challenge with status 401
// and none with any other.
func checkStatus(t testing.TB, a answer, status int, challenge string) {
	t.Helper()
	var want []string
	if status == http.StatusUnauthorized {
		want = []string{challenge}
	}
	if a.status != status || !slices.Equal(a.header.Values("Www-Authenticate"), want) {
		t.Errorf("got status %d with challenges %q, want %d with %q", a.status, a.header.Values("Www-Authenticate"), status, want)
	}
}

package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// publicName is the name in the certificates of these tests. For the ACME
// server, it resolves to this machine, as every name does.
const publicName = "files.example.com"

// authority is an ACME server, with the roots that its certificates chain to.
type authority struct {
	*httptest.Server
	roots *x509.CertPool
}

// newAuthority starts Let's Encrypt's test server. It validates names at the
// ports of s, as the real one does at 80 and 443.
func newAuthority(t *testing.T, s *server) *authority {
	t.Helper()
	logger, store := log.New(io.Discard, "", 0), db.NewMemoryStore()
	issuer := ca.New(logger, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: 3600}})
	front := wfe.New(logger, store, va.New(logger, s.HTTP, s.HTTPS, true, loopbackDNS(t), store), issuer, []string{"example.com"}, true, false, 1, 1)
	a := &authority{httptest.NewTLSServer(front.Handler()), x509.NewCertPool()}
	t.Cleanup(a.Close)
	a.roots.AppendCertsFromPEM(issuer.GetRootCert(0).PEM())
	s.Write("authority.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})))
	return a
}

// loopbackDNS starts a name server that resolves every name to 127.0.0.1, and
// has no other records.
func loopbackDNS(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	started := make(chan struct{})
	resolver := &dns.Server{Listener: l, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
				A:   net.IPv4(127, 0, 0, 1),
			})
		}
		_ = w.WriteMsg(m) // the resolver sees a failure
	})}
	ended := make(chan error, 1)
	go func() { ended <- resolver.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		must(t, resolver.Shutdown())
		must(t, <-ended)
	})
	return l.Addr().String()
}

// publicClient returns a client that connects to this machine for every name, and
// trusts the authority's certificates. It uses one version of HTTP. If fresh is
// set, it opens a connection for each request.
func (a *authority) publicClient(t testing.TB, two, fresh bool) *http.Client {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: a.roots},
		Protocols:       new(http.Protocols),
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		},
		DisableKeepAlives: fresh,
	}
	transport.Protocols.SetHTTP1(!two)
	transport.Protocols.SetHTTP2(two)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       time.Minute,
	}
}

// onlyConnection sends all requests over one HTTP/1.1 connection. A client of
// net/http may open another one on a slow machine.
type onlyConnection struct {
	conn    *tls.Conn
	answers *bufio.Reader
}

func (a *authority) onlyConnection(t testing.TB, port int) *http.Client {
	t.Helper()
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{RootCAs: a.roots, ServerName: publicName})
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return &http.Client{Transport: onlyConnection{conn, bufio.NewReader(conn)}, Timeout: time.Minute}
}

// RoundTrip implements http.RoundTripper.
func (c onlyConnection) RoundTrip(r *http.Request) (*http.Response, error) {
	if deadline, ok := r.Context().Deadline(); ok {
		if err := c.conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if err := r.Write(c.conn); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.answers, r)
	if err == nil {
		state := c.conn.ConnectionState()
		resp.TLS = &state
	}
	return resp, err
}

// TestAutomaticHTTPS gets certificates from an ACME server. The site has no
// configuration for TLS, and asks for passwords over HTTPS from the first request on.
func TestAutomaticHTTPS(t *testing.T) {
	parallel(t)
	for _, challenge := range []struct{ name, solved, without string }{
		{"HTTP challenge", "http-01", "disable_tlsalpn_challenge"},
		{"TLS challenge", "tls-alpn-01", "disable_http_challenge"},
	} {
		t.Run(challenge.name, func(t *testing.T) {
			app := testkit.NewWitness(t)
			s := newServerIn(t, t.TempDir())
			s.htpasswd("-cbC4", "users", "ann", "secret")
			a := newAuthority(t, s)
			// A certificate is renewed when it is older than 1/1000 of its hour.
			s.configure(fmt.Sprintf("renew_interval 500ms\nrenewal_window_ratio 0.999\ncert_issuer acme {\ndir %s%s\ntrusted_roots {dir}/authority.pem\n%s\n}",
				a.URL, wfe.DirectoryPath, challenge.without),
				publicName+" {\nhtpasswd {\nfile {dir}/users\n}\nreverse_proxy "+app.Listener.Addr().String()+"\n}")
			s.run()
			s.checkRedirect(a, app)
			s.awaitPublic(a, app)
			s.checkRedirect(a, app)
			s.checkRenewal(a, app)
			said := s.process.Said()
			if n := strings.Count(said, `"challenge_type":"`); n == 0 || n != strings.Count(said, `"challenge_type":"`+challenge.solved+`"`) {
				t.Errorf("%d challenges, want some, and only of the kind %s", n, challenge.solved)
			}
		})
	}
}

// checkRedirect checks that plain HTTP redirects every request to HTTPS, before
// a password is asked for or checked.
func (s *server) checkRedirect(a *authority, app *testkit.Witness) {
	s.T.Helper()
	client := a.publicClient(s.T, false, true)
	for _, row := range []struct{ method, user, password string }{
		{"GET", "", ""}, {"GET", "ann", "wrong"}, {"GET", "ann", "secret"}, {"HEAD", "", ""}, {"POST", "ann", "secret"}, {"OPTIONS", "", ""},
	} {
		r, err := http.NewRequest(row.method, fmt.Sprintf("http://%s:%d/a/b?c=d", publicName, s.HTTP), strings.NewReader("content"))
		must(s.T, err)
		if row.user != "" {
			r.SetBasicAuth(row.user, row.password)
		}
		got, err := testkit.Send(client, r)
		must(s.T, err)
		if want := "https://" + publicName + "/a/b?c=d"; got.Status != 308 || got.Header.Get("Location") != want {
			s.T.Errorf("%s, %q: %d %q, want 308 %q", row.method, row.user, got.Status, got.Header.Get("Location"), want)
		}
		if got.Header["Www-Authenticate"] != nil {
			s.T.Errorf("%s, %q: asked for a password over plain HTTP", row.method, row.user)
		}
	}
	app.None(s.T)
}

// askPublic requests the page of the public name. It returns the status and the
// certificate's serial number.
func (s *server) askPublic(client *http.Client, password string) (int, string, error) {
	r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("https://%s:%d/", publicName, s.HTTPS), nil)
	if err != nil {
		return 0, "", err
	}
	if password != "" {
		r.SetBasicAuth("ann", password)
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, "", err
	}
	return resp.StatusCode, resp.TLS.PeerCertificates[0].SerialNumber.String(), nil
}

// awaitPublic waits for the certificate, and checks that every answer from the
// first on asks for the password.
func (s *server) awaitPublic(a *authority, app *testkit.Witness) {
	s.T.Helper()
	client := a.publicClient(s.T, true, true)
	var status int
	eventually(s.T, "the authority has issued a certificate", func() bool {
		var err error
		status, _, err = s.askPublic(client, "")
		return err == nil
	})
	if status != 401 {
		s.T.Errorf("the first answer: %d", status)
	}
	app.None(s.T)
}

// renewals is how many renewed certificates a test waits for.
const renewals = 2

// checkRenewal checks that a renewal of the certificate disturbs no request: with a
// password, without one, and with a wrong one, over old and new connections.
func (s *server) checkRenewal(a *authority, app *testkit.Witness) {
	s.T.Helper()
	var (
		mu      sync.Mutex
		serials = map[string]bool{} // seen by new connections
		running sync.WaitGroup
		done    atomic.Bool
	)
	defer func() { // even if the test fails early
		done.Store(true)
		running.Wait()
	}()
	for _, row := range []struct {
		name, password string
		two, fresh     bool
		status         int
	}{
		{"new connections, HTTP/2", "secret", true, true, 200},
		{"new connections, HTTP/1.1", "secret", false, true, 200},
		{"one connection, HTTP/2", "secret", true, false, 200},
		{"one connection, HTTP/1.1", "secret", false, false, 200},
		{"wrong password", "wrong", true, true, 401},
		{"no password", "", true, true, 401},
	} {
		client := a.publicClient(s.T, row.two, row.fresh)
		if !row.two && !row.fresh {
			client = a.onlyConnection(s.T, s.HTTPS)
		}
		running.Go(func() {
			n, first := 0, ""
			for ; !done.Load(); n++ {
				status, serial, err := s.askPublic(client, row.password)
				if err != nil || status != row.status {
					s.T.Errorf("%s, request %d: %d, %v, want %d", row.name, n, status, err, row.status)
					done.Store(true)
					return
				}
				if row.fresh {
					mu.Lock()
					serials[serial] = true
					mu.Unlock()
				} else if first == "" {
					first = serial
				} else if serial != first {
					s.T.Errorf("%s, request %d: it used another connection", row.name, n)
				}
				time.Sleep(2 * time.Millisecond) // leaves the authority time to run
			}
			s.T.Logf("%s: %d requests", row.name, n)
		})
	}
	for n := range renewals {
		eventually(s.T, fmt.Sprintf("renewal %d", n+1), func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(serials) > n+1 || done.Load()
		})
	}
	done.Store(true)
	running.Wait()
	seen := app.Taken()
	if len(seen) == 0 {
		s.T.Error("the application has seen nothing")
	}
	for _, got := range seen {
		if got.Header["Authorization"] != nil {
			s.T.Fatal("the application has seen a password")
		}
	}
}

package caddyhtpasswd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// authority is a CA that signs certificates for names.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testkit.Must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	testkit.Must(t, err)
	cert, err := x509.ParseCertificate(der)
	testkit.Must(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	testkit.Must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return &authority{t, key, cert, file}
}

// certificate returns a certificate for a name.
func (a *authority) certificate(name string) tls.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &a.key.PublicKey, a.key)
	testkit.Must(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}

// tlsFleet are HTTPS applications on the same port of several addresses. Each has the
// certificate of one name.
type tlsFleet struct {
	port string
	mu   sync.Mutex
	seen map[string]bool // "address SNI Host protocol"
}

// startTLSFleet starts applications. addresses has pairs of an address and a name.
func startTLSFleet(t *testing.T, ca *authority, addresses ...string) *tlsFleet {
	t.Helper()
	f := &tlsFleet{port: "0", seen: make(map[string]bool)}
	for i := 0; i < len(addresses); i += 2 {
		address := addresses[i]
		listener, err := net.Listen("tcp", net.JoinHostPort(address, f.port))
		testkit.Must(t, err)
		_, f.port, _ = net.SplitHostPort(listener.Addr().String())
		s := &httptest.Server{Listener: listener, EnableHTTP2: true, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "" {
				w.WriteHeader(http.StatusNotImplemented)
			}
			f.mu.Lock()
			f.seen[strings.Join([]string{address, r.TLS.ServerName, r.Host, r.Proto, r.URL.Path}, " ")] = true
			f.mu.Unlock()
			io.WriteString(w, address)
		})}}
		s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.certificate(addresses[i+1])}}
		s.StartTLS()
		t.Cleanup(s.Close)
	}
	return f
}

// taken returns what was seen, with PORT for the port, and forgets it.
func (f *tlsFleet) taken() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := strings.Join(slices.Sorted(maps.Keys(f.seen)), "\n")
	clear(f.seen)
	return strings.ReplaceAll(all, ":"+f.port, ":PORT")
}

// TestTLSWithTheName checks the server name of TLS, the check of the certificate, and the
// Host field.
func TestTLSWithTheName(t *testing.T) {
	dns, ca := startNameServer(t), newAuthority(t)
	apps := startTLSFleet(t, ca, "127.0.2.1", "a.test", "127.0.2.2", "a.test", "127.0.2.3", "b.test", "127.0.2.4", "127.0.2.4", "127.0.2.5", "wrong.test")
	dns.set("a.test", "127.0.2.1 127.0.2.2")
	dns.set("b.test", "127.0.2.3")
	transport := func(more string) string {
		return "\ntransport http {\nresolvers " + dns.address + "\ntls_trust_pool file " + ca.file + "\n" + more + "\n}"
	}
	p := ":" + apps.port
	s := startNames(t, dns, "server https://a.test"+p+"\nserver https://b.test"+p+"\nserver https://127.0.2.4"+p+"\nhealth_uri /health\nhealth_interval 1h"+transport(""))
	s.wantShare("several names and an address", 16, "127.0.2.1=4 127.0.2.2=4 127.0.2.3=4 127.0.2.4=4")
	testkit.Eventually(t, "all are checked", func() bool {
		apps.mu.Lock()
		defer apps.mu.Unlock()
		n := 0
		for line := range apps.seen {
			if strings.HasSuffix(line, " /health") {
				n++
			}
		}
		return n == 4
	})
	var lines []string
	for line := range strings.Lines(apps.taken()) {
		line = strings.TrimSuffix(line, "\n")
		if i := strings.LastIndexByte(line, ' '); line[i:] != " /health" {
			line = line[:i]
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	want := `127.0.2.1 a.test a.test:PORT HTTP/2.0
127.0.2.1 a.test a.test:PORT HTTP/2.0 /health
127.0.2.2 a.test a.test:PORT HTTP/2.0
127.0.2.2 a.test a.test:PORT HTTP/2.0 /health
127.0.2.3 b.test b.test:PORT HTTP/2.0
127.0.2.3 b.test b.test:PORT HTTP/2.0 /health
127.0.2.4  127.0.2.4:PORT HTTP/2.0
127.0.2.4  127.0.2.4:PORT HTTP/2.0 /health`
	if got := strings.Join(slices.Compact(lines), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	t.Run("a certificate for another name", func(t *testing.T) {
		dns.set("a.test", "127.0.2.1 127.0.2.3 127.0.2.5")
		s := startNames(t, dns, "server https://a.test"+p+transport(""))
		s.wantShare("only the right one", 6, "127.0.2.1=6")
	})
	t.Run("another name in the configuration", func(t *testing.T) {
		dns.set("a.test", "127.0.2.3")
		s := startNames(t, dns, "server https://a.test"+p+transport("tls_server_name b.test"))
		apps.taken()
		s.wantShare("with tls_server_name", 2, "127.0.2.3=2")
		if got := apps.taken(); !strings.Contains(got, "127.0.2.3 b.test a.test:PORT") {
			t.Errorf("got %s, want the server name b.test and the Host a.test", got)
		}
	})
	t.Run("header_up Host", func(t *testing.T) {
		dns.set("a.test", "127.0.2.1")
		s := startNames(t, dns, "server https://a.test"+p+"\nheader_up Host other.test"+transport(""))
		apps.taken()
		s.wantShare("with a Host of its own", 1, "127.0.2.1=1")
		if got := apps.taken(); !strings.Contains(got, "127.0.2.1 a.test other.test") {
			t.Errorf("got %s, want the server name a.test and the Host other.test", got)
		}
	})
	t.Run("WebSocket", func(t *testing.T) {
		s := startNames(t, dns, "server https://a.test"+p+transport(""))
		apps.taken()
		s.plain("/", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Sec-Websocket-Version": {"13"}})
		if got := apps.taken(); !strings.Contains(got, "127.0.2.1 a.test a.test:PORT HTTP/1.1") {
			t.Errorf("got %s, want HTTP/1.1", got)
		}
	})
	t.Run("an address gets another name", func(t *testing.T) {
		dns.set("a.test", "127.0.2.1 127.0.2.3")
		dns.set("b.test", "127.0.2.3")
		s := startNames(t, dns, "server https://a.test"+p+"\nserver https://b.test"+p+"\nmax_fails 0"+transport(""))
		s.wantShare("with the first name, for which its certificate is wrong", 4, "127.0.2.1=4")
		if !strings.Contains(s.log(), "two upstream servers have the same address") {
			t.Error("got no warning in the log, want one")
		}
		dns.set("a.test", "127.0.2.1")
		dns.lookAgain(2)
		s.wantShare("with the other name", 4, "127.0.2.1=2 127.0.2.3=2")
	})
	t.Run("HTTP/1.1 without keepalive and with the PROXY protocol", func(t *testing.T) {
		s := startNames(t, dns, "server https://a.test"+p+transport("versions 1.1\nkeepalive off\ntls_timeout 5s"))
		s.wantShare("requests", 2, "127.0.2.1=2")
	})
	if t.Failed() {
		fmt.Fprintln(os.Stderr, s.log())
	}
}

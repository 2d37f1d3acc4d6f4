package redis

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", name)
	return a
}

// path returns the path of a file of the authority.
func (a *authority) path(file string) string { return filepath.Join(a.dir, file) }

// issue writes a certificate and its key into <file>.crt and <file>.key.
func (a *authority) issue(file, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testkit.Must(a.t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	testkit.Must(a.t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: []string{name},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		parent, signer = template, key
	} else if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	testkit.Must(a.t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	testkit.Must(a.t, err)
	for suffix, block := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		testkit.Must(a.t, os.WriteFile(a.path(file+suffix), pem.EncodeToMemory(block), 0o600))
	}
	cert, err := x509.ParseCertificate(der)
	testkit.Must(a.t, err)
	return cert, key
}

// TestTLS tests a server that demands a certificate, which is renewed.
func TestTLS(t *testing.T) {
	t.Parallel()
	ours, other := newAuthority(t, "our authority"), newAuthority(t, "another authority")
	ours.issue("server", "redis.test")
	ours.issue("client", "caddy")
	other.issue("client", "caddy")
	plain := testkit.FreePorts(t, 1)[0]
	r := testkit.StartRedis(t, fmt.Sprintf("tls-port %d", plain), "tls-auth-clients yes",
		"tls-ca-cert-file "+ours.path("ca.crt"), "tls-cert-file "+ours.path("server.crt"), "tls-key-file "+ours.path("server.key"))
	e := Engine{
		Addresses: []string{fmt.Sprintf("127.0.0.1:%d", plain)},
		TLS:       &TLS{CA: ours.path("ca.crt"), ClientCertificate: ours.path("client.crt"), ClientKey: ours.path("client.key"), ServerName: "redis.test"},
	}
	conforms(t, e)

	for name, change := range map[string]func(*TLS){
		"another name of the server": func(c *TLS) { c.ServerName = "other.test" },
		"the name of the address":    func(c *TLS) { c.ServerName = "" },
		"another authority":          func(c *TLS) { c.CA = other.path("ca.crt") },
		"the system's authorities":   func(c *TLS) { c.CA = "" },
		"no certificate":             func(c *TLS) { c.ClientCertificate, c.ClientKey = "", "" },
		"a certificate of another authority": func(c *TLS) {
			c.ClientCertificate, c.ClientKey = other.path("client.crt"), other.path("client.key")
		},
	} {
		e, config := e, *e.TLS
		change(&config)
		e.TLS = &config
		s := open(t, e)
		if err := adds(t, s, 5*time.Second); err == nil {
			t.Errorf("%s: a failed login is added", name)
		}
		testkit.Must(t, s.Close())
	}

	s := open(t, e)
	defer s.Close()
	reconnect := func() error {
		r.Command("client", "kill", "type", "normal")
		// The killed connection may be used once more.
		_ = adds(t, s, 5*time.Second)
		return adds(t, s, 5*time.Second)
	}
	testkit.Must(t, adds(t, s, 5*time.Second))
	testkit.Must(t, os.Remove(ours.path("client.key")))
	if err := reconnect(); err == nil {
		t.Error("a failed login is added over a new connection without a certificate")
	}
	ours.issue("client", "caddy")
	testkit.Must(t, reconnect())
}

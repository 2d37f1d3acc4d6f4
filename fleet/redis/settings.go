package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// defaultPrefix is the prefix of keys without a setting.
const defaultPrefix = "htpasswd"

// socketScheme begins the address of a Unix socket.
const socketScheme = "unix/"

// settings are those of an Engine, with placeholders replaced.
type settings struct {
	addresses                          []string // a path for a Unix socket
	cluster                            bool
	sentinel                           string
	sentinelUsername, sentinelPassword string
	database                           int
	username, password                 string
	tls                                *tls.Config
	prefix                             string
}

func (s settings) hasSocket() bool {
	for _, address := range s.addresses {
		if strings.HasPrefix(address, "/") {
			return true
		}
	}
	return false
}

// resolve replaces placeholders, checks single settings, and reads the files of TLS.
func (e *Engine) resolve() (s settings, err error) {
	s = settings{cluster: e.Cluster || e.Sentinel == "" && len(e.Addresses) > 1, database: e.Database, prefix: e.Prefix}
	for _, setting := range e.Addresses {
		address, err := resolveText("addresses", setting)
		if err != nil {
			return s, err
		}
		if address, err = checkAddress(address); err != nil {
			return s, fmt.Errorf("addresses: %w", err)
		}
		s.addresses = append(s.addresses, address)
	}
	for _, text := range []struct {
		name, setting string
		value         *string
	}{
		{"sentinel", e.Sentinel, &s.sentinel},
		{"sentinel_username", e.SentinelUsername, &s.sentinelUsername},
		{"sentinel_password", e.SentinelPassword, &s.sentinelPassword},
		{"username", e.Username, &s.username},
		{"password", e.Password, &s.password},
	} {
		if *text.value, err = resolveText(text.name, text.setting); err != nil {
			return s, err
		}
	}
	if s.prefix == "" {
		s.prefix = defaultPrefix
	}
	if err := checkPrefix(s.prefix); err != nil {
		return s, fmt.Errorf("prefix: %w", err)
	}
	if e.TLS != nil {
		if s.tls, err = e.TLS.config(); err != nil {
			return s, fmt.Errorf("tls: %w", err)
		}
	}
	return s, nil
}

// resolveText replaces the placeholders of a setting, which may be a secret: errors do
// not show it, unless it is a single placeholder.
func resolveText(name, setting string) (string, error) {
	text, err := caddy.NewReplacer().ReplaceOrErr(setting, true, true)
	if err != nil {
		if isPlaceholder(setting) {
			return "", fmt.Errorf("%s: the placeholder '%s' is empty or unknown", name, setting)
		}
		return "", fmt.Errorf("%s: a placeholder in it is empty or unknown; only global placeholders such as {env.NAME} and {file./path} are allowed", name)
	}
	return strings.TrimRight(text, "\r\n"), nil // a file ends with a line break
}

// isPlaceholder reports whether a setting is a single placeholder for an environment
// variable or a file.
func isPlaceholder(setting string) bool {
	return (strings.HasPrefix(setting, "{env.") || strings.HasPrefix(setting, "{file.")) &&
		strings.IndexByte(setting, '}') == len(setting)-1
}

// expectedAddress describes an address in errors.
const expectedAddress = "host:port or unix//path"

// checkAddress returns the address for the client. Errors do not show a password, which
// is in an address by mistake.
func checkAddress(address string) (string, error) {
	if path, ok := strings.CutPrefix(address, socketScheme); ok && strings.HasPrefix(path, "/") {
		return path, nil
	}
	if strings.Contains(address, "://") || strings.Contains(address, "@") {
		return "", fmt.Errorf("expected %s, found a URL: write the user and the password with 'username' and 'password', and 'tls' for rediss", expectedAddress)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return "", fmt.Errorf("expected %s, found '%s'", expectedAddress, address)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("expected %s with a port from 1 to 65535, found '%s'", expectedAddress, address)
	}
	return address, nil
}

// prefixes are those that need no quoting in an ACL, and are no hash tag of a cluster.
var prefixes = regexp.MustCompile(`^[A-Za-z0-9._:/-]{1,64}$`)

const expectedPrefix = "1 to 64 letters, digits and '.', '_', '-', ':', '/'"

func checkPrefix(prefix string) error {
	if !prefixes.MatchString(prefix) {
		return fmt.Errorf("expected %s, found %q", expectedPrefix, prefix)
	}
	return nil
}

// config reads the files.
func (t *TLS) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: expected certificates (PEM), found none in %s", t.CA)
		}
	}
	if (t.ClientCertificate == "") != (t.ClientKey == "") {
		return nil, errors.New("expected both client_certificate and client_key, found one of them")
	}
	if t.ClientCertificate == "" {
		return c, nil
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(t.ClientCertificate, t.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("client_certificate and client_key: %w", err)
		}
		return &pair, nil
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	_, err := load() // so that a mistake is noticed now
	return c, err
}

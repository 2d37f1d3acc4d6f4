package testkit

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Caddy is the Caddy of a Server: in the process of the test, or in a separate process.
type Caddy interface {
	// Adapt turns a Caddyfile into a configuration in JSON.
	Adapt(s *Server, caddyfile string) ([]byte, error)
	// Load activates a configuration, even if it is unchanged. After an error the
	// previous configuration stays active.
	Load(s *Server, config []byte) error
}

// ServerOptions are settings of a Server in addition to its Caddyfile.
type ServerOptions struct {
	// DefaultLimits keeps the default rate limits for failed logins. Otherwise
	// they are off in a configuration without limits, since most tests do not
	// test them.
	DefaultLimits bool
	// Admin enables the admin API at the server's port for it, unless the
	// Caddyfile configures it. Otherwise it is off.
	Admin bool
	// Dir is the server's directory; "" means a new one.
	Dir string
}

// Server is a Caddy under test: a directory, ports and a client.
//
// In its Caddyfiles {dir} stands for the directory, {https} for the port of the site
// https://localhost:{https}, {http} for a port for plain HTTP, and {admin} for the port
// of the admin API. It logs all levels to the file "log" in the directory, and stores
// certificates and keys there.
//
// A copy with another T or Client is the same server for another test or client.
type Server struct {
	T                  testing.TB
	Dir                string
	HTTPS, HTTP, Admin int
	Client             *http.Client // accepts any certificate, follows no redirects

	caddy   Caddy
	options ServerOptions
}

// NewServer returns a server without a configuration.
func NewServer(t testing.TB, caddy Caddy, options ServerOptions) *Server {
	t.Helper()
	ports := FreePorts(t, 3)
	s := &Server{T: t, Dir: options.Dir, HTTPS: ports[0], HTTP: ports[1], Admin: ports[2], caddy: caddy, options: options}
	if s.Dir == "" {
		s.Dir = t.TempDir()
	}
	s.Client = &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // of a test
			ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       time.Minute,
	}
	t.Cleanup(func() { s.Client.CloseIdleConnections() })
	return s
}

// In returns the server for a subtest, with another client if one is given.
func (s *Server) In(t testing.TB, clients ...*http.Client) *Server {
	other := *s
	other.T = t
	for _, c := range clients {
		other.Client = c
	}
	return &other
}

// Fill replaces the placeholders for the directory and the ports in a text.
func (s *Server) Fill(text string) string {
	return strings.NewReplacer("{dir}", s.Dir, "{https}", fmt.Sprint(s.HTTPS), "{http}", fmt.Sprint(s.HTTP), "{admin}", fmt.Sprint(s.Admin)).Replace(text)
}

// Reload loads another Caddyfile, as "caddy reload" does.
func (s *Server) Reload(caddyfile string) error {
	s.T.Helper()
	config, err := s.Adapt(caddyfile)
	if err != nil {
		return err
	}
	return s.Load(config, strings.Contains(caddyfile, "{https}"))
}

// Adapt turns a Caddyfile into JSON, with settings for tests.
func (s *Server) Adapt(caddyfile string) ([]byte, error) {
	config, err := s.caddy.Adapt(s, s.Fill(caddyfile))
	if err != nil {
		return nil, err
	}
	return s.withSettings(config)
}

// Load activates a configuration, and waits until the old one does not serve any more
// and, if hasSite, until the site has a certificate.
func (s *Server) Load(config []byte, hasSite bool) error {
	s.T.Helper()
	if err := s.caddy.Load(s, config); err != nil {
		return err
	}
	// The old configuration may still serve open connections, or close them.
	old := s.Client.Transport.(*http.Transport)
	s.Client.Transport = old.Clone()
	old.CloseIdleConnections()
	AwaitOneListener(s.T, s.HTTPS, s.HTTP)
	if hasSite {
		s.AwaitCertificate("localhost")
	}
	return nil
}

// AwaitCertificate waits until the server has a certificate for a host.
func (s *Server) AwaitCertificate(host string) {
	s.T.Helper()
	config := s.Client.Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName = host
	Eventually(s.T, "there is a certificate for "+host, func() bool {
		c, err := tls.Dial("tcp", fmt.Sprintf("localhost:%d", s.HTTPS), config)
		return err == nil && c.Close() == nil
	})
}

// withSettings restricts a configuration to the server's directory and ports.
func (s *Server) withSettings(config []byte) ([]byte, error) {
	var root map[string]any
	if err := json.Unmarshal(config, &root); err != nil {
		return nil, err
	}
	admin, _ := root["admin"].(map[string]any)
	switch {
	case admin == nil && s.options.Admin:
		admin = map[string]any{"listen": fmt.Sprintf("localhost:%d", s.Admin)}
	case admin == nil:
		admin = map[string]any{"disabled": true}
	}
	admin["config"] = map[string]any{"persist": false}
	root["admin"] = admin
	root["storage"] = map[string]any{"module": "file_system", "root": filepath.Join(s.Dir, "storage")}
	root["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{
		"level":  "DEBUG",
		"writer": map[string]any{"output": "file", "filename": filepath.Join(s.Dir, "log"), "roll": false},
		// At level DEBUG Caddy copies its TLS app for each event, which races with the app's Start.
		"exclude": []string{"events"},
	}}}
	apps, ok := root["apps"].(map[string]any)
	if !ok {
		return json.Marshal(root)
	}
	if !s.options.DefaultLimits {
		app, _ := apps["htpasswd"].(map[string]any)
		if app == nil {
			app = make(map[string]any)
		}
		if app["throttle"] == nil {
			off := map[string]any{"off": true}
			app["throttle"] = map[string]any{"login": off, "client": off, "user": off}
		}
		apps["htpasswd"] = app
	}
	if app, ok := apps["http"].(map[string]any); ok && app["http_port"] == nil { // otherwise the redirects would use port 80
		for _, server := range app["servers"].(map[string]any) {
			if server := server.(map[string]any); server["automatic_https"] == nil {
				server["automatic_https"] = map[string]any{"disable_redirects": true}
			}
		}
	}
	apps["pki"] = map[string]any{"certificate_authorities": map[string]any{"local": map[string]any{"install_trust": false}}}
	return json.Marshal(root)
}

// Write writes a file in the server's directory, and returns its path.
func (s *Server) Write(name, text string) string {
	s.T.Helper()
	path := filepath.Join(s.Dir, name)
	Must(s.T, os.WriteFile(path, []byte(text), 0o640)) //nolint:gosec // as an administrator's file
	return path
}

// Log returns the log so far.
func (s *Server) Log() string {
	s.T.Helper()
	return ReadText(s.T, filepath.Join(s.Dir, "log"))
}

// Answer is a complete response.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// URL returns the URL of a path on the site.
func (s *Server) URL(path string) string { return fmt.Sprintf("https://localhost:%d%s", s.HTTPS, path) }

// Request returns a request for a path on the site.
func (s *Server) Request(method, path string, body io.Reader) *http.Request {
	s.T.Helper()
	r, err := http.NewRequest(method, s.URL(path), body)
	Must(s.T, err)
	return r
}

// Get requests a path over HTTPS, with credentials if user is not empty.
func (s *Server) Get(path, user, password string) Answer {
	s.T.Helper()
	r := s.Request(http.MethodGet, path, nil)
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	return s.Do(r)
}

// Send requests a path over HTTPS with these header fields.
func (s *Server) Send(path string, header http.Header) Answer {
	s.T.Helper()
	r := s.Request(http.MethodGet, path, nil)
	maps.Copy(r.Header, header)
	return s.Do(r)
}

// Plain requests a path over plain HTTP with these header fields.
func (s *Server) Plain(path string, header http.Header) Answer {
	s.T.Helper()
	r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://localhost:%d%s", s.HTTP, path), nil)
	Must(s.T, err)
	maps.Copy(r.Header, header)
	return s.Do(r)
}

// Do sends a request. It retries a request without a body if the connection is closed:
// shortly after a reload, Caddy's old server can still accept a connection, and closes
// it.
func (s *Server) Do(r *http.Request) Answer {
	s.T.Helper()
	a, err := Send(s.Client, r)
	for range 3 {
		if r.Body != nil || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			break
		}
		a, err = Send(s.Client, r)
	}
	Must(s.T, err)
	return a
}

// Send sends a request and reads the complete response.
func Send(client *http.Client, r *http.Request) (Answer, error) {
	resp, err := client.Do(r) //nolint:gosec // the test chooses the server
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{}, err
	}
	return Answer{resp.StatusCode, resp.Header, string(body)}, nil
}

// Clients returns a client for each version of HTTP over TCP.
func (s *Server) Clients() map[string]*http.Client {
	one, two := *s.Client, *s.Client
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // of a test
		Protocols:       new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true)
	one.Transport = transport
	s.T.Cleanup(one.CloseIdleConnections)
	return map[string]*http.Client{"HTTP/1.1": &one, "HTTP/2": &two}
}

// Raw sends bytes over TLS as HTTP/1.1, and returns the final response, and the number
// of interim responses before it.
func (s *Server) Raw(text string) (a Answer, interim int) {
	s.T.Helper()
	c, err := tls.Dial("tcp", fmt.Sprintf("localhost:%d", s.HTTPS), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) //nolint:gosec // of a test
	Must(s.T, err)
	defer c.Close() //nolint:errcheck // everything is read
	Must(s.T, c.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(c, text)
	Must(s.T, err)
	method, _, _ := strings.Cut(text, " ")
	for r := bufio.NewReader(c); ; interim++ {
		resp, err := http.ReadResponse(r, &http.Request{Method: method}) //nolint:bodyclose // the connection is closed
		if err != nil {
			s.T.Fatalf("%v, after %q", err, text)
		}
		if resp.StatusCode < http.StatusOK {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		Must(s.T, err)
		return Answer{resp.StatusCode, resp.Header, string(body)}, interim
	}
}

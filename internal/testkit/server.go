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

// Caddy takes the configurations of a Server: the Caddy of the test's own
// process, or one in a process of its own.
type Caddy interface {
	// Adapt turns a Caddyfile into a configuration in JSON.
	Adapt(s *Server, caddyfile string) ([]byte, error)
	// Load serves a configuration in place of the previous one, even if it is
	// the same. After an error the previous one still serves.
	Load(s *Server, config []byte) error
}

// ServerOptions is what a Server sets beside what its Caddyfile says.
type ServerOptions struct {
	// DefaultLimits leaves the rate limits of failed logins as they are by
	// default. Otherwise they are off in a configuration that sets none: most
	// tests are about something else.
	DefaultLimits bool
	// Admin has the admin API listen at the server's port for it, if the
	// Caddyfile does not say where. Otherwise it is off.
	Admin bool
	// Dir is the server's directory; a new one if it is empty.
	Dir string
}

// Server is a Caddy under test: a directory, ports and a client.
//
// In its Caddyfiles {dir} stands for the directory, {https} for the port of the
// site https://localhost:{https}, {http} for one of plain HTTP, and {admin} for
// that of the admin API. What it logs, at every level, goes to the file log in
// the directory; certificates and keys are kept there, too.
//
// A copy with another T or Client is the same server for another test, or as
// another client sees it.
type Server struct {
	T                  testing.TB
	Dir                string
	HTTPS, HTTP, Admin int
	Client             *http.Client // accepts each certificate, follows no redirect

	caddy   Caddy
	options ServerOptions
}

// NewServer returns a server that serves nothing yet.
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

// In returns the server for a test within the test that started it, with
// another client if there is one.
func (s *Server) In(t testing.TB, clients ...*http.Client) *Server {
	other := *s
	other.T = t
	for _, c := range clients {
		other.Client = c
	}
	return &other
}

// Fill puts the directory and the ports into a text.
func (s *Server) Fill(text string) string {
	return strings.NewReplacer("{dir}", s.Dir, "{https}", fmt.Sprint(s.HTTPS), "{http}", fmt.Sprint(s.HTTP), "{admin}", fmt.Sprint(s.Admin)).Replace(text)
}

// Reload serves another Caddyfile, as "caddy reload" does.
func (s *Server) Reload(caddyfile string) error {
	s.T.Helper()
	config, err := s.Adapt(caddyfile)
	if err != nil {
		return err
	}
	return s.Load(config, strings.Contains(caddyfile, "{https}"))
}

// Adapt turns a Caddyfile into JSON, with the settings that a test needs.
func (s *Server) Adapt(caddyfile string) ([]byte, error) {
	config, err := s.caddy.Adapt(s, s.Fill(caddyfile))
	if err != nil {
		return nil, err
	}
	return s.withSettings(config)
}

// Load serves a configuration, and waits until it is the only one that does
// and, if it has the site, until that has a certificate.
func (s *Server) Load(config []byte, hasSite bool) error {
	s.T.Helper()
	if err := s.caddy.Load(s, config); err != nil {
		return err
	}
	// The old configuration may still serve what comes by connections that are open, or close them.
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

// withSettings changes a configuration: nothing of it gets out of the server's
// directory and ports.
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
	if app, ok := apps["http"].(map[string]any); ok && app["http_port"] == nil { // else the redirects would be on port 80
		for _, server := range app["servers"].(map[string]any) {
			if server := server.(map[string]any); server["automatic_https"] == nil {
				server["automatic_https"] = map[string]any{"disable_redirects": true}
			}
		}
	}
	apps["pki"] = map[string]any{"certificate_authorities": map[string]any{"local": map[string]any{"install_trust": false}}}
	return json.Marshal(root)
}

// Write writes a file in the server's directory and returns its path.
func (s *Server) Write(name, text string) string {
	s.T.Helper()
	path := filepath.Join(s.Dir, name)
	Must(s.T, os.WriteFile(path, []byte(text), 0o640)) //nolint:gosec // as an administrator's file
	return path
}

// Log returns what the server has logged so far.
func (s *Server) Log() string {
	s.T.Helper()
	return ReadText(s.T, filepath.Join(s.Dir, "log"))
}

// Answer is a response, read to the end.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// URL is the address of a path on the site.
func (s *Server) URL(path string) string { return fmt.Sprintf("https://localhost:%d%s", s.HTTPS, path) }

// Request returns a request of a path on the site.
func (s *Server) Request(method, path string, body io.Reader) *http.Request {
	s.T.Helper()
	r, err := http.NewRequest(method, s.URL(path), body)
	Must(s.T, err)
	return r
}

// Get asks for a path over HTTPS, with a password if user isn't empty.
func (s *Server) Get(path, user, password string) Answer {
	s.T.Helper()
	r := s.Request(http.MethodGet, path, nil)
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	return s.Do(r)
}

// Send asks for a path over HTTPS with these header fields.
func (s *Server) Send(path string, header http.Header) Answer {
	s.T.Helper()
	r := s.Request(http.MethodGet, path, nil)
	maps.Copy(r.Header, header)
	return s.Do(r)
}

// Plain asks for a path over plain HTTP with these header fields.
func (s *Server) Plain(path string, header http.Header) Answer {
	s.T.Helper()
	r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://localhost:%d%s", s.HTTP, path), nil)
	Must(s.T, err)
	maps.Copy(r.Header, header)
	return s.Do(r)
}

// Do sends a request. One without a body is sent again if its connection is
// closed: shortly after a reload what is left of Caddy's old server can still
// take a connection, and closes it.
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

// Send sends a request and reads the answer to its end.
func Send(client *http.Client, r *http.Request) (Answer, error) {
	resp, err := client.Do(r) //nolint:gosec // a test says to whom
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

// Clients returns a client for each version of HTTP that comes over TCP.
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

// Raw sends bytes over TLS, HTTP/1.1, and returns the last answer that comes,
// with how many interim ones came before it.
func (s *Server) Raw(text string) (a Answer, interim int) {
	s.T.Helper()
	c, err := tls.Dial("tcp", fmt.Sprintf("localhost:%d", s.HTTPS), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) //nolint:gosec // of a test
	Must(s.T, err)
	defer c.Close() //nolint:errcheck // nothing is left to come
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

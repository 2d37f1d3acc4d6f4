package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// restricted is the challenge of a site without a realm of its own.
const restricted = `Basic realm="Restricted", charset="UTF-8"`

// tlsSite is a site with certificate files, and a witness as the application. Its
// only user is ann, and /open is exempt.
type tlsSite struct {
	*server
	app   *testkit.Witness
	roots *x509.CertPool
}

// startTLS starts a tlsSite with a self-signed certificate.
func startTLS(t *testing.T) *tlsSite {
	t.Helper()
	dir := t.TempDir()
	testkit.Run(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
		"-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", filepath.Join(dir, "key.pem"), "-out", filepath.Join(dir, "cert.pem"))
	htpasswdIn(t, dir, "-cbC4", "users", "ann", "secret")
	s := &tlsSite{app: testkit.NewWitness(t), roots: x509.NewCertPool()}
	s.server = startIn(t, dir, "", "localhost:{https} {\ntls {dir}/cert.pem {dir}/key.pem\nhtpasswd {\nfile {dir}/users\nexempt /open\nuser_header X-User\n}\nreverse_proxy "+
		s.app.Listener.Addr().String()+"\n}")
	text, err := os.ReadFile(filepath.Join(dir, "cert.pem"))
	must(t, err)
	if !s.roots.AppendCertsFromPEM(text) {
		t.Fatal("no certificate")
	}
	return s
}

// clients returns a client for each version of HTTP, which speaks no other.
func (s *tlsSite) clients() map[string]*http.Client {
	clients := map[string]*http.Client{}
	for version, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2.0": func(p *http.Protocols) { p.SetHTTP2(true) },
	} {
		transport := &http.Transport{
			TLSClientConfig:       &tls.Config{RootCAs: s.roots},
			Protocols:             new(http.Protocols),
			ExpectContinueTimeout: time.Minute, // longer than any answer takes
		}
		set(transport.Protocols)
		s.T.Cleanup(transport.CloseIdleConnections)
		clients[version] = &http.Client{Transport: transport, Timeout: time.Minute}
	}
	quic := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}}
	s.T.Cleanup(func() { must(s.T, quic.Close()) })
	clients["HTTP/3.0"] = &http.Client{Transport: quic, Timeout: time.Minute}
	return clients
}

// TestClientsTrust runs programs that accept the certificate if it is in their trust
// store, and refuse it otherwise.
func TestClientsTrust(t *testing.T) {
	parallel(t)
	s := startTLS(t)
	t.Run("curl", func(t *testing.T) {
		for _, version := range []string{"--http1.1", "--http2"} {
			for _, row := range []struct {
				args []string
				want string
			}{
				{[]string{"--cacert", "cert.pem"}, "0 401 "},
				{[]string{"--cacert", "cert.pem", "-u", "ann:wrong"}, "0 401 "},
				{[]string{"--cacert", "cert.pem", "-u", "ann:secret"}, "0 200 application"},
				{[]string{"-u", "ann:secret"}, "60 000 "}, // not trusted
			} {
				cmd := exec.Command(program(t, "curl"), append(row.args, version, "-s", "-o", "answer", "-w", "%{http_code}", s.URL("/"))...) //nolint:gosec // the test's own arguments
				cmd.Dir = s.Dir
				s.Write("answer", "")
				out, _ := cmd.Output() // the exit code is checked below
				body, err := os.ReadFile(filepath.Join(s.Dir, "answer"))
				must(t, err)
				if got := fmt.Sprintf("%d %s %s", cmd.ProcessState.ExitCode(), out, body); got != row.want {
					t.Errorf("%s %q: %q, want %q", version, row.args, got, row.want)
				}
			}
		}
	})
	t.Run("openssl", func(t *testing.T) {
		for _, row := range []struct{ ca, authorization, want string }{
			{"cert.pem", "", "HTTP/1.1 401 Unauthorized"},
			{"cert.pem", "Authorization: " + authorization("ann", "wrong") + "\r\n", "HTTP/1.1 401 Unauthorized"},
			{"cert.pem", "Authorization: " + authorization("ann", "secret") + "\r\n", "HTTP/1.1 200 OK"},
			{"", "Authorization: " + authorization("ann", "secret") + "\r\n", ""}, // not trusted
		} {
			args := []string{"s_client", "-quiet", "-verify_return_error", "-verify_hostname", "localhost", "-connect", fmt.Sprintf("localhost:%d", s.HTTPS)}
			if row.ca != "" {
				args = append(args, "-CAfile", row.ca)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, program(t, "openssl"), args...) //nolint:gosec // the test's own arguments
			cmd.Dir, cmd.Stdin = s.Dir, strings.NewReader("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+row.authorization+"\r\n")
			out, _ := cmd.Output() // no output without trust
			if line, _, _ := strings.Cut(string(out), "\r\n"); line != row.want {
				t.Errorf("CA %q, %q: %q, want %q", row.ca, row.authorization, line, row.want)
			}
		}
	})
	t.Run("Go", func(t *testing.T) {
		for version, client := range s.clients() {
			r, err := http.NewRequest(http.MethodGet, s.URL("/"), nil)
			must(t, err)
			r.SetBasicAuth("ann", "secret")
			if a, err := testkit.Send(client, r); err != nil || a.Status != 200 {
				t.Errorf("%s: %d, %v", version, a.Status, err)
			}
		}
		s.roots = x509.NewCertPool()
		for version, client := range s.clients() {
			if _, err := client.Get(s.URL("/open")); err == nil || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("%s, not trusted: %v", version, err)
			}
		}
	})
	t.Run("Java", s.testJava)
}

// javaClient prints the answer. It sends a password only when the server asks for
// one, which is Java's default.
const javaClient = `
import java.net.*;
import java.net.http.*;

public class Client {
	public static void main(String[] args) throws Exception {
		HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.valueOf(args[0])).authenticator(new Authenticator() {
			protected PasswordAuthentication getPasswordAuthentication() {
				System.out.print("asked for " + getRequestingPrompt() + ", ");
				return args.length < 4 ? null : new PasswordAuthentication(args[2], args[3].toCharArray());
			}
		}).build();
		try {
			HttpResponse<String> r = client.send(HttpRequest.newBuilder(URI.create(args[1])).build(), HttpResponse.BodyHandlers.ofString());
			System.out.print(r.version() + " " + r.statusCode() + " " + r.body());
		} catch (javax.net.ssl.SSLHandshakeException e) {
			System.out.print("not trusted");
		}
	}
}
`

func (s *tlsSite) testJava(t *testing.T) {
	for _, name := range []string{"java", "javac", "keytool"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(name + " is not installed: it is part of a JDK, which make tools does not install")
		}
	}
	testkit.Run(t, "keytool", "-importcert", "-noprompt", "-alias", "site", "-storepass", "changeit", "-keystore", filepath.Join(s.Dir, "trust.p12"), "-file", filepath.Join(s.Dir, "cert.pem"))
	source := s.Write("Client.java", javaClient)
	if out, err := exec.Command("javac", "-d", s.Dir, source).CombinedOutput(); err != nil { //nolint:gosec // the test's own arguments
		t.Fatalf("javac: %v: %s", err, out)
	}
	trusting := []string{"-Djavax.net.ssl.trustStore=" + filepath.Join(s.Dir, "trust.p12"), "-Djavax.net.ssl.trustStorePassword=changeit"}
	for _, row := range []struct {
		store []string
		args  []string
		want  string
	}{
		{trusting, []string{"HTTP_1_1", s.URL("/"), "ann", "secret"}, "asked for Restricted, HTTP_1_1 200 application"},
		{trusting, []string{"HTTP_2", s.URL("/"), "ann", "secret"}, "asked for Restricted, HTTP_2 200 application"},
		{trusting, []string{"HTTP_2", s.URL("/open")}, "HTTP_2 200 application"},
		{nil, []string{"HTTP_2", s.URL("/open")}, "not trusted"},
	} {
		args := append(append(slices.Clone(row.store), "-cp", s.Dir, "Client"), row.args...)
		out, err := exec.Command("java", args...).CombinedOutput() //nolint:gosec // the test's own arguments
		if got := string(out); err != nil || got != row.want {
			t.Errorf("%q: %v, %q, want %q", row.args, err, got, row.want)
		}
	}
}

// TestSameDecision sends the same requests over every version of HTTP. The answers
// are the same, and so is what reaches the application.
func TestSameDecision(t *testing.T) {
	parallel(t)
	s := startTLS(t)
	clients := s.clients()
	right, wrong := authorization("ann", "secret"), authorization("ann", "wrong")
	for _, row := range []struct {
		name          string
		method, path  string
		authorization []string
		body          string
		status        int
		user          string // that the application sees
	}{
		{name: "none", status: 401},
		{name: "wrong", authorization: []string{wrong}, status: 401},
		{name: "wrong once more", authorization: []string{wrong}, status: 401},
		{name: "unknown user", authorization: []string{authorization("eve", "secret")}, status: 401},
		{name: "right", authorization: []string{right}, status: 200, user: "ann"},
		{name: "another scheme", authorization: []string{"Bearer secret"}, status: 401},
		{name: "scheme in lower case", authorization: []string{"b" + right[1:]}, status: 200, user: "ann"},
		{name: "no base64", authorization: []string{"Basic %"}, status: 401},
		{name: "two headers, right and wrong", authorization: []string{right, wrong}, status: 400},
		{name: "two headers, wrong and right", authorization: []string{wrong, right}, status: 400},
		{name: "two headers, both right", authorization: []string{right, right}, status: 400},
		{name: "exempt path", path: "/open", status: 200},
		{name: "exempt path, wrong", path: "/open", authorization: []string{wrong}, status: 200},
		{name: "path below an exempt one", path: "/open/..", status: 401},
		{name: "POST", method: "POST", body: "content", status: 401},
		{name: "POST, wrong", method: "POST", authorization: []string{wrong}, body: "content", status: 401},
		{name: "POST, right", method: "POST", authorization: []string{right}, body: "content", status: 200, user: "ann"},
		{name: "POST, exempt path", method: "POST", path: "/open", body: "content", status: 200},
		{name: "POST, two headers", method: "POST", authorization: []string{right, right}, body: "content", status: 400},
		{name: "HEAD", method: "HEAD", status: 401},
		{name: "HEAD, right", method: "HEAD", authorization: []string{right}, status: 200, user: "ann"},
		{name: "OPTIONS", method: "OPTIONS", status: 401},
		{name: "OPTIONS, right", method: "OPTIONS", authorization: []string{right}, status: 200, user: "ann"},
	} {
		if row.method == "" {
			row.method = "GET"
		}
		if row.path == "" {
			row.path = "/"
		}
		var first answer // of the first version
		for _, version := range slices.Sorted(maps.Keys(clients)) {
			t.Run(row.name+", "+version, func(t *testing.T) {
				s.app.Taken()
				var body io.Reader
				if row.body != "" {
					body = strings.NewReader(row.body)
				}
				r, err := http.NewRequest(row.method, s.URL(row.path), body)
				must(t, err)
				r.Header["X-User"] = []string{"forged"}
				if row.authorization != nil {
					r.Header["Authorization"] = row.authorization
				}
				resp, err := clients[version].Do(r)
				must(t, err)
				defer resp.Body.Close()
				text, err := io.ReadAll(resp.Body)
				must(t, err)
				if resp.Proto != version {
					t.Fatalf("got the version %s", resp.Proto)
				}
				for _, field := range []string{"Date", "Alt-Svc", "Via"} { // these differ
					resp.Header.Del(field)
				}
				if row.method == http.MethodHead && resp.Header.Get("Content-Length") == "0" {
					resp.Header.Del("Content-Length") // only the HTTP/3 server sets it
				}
				a := answer{Status: resp.StatusCode, Header: resp.Header, Body: string(text)}
				if a.Status != row.status || (a.Header.Get("WWW-Authenticate") == restricted) != (a.Status == 401) || len(a.Header["Www-Authenticate"]) > 1 {
					t.Errorf("%d, %q", a.Status, a.Header["Www-Authenticate"])
				}
				if first.Status == 0 {
					first = a
				} else if !reflect.DeepEqual(a, first) {
					t.Errorf("got %+v, want the answer of the first version: %+v", a, first)
				}
				if row.status != 200 {
					s.app.None(t)
					return
				}
				seen := s.app.Taken()
				if len(seen) != 1 {
					t.Fatalf("the application got %d requests", len(seen))
				}
				if got := seen[0]; got.Method != row.method || got.URI != row.path || got.Body != row.body || got.Header.Get("X-User") != row.user || got.Header["Authorization"] != nil {
					t.Errorf("the application got %+v", got)
				}
			})
		}
	}
}

// spiedBody is the body of a request, and records whether it is read.
type spiedBody struct {
	io.Reader
	read atomic.Bool
}

func (b *spiedBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	return b.Reader.Read(p)
}

// TestBodyWaits has clients that wait for 100 Continue, and clients whose body never
// ends. The server reads the body, and passes it on, only after the decision.
func TestBodyWaits(t *testing.T) {
	parallel(t)
	s := startTLS(t)
	clients := s.clients()
	rows := []struct {
		name, authorization string
		status              int
	}{
		{"none", "", 401},
		{"wrong", authorization("ann", "wrong"), 401},
		{"right", authorization("ann", "secret"), 200},
	}
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} { // Go's HTTP/3 client and server do not support it
		for _, row := range rows {
			t.Run("Expect: 100-continue, "+row.name+", "+version, func(t *testing.T) {
				s.app.Taken()
				body := &spiedBody{Reader: strings.NewReader("content")}
				r, err := http.NewRequest(http.MethodPost, s.URL("/"), body)
				must(t, err)
				r.ContentLength = int64(len("content"))
				r.Header.Set("Expect", "100-continue")
				r.Close = version == "HTTP/1.1" // otherwise Caddy waits for the body before it sends the answer
				if row.authorization != "" {
					r.Header.Set("Authorization", row.authorization)
				}
				a, err := testkit.Send(clients[version], r)
				must(t, err)
				if a.Status != row.status || body.read.Load() != (row.status == 200) {
					t.Errorf("%d, body read: %v", a.Status, body.read.Load())
				}
				s.checkBody(t, row.status)
			})
		}
	}
	for _, version := range []string{"HTTP/2.0", "HTTP/3.0"} { // for HTTP/1.1 see TestMalformed
		for _, row := range rows {
			t.Run("body without an end, "+row.name+", "+version, func(t *testing.T) {
				s.app.Taken()
				body, more := io.Pipe()
				defer more.Close()
				go func() {
					_, _ = io.WriteString(more, "content")
					if row.status == 200 {
						more.Close()
					}
				}()
				r, err := http.NewRequest(http.MethodPost, s.URL("/"), body)
				must(t, err)
				if row.authorization != "" {
					r.Header.Set("Authorization", row.authorization)
				}
				a, err := testkit.Send(clients[version], r)
				must(t, err)
				if a.Status != row.status {
					t.Errorf("%d", a.Status)
				}
				s.checkBody(t, row.status)
			})
		}
	}
}

// checkBody checks that the application got the body, or no request at all.
func (s *tlsSite) checkBody(t *testing.T, status int) {
	t.Helper()
	if status != 200 {
		s.app.None(t)
		return
	}
	if seen := s.app.Taken(); len(seen) != 1 || seen[0].Body != "content" {
		t.Errorf("the application got %+v", seen)
	}
}

// raw sends bytes over TLS. It returns the statuses of all answers, including 1xx,
// until the server closes the connection. With waits, it returns after one.
func (s *tlsSite) raw(t *testing.T, text string, waits bool) (statuses []int) {
	t.Helper()
	c, err := tls.Dial("tcp", fmt.Sprintf("localhost:%d", s.HTTPS), &tls.Config{RootCAs: s.roots, NextProtos: []string{"http/1.1"}})
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(c, text)
	must(t, err)
	for r := bufio.NewReader(c); !waits || len(statuses) == 0; {
		if _, err := r.Peek(1); err == io.EOF {
			break
		}
		resp, err := http.ReadResponse(r, nil)
		must(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
		statuses = append(statuses, resp.StatusCode)
	}
	return statuses
}

// TestMalformed sends requests that two parsers may read differently. Only exempt
// requests and those with the right password reach the application, as that user.
func TestMalformed(t *testing.T) {
	parallel(t)
	s := startTLS(t)
	const (
		host   = "Host: localhost\r\n"
		end    = "Connection: close\r\n"
		hidden = "GET /hidden HTTP/1.1\r\n" + host + "X-User: root\r\n" + end + "\r\n"
	)
	right, wrong := "Authorization: "+authorization("ann", "secret")+"\r\n", "Authorization: "+authorization("ann", "wrong")+"\r\n"
	chunked := func(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }
	for _, row := range []struct {
		name, text string
		statuses   []int
		seen       string // by the application: method, path, user, body
		waits      bool   // the server waits for the rest of the body
	}{
		{"chunked and a length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, []int{401, 401}, "", false},
		{"a length and chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + chunked(hidden) + hidden, []int{401, 401}, "", false},
		{"chunked and a length, wrong", "POST / HTTP/1.1\r\n" + host + wrong + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(hidden) + hidden, []int{401, 401}, "", false},
		{"chunked and a length, exempt", "POST /open HTTP/1.1\r\n" + host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, []int{200, 401}, `POST /open "" ""`, false},
		{"chunked and a length, right", "POST / HTTP/1.1\r\n" + host + right + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(hidden) + hidden, []int{200, 401}, `POST / "ann" ` + fmt.Sprintf("%q", hidden), false},
		{"two lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 0\r\nContent-Length: 7\r\n\r\ncontent", []int{400}, "", false},
		{"two lengths, right", "POST / HTTP/1.1\r\n" + host + right + "Content-Length: 0\r\nContent-Length: 7\r\n\r\ncontent", []int{400}, "", false},
		{"length with a sign", "POST / HTTP/1.1\r\n" + host + right + "Content-Length: +7\r\n\r\ncontent", []int{400}, "", false},
		{"unknown encoding", "POST / HTTP/1.1\r\n" + host + right + "Transfer-Encoding: xchunked\r\n\r\n" + hidden, []int{501}, "", false},
		{"two encodings", "POST / HTTP/1.1\r\n" + host + right + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + hidden, []int{501}, "", false},
		{"space before the colon", "POST / HTTP/1.1\r\n" + host + right + "Transfer-Encoding : chunked\r\n\r\n" + hidden, []int{400}, "", false},
		{"bare LF", "GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n", []int{401}, "", false},
		{"bare LF, wrong", "GET / HTTP/1.1\nHost: localhost\n" + strings.TrimSpace(wrong) + "\nConnection: close\n\n", []int{401}, "", false},
		{"bare LF in an exempt path", "GET /open\n HTTP/1.1\r\n" + host + end + "\r\n", []int{400}, "", false},
		{"bare LF in chunks", "POST / HTTP/1.1\r\n" + host + end + "Transfer-Encoding: chunked\r\n\r\n7\ncontent\n0\n\n", []int{401}, "", false},
		{"bare CR", "GET / HTTP/1.1\r\n" + host + "X-A: a\rX-User: root\r\n" + right + "\r\n", []int{400}, "", false},
		{"NUL", "GET / HTTP/1.1\r\n" + host + "X-A: a\x00b\r\n" + right + "\r\n", []int{400}, "", false},
		{"folded, none", "GET / HTTP/1.1\r\n" + host + "X-A: a\r\n Authorization: b\r\n" + end + "\r\n", []int{401}, "", false},
		{"folded, wrong", "GET / HTTP/1.1\r\n" + host + "Authorization: Basic\r\n\t" + strings.TrimPrefix(authorization("ann", "wrong"), "Basic ") + "\r\n" + end + "\r\n", []int{401}, "", false},
		{"folded, user header", "GET /open HTTP/1.1\r\n" + host + "X-A: a\r\n X-User: root\r\n" + end + "\r\n", []int{200}, `GET /open "" ""`, false},
		{"folded first line", "GET / HTTP/1.1\r\n " + right + host + "\r\n", []int{400}, "", false},
		{"no version", "GET /\r\n\r\n", []int{400}, "", false},
		{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{400}, "", false}, // no site handles it
		{"HTTP/1.0", "GET / HTTP/1.0\r\n" + host + "\r\n", []int{401}, "", false},
		{"Expect: 100-continue", "POST / HTTP/1.1\r\n" + host + end + "Expect: 100-continue\r\nContent-Length: 7\r\n\r\n", []int{401}, "", false},
		{"Expect: 100-continue, chunked, wrong", "POST / HTTP/1.1\r\n" + host + end + wrong + "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n", []int{401}, "", true},
		{"body without an end", "POST / HTTP/1.1\r\n" + host + end + wrong + "Transfer-Encoding: chunked\r\n\r\n7\r\ncontent\r\n", []int{401}, "", true},
		{"right, then none", "GET /a HTTP/1.1\r\n" + host + right + "\r\n" + hidden, []int{200, 401}, `GET /a "ann" ""`, false},
		{"exempt, then none", "GET /open HTTP/1.1\r\n" + host + "\r\n" + hidden, []int{200, 401}, `GET /open "" ""`, false},
		{"none, with the next request as its body", "POST / HTTP/1.1\r\n" + host + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(hidden)) + hidden + hidden, []int{401, 401}, "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.app.Taken()
			statuses := s.raw(t, row.text, row.waits)
			if !slices.Equal(statuses, row.statuses) {
				t.Errorf("%d, want %d", statuses, row.statuses)
			}
			var seen []string
			for _, got := range s.app.Taken() {
				seen = append(seen, fmt.Sprintf("%s %s %q %q", got.Method, got.URI, got.Header.Get("X-User"), got.Body))
			}
			if got := strings.Join(seen, "\n"); got != row.seen {
				t.Errorf("the application got %s, want %s", got, row.seen)
			}
		})
	}
}

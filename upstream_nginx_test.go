package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
)

// These tests check what the table of nginx's directives in docs/reference/upstream.md
// says of Caddy.

// addressBackend is a server that responds with the address of its client.
func addressBackend(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// distinct returns how many different texts there are.
func distinct(texts []string) int {
	seen := make(map[string]bool)
	for _, text := range texts {
		seen[text] = true
	}
	return len(seen)
}

func TestNginxRetryRows(t *testing.T) {
	post := func(site string) string {
		resp, err := http.Post(site, "text/plain", strings.NewReader("a body"))
		must(t, err)
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusOK {
			return fmt.Sprint(resp.StatusCode)
		}
		return string(body)
	}
	b := strings.TrimPrefix(namedBackend(t, "b").URL, "http://")
	for _, row := range []struct{ name, lines, get, post string }{
		{"the default", "", "b=4", "502"},
		{"proxy_next_upstream off", "lb_retries 0", "502=2 b=2", "502"},
		{"proxy_next_upstream_tries 2", "lb_retries 1", "b=4", "502"},
		{"the default, by tries", "lb_retries 1\nlb_retry_match {\nmethod GET HEAD\n}", "b=4", "502"},
		{"non_idempotent", "request_buffers 4KiB\nlb_retry_match {\nmethod GET HEAD OPTIONS TRACE PUT DELETE POST\n}", "b=4", "b"},
	} {
		t.Run(row.name, func(t *testing.T) {
			closing, _ := brokenBackend(t)
			var site string
			get := runProxy(t, "server "+closing+"\nserver "+b+"\nmax_fails 0\n"+row.lines, &site)
			var got []string
			for _, a := range answers(get, 4) {
				got = append(got, strings.TrimSuffix(a, " Bad Gateway"))
			}
			if got := counted(got, "502", "b"); got != row.get {
				t.Errorf("GET: got %s, want %s", got, row.get)
			}
			if got := post(site); got != row.post {
				t.Errorf("POST: got %s, want %s", got, row.post)
			}
		})
	}
}

func TestNginxKeepaliveRows(t *testing.T) {
	for _, row := range []struct {
		lines string
		want  int
	}{{"", 1}, {"transport http {\nkeepalive 60s\n}", 1}, {"transport http {\nkeepalive off\n}", 4}} {
		if got := distinct(answers(runProxy(t, "server "+addressBackend(t)+"\n"+row.lines), 4)); got != row.want {
			t.Errorf("%q: got %d connections for 4 requests, want %d", row.lines, got, row.want)
		}
	}
	if got := runProxy(t, "server "+addressBackend(t)+"\ntransport http {\nlocal_address 127.0.0.9\n}")(); !strings.HasPrefix(got, "127.0.0.9:") {
		t.Errorf("local_address: got a connection from %s, want one from 127.0.0.9", got)
	}

	s := startServer(t, "{\nhttp_port {http}\nupstream web {\nserver "+addressBackend(t)+"\n}\n}\nhttp://localhost:{http} {\nproxy_pass /a web\nproxy_pass /b web\n}\n")
	var all []string
	for range 3 {
		all = append(all, s.plain("/a", nil).body, s.plain("/b", nil).body)
	}
	if got := distinct(all); got != 2 {
		t.Errorf("with two proxy_pass: got %d connections, want one for each", got)
	}
}

func TestNginxFailuresOfOneServer(t *testing.T) {
	for lines, want := range map[string]string{
		"":                                 "502=5",
		"max_fails 1":                      "502=5",
		"fail_duration 1h":                 "502=1 503=4",
		"max_fails 3\nfail_duration 1h":    "502=3 503=2",
		"max_fails 0\nfail_duration 1h":    "502=5",
		"fail_duration 1h\nlb_retries 100": "502=1 503=4",
	} {
		dead, _ := brokenBackend(t)
		var got []string
		for _, a := range answers(runProxy(t, "server "+dead+"\n"+lines), 5) {
			got = append(got, a[:3])
		}
		if got := counted(got, "502", "503"); got != want {
			t.Errorf("%q: got %s, want %s", lines, got, want)
		}
	}
}

func TestNginxHintsAndTrailers(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "text")
		w.Header().Set("X-Sum", "sum")
	}))
	t.Cleanup(app.Close)
	s := startServer(t, "{\nhttp_port {http}\nhttps_port {https}\nupstream web {\nserver "+app.URL+"\n}\n}\nhttps://localhost:{https} {\ntls internal\nproxy_pass web\n}\n")
	for name, client := range s.clients() {
		var hints []string
		r := s.request(http.MethodGet, "/", nil)
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, " ", header.Get("Link")))
			return nil
		}}))
		resp, err := client.Do(r)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		resp.Body.Close()
		if got := strings.Join(hints, ", "); got != "103 </style.css>; rel=preload" || string(body) != "text" || resp.Trailer.Get("X-Sum") != "sum" {
			t.Errorf("%s: got hints %q, body %q and trailer %v, want all that the server sends", name, got, body, resp.Trailer)
		}
	}
}

// TestNginxVariables logs the placeholders that stand for nginx's variables.
func TestNginxVariables(t *testing.T) {
	app := namedBackend(t, "a")
	address := strings.TrimPrefix(app.URL, "http://")
	s := startServer(t, `{
		http_port {http}
		upstream web {
			server `+address+`
		}
	}
	http://localhost:{http} {
		log
		log_append addr {http.reverse_proxy.upstream.hostport}
		log_append header_time {http.reverse_proxy.upstream.latency_ms}
		log_append response_time {http.reverse_proxy.upstream.duration_ms}
		log_append upstream_status {http.reverse_proxy.status_code}
		log_append type {http.reverse_proxy.header.Content-Type}
		log_append retries {http.reverse_proxy.retries}
		proxy_pass web
	}`)
	s.plain("/", nil)
	var line map[string]any
	eventually(t, "the request is logged", func() bool {
		for text := range strings.Lines(s.log()) {
			if strings.Contains(text, "handled request") {
				must(t, json.Unmarshal([]byte(text), &line))
				return true
			}
		}
		return false
	})
	for field, want := range map[string]string{"addr": "string", "header_time": "float64", "response_time": "float64", "upstream_status": "float64", "type": "string", "retries": "float64"} {
		if got := fmt.Sprintf("%T", line[field]); got != want || line[field] == "" {
			t.Errorf("%s: got %v, a %s, want a %s", field, line[field], got, want)
		}
	}
	if line["addr"] != address {
		t.Errorf("got the address %v, want %s", line["addr"], address)
	}
}

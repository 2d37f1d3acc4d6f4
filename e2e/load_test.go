package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// ask is a request that is sent repeatedly, with a check of its answers.
type ask struct {
	name   string
	path   string
	user   func() (name, password string) // nil: no credentials
	change func(*http.Request)            // anything else; may be nil
	from   string                         // the client's address, else 127.0.0.1
	kind   clientKind
	every  time.Duration
	check  func(answer) string // returns what is wrong, or ""
}

// clientKind says how a client connects.
type clientKind int

const (
	overHTTP2      clientKind = iota // one connection
	overHTTP1                        // one connection, kept open
	newConnections                   // one for each request, HTTP/1.1
)

// as returns credentials for ask.user.
func as(name, password string) func() (string, string) {
	return func() (string, string) { return name, password }
}

// saying returns a check for a status and a body.
func saying(status int, body string) func(answer) string {
	return func(a answer) string {
		if a.Status != status || a.Body != body {
			return fmt.Sprintf("%d %q, not %d %q", a.Status, a.Body, status, body)
		}
		return ""
	}
}

// status returns a check for one of these statuses.
func status(expected ...int) func(answer) string {
	return func(a answer) string {
		for _, s := range expected {
			if a.Status == s {
				return ""
			}
		}
		return fmt.Sprintf("%d %q, not one of %d", a.Status, a.Body, expected)
	}
}

// load is a group of clients that send requests at a bounded rate until end.
type load struct {
	t       testing.TB
	stop    chan struct{}
	clients []*http.Client
	wg      sync.WaitGroup
	served  atomic.Int64 // correct answers
	retried atomic.Int64 // requests repeated because their connection closed before an answer
	wrong   atomic.Int64
}

// drive starts clients with separate connections. If a connection closes before an
// answer, the request is sent once more, as browsers do. Everything else that goes
// wrong fails the test.
func (s *server) drive(t testing.TB, asks ...ask) *load {
	t.Helper()
	l := &load{t: t, stop: make(chan struct{})}
	for _, a := range asks {
		client := s.clientOf(a)
		l.clients = append(l.clients, client)
		l.wg.Go(func() {
			defer client.CloseIdleConnections()
			ticker := time.NewTicker(a.every)
			defer ticker.Stop()
			for {
				select {
				case <-l.stop:
					return
				case <-ticker.C:
				}
				if wrong := l.send(client, s, a); wrong != "" {
					if n := l.wrong.Add(1); n <= 20 {
						t.Errorf("%s: %s", a.name, wrong)
					}
					continue
				}
				l.served.Add(1)
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

// clientOf returns a client with separate connections.
func (s *server) clientOf(a ask) *http.Client {
	client := s.newClient()
	transport := client.Transport.(*http.Transport)
	switch a.kind {
	case overHTTP2:
	case overHTTP1:
		transport.ForceAttemptHTTP2 = false
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	case newConnections:
		transport.ForceAttemptHTTP2 = false
		transport.DisableKeepAlives = true
	}
	if a.from != "" {
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(a.from)}}
		transport.DialContext = dialer.DialContext
	}
	return client
}

// send sends one request, and returns what is wrong with the answer.
func (l *load) send(client *http.Client, s *server, a ask) string {
	for attempt := 0; ; attempt++ {
		r, err := http.NewRequest(http.MethodGet, s.URL(a.path), nil)
		if err != nil {
			return err.Error()
		}
		if a.user != nil {
			r.SetBasicAuth(a.user())
		}
		if a.change != nil {
			a.change(r)
		}
		var connections atomic.Int64
		var begun atomic.Bool
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			GotConn:              func(httptrace.GotConnInfo) { connections.Add(1) },
			GotFirstResponseByte: func() { begun.Store(true) },
		}))
		got, err := testkit.Send(client, r)
		if n := connections.Load(); n > 1 {
			l.retried.Add(n - 1) // repeated by net/http
		}
		if err == nil {
			return a.check(got)
		}
		if begun.Load() || attempt > 0 {
			return err.Error()
		}
		l.retried.Add(1)
	}
}

// more waits for n more correct answers.
func (l *load) more(n int64) {
	l.t.Helper()
	before := l.served.Load()
	eventually(l.t, fmt.Sprintf("%d more requests are answered", n), func() bool { return l.served.Load() >= before+n })
}

// end stops the clients.
func (l *load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.wg.Wait()
}

// adminClient is the client for the admin API.
var adminClient = &http.Client{Timeout: 30 * time.Second}

// adminText gets a path of the admin API.
func (s *server) adminText(path string) string {
	s.T.Helper()
	resp, err := adminClient.Get(fmt.Sprintf("http://localhost:%d%s", s.Admin, path))
	must(s.T, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(s.T, err)
	if resp.StatusCode != http.StatusOK {
		s.T.Fatalf("%s: %d %s", path, resp.StatusCode, text)
	}
	return string(text)
}

// metrics returns the metrics of the plugin by name and labels, without
// "caddy_htpasswd_".
func (s *server) metrics() map[string]float64 {
	s.T.Helper()
	values := make(map[string]float64)
	lines := bufio.NewScanner(strings.NewReader(s.adminText("/metrics")))
	for lines.Scan() {
		rest, ours := strings.CutPrefix(lines.Text(), "caddy_htpasswd_")
		name, number, _ := cutLast(rest, " ")
		if !ours {
			continue
		}
		value, err := strconv.ParseFloat(number, 64)
		must(s.T, err)
		values[name] = value
	}
	if len(values) == 0 {
		s.T.Fatal("no metrics")
	}
	return values
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// result returns how many requests had a result.
func (s *server) result(name string) float64 {
	s.T.Helper()
	return s.metrics()[`requests_total{result="`+name+`"}`]
}

// hashes returns how many hashes were computed.
func (s *server) hashes() float64 {
	s.T.Helper()
	n := 0.0
	for name, value := range s.metrics() {
		if strings.HasPrefix(name, "hash_duration_seconds_count") {
			n += value
		}
	}
	return n
}

// fileIsGood reports whether the last load of a password file succeeded.
func (s *server) fileIsGood(path string) bool {
	s.T.Helper()
	value, found := s.metrics()[`file_last_load_successful{file="`+path+`",kind="users"}`]
	if !found {
		s.T.Fatalf("no metric for %s", path)
	}
	return value == 1
}

var profileTotal = regexp.MustCompile(`^goroutine profile: total (\d+)\n`)

// goroutines returns the number of goroutines of the server.
func (s *server) goroutines() int {
	s.T.Helper()
	m := profileTotal.FindStringSubmatch(s.adminText("/debug/pprof/goroutine?debug=1"))
	if m == nil {
		s.T.Fatal("the goroutine profile looks different")
	}
	n, err := strconv.Atoi(m[1])
	must(s.T, err)
	return n
}

var profileHeap = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`)

// heap returns the bytes that are in use after a garbage collection.
func (s *server) heap() int {
	s.T.Helper()
	m := profileHeap.FindStringSubmatch(s.adminText("/debug/pprof/heap?gc=1&debug=1"))
	if m == nil {
		s.T.Fatal("the heap profile looks different")
	}
	n, err := strconv.Atoi(m[1])
	must(s.T, err)
	return n
}

// openFiles returns the number of open files of the server.
func (s *server) openFiles() int {
	s.T.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.process.Pid()))
	if err != nil {
		s.T.Skipf("no /proc: %v", err)
	}
	return len(entries)
}

// atRest waits until the server has at most these numbers of goroutines and open
// files. With zeros, it waits until the numbers are stable, and returns them.
func (s *server) atRest(goroutines, files int) (int, int) {
	s.T.Helper()
	http.DefaultClient.CloseIdleConnections()
	if goroutines > 0 {
		eventually(s.T, fmt.Sprintf("the server has at most %d goroutines and %d open files", goroutines, files), func() bool {
			return s.goroutines() <= goroutines && s.openFiles() <= files
		})
		return goroutines, files
	}
	last, same := [2]int{}, 0
	eventually(s.T, "the numbers of goroutines and open files are stable", func() bool {
		now := [2]int{s.goroutines(), s.openFiles()}
		if now != last {
			last, same = now, 0
		}
		same++
		time.Sleep(20 * time.Millisecond) // for what is ending
		return same >= 25                 // half a second
	})
	return last[0], last[1]
}

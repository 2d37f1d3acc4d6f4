// Package fleet tests fleets: several Caddys, as processes, that share a real Redis, and
// everything that can happen to it.
package fleet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

var (
	must       = testkit.Must
	eventually = testkit.Eventually
	program    = testkit.Program
)

// caddyBinary is Caddy with the plugin and the module for Redis, built once.
var caddyBinary string

// atOnce limits how many tests run at the same time: each has several processes.
var atOnce = make(chan struct{}, 3)

func parallel(t *testing.T) {
	t.Helper()
	t.Parallel()
	atOnce <- struct{}{}
	t.Cleanup(func() { <-atOnce })
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "fleet")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		caddyBinary = filepath.Join(dir, "caddy")
		build := exec.Command("go", "build", "-o", caddyBinary, "./cmd/caddy")
		build.Dir = "../../fleet/redis"
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building caddy: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// The secrets of the tests.
const (
	secret      = "Vq3mZr8LxK2tYw7Nf5Hc9Jd4Gs6Pb1Ua"
	otherSecret = "T9eWk4Rm7Xz2Cq8Bv5Ny1Lh6Jf3Dg0Ps"
)

// password is the password of all users of goodUsers.
const password = "correct horse battery"

// settings configure a node. The zero value is a node without a fleet.
type settings struct {
	store   string // lines of "fleet redis", or "" for no fleet
	secret  string // arguments of secret
	limits  string // lines of htpasswd in the global options
	sources string // lines of htpasswd in the site
	hashes  int    // max_hashes
}

// node is a Caddy in its own process with its own data directory.
type node struct {
	t           testing.TB
	name, dir   string
	http, admin int
	settings
	process *testkit.Process
	client  *http.Client
	sent    atomic.Int64 // logins
	ok      atomic.Int64 // logins with the answer 200
}

// newNode returns a node that is not running.
func newNode(t testing.TB, name string, s settings) *node {
	t.Helper()
	ports := testkit.FreePorts(t, 2)
	n := &node{t: t, name: name, dir: t.TempDir(), http: ports[0], admin: ports[1], settings: s, client: newClient(t)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s logged:\n%s", name, n.tail())
		}
	})
	return n
}

func newClient(t testing.TB) *http.Client {
	c := &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		Timeout:   time.Minute,
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// caddyfile returns the configuration.
func (n *node) caddyfile() string {
	var b strings.Builder
	fmt.Fprintf(&b, "{\n\tadmin localhost:%d\n\tpersist_config off\n\tauto_https off\n\tstorage file_system %s\n", n.admin, filepath.Join(n.dir, "storage"))
	fmt.Fprintf(&b, "\tlog {\n\t\toutput file %s {\n\t\t\troll_disabled\n\t\t}\n\t\tformat json\n\t\tlevel DEBUG\n\t}\n", filepath.Join(n.dir, "log"))
	b.WriteString("\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t\ttrusted_proxies_strict\n\t}\n\thtpasswd {\n\t\tpoll 500ms\n")
	if n.hashes > 0 {
		fmt.Fprintf(&b, "\t\tmax_hashes %d\n", n.hashes)
	}
	if n.secret != "" {
		fmt.Fprintf(&b, "\t\tsecret %s\n", n.secret)
	}
	b.WriteString(n.limits + "\n")
	if n.store != "" {
		fmt.Fprintf(&b, "\t\tfleet redis {\n%s\n\t\t}\n", n.store)
	}
	fmt.Fprintf(&b, "\t}\n}\n\nhttp://127.0.0.1:%d {\n\thtpasswd {\n\t\tallow_http\n%s\n\t}\n\trespond \"hello {http.auth.user.id}\"\n}\n", n.http, n.sources)
	return b.String()
}

func (n *node) env() []string {
	return append(os.Environ(), "HOME="+n.dir, "XDG_DATA_HOME="+n.dir, "XDG_CONFIG_HOME="+n.dir)
}

// launch starts the process and does not wait.
func (n *node) launch() {
	n.t.Helper()
	must(n.t, os.WriteFile(filepath.Join(n.dir, "Caddyfile"), []byte(n.caddyfile()), 0o600))
	n.process = testkit.Start(n.t, n.dir, n.env(), caddyBinary, "run", "--config", "Caddyfile")
}

// start starts the process and waits until it serves.
func (n *node) start() {
	n.t.Helper()
	n.launch()
	n.awaitStart()
}

func (n *node) awaitStart() {
	n.t.Helper()
	eventually(n.t, n.name+" serves", func() bool {
		if n.process.Ended() {
			n.t.Fatalf("%s exited: %s", n.name, n.process.Said())
		}
		resp, err := n.client.Get(fmt.Sprintf("http://localhost:%d/config/", n.admin))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// reload loads the configuration with changed settings.
func (n *node) reload(change func(*settings)) error {
	n.t.Helper()
	change(&n.settings)
	r, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://localhost:%d/load", n.admin), strings.NewReader(n.caddyfile()))
	must(n.t, err)
	r.Header.Set("Content-Type", "text/caddyfile")
	r.Header.Set("Cache-Control", "must-revalidate")
	a, err := testkit.Send(n.client, r)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("%d: %s", a.Status, a.Body)
	}
	return err
}

// adminRequest sends a request to the admin API.
func (n *node) adminRequest(method, path, body string) testkit.Answer {
	n.t.Helper()
	r, err := http.NewRequest(method, fmt.Sprintf("http://localhost:%d%s", n.admin, path), strings.NewReader(body))
	must(n.t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	a, err := testkit.Send(n.client, r)
	must(n.t, err)
	return a
}

// metric returns the sum of a metric of the plugin over the labels that contain all of
// these texts.
func (n *node) metric(name string, labels ...string) float64 {
	n.t.Helper()
	sum := 0.0
	lines := bufio.NewScanner(strings.NewReader(n.adminRequest(http.MethodGet, "/metrics", "").Body))
next:
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), " ")
		base, rest, _ := strings.Cut(key, "{")
		if base != "caddy_htpasswd_"+name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue next
			}
		}
		if i := strings.LastIndex(lines.Text(), " "); i >= 0 {
			value = lines.Text()[i+1:]
		}
		v, err := strconv.ParseFloat(value, 64)
		must(n.t, err)
		sum += v
	}
	return sum
}

// state returns the field of the fleet in the answer of GET /htpasswd.
func (n *node) state() map[string]any {
	n.t.Helper()
	var all struct {
		Fleet map[string]any `json:"fleet"`
	}
	a := n.adminRequest(http.MethodGet, "/htpasswd", "")
	if err := json.Unmarshal([]byte(a.Body), &all); err != nil {
		n.t.Fatalf("%v: %s", err, a.Body)
	}
	return all.Fleet
}

// connected reports whether the node uses the store.
func (n *node) connected() bool {
	connected, _ := n.state()["connected"].(bool)
	return connected
}

// tool runs "caddy htpasswd" for the node and returns its output and exit code.
func (n *node) tool(stdin string, args ...string) (string, int) {
	cmd := exec.Command(caddyBinary, append([]string{"htpasswd"}, args...)...)
	cmd.Dir, cmd.Env, cmd.Stdin = n.dir, n.env(), strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		return err.Error(), -1
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// fleetTool is like tool, at the node's admin API.
func (n *node) fleetTool(args ...string) (string, int) {
	return n.tool("", append([]string{"--address", fmt.Sprintf("localhost:%d", n.admin)}, args...)...)
}

// reply is the answer to a login.
type reply struct {
	status     int
	retryAfter int // seconds, with 429
	took       time.Duration
	at         time.Time
	err        error
}

// login sends a request of a client.
func (n *node) login(client, user, password string) reply {
	r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", n.http), nil)
	if err != nil {
		return reply{err: err}
	}
	r.Header.Set("X-Forwarded-For", client)
	r.SetBasicAuth(user, password)
	begin := time.Now()
	n.sent.Add(1)
	resp, err := n.client.Do(r)
	// Shortly after a reload, Caddy's old server can accept a connection and close it.
	for range 3 {
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			break
		}
		n.sent.Add(1)
		resp, err = n.client.Do(r)
	}
	if err != nil {
		return reply{err: err, took: time.Since(begin)}
	}
	if resp.StatusCode == http.StatusOK {
		n.ok.Add(1)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return reply{status: resp.StatusCode, retryAfter: after, took: time.Since(begin), at: time.Now(), err: err}
}

// logLine is a line of a node's log.
type logLine struct {
	Level, Logger, Msg string
	raw                string
}

// logged returns the lines of the log.
func (n *node) logged() []logLine {
	text, err := os.ReadFile(filepath.Join(n.dir, "log"))
	if err != nil {
		return nil
	}
	var lines []logLine
	for line := range bytes.Lines(text) {
		l := logLine{raw: strings.TrimSpace(string(line))}
		if json.Unmarshal(line, &l) == nil {
			lines = append(lines, l)
		}
	}
	return lines
}

// tail returns the last lines of the plugin, without those that clients cause.
func (n *node) tail() string {
	const most = 40
	var found []string
	for _, l := range n.logged() {
		if strings.Contains(l.Logger, "htpasswd") && l.Level != "debug" && !slices.ContainsFunc(ofClients[:3], func(text string) bool { return strings.HasPrefix(l.Msg, text) }) {
			found = append(found, l.raw)
		}
	}
	return strings.Join(found[max(0, len(found)-most):], "\n")
}

// ofClients are messages that clients cause.
var ofClients = []string{"login failed", "login rate limit", "log entries suppressed", "login failure", "trusted_proxies", "failed logins cleared"}

// warnings returns the warnings and errors of the plugin after a number of lines, without
// those that clients cause, and without those about a store that is slow: on a busy
// machine, Redis sometimes does not answer within 100 ms.
func (n *node) warnings(after int) []string {
	found, _ := n.allWarnings(after)
	return found
}

// allWarnings returns the lines about a slow store separately.
func (n *node) allWarnings(after int) (found, slow []string) {
	for i, l := range n.logged() {
		if i < after || !strings.Contains(l.Logger+l.Msg, "htpasswd") && !strings.Contains(l.Msg, "fleet") || l.Level != "warn" && l.Level != "error" {
			continue
		}
		if slices.ContainsFunc(ofClients, func(text string) bool { return strings.HasPrefix(l.Msg, text) }) {
			continue
		}
		if strings.Contains(l.raw, "no answer within") || strings.Contains(l.raw, "i/o timeout") || strings.Contains(l.raw, "deadline exceeded") {
			slow = append(slow, l.raw)
		} else {
			found = append(found, l.raw)
		}
	}
	return found, slow
}

// hash returns a bcrypt hash of the password with a cost.
func hash(t testing.TB, password string, cost int) string {
	t.Helper()
	text, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	must(t, err)
	return string(text)
}

// usersFile writes a password file for n users good0000, good0001 and so on, and for
// others, all with the same password, and returns its path.
func usersFile(t testing.TB, cost, n int, others ...string) string {
	t.Helper()
	line := hash(t, password, cost)
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "good%04d:%s\n", i, line)
	}
	for _, name := range others {
		fmt.Fprintf(&b, "%s:%s\n", name, line)
	}
	path := filepath.Join(t.TempDir(), "users")
	must(t, os.WriteFile(path, []byte(b.String()), 0o600))
	return path
}

// startFleet starts nodes with the same settings, and waits until they use the store.
func startFleet(t testing.TB, n int, s settings) []*node {
	t.Helper()
	var nodes []*node
	for i := range n {
		nodes = append(nodes, newNode(t, fmt.Sprintf("server %d", i), s))
		nodes[i].launch()
	}
	for _, n := range nodes {
		n.awaitStart()
	}
	for _, n := range nodes {
		eventually(t, n.name+" uses the store", func() bool { return s.store == "" || n.connected() })
	}
	return nodes
}

// total returns the sum of a metric over the nodes.
func total(nodes []*node, metric string, labels ...string) float64 {
	sum := 0.0
	for _, n := range nodes {
		sum += n.metric(metric, labels...)
	}
	return sum
}

// hashes returns how many hashes the nodes have computed.
func hashes(nodes []*node) int { return int(total(nodes, "hash_duration_seconds_count")) }

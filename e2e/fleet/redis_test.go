package fleet

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/sealed"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// redis is a Redis server in its own process. Administrators use the default user with
// adminPassword, Caddys the user caddy with storePassword.
type redis struct {
	t       testing.TB
	dir     string
	port    int
	extra   []string
	process *testkit.Process
}

const (
	adminPassword = "admin-of-redis"
	storePassword = "store-password-1"
)

// storeUser is what the user of Caddys may do, as docs/fleets.md says. A cluster needs
// one command more.
var storeUser = sync.OnceValue(func() string {
	page, err := os.ReadFile("../../docs/fleets.md")
	if err != nil {
		return err.Error()
	}
	_, rules, _ := strings.Cut(string(page), "\nuser caddy on >replace-this-password ")
	rules, _, _ = strings.Cut(rules, "\n")
	return rules
})

// startRedis starts Redis with further lines of its configuration.
func startRedis(t testing.TB, extra ...string) *redis {
	t.Helper()
	r := &redis{t: t, dir: t.TempDir(), port: testkit.FreePorts(t, 1)[0], extra: extra}
	r.start()
	return r
}

func (r *redis) address() string { return fmt.Sprintf("127.0.0.1:%d", r.port) }

// start starts it, empty.
func (r *redis) start() {
	r.t.Helper()
	lines := append([]string{
		"bind 127.0.0.1", fmt.Sprintf("port %d", r.port), "dir " + r.dir, `save ""`, "appendonly no",
		"rdbcompression no", "requirepass " + adminPassword, "masterauth " + adminPassword,
		fmt.Sprintf("user caddy on >%s %s", storePassword, storeUser()),
		"maxmemory-policy noeviction", "repl-diskless-sync-delay 0", "repl-ping-replica-period 1",
	}, r.extra...)
	path := filepath.Join(r.dir, "redis.conf")
	must(r.t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	_ = os.Remove(filepath.Join(r.dir, "dump.rdb"))
	r.run(program(r.t, "redis-server"), path)
	eventually(r.t, "Redis answers", func() bool {
		if r.process.Ended() {
			r.t.Fatalf("redis-server exited: %s", r.process.Said())
		}
		c, err := dialRedis(r.address(), adminPassword)
		if err != nil {
			return false
		}
		defer c.close()
		_, err = c.do("PING")
		return err == nil
	})
}

func (r *redis) run(name string, args ...string) {
	r.process = testkit.Start(r.t, r.dir, os.Environ(), name, args...)
	p := r.process
	r.t.Cleanup(func() {
		if !p.Ended() {
			p.Signal(syscall.SIGCONT) // a stopped process does not end at SIGTERM
		}
	})
}

func (r *redis) kill()   { r.process.Stop(syscall.SIGKILL) }
func (r *redis) hang()   { r.process.Signal(syscall.SIGSTOP) }
func (r *redis) resume() { r.process.Signal(syscall.SIGCONT) }

// do runs a command as administrator.
func (r *redis) do(args ...string) any {
	r.t.Helper()
	c, err := dialRedis(r.address(), adminPassword)
	must(r.t, err)
	defer c.close()
	v, err := c.do(args...)
	if err != nil {
		r.t.Fatalf("%q: %v", args, err)
	}
	return v
}

// store returns the lines for "fleet redis" with the user of Caddys.
func store(address string) string {
	return fmt.Sprintf("\t\t\taddress %s\n\t\t\tusername caddy\n\t\t\tpassword %s", address, storePassword)
}

// commands returns how often commands were called, without those of polls, of health and
// of the tests.
func (r *redis) commands() int {
	r.t.Helper()
	n := 0
	for line := range strings.Lines(fmt.Sprint(r.do("INFO", "commandstats"))) {
		name, values, found := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "cmdstat_")), ":calls=")
		if !found {
			continue
		}
		switch name {
		case "ping", "hello", "auth", "client|setinfo", "client|setname", "hget", "hmget", "hstrlen", "info", "subscribe", "config|get":
			continue
		}
		count, _, _ := strings.Cut(values, ",")
		calls, err := strconv.Atoi(count)
		must(r.t, err)
		n += calls
	}
	return n
}

// keys returns all keys.
func (r *redis) keys() []string {
	var names []string
	for _, v := range r.do("KEYS", "*").([]any) {
		names = append(names, v.(string))
	}
	return names
}

// dump returns the type and the value of a key as text.
func (r *redis) dump(key string) string {
	kind := fmt.Sprint(r.do("TYPE", key))
	var value any
	switch kind {
	case "hash":
		value = r.do("HGETALL", key)
	case "string":
		value = r.do("GET", key)
	case "set":
		value = r.do("SMEMBERS", key)
	case "list":
		value = r.do("LRANGE", key, "0", "-1")
	case "zset":
		value = r.do("ZRANGE", key, "0", "-1", "WITHSCORES")
	case "none":
		return ""
	default:
		r.t.Fatalf("%s is a %s", key, kind)
	}
	return fmt.Sprintf("%s %v", kind, value)
}

// counts returns the counts of the counters of a set, such as "login".
func (r *redis) counts(set string) []int {
	r.t.Helper()
	var found []int
	for _, key := range r.keys() {
		if !strings.Contains(key, ":"+set+":") {
			continue
		}
		fields, ok := r.do("HGETALL", key).([]any)
		if !ok {
			continue
		}
		for i := 1; i < len(fields); i += 2 {
			n, ok := countOf(fields[i].(string))
			if !ok {
				r.t.Fatalf("%s has the value %q", key, fields[i])
			}
			found = append(found, n)
		}
	}
	return found
}

// countOf returns the count in a value of a counter, "start:count".
func countOf(value string) (int, bool) {
	_, count, found := strings.Cut(value, ":")
	n, err := strconv.Atoi(count)
	return n, found && err == nil
}

// conn is a connection that speaks RESP2.
type conn struct {
	net.Conn
	r *bufio.Reader
}

func dialRedis(address, password string) (*conn, error) {
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	rc := &conn{c, bufio.NewReader(c)}
	if password != "" {
		if _, err := rc.do("AUTH", password); err != nil {
			c.Close()
			return nil, err
		}
	}
	return rc, nil
}

func (c *conn) close() { _ = c.Close() }

// do runs a command.
func (c *conn) do(args ...string) (any, error) {
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(c, b.String()); err != nil {
		return nil, err
	}
	return c.read()
}

func (c *conn) read() (any, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return nil, errors.New("empty line of Redis")
	}
	switch line[0] {
	case '+':
		return line[1:], nil
	case '-':
		return nil, errors.New(line[1:])
	case ':':
		return strconv.Atoi(line[1:])
	case '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return nil, err
		}
		text := make([]byte, n+2)
		_, err = io.ReadFull(c.r, text)
		return string(text[:n]), err
	case '*':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return nil, err
		}
		values := make([]any, n)
		for i := range values {
			if values[i], err = c.read(); err != nil {
				return nil, err
			}
		}
		return values, nil
	}
	return nil, fmt.Errorf("line of Redis: %q", line)
}

// events records what is published until the returned function is called, which returns
// the channel of the last message, and all messages.
func (r *redis) events() func() (channel string, messages []string) {
	r.t.Helper()
	c, err := dialRedis(r.address(), adminPassword)
	must(r.t, err)
	_, err = c.do("PSUBSCRIBE", "*")
	must(r.t, err)
	must(r.t, c.SetDeadline(time.Time{}))
	var channel string
	var messages []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			v, err := c.read()
			if err != nil {
				return
			}
			if m, ok := v.([]any); ok && len(m) == 4 && m[0] == "pmessage" {
				channel = m[2].(string)
				messages = append(messages, m[3].(string))
			}
		}
	}()
	return func() (string, []string) {
		time.Sleep(50 * time.Millisecond) // the last ones may be on their way; none is expected
		c.close()
		<-done
		return channel, messages
	}
}

// monitor records all commands until the returned function is called, which returns
// them.
func (r *redis) monitor() func() string {
	r.t.Helper()
	c, err := dialRedis(r.address(), adminPassword)
	must(r.t, err)
	_, err = c.do("MONITOR")
	must(r.t, err)
	must(r.t, c.SetDeadline(time.Time{}))
	var b strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(&b, c.r)
	}()
	return func() string {
		time.Sleep(50 * time.Millisecond) // the last lines may be on their way; none is expected
		c.close()
		<-done
		return b.String()
	}
}

// link is a TCP proxy in front of Redis, that can be slow, and be cut.
type link struct {
	port   int
	target string
	mu     sync.Mutex
	delay  time.Duration
	cut    bool
	conns  map[net.Conn]struct{}
}

func newLink(t testing.TB, target string) *link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &link{port: l.Addr().(*net.TCPAddr).Port, target: target, conns: make(map[net.Conn]struct{})}
	t.Cleanup(func() {
		l.Close()
		p.setCut(true)
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *link) address() string { return fmt.Sprintf("127.0.0.1:%d", p.port) }

// setDelay delays everything that Redis sends.
func (p *link) setDelay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// setCut closes all connections, and new ones at once.
func (p *link) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if cut {
		for c := range p.conns {
			c.Close()
		}
	}
}

func (p *link) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *link) remove(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	c.Close()
}

func (p *link) serve(down net.Conn) {
	if !p.add(down) {
		return
	}
	defer p.remove(down)
	up, err := net.Dial("tcp", p.target)
	if err != nil || !p.add(up) {
		return
	}
	defer p.remove(up)
	go func() {
		_, _ = io.Copy(up, down)
		up.Close()
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := up.Read(buffer)
		if n > 0 {
			p.mu.Lock()
			delay := p.delay
			p.mu.Unlock()
			time.Sleep(delay) // the fault itself
			if _, err := down.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// sentinels are a master, a replica, and Sentinels that watch them.
type sentinels struct {
	t         testing.TB
	servers   []*redis
	sentinels []*redis
}

// startSentinels starts a master, a replica and n Sentinels.
func startSentinels(t testing.TB, n int) *sentinels {
	t.Helper()
	sentinel := program(t, "redis-sentinel")
	s := &sentinels{t: t}
	s.servers = append(s.servers, startRedis(t))
	s.servers = append(s.servers, startRedis(t, fmt.Sprintf("replicaof 127.0.0.1 %d", s.servers[0].port)))
	eventually(t, "the replica follows the master", func() bool {
		return strings.Contains(fmt.Sprint(s.servers[1].do("INFO", "replication")), "master_link_status:up")
	})
	for range n {
		r := &redis{t: t, dir: t.TempDir(), port: testkit.FreePorts(t, 1)[0]}
		path := filepath.Join(r.dir, "sentinel.conf")
		must(t, os.WriteFile(path, fmt.Appendf(nil, "bind 127.0.0.1\nport %d\ndir %s\nsentinel monitor main 127.0.0.1 %d 1\nsentinel auth-pass main %s\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n",
			r.port, r.dir, s.servers[0].port, adminPassword), 0o600))
		r.run(sentinel, path)
		s.sentinels = append(s.sentinels, r)
	}
	eventually(t, "the Sentinels know the replica", func() bool {
		for _, r := range s.sentinels {
			c, err := dialRedis(r.address(), "")
			if err != nil {
				return false
			}
			defer c.close()
			v, err := c.do("SENTINEL", "REPLICAS", "main")
			replicas, ok := v.([]any)
			if err != nil || !ok || len(replicas) == 0 || !strings.Contains(fmt.Sprint(replicas...), "master-link-status ok") {
				return false
			}
		}
		return true
	})
	return s
}

// master returns the server that is the master according to the first Sentinel, or nil.
func (s *sentinels) master() *redis {
	c, err := dialRedis(s.sentinels[0].address(), "")
	if err != nil {
		return nil
	}
	defer c.close()
	v, err := c.do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
	address, ok := v.([]any)
	if err != nil || !ok || len(address) != 2 {
		return nil
	}
	for _, r := range s.servers {
		if fmt.Sprint(r.port) == address[1] {
			return r
		}
	}
	return nil
}

// store returns the lines of "fleet redis".
func (s *sentinels) store() string {
	var addresses []string
	for _, r := range s.sentinels {
		addresses = append(addresses, r.address())
	}
	return fmt.Sprintf("\t\t\taddress %s\n\t\t\tsentinel main\n\t\t\tusername caddy\n\t\t\tpassword %s", strings.Join(addresses, " "), storePassword)
}

// raised returns the revision of a text with a higher version, or the value as it is.
func raised(revision string) string {
	h, err := sealed.ParseRevision(revision)
	if err != nil {
		return revision
	}
	h.Version += 100
	return h.Revision()
}

// isNewer reports whether the text at key has a higher version than the dump of another.
func isNewer(t testing.TB, r *redis, key, dump string) bool {
	t.Helper()
	version := func(key string) uint64 {
		fields, _ := r.do("HGETALL", key).([]any)
		for _, f := range fields {
			if h, err := sealed.ParseRevision(f.(string)); err == nil {
				return h.Version
			}
		}
		return 0
	}
	r.do("RESTORE", "test:other", "0", dump, "REPLACE")
	defer r.do("DEL", "test:other")
	return version(key) > version("test:other")
}

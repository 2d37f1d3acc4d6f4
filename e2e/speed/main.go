// Command speed measures what Basic authentication costs: this plugin and other
// servers, each in front of the same application with the same password file,
// over HTTP and HTTPS, for several hash formats and numbers of users. It writes
// the generated part of docs/performance.md, and docs/performance.svg.
//
//	cd e2e && go run ./speed [-seconds 2] [-alternating 30] [-only nginx]
//
// Load, servers and application share the machine, so compare ratios of one run
// only. It needs wrk, nginx, apache2, haproxy, and lighttpd with
// lighttpd-mod-openssl. Servers that are not installed are left out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/e2e/internal/benchkit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

var (
	seconds     = flag.Int("seconds", 2, "seconds for each measurement")
	alternating = flag.Int("alternating", 30, "seconds for the measurement with alternating requests, of the plugin and of basic_auth")
	only        = flag.String("only", "", "measure only servers with this text in their name")
	out         = flag.String("out", "../docs", "directory of performance.md and performance.svg; empty: write to standard output only")
)

func main() {
	log.SetFlags(log.Ltime)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err) //nolint:gocritic // stop is for signals
	}
}

// format is a hash format with its cost.
type format struct {
	name string // in the tables
	kind string // in crypt
	cost int
}

// formats are in the order of how long a hash takes.
var formats = []format{
	{"{SHA}", "sha1", 0},
	{"apr1", "apr1", 0},
	{"SHA-512 crypt", "sha512crypt", 0},
	{"bcrypt 5", "bcrypt", 5},
	{"bcrypt 10", "bcrypt", 10},
}

var userCounts = []int{1, 1_000, 100_000}

// row is the result for one server, hash format and number of users.
type row struct {
	server  string
	https   bool
	format  format
	users   int
	samples [kinds]sample
	// Ratios of protected requests to the two other kinds, of rounds of
	// alternating requests. They are nil unless the server is a Caddy.
	toIgnored, toOpen *spread
}

// The kinds of requests, and their number.
const (
	open      = iota // no password is required, and none is sent
	ignored          // no password is required, but credentials are sent
	protected        // a password is required, and sent
	kinds
)

// run measures all servers. When it is interrupted, it ends all processes that it started.
func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "speed")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	b, err := newBench(ctx, dir)
	if err != nil {
		return err
	}
	defer b.stop()
	var rows []row
	for _, https := range []bool{false, true} {
		for _, f := range formats {
			for _, n := range userCounts {
				if err := b.writeUsers(f, n); err != nil {
					return err
				}
				for _, p := range peers {
					if !strings.Contains(p.name, *only) || !p.takes(f, n) || !p.isHere() {
						continue
					}
					r, err := b.measure(p, https, f, n)
					if err != nil {
						return fmt.Errorf("%s, %s, %d users: %w", p.name, f.name, n, err)
					}
					log.Print(r)
					rows = append(rows, *r)
				}
			}
		}
	}
	more, err := b.measureConnections()
	if err != nil {
		return err
	}
	m, err := b.measureMillion()
	if err != nil {
		return err
	}
	return write(rows, more, m, conditionsHere())
}

// bench is shared by all measurements.
type bench struct {
	ctx      context.Context //nolint:containedctx // for the whole process
	dir      string
	caddy    string
	upstream int // port of the application
	app      *benchkit.Server

	users []string // lines of the password file
}

const password = "correct horse"

// caddyVersion is the version of the Caddy that is measured.
var caddyVersion string

func newBench(ctx context.Context, dir string) (*bench, error) {
	b := &bench{ctx: ctx, dir: dir}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // other servers read it as other users
		return nil, err
	}
	if err := benchkit.WriteCertificate(dir); err != nil {
		return nil, err
	}
	b.caddy = filepath.Join(dir, "caddy")
	if err := benchkit.BuildCaddy("..", b.caddy); err != nil {
		return nil, err
	}
	caddyVersion = version(b.caddy, "version")
	var err error
	b.app, b.upstream, err = b.startApplication()
	return b, err
}

func (b *bench) stop() { b.app.Stop() }

// user returns the name of the user in the middle of the file, who logs in.
func user(users int) string { return fmt.Sprintf("user%d", users/2) }

func (b *bench) writeUsers(f format, n int) error {
	hash, err := crypt.Make(f.kind, f.cost, []byte(password))
	if err != nil {
		return err
	}
	b.users = make([]string, n)
	for i := range n {
		b.users[i] = fmt.Sprintf("user%d:%s", i, hash)
	}
	return os.WriteFile(b.usersFile(), []byte(strings.Join(b.users, "\n")+"\n"), 0o644) //nolint:gosec // other servers read it as other users
}

func (b *bench) usersFile() string { return filepath.Join(b.dir, "users") }

func (b *bench) length() time.Duration { return time.Duration(*seconds) * time.Second }

// measure starts a server and measures it with each kind of request.
func (b *bench) measure(p peer, https bool, f format, n int) (*row, error) {
	s, err := b.start(p, https)
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	r := &row{server: p.name, https: https, format: f, users: n}
	loads := [kinds]load{
		open:      {url: s.URL + "/open"},
		ignored:   {url: s.URL + "/open", user: user(n)},
		protected: {url: s.URL + "/private", user: user(n)},
	}
	if err := loads[protected].once(b.ctx); err != nil {
		return nil, err
	}
	for kind, l := range loads {
		before := s.CPU()
		if r.samples[kind], err = l.run(b.ctx, b.length()); err != nil {
			return nil, err
		}
		if rate := r.samples[kind].rate; rate > 0 {
			r.samples[kind].cpu = time.Duration(float64(s.CPU()-before) / (rate * b.length().Seconds()))
		}
	}
	if p.program != "" {
		return r, nil
	}
	rounds, err := alternate(b.ctx, b.dir, loads, time.Duration(*alternating)*time.Second)
	if err != nil {
		return nil, err
	}
	r.toIgnored, r.toOpen = ratios(rounds, ignored), ratios(rounds, open)
	return r, nil
}

// spread describes some values: their median, the quartiles, and the extremes.
type spread struct{ median, quarter, threeQuarters, least, most float64 }

// ratios returns how many protected requests were answered for each request of
// another kind.
func ratios(rounds []round, kind int) *spread {
	values := make([]float64, len(rounds))
	for i, round := range rounds {
		values[i] = round[protected] / round[kind]
	}
	return spreadOf(values)
}

// spreadOf sorts values.
func spreadOf(values []float64) *spread {
	slices.Sort(values)
	n := len(values)
	return &spread{values[n/2], values[n/4], values[3*n/4], values[0], values[n-1]}
}

// ratio returns how many protected requests were answered for each one that
// sends credentials to the open path.
func (r *row) ratio() float64 {
	if r.toIgnored != nil {
		return r.toIgnored.median
	}
	return r.samples[protected].rate / r.samples[ignored].rate
}

func (r *row) String() string {
	return fmt.Sprintf("%s, %s, %s, %d users: %.0f open, %.0f with ignored credentials, %.0f protected; ratio %.3f", r.server, scheme(r.https), r.format.name, r.users,
		r.samples[open].rate, r.samples[ignored].rate, r.samples[protected].rate, r.ratio())
}

// million has the results of the plugin with a file of a million users.
type million struct {
	start    time.Duration // from the start of the process to the first answer with a password
	baseline sample
	reload   sample // while a new version of the file is read
	newUser  time.Duration
}

func (b *bench) measureMillion() (*million, error) {
	if !strings.Contains(plugin, *only) {
		return nil, nil
	}
	const n = 1_000_000
	if err := b.writeUsers(formats[0], n); err != nil {
		return nil, err
	}
	begin := time.Now()
	s, err := b.start(peers[0], true)
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	private := load{url: s.URL + "/private", user: user(n)}
	if err := private.once(b.ctx); err != nil {
		return nil, err
	}
	m := &million{start: time.Since(begin)}
	if m.baseline, err = private.run(b.ctx, b.length()); err != nil {
		return nil, err
	}
	newcomer := load{url: private.url, user: "newcomer"}
	added := strings.Replace(b.users[0], "user0:", "newcomer:", 1)
	next := b.usersFile() + ".next"
	if err := os.WriteFile(next, []byte(strings.Join(append(b.users, added), "\n")+"\n"), 0o644); err != nil { //nolint:gosec // as the file is
		return nil, err
	}
	if newcomer.once(b.ctx) == nil {
		return nil, errors.New("the new user can log in before the file has changed")
	}
	done := make(chan error)
	go func() {
		var err error
		m.reload, err = private.run(b.ctx, b.length())
		done <- err
	}()
	if err := os.Rename(next, b.usersFile()); err != nil {
		return nil, err
	}
	begin = time.Now()
	for newcomer.once(b.ctx) != nil {
		if time.Since(begin) > time.Minute || b.ctx.Err() != nil {
			return nil, errors.New("the new user cannot log in within a minute of the change")
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.newUser = time.Since(begin)
	if err := <-done; err != nil {
		return nil, err
	}
	log.Printf("a million users: first answer after %s; p99 %s at baseline, %s during a reload; new user after %s", m.start, m.baseline.p99, m.reload.p99, m.newUser)
	return m, nil
}

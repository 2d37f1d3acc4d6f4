// Command speed measures what asking for a password costs: this plugin and
// other servers, each in front of the same application with the same password
// file, over HTTP and HTTPS, for several formats of hashes and numbers of
// users. It writes docs/performance.md and docs/performance.svg.
//
//	cd e2e && go run ./speed [-seconds 2] [-turns 30] [-only nginx]
//
// Load, servers and application share this machine, so compare the ratios of
// one run. It needs wrk, nginx, apache2, haproxy and lighttpd with
// lighttpd-mod-openssl; servers that are missing are left out. It ends by itself.
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
	seconds = flag.Int("seconds", 2, "how long each measurement takes")
	byTurn  = flag.Int("turns", 30, "for how many seconds the plugin and basic_auth are asked for the kinds of requests by turns")
	only    = flag.String("only", "", "measure only the servers with this in their name")
	out     = flag.String("out", "../docs", "the directory to write to; empty: standard output only")
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

// format is a kind of hashes.
type format struct {
	name string // in the tables
	kind string // in crypt
	cost int
}

// formats, from those that are quickly computed to those that are not.
var formats = []format{
	{"{SHA}", "sha1", 0},
	{"apr1", "apr1", 0},
	{"SHA-512 crypt", "sha512crypt", 0},
	{"bcrypt 5", "bcrypt", 5},
	{"bcrypt 10", "bcrypt", 10},
}

var userCounts = []int{1, 1_000, 100_000}

// row is one line of the table.
type row struct {
	server string
	https  bool
	format format
	users  int
	plain  [kinds]sample
	rounds []round // of those that are Caddy
}

// kinds of requests, and how many there are.
const (
	bare  = iota // no password is asked for, and none sent
	sent         // none is asked for, but one sent
	asked        // one is asked for, and sent
	kinds
)

// run measures until it is done or has to stop, and leaves no server behind.
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
					log.Print(r.describe())
					rows = append(rows, *r)
				}
			}
		}
	}
	m, err := b.measureMillion()
	if err != nil {
		return err
	}
	return write(rows, m)
}

// bench is what all measurements share.
type bench struct {
	ctx      context.Context //nolint:containedctx // of the process
	dir      string
	caddy    string
	upstream int // port of the application
	app      *benchkit.Server

	users []string // lines of the password file
}

const password = "correct horse"

// caddyVersion is what the Caddy that is measured says of itself.
var caddyVersion string

func newBench(ctx context.Context, dir string) (*bench, error) {
	b := &bench{ctx: ctx, dir: dir}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // servers read it as other users
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

// user is whose password is asked for: in the middle of the file.
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
	return os.WriteFile(b.usersFile(), []byte(strings.Join(b.users, "\n")+"\n"), 0o644) //nolint:gosec // servers read it as other users
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
		bare:  {url: s.URL + "/open"},
		sent:  {url: s.URL + "/open", user: user(n)},
		asked: {url: s.URL + "/private", user: user(n)},
	}
	if err := loads[asked].once(b.ctx); err != nil {
		return nil, err
	}
	for kind, l := range loads {
		before := s.CPU()
		if r.plain[kind], err = l.run(b.ctx, b.length()); err != nil {
			return nil, err
		}
		if rate := r.plain[kind].rate; rate > 0 {
			r.plain[kind].cpu = time.Duration(float64(s.CPU()-before) / (rate * b.length().Seconds()))
		}
	}
	if p.program == "" {
		r.rounds, err = byTurns(b.ctx, b.dir, loads, time.Duration(*byTurn)*time.Second)
	}
	return r, err
}

// spread is the median of some figures, with the half of them that is nearest
// to it, and all of them.
type spread struct{ median, quarter, threeQuarters, least, most float64 }

// askedTo is how many requests that need a password are answered for each answered
// one of another kind. Where there are rounds, it is theirs.
func (r *row) askedTo(kind int) spread {
	rounds := r.rounds
	if rounds == nil {
		rounds = []round{{r.plain[bare].rate, r.plain[sent].rate, r.plain[asked].rate}}
	}
	ratios := make([]float64, len(rounds))
	for i, round := range rounds {
		ratios[i] = round[asked] / round[kind]
	}
	slices.Sort(ratios)
	n := len(ratios)
	return spread{ratios[n/2], ratios[n/4], ratios[3*n/4], ratios[0], ratios[n-1]}
}

func (r *row) describe() string {
	return fmt.Sprintf("%s, %s, %s, %d users: %.0f bare, %.0f sent, %.0f asked for; %d rounds: asked to sent %.3f, asked to bare %.3f", r.server, scheme(r.https), r.format.name, r.users,
		r.plain[bare].rate, r.plain[sent].rate, r.plain[asked].rate, len(r.rounds), r.askedTo(sent), r.askedTo(bare))
}

// million is how the plugin does with a file of a million users.
type million struct {
	start     time.Duration // from the start of the process to the first answer with a password
	calm      sample
	swap      sample // while a new version of the file is read
	newUserIn time.Duration
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
	if m.calm, err = private.run(b.ctx, b.length()); err != nil {
		return nil, err
	}
	newcomer := load{url: private.url, user: "newcomer"}
	added := strings.Replace(b.users[0], "user0:", "newcomer:", 1)
	next := b.usersFile() + ".next"
	if err := os.WriteFile(next, []byte(strings.Join(append(b.users, added), "\n")+"\n"), 0o644); err != nil { //nolint:gosec // as the file is
		return nil, err
	}
	if newcomer.once(b.ctx) == nil {
		return nil, errors.New("the new user is in before their time")
	}
	done := make(chan error)
	go func() {
		var err error
		m.swap, err = private.run(b.ctx, b.length())
		done <- err
	}()
	if err := os.Rename(next, b.usersFile()); err != nil {
		return nil, err
	}
	begin = time.Now()
	for newcomer.once(b.ctx) != nil {
		if time.Since(begin) > time.Minute || b.ctx.Err() != nil {
			return nil, errors.New("the new user does not get in")
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.newUserIn = time.Since(begin)
	if err := <-done; err != nil {
		return nil, err
	}
	log.Printf("a million users: first answer after %s; p99 %s calm, %s during a change; new user in after %s", m.start, m.calm.p99, m.swap.p99, m.newUserIn)
	return m, nil
}

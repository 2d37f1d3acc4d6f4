// Command speed measures what asking for a password costs: this plugin and
// other servers, each in front of the same application with the same password
// file, over HTTP and HTTPS, for several formats of hashes and numbers of
// users. It writes docs/speed.md and docs/speed.svg.
//
//	cd e2e && go run ./speed [-seconds 2] [-rounds 7] [-only nginx]
//
// Load, servers and application share this machine, so compare the ratios of
// one run. It needs wrk, nginx, apache2, haproxy and lighttpd with
// lighttpd-mod-openssl; servers that are missing are left out. It ends by itself.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/benchkit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

var (
	seconds = flag.Int("seconds", 2, "how long each measurement takes")
	rounds  = flag.Int("rounds", 7, "how often the plugin is measured without and with a password, by turns")
	only    = flag.String("only", "", "measure only the servers with this in their name")
	out     = flag.String("out", "../docs", "the folder to write to; empty: standard output only")
)

func main() {
	log.SetFlags(log.Ltime)
	flag.Parse()
	if err := run(); err != nil {
		log.Fatal(err)
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
	open   []sample // by turns with private
	closed []sample
}

func run() error {
	dir, err := os.MkdirTemp("", "speed")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	b, err := newBench(dir)
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
	dir      string
	caddy    string
	upstream int // port of the application
	app      *benchkit.Server

	users []string // lines of the password file
}

const password = "correct horse"

// caddyVersion is what the Caddy that is measured says of itself.
var caddyVersion string

func newBench(dir string) (*bench, error) {
	b := &bench{dir: dir}
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

// measure starts a server and measures it, without and with a password.
func (b *bench) measure(p peer, https bool, f format, n int) (*row, error) {
	s, err := b.start(p, https)
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	r := &row{server: p.name, https: https, format: f, users: n}
	private := load{url: s.URL + "/private", user: user(n)}
	if err := private.once(); err != nil {
		return nil, err
	}
	turns := 1
	if p.name == plugin {
		turns = *rounds
	}
	for range turns {
		open, err := timed(s, load{url: s.URL + "/open"})
		if err != nil {
			return nil, err
		}
		closed, err := timed(s, private)
		if err != nil {
			return nil, err
		}
		r.open, r.closed = append(r.open, open), append(r.closed, closed)
	}
	return r, nil
}

// timed is a load with the time that the server's processor takes for it.
func timed(s *benchkit.Server, l load) (sample, error) {
	before := s.CPU()
	got, err := l.run(*seconds)
	if err == nil && got.rate > 0 {
		got.cpu = time.Duration(float64(s.CPU()-before) / (got.rate * float64(*seconds)))
	}
	return got, err
}

// cpuTime is the mean processor time for an answer.
func cpuTime(samples []sample) (mean time.Duration) {
	for _, s := range samples {
		mean += s.cpu
	}
	return mean / time.Duration(len(samples))
}

// ratio is the median of the ratios of the rounds, with their spread.
func (r *row) ratio() (median, least, most float64) {
	ratios := make([]float64, len(r.open))
	for i := range ratios {
		ratios[i] = r.closed[i].rate / r.open[i].rate
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1]
}

// median is the round with the median rate.
func median(samples []sample) sample {
	sorted := slices.SortedFunc(slices.Values(samples), func(a, b sample) int {
		if a.rate < b.rate {
			return -1
		}
		return 1
	})
	return sorted[len(sorted)/2]
}

func (r *row) describe() string {
	ratio, least, most := r.ratio()
	return fmt.Sprintf("%s, https %t, %s, %d users: %.0f without, %.0f with, ratio %.3f (%.3f to %.3f), processor time %s and %s",
		r.server, r.https, r.format.name, r.users, median(r.open).rate, median(r.closed).rate, ratio, least, most, cpuTime(r.open), cpuTime(r.closed))
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
	if err := private.once(); err != nil {
		return nil, err
	}
	m := &million{start: time.Since(begin)}
	if m.calm, err = private.run(*seconds); err != nil {
		return nil, err
	}
	newcomer := load{url: private.url, user: "newcomer"}
	added := strings.Replace(b.users[0], "user0:", "newcomer:", 1)
	next := b.usersFile() + ".next"
	if err := os.WriteFile(next, []byte(strings.Join(append(b.users, added), "\n")+"\n"), 0o644); err != nil { //nolint:gosec // as the file is
		return nil, err
	}
	if newcomer.once() == nil {
		return nil, errors.New("the new user is in before their time")
	}
	done := make(chan error)
	go func() {
		var err error
		m.swap, err = private.run(*seconds)
		done <- err
	}()
	if err := os.Rename(next, b.usersFile()); err != nil {
		return nil, err
	}
	begin = time.Now()
	for newcomer.once() != nil {
		if time.Since(begin) > time.Minute {
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

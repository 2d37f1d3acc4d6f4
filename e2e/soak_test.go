package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// sample is the resource usage of the server at one moment.
type sample struct {
	heap, resident    int // bytes: after a garbage collection; of the process
	goroutines, files int
}

var residentLine = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

func (s *server) sample() sample {
	s.T.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Pid()))
	if err != nil {
		s.T.Skipf("no /proc: %v", err)
	}
	m := residentLine.FindSubmatch(text)
	if m == nil {
		s.T.Fatal("/proc/<pid>/status looks different")
	}
	kilobytes, err := strconv.Atoi(string(m[1]))
	must(s.T, err)
	return sample{heap: s.heap(), resident: kilobytes << 10, goroutines: s.goroutines(), files: s.openFiles()}
}

// least returns the minimum of each value. Requests, connections and a running
// reload add to it, but not for long.
func least(samples []sample) sample {
	of := func(value func(sample) int) int {
		return value(slices.MinFunc(samples, func(a, b sample) int { return value(a) - value(b) }))
	}
	return sample{
		of(func(s sample) int { return s.heap }), of(func(s sample) int { return s.resident }),
		of(func(s sample) int { return s.goroutines }), of(func(s sample) int { return s.files }),
	}
}

// TestSoak runs everything at once for two minutes, or for E2E_SOAK: correct, wrong
// and no passwords, reloads, and changes of the file. Every answer is correct, and
// the resource usage stays the same.
//
// The first quarter of the time is for warming up. Then the first third of the rest
// is compared with the last. These minimums may grow: the heap after a garbage
// collection by 1 MiB (more connections), the process by 8 MiB (the collector
// decides when to return memory), goroutines and open files by 5 (connections).
//
// In the 30 s between them are more than ten reloads and ten changes of the file. A
// leak of one goroutine or file in each is twice the tolerance. There are also
// thousands of requests: a leak of 1 KiB in each would be several MiB. A longer run
// with the same tolerance finds smaller leaks.
func TestSoak(t *testing.T) {
	t.Parallel() // from the start, in parallel with all others
	length := 2 * time.Minute
	if value := os.Getenv("E2E_SOAK"); value != "" {
		var err error
		length, err = time.ParseDuration(value)
		must(t, err)
	}
	if testing.Short() {
		t.Skip("takes ", length)
	}
	app := newSlowApplication(t)
	dir := t.TempDir()
	htpasswdIn(t, dir, "-cbC5", "users", "ann", "ann's")
	htpasswdIn(t, dir, "-bC5", "users", "bob", "bob's")
	htpasswdIn(t, dir, "-bC5", "users", "carol", "carol's")
	htpasswdIn(t, dir, "-bC5", "users", "victim", "victim's")
	must(t, os.WriteFile(filepath.Join(dir, "groups"), []byte("staff: ann bob\n"), 0o640))
	config := func(i int) (string, string) {
		global := fmt.Sprintf("\thtpasswd {\n\t\tthrottle client 300 1m\n\t\tpoll %ds\n\t}\n\tupstream app {\n\t\tserver %s\n\t\ttransport http {\n\t\t\tkeepalive 1s\n\t\t}\n\t}", 1+i%5, strings.TrimPrefix(app.URL, "http://"))
		return global, fmt.Sprintf(`https://localhost:{https} {
	log {
		output discard
	}
	htpasswd {
		file {dir}/users
		realm "Version %d"
		exempt /health
		user_header X-User
	}
	htpasswd /staff/* {
		file {dir}/users
		group_file {dir}/groups
		realm "Version %[1]d"
		require group staff
	}
	respond /health healthy
	proxy_pass app
}`, i)
	}
	// keepalive: requests that end after a reload leave connections to the
	// application in the pool of the old configuration. By default they stay for
	// two minutes, as with Caddy's reverse_proxy.
	// throttle client: each change of the file is two failed logins of this test,
	// which tries the new password and the old one.
	global, sites := config(0)
	s := startIn(t, dir, global, sites)

	// Each kind of client has its own address, and so its own limits.
	var turn atomic.Int64
	challenged := func(a answer) string {
		if !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), `Basic realm="Version `) {
			return fmt.Sprintf("%d without a challenge", a.Status)
		}
		return status(401)(a)
	}
	// Answered 401 until the limit is exceeded, and then 429.
	guessed := func(a answer) string {
		if a.Status == 429 && a.Header.Get("Retry-After") != "" {
			return ""
		}
		return challenged(a)
	}
	l := s.drive(t,
		ask{name: "ann", kind: overHTTP2, every: 20 * time.Millisecond, user: as("ann", "ann's"), check: saying(200, "for ann")},
		ask{name: "bob", kind: overHTTP1, every: 20 * time.Millisecond, user: as("bob", "bob's"), check: saying(200, "for bob"), path: "/staff/"},
		ask{name: "carol", kind: newConnections, every: 50 * time.Millisecond, user: as("carol", "carol's"), check: saying(200, "for carol")},
		ask{name: "carol is no staff", kind: overHTTP2, every: 100 * time.Millisecond, user: as("carol", "carol's"), check: status(403), path: "/staff/"},
		ask{name: "anonymous", kind: overHTTP2, every: 50 * time.Millisecond, check: challenged},
		ask{name: "health", kind: newConnections, every: 100 * time.Millisecond, check: saying(200, "healthy"), path: "/health"},
		ask{name: "always the same wrong password", kind: overHTTP1, every: 50 * time.Millisecond, from: "127.0.0.2", user: as("ann", "old"), check: challenged},
		ask{name: "malformed", kind: overHTTP1, every: 100 * time.Millisecond, from: "127.0.0.2", check: challenged,
			change: func(r *http.Request) { r.Header.Set("Authorization", "Basic \"") }},
		ask{name: "two headers", kind: overHTTP1, every: 100 * time.Millisecond, from: "127.0.0.2", check: status(400),
			change: func(r *http.Request) { r.Header["Authorization"] = []string{"Basic YTpi", "Basic YTpi"} }},
		ask{name: "guesses", kind: overHTTP1, every: 50 * time.Millisecond, from: "127.0.0.3", check: guessed,
			user: func() (string, string) { return "victim", fmt.Sprint("guess", turn.Add(1)) }},
		ask{name: "unknown users", kind: newConnections, every: 50 * time.Millisecond, from: "127.0.0.4", check: guessed,
			user: func() (string, string) { return fmt.Sprint("nobody", turn.Add(1)), "password" }},
	)

	begun := time.Now()
	reload, change, sampled := time.Now(), time.Now(), time.Now()
	reloads, changes := 0, 0
	var samples []sample
	for time.Since(begun) < length && l.wrong.Load() == 0 {
		now := time.Now()
		switch {
		case now.After(sampled): // first, so that a slow machine takes samples as well
			if time.Since(begun) > length/4 {
				samples = append(samples, s.sample())
			}
			sampled = time.Now().Add(time.Second)
		case now.After(reload):
			reloads++
			must(t, s.reload(config(reloads)))
			reload = time.Now().Add(3 * time.Second)
		case now.After(change):
			// A user is added with a new password each time, and removed, by the tool
			// and by hand.
			changes++
			password := fmt.Sprint("password", changes)
			if changes%2 == 0 {
				s.htpasswd("-bC5", "users", "dan", password)
			} else {
				text, err := os.ReadFile(filepath.Join(dir, "users"))
				must(t, err)
				lines := slices.DeleteFunc(strings.SplitAfter(string(text), "\n"), func(line string) bool { return strings.HasPrefix(line, "dan:") })
				putInPlace(t, filepath.Join(dir, "users"), strings.Join(lines, "")+plain("dan:"+password))
			}
			eventually(t, "the new password is active", func() bool { return s.get("/", "dan", password).Status == 200 })
			if a := s.get("/", "dan", fmt.Sprint("password", changes-1)); a.Status != 401 {
				t.Errorf("the old password: %d", a.Status)
			}
			change = time.Now().Add(2 * time.Second)
		default:
			time.Sleep(20 * time.Millisecond) // limits the rate of changes
		}
	}
	l.end()
	if n := l.wrong.Load(); n > 0 {
		t.Fatalf("%d answers were wrong", n)
	}
	if n := app.strangers.Load(); n != 0 {
		t.Errorf("%d requests without a user reached the application", n)
	}
	if len(samples) < 9 || reloads < 9 || changes < 9 {
		t.Fatalf("only %d samples, %d reloads and %d changes in %s", len(samples), reloads, changes, length)
	}
	first, last := least(samples[:len(samples)/3]), least(samples[len(samples)*2/3:])
	t.Logf("%s: %d correct answers, %d requests repeated because their connection closed before an answer; %d reloads, %d changes; minimum first %+v, last %+v",
		time.Since(begun).Round(time.Second), l.served.Load(), l.retried.Load(), reloads, changes, first, last)
	for _, row := range []struct {
		what                   string
		first, last, tolerance int
	}{
		{"bytes of heap", first.heap, last.heap, 1 << 20},
		{"bytes of the process", first.resident, last.resident, 8 << 20},
		{"goroutines", first.goroutines, last.goroutines, 5},
		{"open files", first.files, last.files, 5},
	} {
		if row.last > row.first+row.tolerance {
			t.Errorf("%s: %d, after %d", row.what, row.last, row.first)
		}
	}
}

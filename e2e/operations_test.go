package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// site is a site with the password file users. It answers with the user's name.
const site = `https://localhost:{https} {
	htpasswd {
		file {dir}/users
	}
	respond {http.auth.user.id}
}`

// behind returns the same site with an application that receives the user's name.
func behind(url string) string {
	return strings.NewReplacer("{dir}/users", "{dir}/users\n\t\tuser_header X-User", "respond {http.auth.user.id}", "reverse_proxy "+strings.TrimPrefix(url, "http://")).Replace(site)
}

// unthrottled turns the rate limits off, for tests of something else.
const unthrottled = "\thtpasswd {\n\t\tthrottle off\n\t}"

// plain returns the text of a password file for these users. The password is the
// name, or follows it after a colon.
func plain(users ...string) string {
	var text strings.Builder
	for _, user := range users {
		name, password, given := strings.Cut(user, ":")
		if !given {
			password = name
		}
		fmt.Fprintf(&text, "%s:{PLAIN}%s\n", name, password)
	}
	return text.String()
}

// putInPlace replaces a file by renaming a new one over it.
func putInPlace(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path+".next", []byte(text), 0o640))
	must(t, os.Rename(path+".next", path))
}

// TestValidate checks the messages of validate, reload and run for configurations
// and password files.
func TestValidate(t *testing.T) {
	parallel(t)
	const handler = "https://localhost:{https} {\n\thtpasswd {\n\t\t%s\n\t}\n\trespond new\n}" // %s is line 12 of the Caddyfile
	dir := t.TempDir()
	for name, text := range map[string]string{
		"users": plain("ann"), "bad": "# ours\n<html>\n", "half": "ann:hash\n" + plain("bob"), "groups": "staff: ann\nnobody\n", "empty": "",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640))
	}
	must(t, os.Mkdir(filepath.Join(dir, "folder"), 0o750))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o640))
	s := startIn(t, dir, "", site)
	for _, row := range []struct {
		name, global, sites string
		good                bool
		words               []string // {dir} is filled in
	}{
		{"good", "", fmt.Sprintf(handler, "file {dir}/users"), true, []string{"Valid configuration"}},
		{"good, with groups and servers", "\tupstream app {\n\t\tserver localhost:1\n\t}",
			strings.Replace(fmt.Sprintf(handler, "file {dir}/users\n\t\tgroup_file {dir}/groups\n\t\trequire group staff"), "respond new", "proxy_pass app", 1),
			true, []string{"Valid configuration", `{dir}/groups","line":2`}},
		{"good, one bad line", "", fmt.Sprintf(handler, "file {dir}/half"), true, []string{"Valid configuration", "invalid line skipped", `{dir}/half","line":1`}},
		{"good, empty", "", fmt.Sprintf(handler, "file {dir}/empty"), true, []string{"Valid configuration", "{dir}/empty"}},
		{"no line is good", "", fmt.Sprintf(handler, "file {dir}/bad"), false, []string{"{dir}/bad: no valid user:hash line (invalid lines: 1)", "line 2"}},
		{"missing file", "", fmt.Sprintf(handler, "file {dir}/users {dir}/missing"), false, []string{"{dir}/missing: no such file"}},
		{"directory", "", fmt.Sprintf(handler, "file {dir}/folder"), false, []string{"{dir}/folder: is a directory, not a file"}},
		{"FIFO", "", fmt.Sprintf(handler, "file {dir}/fifo"), false, []string{"{dir}/fifo: is not a regular file"}},
		{"missing group file", "", fmt.Sprintf(handler, "file {dir}/users\n\t\tgroup_file {dir}/missing"), false, []string{"{dir}/missing: no such file"}},
		{"unknown subdirective", "", fmt.Sprintf(handler, "files {dir}/users"), false, []string{"files", "Caddyfile:12"}},
		{"no file", "", "https://localhost:{https} {\n\thtpasswd {dir}/users\n}", false, []string{"file <path>", "Caddyfile:11"}},
		{"unknown group of servers", "", "https://localhost:{https} {\n\tproxy_pass app\n}", false, []string{"'proxy_pass': expected the name of an upstream group, found 'app'", "Caddyfile:11"}},
		{"setting out of range", "\thtpasswd {\n\t\tpoll 1ms\n\t}", fmt.Sprintf(handler, "file {dir}/users"), false, []string{"poll"}},
		{"unknown setting", "\thtpasswd {\n\t\tpole 1s\n\t}", fmt.Sprintf(handler, "file {dir}/users"), false, []string{"pole", "Caddyfile:9"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.configure(row.global, row.sites)
			out, code := s.caddy("validate", "--config", "Caddyfile")
			if (code == 0) != row.good {
				t.Errorf("exit code %d", code)
			}
			out = strings.ReplaceAll(out, `\"`, `"`)
			for _, word := range row.words {
				if word = s.Fill(word); !strings.Contains(out, word) {
					t.Errorf("no message about %q: %s", word, out)
				}
			}
			if row.good {
				return
			}
			if out, code = s.caddy("reload", "--config", "Caddyfile", "--address", fmt.Sprintf("localhost:%d", s.Admin)); code == 0 {
				t.Errorf("reload accepted it: %s", out)
			}
			if got := s.get("/", "ann", "ann"); got.Status != 200 || got.Body != "ann" {
				t.Errorf("after the refused reload: %d %q", got.Status, got.Body)
			}
			if got := s.get("/", "", ""); got.Status != 401 {
				t.Errorf("after the refused reload, anonymous: %d", got.Status)
			}
		})
	}
	t.Run("start", func(t *testing.T) {
		s := newServerIn(t, dir)
		s.configure("", fmt.Sprintf(handler, "file {dir}/bad"))
		if out, code := s.caddy("run", "--config", "Caddyfile"); code != 1 || !strings.Contains(out, "/bad: no valid user:hash line (invalid lines: 1)") {
			t.Errorf("exit code %d: %s", code, out)
		}
	})
}

// TestReloads reloads 50 times under load. No client notices, and no goroutine or
// file descriptor leaks.
func TestReloads(t *testing.T) {
	parallel(t)
	const reloads = 50
	dir := t.TempDir()
	for i, name := range []string{"ann", "bob", "carol", "dan"} {
		flags := "-bC4"
		if i == 0 {
			flags = "-cbC4"
		}
		htpasswdIn(t, dir, flags, "users", name, name+"'s")
	}
	config := func(i int) (string, string) {
		return "\thtpasswd {\n\t\tthrottle login 3 1h\n\t}", strings.Replace(site, "\t}\n", fmt.Sprintf("\t\trealm \"Version %d\"\n\t}\n", i), 1)
	}
	global, sites := config(0)
	s := startIn(t, dir, global, sites)
	reload := func(i int) {
		t.Helper()
		must(t, s.reload(config(i)))
	}
	people := []ask{
		{name: "ann, HTTP/2", kind: overHTTP2, every: 5 * time.Millisecond, user: as("ann", "ann's"), check: saying(200, "ann")},
		{name: "bob, HTTP/1.1", kind: overHTTP1, every: 5 * time.Millisecond, user: as("bob", "bob's"), check: saying(200, "bob")},
		{name: "carol, new connections", kind: newConnections, every: 20 * time.Millisecond, user: as("carol", "carol's"), check: saying(200, "carol")},
		{name: "anonymous", kind: overHTTP1, every: 20 * time.Millisecond, check: status(401)},
	}
	for _, p := range people[:3] {
		if a := s.get("/", p.name[:strings.Index(p.name, ",")], p.name[:strings.Index(p.name, ",")]+"'s"); a.Status != 200 {
			t.Fatalf("%s: %d", p.name, a.Status)
		}
	}
	for i := range 3 {
		if a := s.get("/", "dan", fmt.Sprint("guess", i)); a.Status != 401 {
			t.Fatalf("guess %d: %d", i, a.Status)
		}
	}
	for i := 1; i <= 3; i++ { // the first reloads may allocate for good
		reload(i)
	}
	s.Client.CloseIdleConnections()
	goroutines, files := s.atRest(0, 0)
	hashes, hits := s.hashes(), s.metrics()["password_cache_hits_total"]

	begun := time.Now()
	l := s.drive(t, people...)
	l.more(20)
	for i := range reloads {
		reload(4 + i)
		l.more(5)
	}
	l.end()
	s.Client = s.newClient()
	eventually(t, "the last configuration is active", func() bool {
		s.Client.CloseIdleConnections()
		return strings.Contains(s.get("/", "", "").Header.Get("WWW-Authenticate"), fmt.Sprintf(`"Version %d"`, reloads+3))
	})
	if n := s.hashes() - hashes; n != 0 {
		t.Errorf("%v hashes computed for cached passwords", n)
	}
	if n := s.metrics()["password_cache_hits_total"] - hits; n < float64(l.served.Load())/2 {
		t.Errorf("only %v of %d requests are in the metrics: they began anew", n, l.served.Load())
	}
	if a := s.get("/", "dan", "dan's"); a.Status != 429 {
		t.Errorf("an exceeded limit, after the reloads: %d", a.Status)
	}
	s.Client.CloseIdleConnections()
	s.atRest(goroutines+5, files+5) // a leak in each reload would be 50
	nowGoroutines, nowFiles := s.atRest(0, 0)
	t.Logf("%d reloads in %s: %d requests, %d of them repeated because the connection closed before an answer; %d goroutines and %d files before, %d and %d after",
		reloads, time.Since(begun).Round(time.Second), l.served.Load(), l.retried.Load(), goroutines, files, nowGoroutines, nowFiles)

	// After an edit of one entry, no password of another user is hashed again.
	hashes = s.hashes()
	s.htpasswd("-bC4", "users", "dan", "new")
	eventually(t, "the new password works", func() bool { return s.get("/", "dan", "new").Status == 200 })
	edited := s.hashes() - hashes
	for _, p := range people[:3] {
		if wrong := l.send(s.Client, s, p); wrong != "" {
			t.Errorf("after an edit: %s", wrong)
		}
	}
	if edited < 1 || s.hashes()-hashes != edited {
		t.Errorf("got %v hashes for the edited entry and %v for others", edited, s.hashes()-hashes-edited)
	}
}

// slowApplication answers /slow when it is released, and other paths at once.
type slowApplication struct {
	*httptest.Server
	strangers atomic.Int64 // requests without a user
	waiting   atomic.Int64
	letGo     chan struct{}
}

func newSlowApplication(t testing.TB) *slowApplication {
	app := &slowApplication{letGo: make(chan struct{})}
	app.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-User") == "" {
			app.strangers.Add(1)
		}
		if r.URL.Path == "/slow" {
			app.waiting.Add(1)
			<-app.letGo
		}
		fmt.Fprintf(w, "for %s", r.Header.Get("X-User"))
	}))
	t.Cleanup(app.Close)
	return app
}

// TestTerminate sends SIGTERM. Running requests are answered, followed files do
// not delay the exit, and the exit code is 0.
func TestTerminate(t *testing.T) {
	parallel(t)
	app := newSlowApplication(t)
	dir := t.TempDir()
	htpasswdIn(t, dir, "-cbC4", "users", "ann", "ann's")
	htpasswdIn(t, dir, "-bC14", "users", "bob", "bob's") // about a second
	s := startIn(t, dir, "", behind(app.URL))

	const clients = 4 // of each kind
	var answers sync.Map
	var wg sync.WaitGroup
	ask := func(key, path, user string, kind clientKind) {
		client := s.clientOf(ask{kind: kind})
		wg.Go(func() {
			defer client.CloseIdleConnections()
			r, err := http.NewRequest(http.MethodGet, s.URL(path), nil)
			if err != nil {
				t.Error(err)
				return
			}
			r.SetBasicAuth(user, user+"'s")
			a, err := testkit.Send(client, r)
			if err != nil {
				t.Errorf("%s: %v", key, err)
			}
			answers.Store(key, a)
		})
	}
	for i := range clients {
		ask(fmt.Sprint("ann over HTTP/1.1, ", i), "/slow", "ann", overHTTP1)
		ask(fmt.Sprint("ann over HTTP/2, ", i), "/slow", "ann", overHTTP2)
	}
	eventually(t, "the slow requests are running", func() bool { return app.waiting.Load() == 2*clients })
	ask("bob, whose hash is computed", "/", "bob", overHTTP1)
	eventually(t, "a hash is computed", func() bool { return s.metrics()["hash_workers_busy"] == 1 })

	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.process.Stop(syscall.SIGTERM)
	}()
	eventually(t, "no new connection is accepted", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.HTTPS))
		if err != nil {
			return true
		}
		c.Close()
		return false
	})
	select {
	case <-ended:
		t.Error("it did not wait for running requests")
	default:
	}
	close(app.letGo)
	wg.Wait()
	<-ended
	if code := s.process.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	n := 0
	answers.Range(func(key, value any) bool {
		n++
		want := "for ann"
		if strings.HasPrefix(key.(string), "bob") {
			want = "for bob"
		}
		if a := value.(answer); a.Status != 200 || a.Body != want {
			t.Errorf("%s: %d %q", key, a.Status, a.Body)
		}
		return true
	})
	if n != 2*clients+1 {
		t.Errorf("%d answers", n)
	}
}

// TestKill kills the server with SIGKILL during requests and during a change of the
// file. The server then starts without help. Two sites with separate files stay
// separate.
func TestKill(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	htpasswdIn(t, dir, "-cbC4", "users", "ann", "ann's")
	htpasswdIn(t, dir, "-cbC4", "others", "ann", "another")
	s := startIn(t, dir, "", strings.Replace(site, "\thtpasswd {", "\thandle /others/* {\n\t\thtpasswd {\n\t\t\tfile {dir}/others\n\t\t}\n\t\trespond other\n\t}\n\thtpasswd /users/* {", 1))
	for round := range 4 {
		for range 2 { // computed, then cached
			for _, row := range []struct {
				path, password string
				status         int
			}{
				{"/users/", "ann's", 200}, {"/users/", "another", 401}, {"/others/", "another", 200}, {"/others/", "ann's", 401}, {"/users/", "", 401}, {"/others/", "", 401},
			} {
				user := "ann"
				if row.password == "" {
					user = ""
				}
				if a := s.get(row.path, user, row.password); a.Status != row.status {
					t.Errorf("round %d, %s %q: %d, not %d", round, row.path, row.password, a.Status, row.status)
				}
			}
		}
		if round == 3 {
			break
		}
		tool := exec.Command(caddyBinary, "htpasswd", "-bC12", "users", fmt.Sprint("bob", round), "bob's") // a quarter of a second
		tool.Dir, tool.Env = s.Dir, s.env()
		must(t, tool.Start())
		var wg sync.WaitGroup
		var asked atomic.Int64
		for range 4 {
			client := s.clientOf(ask{kind: newConnections})
			wg.Go(func() {
				for { // until the server is killed
					r, err := http.NewRequest(http.MethodGet, s.URL("/users/"), nil)
					if err != nil {
						t.Error(err)
						return
					}
					r.SetBasicAuth("ann", "ann's")
					a, err := testkit.Send(client, r)
					asked.Add(1)
					if err != nil {
						return
					}
					if a.Status != 200 {
						t.Errorf("before the kill: %d", a.Status)
					}
				}
			})
		}
		eventually(t, "requests are running", func() bool { return asked.Load() > 20 })
		s.kill()
		wg.Wait()
		must(t, tool.Wait())
		s.run()
		if a := s.get("/users/", fmt.Sprint("bob", round), "bob's"); a.Status != 200 {
			t.Errorf("a user added before the start: %d", a.Status)
		}
	}
}

// smallDisk mounts a disk of 64 KiB at a directory, or skips the test.
func smallDisk(t testing.TB, dir string) {
	t.Helper()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no small disk to fill: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
}

// fillDisk fills a disk, and returns a function that frees the space.
func fillDisk(t testing.TB, dir string) func() {
	t.Helper()
	name := filepath.Join(dir, "filler")
	filler, err := os.Create(name)
	must(t, err)
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	return func() { must(t, os.Remove(name)) }
}

// TestDiskFull changes the file on a full disk. Programs that replace the file
// leave the old one, which the server keeps serving. Programs that write in place
// truncate the file, and lose only what does not fit.
func TestDiskFull(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	must(t, os.Mkdir(disk, 0o750))
	smallDisk(t, disk)
	path := filepath.Join(disk, "users")
	many := []string{"first"}
	for i := range 500 {
		many = append(many, fmt.Sprintf("user%d", i))
	}
	whole := plain(append(many, "last")...) // several pages, so that a second one does not fit
	putInPlace(t, path, whole)
	s := startIn(t, dir, unthrottled, strings.ReplaceAll(site, "{dir}/users", "{dir}/disk/users"))
	people := []ask{
		{name: "first", kind: overHTTP2, every: 10 * time.Millisecond, user: as("first", "first"), check: saying(200, "first")},
		{name: "last", kind: overHTTP1, every: 10 * time.Millisecond, user: as("last", "last"), check: saying(200, "last")},
		{name: "new", kind: overHTTP1, every: 10 * time.Millisecond, user: as("new", "new"), check: status(401)},
	}

	l := s.drive(t, people...)
	makeRoom := fillDisk(t, disk)
	for _, row := range []struct {
		name string
		args []string
		word string // of the message
	}{
		{"caddy htpasswd, another user", []string{caddyBinary, "htpasswd", "-bC4", "disk/users", "new", "new"}, "users: write: no space left on device"},
		{"caddy htpasswd, another password", []string{caddyBinary, "htpasswd", "-bC4", "disk/users", "last", "new"}, "users: write: no space left on device"},
		{"caddy htpasswd, one user less", []string{caddyBinary, "htpasswd", "-D", "disk/users", "last"}, "users: write: no space left on device"},
		{"sed", []string{"sed", "-i", "s/^last:/new:/", "disk/users"}, "No space left on device"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cmd := exec.Command(row.args[0], row.args[1:]...)
			cmd.Dir, cmd.Env = s.Dir, append(s.env(), "LC_ALL=C")
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), row.word) {
				t.Errorf("%v: %s", err, out)
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != whole {
				t.Errorf("the old file is incomplete: %v", err)
			}
			l.more(20)
		})
	}
	l.end()

	// cp and Apache's htpasswd write in place. The server loads what they leave.
	bigger := strings.TrimSuffix(whole, plain("last")) + plain(strings.Repeat("x", 200)+":x", "last")
	for len(bigger) <= (len(whole)+4095)/4096*4096 {
		bigger = plain("before") + bigger
	}
	must(t, os.WriteFile(filepath.Join(dir, "bigger"), []byte(bigger), 0o640))
	l = s.drive(t, people[0], people[2])
	cmd := exec.Command("cp", "bigger", "disk/users")
	cmd.Dir = s.Dir
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("the disk was not full: %s", out)
	}
	text, err := os.ReadFile(path)
	must(t, err)
	if len(text) == 0 || len(text) == len(bigger) || strings.Contains(string(text), "last:") {
		t.Fatalf("cp left %d of %d bytes", len(text), len(bigger))
	}
	eventually(t, "the truncated file is active", func() bool { return s.get("/", "last", "last").Status == 401 })
	makeRoom()
	putInPlace(t, path, whole)
	eventually(t, "the complete file is active", func() bool { return s.get("/", "last", "last").Status == 200 })
	l.end()

	// The file is empty: after the grace period nobody can log in. Once it has
	// content again, everybody can.
	begun := time.Now()
	for i := range people[:2] {
		served := people[i].check
		people[i].check = func(a answer) string {
			if a.Status == 401 && time.Since(begun) > 3*time.Second { // the grace period
				return ""
			}
			return served(a)
		}
	}
	l = s.drive(t, people...)
	must(t, os.Truncate(path, 0))
	makeRoom = fillDisk(t, disk)
	if err := os.WriteFile(path, []byte(whole), 0o640); err == nil {
		t.Fatal("the disk was not full")
	}
	eventually(t, "nobody can log in", func() bool { return s.get("/", "first", "first").Status == 401 })
	makeRoom()
	must(t, os.WriteFile(path, []byte(whole), 0o640))
	eventually(t, "the file is active again", func() bool {
		return s.get("/", "first", "first").Status == 200 && s.get("/", "last", "last").Status == 200
	})
	l.end()
}

// TestNoDescriptorsLeft takes all free file descriptors. The previous version keeps
// serving, and the new one is read when descriptors are free again.
func TestNoDescriptorsLeft(t *testing.T) {
	parallel(t)
	app := newSlowApplication(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "users")
	putInPlace(t, path, plain("ann", "bob"))
	s := startIn(t, dir, unthrottled+"\n\tservers {\n\t\tprotocols h1 h2\n\t}", behind(app.URL))
	l := s.drive(t,
		ask{name: "ann", kind: overHTTP2, every: 10 * time.Millisecond, user: as("ann", "ann"), check: saying(200, "for ann")},
		ask{name: "anonymous", kind: overHTTP1, every: 10 * time.Millisecond, check: status(401)},
	)
	l.more(20)
	// Open connections to the admin API, and more to the application than are
	// needed below.
	var metrics []*http.Response
	for range 2 { // in case the client closes one of the connections
		resp, err := adminClient.Get(fmt.Sprintf("http://localhost:%d/metrics", s.Admin))
		must(t, err)
		metrics = append(metrics, resp)
	}
	for _, resp := range metrics {
		_, err := io.Copy(io.Discard, resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if wrong := l.send(l.clients[0], s, ask{path: "/slow", user: as("ann", "ann"), check: status(200)}); wrong != "" {
				t.Error(wrong)
			}
		})
	}
	eventually(t, "the application has four requests", func() bool { return app.waiting.Load() == 4 })
	close(app.letGo)
	wg.Wait()

	limit := func(n uint64) {
		t.Helper()
		var old unix.Rlimit
		must(t, unix.Prlimit(s.process.Pid(), unix.RLIMIT_NOFILE, nil, &old))
		if n == 0 {
			n = old.Max
		}
		must(t, unix.Prlimit(s.process.Pid(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: old.Max}, nil))
	}
	limit(3) // open descriptors stay open
	putInPlace(t, path, plain("ann", "carol"))
	eventually(t, "the server says that it cannot read the file", func() bool { return !s.fileIsGood(path) })
	if said := s.process.Said(); !strings.Contains(said, "too many open files") || !strings.Contains(said, "keeping the previous version") {
		t.Error("nothing in the log")
	}
	for _, row := range []struct {
		user   string
		status int
	}{{"ann", 200}, {"carol", 401}, {"bob", 200}, {"nobody", 401}, {"", 401}} {
		a := ask{check: status(row.status)}
		if row.user != "" {
			a.user = as(row.user, row.user)
		}
		if wrong := l.send(l.clients[0], s, a); wrong != "" { // over the open connection
			t.Errorf("%q: %s", row.user, wrong)
		}
	}
	l.more(50)
	limit(0)
	eventually(t, "the new version is active, and the file reported as loaded", func() bool { return s.get("/", "carol", "carol").Status == 200 && s.fileIsGood(path) })
	if a := s.get("/", "bob", "bob"); a.Status != 401 {
		t.Errorf("a removed user: %d", a.Status)
	}
	l.more(20)
	l.end()
	if n := app.strangers.Load(); n != 0 {
		t.Errorf("%d requests without a user reached the application", n)
	}
}

// TestServersKilled kills and restarts upstream servers under load, each in its own
// process. While one server runs, no client notices. While none runs, requests with
// the correct password get 502, and no login counts as failed.
func TestServersKilled(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	putInPlace(t, filepath.Join(dir, "users"), plain("ann"))
	ports := freePorts(t, 2)
	var servers [2]*testkit.Process
	run := func(i int) {
		t.Helper()
		servers[i] = start(t, dir, environment(dir), caddyBinary, "respond", "--listen", fmt.Sprintf("127.0.0.1:%d", ports[i]), "--body", fmt.Sprint("server ", i))
		eventually(t, "the server listens", func() bool {
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d", ports[i]))
			if err != nil {
				return false
			}
			return resp.Body.Close() == nil
		})
	}
	run(0)
	run(1)
	s := startIn(t, dir, fmt.Sprintf("\tupstream app {\n\t\tserver 127.0.0.1:%d\n\t\tserver 127.0.0.1:%d\n\t\tfail_duration 1s\n\t}\n\tupstream one {\n\t\tserver 127.0.0.1:%d\n\t}", ports[0], ports[1], ports[0]),
		strings.Replace(site, "respond {http.auth.user.id}", "proxy_pass /one one\n\tproxy_pass app", 1))
	var from [2]atomic.Int64
	good := func(a answer) string {
		for i := range from {
			if a.Status == 200 && a.Body == fmt.Sprint("server ", i) {
				from[i].Add(1)
				return ""
			}
		}
		return fmt.Sprintf("%d %q", a.Status, a.Body)
	}
	asks := []ask{
		{name: "ann, HTTP/2", kind: overHTTP2, every: 5 * time.Millisecond, user: as("ann", "ann"), check: good},
		{name: "ann, HTTP/1.1", kind: overHTTP1, every: 5 * time.Millisecond, user: as("ann", "ann"), check: good},
		{name: "anonymous", kind: overHTTP1, every: 20 * time.Millisecond, check: status(401)},
	}
	answersOf := func(i int) {
		t.Helper()
		before := from[i].Load()
		eventually(t, fmt.Sprintf("server %d answers", i), func() bool { return from[i].Load() > before+10 })
	}
	l := s.drive(t, asks...)
	for round := range 4 {
		dead := round % 2
		answersOf(0)
		answersOf(1)
		servers[dead].Stop(syscall.SIGKILL)
		answersOf(1 - dead)
		l.more(100)
		run(dead)
	}
	answersOf(0)
	answersOf(1)
	l.end()

	servers[0].Stop(syscall.SIGKILL)
	servers[1].Stop(syscall.SIGKILL)
	before := s.metrics()
	for i := range 20 {
		if a := s.get("/one", "ann", "ann"); a.Status != 502 {
			t.Errorf("request %d: %d", i, a.Status)
		}
		if a := s.get("/", "ann", "ann"); a.Status != 502 && a.Status != 503 { // 503: all are marked as down
			t.Errorf("request %d to the group: %d", i, a.Status)
		}
		if a := s.get("/", "", ""); a.Status != 401 {
			t.Errorf("anonymous request %d: %d", i, a.Status)
		}
	}
	after := s.metrics()
	for name, value := range after {
		changed := map[string]float64{`requests_total{result="ok"}`: 40, `requests_total{result="no_credentials"}`: 20, "password_cache_hits_total": 40}[name]
		if value-before[name] != changed {
			t.Errorf("%s grew by %v, want %v", name, value-before[name], changed)
		}
	}
	run(0)
	run(1)
	eventually(t, "the servers answer again", func() bool { return s.get("/", "ann", "ann").Status == 200 })
}

// TestFileForbidden runs the server as an unprivileged user. The server loses the
// permission to read the file, and gets it back.
func TestFileForbidden(t *testing.T) {
	parallel(t)
	const nobody = 65534
	if os.Getuid() != 0 {
		t.Skip("only root can start a server as another user")
	}
	dir, err := os.MkdirTemp("", "e2e") // t.TempDir belongs to root
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o755))
	own := filepath.Join(dir, "own")
	must(t, os.Mkdir(own, 0o750))
	must(t, os.Chown(own, nobody, nobody))
	binary, err := os.ReadFile(caddyBinary)
	must(t, err)
	reachable := filepath.Join(dir, "caddy")
	must(t, os.WriteFile(reachable, binary, 0o755))

	s := newServerIn(t, own)
	path := s.Write("users", plain("ann"))
	must(t, os.Chown(path, nobody, nobody))
	s.configure(unthrottled, site)
	must(t, os.Chown(filepath.Join(own, "Caddyfile"), nobody, nobody))
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(reachable, args...)
		cmd.Dir, cmd.Env = own, s.env()
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		return cmd
	}
	if out, err := command("version").CombinedOutput(); err != nil {
		t.Skipf("another user cannot run the server: %v: %s", err, out)
	}
	s.process = testkit.StartCommand(t, command("run", "--config", "Caddyfile"))
	s.awaitAdmin()
	s.awaitSite()
	l := s.drive(t,
		ask{name: "ann", kind: overHTTP2, every: 10 * time.Millisecond, user: as("ann", "ann"), check: saying(200, "ann")},
		ask{name: "anonymous", kind: overHTTP1, every: 10 * time.Millisecond, check: status(401)},
	)
	l.more(10)
	must(t, os.Chmod(path, 0))
	eventually(t, "the server reports that it cannot read the file", func() bool { return !s.fileIsGood(path) })
	if said := s.process.Said(); !strings.Contains(said, "permission denied (owner 'nobody', group '") || !strings.Contains(said, "mode 0000): run chmod u+r on it") {
		t.Error("no message in the log")
	}
	if out, code := s.caddy("reload", "--force", "--config", "Caddyfile", "--address", fmt.Sprintf("localhost:%d", s.Admin)); code == 0 || !strings.Contains(out, path+": permission denied") {
		t.Errorf("reload, exit code %d: %s", code, out)
	}
	// A change while the file cannot be read.
	must(t, os.WriteFile(path, []byte(plain("ann", "bob")), 0))
	if a := s.get("/", "bob", "bob"); a.Status != 401 {
		t.Errorf("a user of the file that cannot be read: %d", a.Status)
	}
	l.more(20)
	must(t, os.Chmod(path, 0o640))
	eventually(t, "the file is read", func() bool { return s.get("/", "bob", "bob").Status == 200 && s.fileIsGood(path) })
	l.more(10)
	l.end()
}

// TestNoFileInItsPlace replaces the file with something that is not a regular file,
// and removes it.
func TestNoFileInItsPlace(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "users")
	putInPlace(t, path, plain("ann"))
	s := startIn(t, dir, unthrottled, site)
	l := s.drive(t,
		ask{name: "ann", kind: overHTTP2, every: 10 * time.Millisecond, user: as("ann", "ann"), check: saying(200, "ann")},
		ask{name: "nobody", kind: overHTTP1, every: 10 * time.Millisecond, user: as("nobody", ""), check: status(401)},
	)
	for i, row := range []struct {
		name string
		put  func(path string) error
		word string
	}{
		{"FIFO", func(path string) error { return unix.Mkfifo(path, 0o640) }, "is not a regular file"},
		{"device that never ends", func(path string) error { return os.Symlink("/dev/zero", path) }, "is not a regular file"},
		{"device that is empty", func(path string) error { return os.Symlink("/dev/null", path) }, "is not a regular file"},
		{"device of its own", func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o640, int(unix.Mkdev(1, 5))) }, "is not a regular file"},
		{"socket", func(path string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				return err
			}
			l.SetUnlinkOnClose(false)
			return l.Close()
		}, "is not a regular file"},
		{"symlink to itself", func(path string) error { return os.Symlink("users", path) }, "too many levels of symbolic links"},
		{"directory", func(path string) error { return os.Mkdir(path, 0o750) }, "is a directory, not a file"},
		{"nothing", func(string) error { return nil }, "no such file"},
	} {
		t.Run(row.name, func(t *testing.T) {
			other := filepath.Join(dir, "other")
			if err := row.put(other); err != nil {
				t.Skip(err)
			}
			if info, err := os.Lstat(other); err != nil || info.IsDir() { // cannot replace a file in one step
				must(t, os.Remove(path))
				if err == nil {
					must(t, os.Rename(other, path))
				}
			} else {
				must(t, os.Rename(other, path))
			}
			eventually(t, "the server says what is wrong", func() bool {
				said := s.process.Said() // where the file was removed first, this may have been said before
				last := strings.LastIndex(said, "cannot load file")
				return !s.fileIsGood(path) && last >= 0 && strings.Contains(said[last:], row.word)
			})
			if out, code := s.caddy("reload", "--force", "--config", "Caddyfile", "--address", fmt.Sprintf("localhost:%d", s.Admin)); code == 0 || !strings.Contains(out, row.word) {
				t.Errorf("reload, exit code %d: %s", code, out)
			}
			l.more(20)
			if row.name != "nothing" {
				must(t, os.Remove(path))
			}
			user := fmt.Sprint("user", i)
			putInPlace(t, path, plain("ann", user))
			eventually(t, "the file is back", func() bool { return s.get("/", user, user).Status == 200 && s.fileIsGood(path) })
		})
	}
	l.end()
}

// TestTwoHalves writes a file in two halves. The server reads it when it has been
// unchanged for 0.2 s. With a shorter pause between the halves, no client notices.
// With a longer one, users of the second half cannot log in until it is written.
func TestTwoHalves(t *testing.T) {
	parallel(t)
	const standStill = 200 * time.Millisecond
	dir := t.TempDir()
	path := filepath.Join(dir, "users")
	var filler []string
	for i := range 200 {
		filler = append(filler, fmt.Sprint("user", i))
	}
	version := func(marker string) (string, string) {
		whole := plain("first") + plain(filler...) + plain("last", marker)
		cut := len(whole)/2 + 3 // in the middle of a line
		return whole[:cut], whole[cut:]
	}
	top, bottom := version("marker")
	putInPlace(t, path, top+bottom)
	s := startIn(t, dir, unthrottled, site)
	var half, asked atomic.Bool // half a file may be active now, and when "last" sent a request
	l := s.drive(t,
		ask{name: "first", kind: overHTTP2, every: 2 * time.Millisecond, user: as("first", "first"), check: saying(200, "first")},
		ask{name: "last", kind: overHTTP1, every: 2 * time.Millisecond, user: func() (string, string) {
			asked.Store(half.Load())
			return "last", "last"
		}, check: func(a answer) string {
			if a.Status == 401 && (asked.Load() || half.Load()) {
				return ""
			}
			return saying(200, "last")(a)
		}},
	)
	write := func(marker string, between func()) {
		t.Helper()
		top, bottom := version(marker)
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		must(t, err)
		_, err = file.WriteString(top)
		must(t, err)
		between()
		_, err = file.WriteString(bottom)
		must(t, err)
		must(t, file.Close())
	}
	awaitActive := func(marker string) {
		t.Helper()
		eventually(t, marker+" is active", func() bool { return s.get("/", marker, marker).Status == 200 })
	}
	counted := 0
	for round := 0; counted < 5 && round < 20; round++ {
		marker := fmt.Sprint("short", round)
		// On a slow machine the short pause can become a long one. Then the server
		// may load half the file.
		late := time.AfterFunc(standStill*3/4, func() { half.Store(true) })
		write(marker, func() { time.Sleep(50 * time.Millisecond) }) // the tested pause
		inTime := late.Stop()
		awaitActive(marker)
		l.more(10)
		half.Store(false)
		if inTime {
			counted++
		}
	}
	if counted < 5 {
		t.Skipf("only %d pauses of 50 ms were short: this machine is too slow", counted)
	}
	half.Store(true)
	write("long", func() {
		eventually(t, "half the file is active", func() bool { return s.get("/", "last", "last").Status == 401 })
	})
	awaitActive("long")
	l.more(10) // those that were running
	half.Store(false)
	l.more(50)
	l.end()
}

// TestSwaps replaces the file 1,000 times under load. Every answer follows one
// complete version, never one older than the answer before. A user of all versions
// can always log in. A replaced password is refused from then on.
func TestSwaps(t *testing.T) {
	parallel(t)
	const swaps, settled = 1000, 100
	dir := t.TempDir()
	users, groups := filepath.Join(dir, "users"), filepath.Join(dir, "groups")
	var filler []string
	for i := range 500 {
		filler = append(filler, fmt.Sprint("user", i))
	}
	between, members := plain(filler...), strings.Repeat("others: "+strings.Join(filler[:50], " ")+"\n", 50)
	put := func(n int) {
		t.Helper()
		// An incomplete file lacks one of moving and also, or of v and w.
		putInPlace(t, users, plain("first", fmt.Sprintf("moving:v%d", n))+between+plain(fmt.Sprintf("also:v%d", n), "last"))
		putInPlace(t, groups, fmt.Sprintf("v%d: first last\n%sw%d: first last\n", n, members, n))
	}
	put(0)
	s := startIn(t, dir, unthrottled, strings.NewReplacer("{dir}/users", "{dir}/users\n\t\tgroup_file {dir}/groups", "{http.auth.user.id}", "{http.auth.user.groups}").Replace(site))
	var written, highest, answered atomic.Int64 // versions: the last written, the last whose password was accepted, and the number of answers
	person := func(name string, kind clientKind) ask {
		seen := 0
		return ask{name: name, kind: kind, every: 2 * time.Millisecond, user: as(name, name), check: func(a answer) string {
			var v, w int
			if n, err := fmt.Sscanf(a.Body, "v%d,w%d", &v, &w); a.Status != 200 || n != 2 || err != nil || v != w {
				return fmt.Sprintf("%d %q: not of one complete version", a.Status, a.Body)
			}
			if v < seen || int64(v) > written.Load() {
				return fmt.Sprintf("version %d after version %d; written up to %d", v, seen, written.Load())
			}
			seen = v
			return ""
		}}
	}
	// Sends the password of the last written version, or of the last active one.
	mover := func(name string, kind clientKind) ask {
		var asked, known int64
		turn := 0
		return ask{name: name, kind: kind, every: 2 * time.Millisecond, user: func() (string, string) {
			known = highest.Load()
			asked = written.Load()
			if turn++; turn%2 == 0 {
				asked = max(known-1, 0)
			}
			return name, fmt.Sprint("v", asked)
		}, check: func(a answer) string {
			switch {
			case a.Status == 200 && asked < known:
				return fmt.Sprintf("the password of version %d was accepted after that of version %d", asked, known)
			case a.Status == 200:
				answered.Add(1)
				for {
					if old := highest.Load(); asked <= old || highest.CompareAndSwap(old, asked) {
						return ""
					}
				}
			}
			return status(401)(a)
		}}
	}
	l := s.drive(t, person("first", overHTTP2), person("last", overHTTP1), mover("moving", overHTTP2), mover("moving", overHTTP1))
	var versions int
	for n := 1; n <= swaps; n++ {
		written.Store(int64(n)) // before it can be active
		put(n)
		if n%settled != 0 {
			time.Sleep(time.Millisecond) // paces the swaps
			continue
		}
		versions++
		password := fmt.Sprint("v", n)
		eventually(t, "the version is active", func() bool {
			a := s.get("/", "last", "last")
			return s.get("/", "moving", password).Status == 200 && a.Body == fmt.Sprintf("v%d,w%d", n, n)
		})
		for _, row := range []struct {
			user, password string
			status         int
		}{
			{"also", password, 200}, {"moving", fmt.Sprint("v", n-1), 401}, {"also", fmt.Sprint("v", n-1), 401}, {"moving", fmt.Sprint("v", n-settled), 401}, {"first", "first", 200}, {"user499", "user499", 200},
		} {
			if a := s.get("/", row.user, row.password); a.Status != row.status {
				t.Errorf("version %d, %s with %s: %d", n, row.user, row.password, a.Status)
			}
		}
	}
	l.more(20)
	l.end()
	if answered.Load() < int64(versions) {
		t.Errorf("the moving password was accepted %d times only", answered.Load())
	}
	if n := s.metrics()[`file_load_failures_total{file="`+users+`",kind="users"}`]; n != 0 {
		t.Errorf("%v versions could not be loaded", n)
	}
	t.Logf("%d swaps, %d answers", swaps, l.served.Load())
}

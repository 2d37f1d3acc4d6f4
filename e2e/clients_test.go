package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/webdav"
)

// backend is the application behind the login. It records the method, path and
// user of each request. A request without a user name, or with a password, fails
// the test.
type backend struct {
	*httptest.Server

	mu       sync.Mutex
	requests []string // "user method path"
}

func newBackend(t *testing.T, handler http.Handler) *backend {
	t.Helper()
	b := &backend{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user := r.Header.Get("X-Remote-User")
		b.mu.Lock()
		b.requests = append(b.requests, user+" "+r.Method+" "+r.URL.Path)
		b.mu.Unlock()
		if password := r.Header.Get("Authorization") != ""; user == "" || password {
			t.Errorf("unexpected request: %s %s of user %q; with a password: %v", r.Method, r.URL.Path, user, password)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(b.Close)
	return b
}

// asked returns the requests since the last call, sorted.
func (b *backend) asked() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	requests := b.requests
	b.requests = nil
	slices.Sort(requests)
	return requests
}

// membersSite starts a Caddy that admits ann, whose password is secret, to an
// address.
func membersSite(t *testing.T, address string) *server {
	t.Helper()
	dir := t.TempDir()
	htpasswdIn(t, dir, "-cbC4", "users", "ann", "secret")
	return startIn(t, dir, "upstream app {\nserver "+address+"\n}", `https://localhost:{https} {
	htpasswd {
		file        {dir}/users
		realm       Members
		user_header X-Remote-User
	}
	proxy_pass app
}`)
}

// desk runs client programs with a separate home directory, and without the
// settings of the user who runs the tests.
type desk struct {
	t   *testing.T
	dir string
	env []string
}

func newDesk(t *testing.T, env ...string) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir()}
	d.env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.dir, "TMPDIR=" + d.dir, "LC_ALL=C.UTF-8"}, env...)
	return d
}

// at returns the same desk with additional environment variables.
func (d *desk) at(env ...string) *desk {
	return &desk{t: d.t, dir: d.dir, env: append(slices.Clone(d.env), env...)}
}

// run runs a program for at most a minute, and returns its output and exit code.
func (d *desk) run(name string, args ...string) (string, int) {
	d.t.Helper()
	return d.enter("", name, args...)
}

// enter is like run, but passes keys to standard input.
func (d *desk) enter(keys, name string, args ...string) (string, int) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = d.dir, d.env, strings.NewReader(keys)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if _, isExit := errors.AsType[*exec.ExitError](err); err != nil && !isExit || ctx.Err() != nil {
		d.t.Fatalf("%s %q: %v, %s", name, args, err, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// must is like run, but the program must succeed.
func (d *desk) must(name string, args ...string) string {
	d.t.Helper()
	out, code := d.run(name, args...)
	if code != 0 {
		d.t.Fatalf("%s %q: %d, %s", name, args, code, out)
	}
	return out
}

func (d *desk) write(name, text string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	must(d.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func (d *desk) read(name string) string {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir, name))
	must(d.t, err)
	return string(text)
}

// noise returns text that does not compress, the same each time.
func noise(n int) string {
	text := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(text)
	return string(text)
}

// echo answers with the method and the size of the body.
func echo(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%s %d", r.Method, n)
}

// TestCurl sends user and password in every way that curl offers.
func TestCurl(t *testing.T) {
	parallel(t)
	curl := program(t, "curl")
	app := newBackend(t, http.HandlerFunc(echo))
	s := membersSite(t, app.Listener.Addr().String())
	d := newDesk(t)
	d.write("upload", noise(2<<20))
	d.write("netrc", "machine localhost\nlogin ann\npassword secret\n")
	d.write("netrc-wrong", "machine localhost\nlogin ann\npassword wrong\n")
	d.write("settings", `user = "ann:secret"`)
	const (
		upload = "PUT 2097152"
		// Answered before the end of the upload, as HTTP/2 allows. Some versions of
		// curl report an error, others the 401.
		early = ""
	)

	for _, test := range []struct {
		name   string
		args   string // {url} is that of the page
		status string
		body   string // of status 200
	}{
		{"no password", "{url}", "401", ""},
		{"wrong password", "-u ann:wrong {url}", "401", ""},
		{"unknown user", "-u nobody:secret {url}", "401", ""},
		{"no user", "-u :secret {url}", "401", ""},
		{"right password", "-u ann:secret {url}", "200", "GET 0"},
		{"asked for", "--anyauth -u ann:secret {url}", "200", "GET 0"},
		{"asked for, wrong", "--anyauth -u ann:wrong {url}", "401", ""},
		{"another scheme", "--digest -u ann:secret {url}", "401", ""},
		{"a token", "--oauth2-bearer secret {url}", "401", ""},
		{"two headers", "-u ann:secret -H authorization:secret -H authorization:secret {url}", "400", ""},
		{"address", "https://ann:secret@localhost:{https}/page", "200", "GET 0"},
		{"address, wrong", "https://ann:wrong@localhost:{https}/page", "401", ""},
		{"netrc", "--netrc-file netrc {url}", "200", "GET 0"},
		{"netrc, wrong", "--netrc-file netrc-wrong {url}", "401", ""},
		{"settings", "-K settings {url}", "200", "GET 0"},
		{"HTTP/1.0", "-0 --no-alpn -u ann:secret {url}", "200", "GET 0"},
		{"HTTP/1.0, none", "-0 --no-alpn {url}", "401", ""},
		{"HTTP/1.1", "--http1.1 -u ann:secret {url}", "200", "GET 0"},
		{"HTTP/2", "--http2 -u ann:secret {url}", "200", "GET 0"},
		{"upload", "-T upload -u ann:secret {url}", "200", upload},
		{"upload, none", "-T upload {url}", early, ""},
		{"upload, wrong", "-T upload -u ann:wrong {url}", early, ""},
		{"upload, HTTP/1.1", "--http1.1 -T upload -u ann:secret {url}", "200", upload},
		{"upload, HTTP/1.1, none", "--http1.1 -T upload {url}", "401", ""},
		{"upload, HTTP/1.1, asked for", "--http1.1 -T upload --anyauth -u ann:secret {url}", "200", upload},
		{"upload, in chunks", "--http1.1 -H Transfer-Encoding:chunked -T upload -u ann:secret {url}", "200", upload},
		{"form", "--data-binary @upload -u ann:secret {url}", "200", "POST 2097152"},
		{"form, HTTP/1.1, asked for", "--http1.1 --data-binary @upload --anyauth -u ann:secret {url}", "200", "POST 2097152"},
	} {
		t.Run(test.name, func(t *testing.T) {
			app.asked()
			args := append([]string{"-sS", "--cacert", s.caFile(), "-o", "answer", "-w", "%{http_code}"},
				strings.Split(s.Fill(strings.ReplaceAll(test.args, "{url}", s.URL("/page"))), " ")...)
			d.write("answer", "")
			status, code := d.run(curl, args...)
			if test.status == early {
				if code == 0 && status != "401" {
					t.Errorf("status %q", status)
				}
			} else if status != test.status || code != 0 {
				t.Errorf("status %q, exit code %d; not %s, 0", status, code, test.status)
			}
			if body := d.read("answer"); body != test.body {
				t.Errorf("body %q, not %q", body, test.body)
			}
			var want []string
			if method, _, ok := strings.Cut(test.body, " "); ok {
				want = []string{"ann " + method + " /page"}
			}
			if asked := app.asked(); !slices.Equal(asked, want) {
				t.Errorf("requests behind the login: %q, not %q", asked, want)
			}
		})
	}
}

// TestWget sends user and password in every way that wget offers, also for a page
// with its images.
func TestWget(t *testing.T) {
	parallel(t)
	wget := program(t, "wget")
	app := newBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, map[string]string{"/page": `<a href="/one">one</a> <a href="/two">two</a>`}[r.URL.Path])
	}))
	s := membersSite(t, app.Listener.Addr().String())
	const right, refused = 0, 6 // wget's exit codes

	for _, test := range []struct {
		name   string
		file   string // name and text of a file in the home directory
		args   string
		code   int
		behind []string
	}{
		{"no password", "", "{url}", refused, nil},
		{"wrong password", "", "--user=ann --password=wrong {url}", refused, nil},
		{"unknown user", "", "--user=nobody --password=secret {url}", refused, nil},
		{"right password", "", "--user=ann --password=secret {url}", right, []string{"ann GET /page"}},
		{"not asked for", "", "--auth-no-challenge --user=ann --password=secret {url}", right, []string{"ann GET /page"}},
		{"not asked for, wrong", "", "--auth-no-challenge --user=ann --password=wrong {url}", refused, nil},
		{"address", "", "https://ann:secret@localhost:{https}/page", right, []string{"ann GET /page"}},
		{"settings", ".wgetrc user=ann\npassword=secret\n", "{url}", right, []string{"ann GET /page"}},
		{"netrc", ".netrc machine localhost login ann password secret\n", "{url}", right, []string{"ann GET /page"}},
		{"netrc, wrong", ".netrc machine localhost login ann password wrong\n", "{url}", refused, nil},
		{"form", "", "--post-data=text --user=ann --password=secret {url}", right, []string{"ann POST /page"}},
		{"form, none", "", "--post-data=text {url}", refused, nil},
		{"what it refers to", "", "-r -l1 -erobots=off --user=ann --password=secret {url}", right, []string{"ann GET /one", "ann GET /page", "ann GET /two"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			app.asked()
			d := newDesk(t)
			if name, text, ok := strings.Cut(test.file, " "); ok {
				d.write(name, text)
			}
			args := append([]string{"--no-verbose", "--no-hsts", "--tries=1", "--ca-certificate=" + s.caFile()},
				strings.Split(s.Fill(strings.ReplaceAll(test.args, "{url}", s.URL("/page"))), " ")...)
			if out, code := d.run(wget, args...); code != test.code {
				t.Errorf("exit code %d, not %d: %s", code, test.code, out)
			}
			if asked := app.asked(); !slices.Equal(asked, test.behind) {
				t.Errorf("requests behind the login: %q, not %q", asked, test.behind)
			}
		})
	}
}

// TestGit clones and pushes over HTTP to git-http-backend behind the login. The
// backend accepts a push from any user with a name.
func TestGit(t *testing.T) {
	parallel(t)
	git := program(t, "git")
	d := newDesk(t, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.com",
		"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.com")
	served := filepath.Join(strings.TrimSpace(d.must(git, "--exec-path")), "git-http-backend")
	if _, err := os.Stat(served); err != nil {
		t.Skip(err)
	}
	repositories := t.TempDir()
	repository := filepath.Join(repositories, "project.git")
	d.must(git, "init", "-q", "--bare", "-b", "main", repository)
	d.must(git, "-C", repository, "config", "core.logAllRefUpdates", "true")

	var chunks atomic.Int32 // chunked requests, without a length
	app := newBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 { // CGI needs the length
			chunks.Add(1)
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		}
		(&cgi.Handler{Path: served, Root: "/git", Env: []string{
			"GIT_PROJECT_ROOT=" + repositories, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=" + r.Header.Get("X-Remote-User"),
		}}).ServeHTTP(w, r)
	}))
	s := membersSite(t, app.Listener.Addr().String())
	d = d.at("GIT_SSL_CAINFO=" + s.caFile())
	address := s.URL("/git/project.git")

	// with returns a desk that answers git's questions.
	d.write("answer", "#!/bin/sh\ncase $1 in Username*) echo \"$ANSWER_USER\" ;; *) echo \"$ANSWER_PASSWORD\" ;; esac\n")
	must(t, os.Chmod(filepath.Join(d.dir, "answer"), 0o700))
	with := func(user, password string) *desk {
		return d.at("GIT_ASKPASS="+filepath.Join(d.dir, "answer"), "ANSWER_USER="+user, "ANSWER_PASSWORD="+password)
	}
	// refused checks that git fails, and that no request reaches the backend.
	refused := func(d *desk, says string, args ...string) {
		t.Helper()
		out, code := d.run(git, args...)
		if code == 0 || !strings.Contains(out, says) {
			t.Errorf("git %q: exit code %d, %s; not %q", args, code, out, says)
		}
		if asked := app.asked(); len(asked) != 0 {
			t.Errorf("git %q: requests behind the login: %q", args, asked)
		}
	}
	head := func(of string) string { return strings.TrimSpace(d.must(git, "-C", of, "rev-parse", "main")) }
	commit := func(name, text string) string {
		d.write(filepath.Join("work", name), text)
		d.must(git, "-C", "work", "add", name)
		d.must(git, "-C", "work", "commit", "-q", "-m", name)
		return head(filepath.Join(d.dir, "work"))
	}

	d.must(git, "init", "-q", "-b", "main", "work")
	d.must(git, "-C", "work", "remote", "add", "origin", address)
	first := commit("small", "text\n")
	push := []string{"-C", "work", "push", "-q", "origin", "main"}
	refused(d, "could not read Username", push...)
	refused(with("ann", "wrong"), "Authentication failed", push...)
	with("ann", "secret").must(git, push...)
	if got := head(repository); got != first {
		t.Errorf("pushed %s, the repository has %s", first, got)
	}
	if chunks.Load() != 0 {
		t.Error("a small push was chunked")
	}

	// git sends what exceeds its buffer of 1 MB in chunks.
	second := commit("large", noise(3<<20))
	app.asked()
	refused(with("ann", "wrong"), "Authentication failed", push...)
	d.write(".git-credentials", s.Fill("https://ann:secret@localhost%3a{https}\n"))
	d.must(git, append([]string{"-c", "credential.helper=store"}, push...)...)
	if got := head(repository); got != second {
		t.Errorf("pushed %s, the repository has %s", second, got)
	}
	if chunks.Load() == 0 {
		t.Error("a large push was not chunked")
	}
	log := d.must(git, "-C", repository, "reflog", "show", "--format=%gn", "main")
	if log != "ann\nann\n" {
		t.Errorf("the user of the push, from the user name of the requests: %q", log)
	}

	app.asked()
	refused(d, "could not read Username", "clone", "-q", address, "none")
	refused(with("ann", "wrong"), "Authentication failed", "clone", "-q", address, "wrong")
	refused(with("nobody", "secret"), "Authentication failed", "clone", "-q", address, "nobody")
	for name, clone := range map[string]func(to string){
		"answers": func(to string) { with("ann", "secret").must(git, "clone", "-q", address, to) },
		"address": func(to string) {
			d.must(git, "clone", "-q", strings.Replace(address, "https://", "https://ann:secret@", 1), to)
		},
		"http1": func(to string) {
			with("ann", "secret").must(git, "-c", "http.version=HTTP/1.1", "clone", "-q", address, to)
		},
		"shallow": func(to string) { with("ann", "secret").must(git, "clone", "-q", "--depth=1", address, to) },
	} {
		clone(name)
		if got := head(filepath.Join(d.dir, name)); got != second {
			t.Errorf("%s: cloned %s, not %s", name, got, second)
		}
		if d.read(filepath.Join(name, "large")) != noise(3<<20) {
			t.Errorf("%s: a file differs from the one that was pushed", name)
		}
	}
}

// image writes a small container image, in the layout of skopeo's dir: transport.
func image(t *testing.T, dir string) {
	t.Helper()
	must(t, os.Mkdir(dir, 0o755))
	// blob writes a part of the image, and returns its descriptor.
	blob := func(kind string, content []byte) map[string]any {
		sum := fmt.Sprintf("%x", sha256.Sum256(content))
		must(t, os.WriteFile(filepath.Join(dir, sum), content, 0o600))
		return map[string]any{"mediaType": kind, "digest": "sha256:" + sum, "size": len(content)}
	}
	encode := func(v any) []byte {
		text, err := json.Marshal(v)
		must(t, err)
		return text
	}
	var files, layer bytes.Buffer
	archive := tar.NewWriter(&files)
	text := noise(3 << 20)
	must(t, archive.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(text))}))
	_, err := io.WriteString(archive, text)
	must(t, err)
	must(t, archive.Close())
	packed := gzip.NewWriter(&layer)
	_, err = packed.Write(files.Bytes())
	must(t, err)
	must(t, packed.Close())
	manifest := encode(map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.manifest.v1+json",
		"config": blob("application/vnd.oci.image.config.v1+json", encode(map[string]any{
			"architecture": "amd64", "os": "linux", "config": map[string]any{},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(files.Bytes()))}},
		})),
		"layers": []any{blob("application/vnd.oci.image.layer.v1.tar+gzip", layer.Bytes())},
	})
	must(t, os.WriteFile(filepath.Join(dir, "manifest.json"), manifest, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "version"), []byte("Directory Transport Version: 1.1\n"), 0o600))
}

// sameFiles checks that two directories have the same files.
func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	list := func(dir string) map[string]string {
		files := map[string]string{}
		entries, err := os.ReadDir(dir)
		must(t, err)
		for _, entry := range entries {
			text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
			must(t, err)
			files[entry.Name()] = string(text)
		}
		return files
	}
	if x, y := list(a), list(b); !maps.Equal(x, y) {
		t.Errorf("%q and %q differ, in names or content", slices.Sorted(maps.Keys(x)), slices.Sorted(maps.Keys(y)))
	}
}

// TestRegistry puts a container registry that has no login behind one.
func TestRegistry(t *testing.T) {
	parallel(t)
	registry, skopeo := program(t, "docker-registry"), program(t, "skopeo")
	dir := t.TempDir()
	address := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	must(t, os.WriteFile(filepath.Join(dir, "config.yml"), []byte(fmt.Sprintf(`version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: %q}}
http: {addr: %q, secret: made-up}
`, filepath.Join(dir, "images"), address)), 0o600))
	start(t, dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, registry, "serve", "config.yml")
	// catalog asks the registry itself, without the login, for its contents.
	catalog := func() (string, error) {
		resp, err := http.Get("http://" + address + "/v2/_catalog")
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return strings.TrimSpace(string(text)), err
	}
	eventually(t, "the registry serves", func() bool { _, err := catalog(); return err == nil })
	s := membersSite(t, address)

	d := newDesk(t)
	trust, err := os.ReadFile(s.caFile())
	must(t, err)
	must(t, os.Mkdir(filepath.Join(d.dir, "trust"), 0o755))
	d.write("trust/ca.crt", string(trust))
	d.write("policy.json", `{"default": [{"type": "insecureAcceptAnything"}]}`) // signatures are not checked
	image(t, filepath.Join(d.dir, "image"))
	host := fmt.Sprintf("localhost:%d", s.HTTPS)
	name := "docker://" + host + "/demo:1"

	run := func(keys string, args ...string) (string, int) {
		t.Helper()
		return d.enter(keys, skopeo, append([]string{"--policy", "policy.json"}, args...)...)
	}
	right := func(says string, args ...string) {
		t.Helper()
		if out, code := run("secret", args...); code != 0 || !strings.Contains(out, says) {
			t.Errorf("skopeo %q: exit code %d, %s; not %q", args, code, out, says)
		}
	}
	refused := func(keys, says string, args ...string) {
		t.Helper()
		if out, code := run(keys, args...); code == 0 || !strings.Contains(out, says) {
			t.Errorf("skopeo %q: exit code %d, %s; not %q", args, code, out, says)
		}
		if there, err := catalog(); err != nil || there != `{"repositories":[]}` {
			t.Errorf("skopeo %q: the registry has %s, %v", args, there, err)
		}
	}
	login := []string{"login", "--authfile", "auth.json", "--cert-dir", "trust", "-u", "ann", "--password-stdin", host}
	push := []string{"copy", "--authfile", "auth.json", "--dest-cert-dir", "trust", "dir:image", name}
	pull := []string{"copy", "--authfile", "auth.json", "--src-cert-dir", "trust", name, "dir:back"}

	refused("", "unauthorized", push...)
	refused("", "unauthorized", slices.Concat(push, []string{"--dest-creds", "ann:wrong"})...)
	refused("wrong", "invalid username/password", login...)
	refused("", "unauthorized", push...)
	right("Login Succeeded", login...)
	right("", push...)
	if there, err := catalog(); err != nil || there != `{"repositories":["demo"]}` {
		t.Errorf("after a push the registry has %s, %v", there, err)
	}
	right("", pull...)
	sameFiles(t, filepath.Join(d.dir, "image"), filepath.Join(d.dir, "back"))
	right(`"1"`, "list-tags", "--authfile", "auth.json", "--cert-dir", "trust", "docker://"+host+"/demo")

	right("Removed login", "logout", "--authfile", "auth.json", host)
	for _, creds := range [][]string{nil, {"--src-creds", "ann:wrong"}, {"--src-creds", "nobody:secret"}} {
		if out, code := run("", slices.Concat(pull[:len(pull)-1], []string{"dir:refused"}, creds)...); code == 0 || !strings.Contains(out, "unauthorized") {
			t.Errorf("pulled with %q: exit code %d, %s", creds, code, out)
		}
	}
}

// newFiles starts a WebDAV server behind the login, with a directory of its own.
func newFiles(t *testing.T) (dir string, b *backend) {
	t.Helper()
	dir = t.TempDir()
	return dir, newBackend(t, &webdav.Handler{FileSystem: webdav.Dir(dir), LockSystem: webdav.NewMemLS()})
}

// tree lists a directory with all its files and directories.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	must(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if entry.IsDir() {
			name += "/"
		}
		names = append(names, name)
		return err
	}))
	return strings.Join(names, " ")
}

// TestWebDAV sends the methods of WebDAV with curl. It uses HTTP/1.1, because some
// versions of curl report an error if HTTP/2 answers before the end of a body.
func TestWebDAV(t *testing.T) {
	parallel(t)
	curl := program(t, "curl")
	dir, app := newFiles(t)
	s := membersSite(t, app.Listener.Addr().String())
	d := newDesk(t)
	d.write("file", "content")
	d.write("lock", `<?xml version="1.0"?><lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>`)
	const none = ""

	for _, step := range []struct {
		args   string
		status string // with the right password; without one it is 401
		body   string // a part of the body
		files  string // the tree afterwards
	}{
		{"-X OPTIONS {url}/", "200", none, ""},
		{"-X MKCOL {url}/directory", "201", none, "directory/"},
		{"-T file {url}/directory/a", "201", none, "directory/ directory/a"},
		{"-X PROPFIND -H Depth:1 {url}/directory", "207", "<D:href>/directory/a</D:href>", "directory/ directory/a"},
		{"{url}/directory/a", "200", "content", "directory/ directory/a"},
		{"-X COPY -H Destination:{url}/directory/b {url}/directory/a", "201", none, "directory/ directory/a directory/b"},
		{"-X MOVE -H Destination:{url}/directory/c {url}/directory/b", "201", none, "directory/ directory/a directory/c"},
		{"-X LOCK --data-binary @lock {url}/directory/a", "200", "locktoken", "directory/ directory/a directory/c"},
		{"-T file {url}/directory/a", "423", none, "directory/ directory/a directory/c"},
		{"-X DELETE {url}/directory/c", "204", none, "directory/ directory/a"},
	} {
		ask := func(args ...string) (status, body string) {
			t.Helper()
			d.write("answer", "")
			args = append(args, strings.Split(strings.ReplaceAll(step.args, "{url}", strings.TrimSuffix(s.URL("/"), "/")), " ")...)
			status = d.must(curl, append([]string{"-sS", "--http1.1", "--cacert", s.caFile(), "-o", "answer", "-w", "%{http_code}"}, args...)...)
			return status, d.read("answer")
		}
		before := tree(t, dir)
		for _, password := range [][]string{nil, {"-u", "ann:wrong"}} {
			if status, body := ask(password...); status != "401" || body != "" {
				t.Errorf("%s, password %q: %s %q", step.args, password, status, body)
			}
			if files := tree(t, dir); files != before {
				t.Errorf("%s, password %q: files %q, before %q", step.args, password, files, before)
			}
		}
		if asked := app.asked(); len(asked) != 0 {
			t.Errorf("%s without the password: requests behind the login: %q", step.args, asked)
		}
		if status, body := ask("-u", "ann:secret"); status != step.status || !strings.Contains(body, step.body) {
			t.Errorf("%s: %s %q, not %s", step.args, status, body, step.status)
		}
		if files := tree(t, dir); files != step.files {
			t.Errorf("%s: files %q, not %q", step.args, files, step.files)
		}
		if asked := app.asked(); len(asked) != 1 {
			t.Errorf("%s: requests behind the login: %q", step.args, asked)
		}
	}
}

// line is what a user at a terminal types after a prompt.
type line struct{ read, keys string }

// talk runs a program on a terminal of script(1), and returns all of its output.
func (d *desk) talk(command string, lines []line) string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(d.t, "script"), "-qec", command, "/dev/null")
	cmd.Dir, cmd.Env, cmd.WaitDelay = d.dir, append(slices.Clone(d.env), "SHELL=/bin/sh", "TERM=dumb"), time.Second
	keys, err := cmd.StdinPipe()
	must(d.t, err)
	screen, err := cmd.StdoutPipe()
	must(d.t, err)
	must(d.t, cmd.Start())
	var shown strings.Builder
	buffer, seen := make([]byte, 1024), 0
	for {
		for len(lines) > 0 {
			at := strings.Index(shown.String()[seen:], lines[0].read)
			if at < 0 {
				break
			}
			seen += at + len(lines[0].read)
			_, err := io.WriteString(keys, lines[0].keys+"\n")
			must(d.t, err)
			lines = lines[1:]
		}
		n, err := screen.Read(buffer)
		shown.Write(buffer[:n])
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil || len(lines) > 0 {
		d.t.Fatalf("%s: %v; not typed yet: %q; on the terminal:\n%s", command, err, lines, shown.String())
	}
	return shown.String()
}

// TestCadaver runs a WebDAV client on a terminal. The user accepts the certificate,
// and types user and password, or has them in a file.
func TestCadaver(t *testing.T) {
	parallel(t)
	cadaver := program(t, "cadaver")
	program(t, "script")
	dir, app := newFiles(t)
	s := membersSite(t, app.Listener.Addr().String())

	accept := line{"accept the certificate? (y/n) ", "y"}
	login := func(user, password string) []line { return []line{{"Username: ", user}, {"Password: ", password}} }
	work := []line{
		{"dav:/> ", "mkcol directory"}, {"dav:/> ", "cd directory"}, {"dav:/directory/> ", "put file"}, {"dav:/directory/> ", "ls"},
		{"dav:/directory/> ", "get file back"}, {"dav:/directory/> ", "move file moved"}, {"dav:/directory/> ", "quit"},
	}
	leave := []line{{"Username: ", "\x04"}, {"dav:/? ", "quit"}}

	for _, test := range []struct {
		name  string
		netrc string
		lines []line
		right bool
	}{
		{"no password", "", leave, false},
		{"wrong password", "", slices.Concat(login("ann", "wrong"), leave), false},
		{"netrc, wrong", "machine localhost login ann password wrong\n", leave, false},
		{"right password", "", slices.Concat(login("ann", "secret"), work), true},
		{"wrong, then right", "", slices.Concat(login("ann", "wrong"), login("ann", "secret"), work), true},
		{"netrc", "machine localhost login ann password secret\n", work, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			must(t, os.RemoveAll(filepath.Join(dir, "directory")))
			app.asked()
			d := newDesk(t)
			d.write("file", "content")
			if test.netrc != "" {
				d.write(".netrc", test.netrc)
			}
			shown := d.talk(cadaver+" "+s.URL("/"), append([]line{accept}, test.lines...))
			if test.right {
				if files := tree(t, dir); files != "directory/ directory/moved" {
					t.Errorf("files %q; on the terminal:\n%s", files, shown)
				}
				if back := d.read("back"); back != "content" {
					t.Errorf("got the file %q", back)
				}
				return
			}
			if !strings.Contains(shown, "Could not authenticate to server") || tree(t, dir) != "" {
				t.Errorf("files %q; on the terminal:\n%s", tree(t, dir), shown)
			}
			if asked := app.asked(); len(asked) != 0 {
				t.Errorf("requests behind the login: %q", asked)
			}
		})
	}
}

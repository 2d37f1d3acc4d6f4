package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// namedPHP runs a real PHP-FPM, and returns its address and a function that ends it. Its
// scripts find the name in $_SERVER["SERVER"].
func namedPHP(t *testing.T, name string) (address string, stop func()) {
	t.Helper()
	found, err := filepath.Glob("/usr/sbin/php-fpm*")
	must(t, err)
	if len(found) == 0 {
		t.Skip("PHP-FPM is not installed; a server in Go takes its place in the other tests")
	}
	dir, address := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	conf := fmt.Sprintf("[global]\nerror_log = %s/log\ndaemonize = no\n[www]\nlisten = %s\npm = static\npm.max_children = 1\nenv[SERVER] = \"%s\"\n", dir, address, name)
	args := []string{"-n", "-F", "-y", filepath.Join(dir, "fpm.conf")}
	if os.Getuid() == 0 {
		conf += "user = root\ngroup = root\n"
		args = append(args, "-R")
	}
	must(t, os.WriteFile(filepath.Join(dir, "fpm.conf"), []byte(conf), 0o600))
	process := start(t, dir, os.Environ(), found[0], args...)
	eventually(t, "PHP-FPM listens", func() bool {
		c, err := net.Dial("tcp", address)
		return err == nil && c.Close() == nil
	})
	return address, func() { process.Stop(syscall.SIGTERM) }
}

// namedFastCGI runs a FastCGI server that answers as the script of TestFastCGIGroups does,
// without PATH_INFO, which net/http/fcgi does not pass on.
func namedFastCGI(t *testing.T, name string) (address string, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		_ = fcgi.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			env := fcgi.ProcessEnv(r)
			w.Header().Set("X-Server", name)
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, "%s %s ?%s user=%s sent=%s", r.Method, filepath.Base(env["SCRIPT_FILENAME"]), r.URL.RawQuery, env["REMOTE_USER"], r.FormValue("text"))
		}))
	}()
	return listener.Addr().String(), func() { listener.Close() }
}

const fastCGIScript = `<?php
http_response_code(201);
header("X-Server: " . $_SERVER["SERVER"]);
header("X-Path-Info: " . ($_SERVER["PATH_INFO"] ?? ""));
echo $_SERVER["REQUEST_METHOD"], " ", basename($_SERVER["SCRIPT_FILENAME"]), " ?", $_SERVER["QUERY_STRING"],
	" user=", $_SERVER["REMOTE_USER"] ?? "", " sent=", $_POST["text"] ?? ($_GET["text"] ?? "");
`

// TestFastCGIGroups sends requests to groups of FastCGI servers: of Go, and of PHP-FPM
// where it is installed.
func TestFastCGIGroups(t *testing.T) {
	parallel(t)
	for kind, run := range map[string]func(*testing.T, string) (string, func()){"a FastCGI server": namedFastCGI, "PHP-FPM": namedPHP} {
		t.Run(kind, func(t *testing.T) {
			a, stopA := run(t, "a")
			b, stopB := run(t, "b")
			c, _ := run(t, "c")
			root := testkit.PublicDir(t)
			must(t, os.WriteFile(filepath.Join(root, "page.php"), []byte(fastCGIScript), 0o644))
			refused := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
			closing := closingServer(t)
			fastcgi := "\ntransport fastcgi {\nroot " + root + "\nsplit .php\n}\n"
			s := startServer(t, "")
			s.Write("users", "alice:"+fastHash(t, "secret")+"\n")
			groups := map[string]string{
				"weights":  fmt.Sprintf("server %s weight=2\nserver %s", a, b),
				"twice":    fmt.Sprintf("server %s\nserver %s\nserver %s", a, b, a),
				"backup":   fmt.Sprintf("server %s\nserver %s backup\nserver %s down", a, b, c),
				"refusing": fmt.Sprintf("server %s\nserver %s", refused, b),
				"closing":  fmt.Sprintf("server %s\nserver %s\nmax_fails 0", closing, b),
				"least":    fmt.Sprintf("balance least_conn\nserver %s\nserver %s", a, b),
				"hash":     fmt.Sprintf("balance hash {query}\nserver %s\nserver %s", a, b),
				"alldown":  fmt.Sprintf("server %s down\nserver %s down", a, b),
				"limit":    fmt.Sprintf("server %s max_conns=5\nserver %s backup", a, b),
			}
			var options, routes strings.Builder
			for name, lines := range groups {
				fmt.Fprintf(&options, "upstream %s {\n%s%s}\n", name, lines, fastcgi)
				fmt.Fprintf(&routes, "handle_path /%s/* {\nproxy_pass %[1]s\n}\n", name)
			}
			must(t, s.Reload("{\n"+options.String()+"}\nhttps://localhost:{https} {\nhtpasswd {\nfile users\n}\n"+routes.String()+"}\n"))

			send := func(method, path, form string) answer {
				t.Helper()
				r := s.Request(method, path, strings.NewReader(form))
				if form != "" {
					r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				}
				r.SetBasicAuth("alice", "secret")
				return s.Do(r)
			}
			order := func(method, path, form string, n int) string {
				t.Helper()
				var all strings.Builder
				for range n {
					got := send(method, path, form)
					if got.Status == http.StatusCreated {
						all.WriteString(got.Header.Get("X-Server"))
					} else {
						fmt.Fprintf(&all, "[%d]", got.Status)
					}
				}
				return all.String()
			}

			if got := s.Get("/weights/page.php", "", ""); got.Status != http.StatusUnauthorized {
				t.Errorf("without a password: got status %d, want 401", got.Status)
			}
			for _, row := range []struct{ method, path, form, want string }{
				{"GET", "/weights/page.php?text=x", "", "GET page.php ?text=x user=alice sent=x"},
				{"GET", "/weights/page.php", "", "GET page.php ? user=alice sent="},
				{"POST", "/weights/page.php?y", "text=a+body", "POST page.php ?y user=alice sent=a body"},
			} {
				if got := send(row.method, row.path, row.form); got.Status != http.StatusCreated || got.Body != row.want {
					t.Errorf("%s %s: got %d %q, want 201 %q", row.method, row.path, got.Status, got.Body, row.want)
				}
			}
			if kind == "PHP-FPM" {
				if got := send("GET", "/weights/page.php/some/path", ""); got.Header.Get("X-Path-Info") != "/some/path" {
					t.Errorf("got PATH_INFO %q, want /some/path", got.Header.Get("X-Path-Info"))
				}
				send("GET", "/weights/page.php", "")
				send("GET", "/weights/page.php", "") // to the beginning of a round
			}
			for _, row := range []struct{ method, path, form, want string }{
				{"GET", "/weights/page.php", "", "abaaba"},
				{"HEAD", "/weights/page.php", "", "abaaba"},
				{"POST", "/weights/page.php", "text=x", "abaaba"},
				{"GET", "/twice/page.php", "", "abaaba"},
				{"GET", "/backup/page.php", "", "aaaaaa"},
				{"GET", "/refusing/page.php", "", "bbbbbb"},
				{"POST", "/refusing/page.php", "text=x", "bbbbbb"},
				{"GET", "/closing/page.php", "", "bbbbbb"},
				{"GET", "/least/page.php", "", "ababab"},
				{"GET", "/limit/page.php", "", "aaaaaa"},
				{"GET", "/alldown/page.php", "", "[502][502][502][502][502][502]"},
				{"POST", "/alldown/page.php", "text=x", "[502][502][502][502][502][502]"},
			} {
				if got := order(row.method, row.path, row.form, 6); got != row.want {
					t.Errorf("%s %s: got the order %s, want %s", row.method, row.path, got, row.want)
				}
			}
			if got := order("POST", "/closing/page.php", "text=x", 6); strings.Count(got, "[502]") != 3 || strings.Count(got, "b") != 3 {
				t.Errorf("POST to a server that closes connections: got %s, want 502 for each second one", got)
			}
			keyed := order("GET", "/hash/page.php?text=1", "", 6)
			if strings.Trim(keyed, keyed[:1]) != "" || strings.Contains(keyed, "[") {
				t.Errorf("by hash: got the order %s, want the same server each time", keyed)
			}

			stopA()
			for _, row := range []struct{ method, path, form, want string }{
				{"GET", "/weights/page.php", "", "bbbbbb"},
				{"POST", "/twice/page.php", "text=x", "bbbbbb"},
				{"GET", "/backup/page.php", "", "bbbbbb"},
				{"GET", "/hash/page.php?text=1", "", "bbbbbb"},
			} {
				if got := order(row.method, row.path, row.form, 6); got != row.want {
					t.Errorf("after the end of a, %s %s: got the order %s, want %s", row.method, row.path, got, row.want)
				}
			}
			stopB()
			for _, path := range []string{"/weights/page.php", "/backup/page.php"} {
				if got := order("GET", path, "", 1); got != "[502]" && got != "[503]" {
					t.Errorf("after the end of all servers, %s: got %s, want 502 or 503", path, got)
				}
			}
		})
	}
}

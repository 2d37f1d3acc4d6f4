package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/net/websocket"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// exampleServer runs an example with other ports, and with other names in its
// text.
func exampleServer(t *testing.T, name string, names ...string) *server {
	t.Helper()
	s := startServer(t, "")
	must(t, os.CopyFS(filepath.Join(s.Dir, "examples"), os.DirFS("../examples")))
	names = append(names, "localhost:8443", "localhost:{https}", "http_port 8080", "http_port {http}", "9001", fmt.Sprint(freePorts(t, 1)[0]))
	must(t, s.Reload(strings.NewReplacer(names...).Replace(readText(t, "../examples/"+name+"/Caddyfile"))))
	return s
}

// TestExampleReadWrite sends the requests of the text, and then each method as each
// user.
func TestExampleReadWrite(t *testing.T) {
	parallel(t)
	e := loadExample(t, "read-write")
	e.start()
	const notes = "https://localhost:8443/notes/1"
	e.check([]exampleAnswer{
		{"curl -k -u alice:swordfish " + notes, 0, "GET by alice\n", nil},
		{"curl -k -u bob:swordfish " + notes, 0, "GET by bob\n", nil},
		{"curl -k -i -u carol:swordfish " + notes, 403, "", nil},
		{"curl -k -i -u alice:swordfish -X PUT " + notes, 403, "", nil},
		{"curl -k -u bob:swordfish -X PUT " + notes, 0, "PUT by bob\n", nil},
		{"curl -k -i -u alice:swordfish -X DELETE " + notes, 403, "", nil},
		{"curl -k -i -u alice:swordfish -X BREW " + notes, 403, "", nil},
		{"curl -k -u alice:swordfish -H 'X-HTTP-Method-Override: DELETE' " + notes, 0, "GET by alice\n", nil},
	})
	e.checkAll()
	t.Run("the header field without the line", func(t *testing.T) {
		e := loadExample(t, "read-write")
		e.write("examples/read-write/Caddyfile", strings.Replace(e.replaced.Replace(e.text), "request_header -X-HTTP-Method*", "", 1))
		e.start()
		e.check([]exampleAnswer{
			{"curl -k -u alice:swordfish -H 'X-HTTP-Method-Override: DELETE' " + notes, 0, "DELETE by alice\n", nil},
		})
	})

	app := testkit.NewWitness(t)
	s := exampleServer(t, "read-write", "server localhost:9001", "server "+app.Listener.Addr().String())
	const challenge = `Basic realm="Notes", charset="UTF-8"`
	overrides := []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}
	for version, client := range s.Clients() {
		s := s.In(t, client)
		for _, method := range []string{"GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE", "TRACE", "PROPFIND", "MKCOL", "LOCK", "BREW", "get", "Head", "OPTIONSX"} {
			reads := method == "GET" || method == "HEAD" || method == "OPTIONS"
			for _, user := range []struct {
				name, password string
				reads, writes  int // the answer
			}{
				{"alice", "swordfish", 200, 403},
				{"bob", "swordfish", 200, 200},
				{"carol", "swordfish", 403, 403},
				{"bob", "wrong", 401, 401},
				{"", "", 401, 401},
			} {
				t.Run(fmt.Sprintf("%s as %q, %s", method, user.name, version), func(t *testing.T) {
					want := user.writes
					if reads {
						want = user.reads
					}
					s := s.In(t)
					r := s.Request(method, "/notes/1", nil)
					if user.name != "" {
						r.SetBasicAuth(user.name, user.password)
					}
					for _, field := range overrides {
						r.Header.Set(field, "DELETE")
					}
					checkStatus(t, s.Do(r), want, challenge)
					if want != http.StatusOK {
						app.None(t)
						return
					}
					got := app.One(t)
					if got.Method != method || got.Header.Get("X-Remote-User") != user.name {
						t.Errorf("the application got %s by %q, want %s by %q", got.Method, got.Header.Get("X-Remote-User"), method, user.name)
					}
					for _, field := range overrides {
						if got.Header[field] != nil {
							t.Errorf("the application got %s, want it removed", field)
						}
					}
				})
			}
		}
	}
	a, _ := s.Raw("CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + authorization("alice", "swordfish") + "\r\n\r\n")
	checkStatus(t, a, http.StatusMethodNotAllowed, "")
	app.None(t)
}

// TestExampleWebSocket runs the application, too, and connects to it with curl,
// with a client in Go, and with a browser.
func TestExampleWebSocket(t *testing.T) {
	parallel(t)
	application := filepath.Join(t.TempDir(), "application")
	build := exec.Command("go", "build", "-o", application, "./examples/websocket")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	e := loadExample(t, "websocket", "go run ./examples/websocket", application)
	command := strings.Fields(e.replaced.Replace(e.said("go run ./examples/websocket -listen localhost:9001")))
	received := start(t, e.dir, e.env, command[0], command[1:]...).Said
	e.start()

	const upgrade = "-H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' https://localhost:8443/socket"
	const curl, password = "curl -k -i --http1.1 ", "-u admin:swordfish "
	e.check([]exampleAnswer{
		{curl + upgrade, 401, "", nil},
		{curl + password + "-H 'Origin: https://evil.example' " + upgrade, 403, "", nil},
	})
	page := readText(t, "../examples/websocket/page.html")
	e.checkAnswer("curl -k -i https://localhost:8443/", exampleAnswer{status: 401})
	e.checkAnswer("curl -k -i -u admin:swordfish https://localhost:8443/", exampleAnswer{status: 200, body: page})
	// stdbuf makes curl write its output at once. To a file, it would write at its end.
	switched := start(t, e.dir, e.env, "sh", "-c", "exec "+program(t, "stdbuf")+" -oL "+e.replaced.Replace(e.said("curl -k -i -N --http1.1 "+password+upgrade))).Said
	eventually(t, "curl is connected", func() bool {
		return strings.HasPrefix(switched(), "HTTP/1.1 101 Switching Protocols\r\n") &&
			strings.Contains(switched(), "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") // the answer to this key, as in RFC 6455
	})
	e.checkAll()

	dial := func(user, password string) (*websocket.Conn, error) {
		t.Helper()
		origin := e.replaced.Replace("https://localhost:8443")
		config, err := websocket.NewConfig("wss"+strings.TrimPrefix(origin, "https")+"/socket", origin)
		must(t, err)
		config.TlsConfig = &tls.Config{InsecureSkipVerify: true}
		if user != "" {
			config.Header.Set("Authorization", authorization(user, password))
		}
		config.Header.Set("X-Remote-User", "root")
		return websocket.DialConfig(config)
	}
	for _, wrong := range []string{"", "wrong"} {
		if conn, err := dial("admin", wrong); err == nil {
			conn.Close()
			t.Errorf("got a connection with the password %q, want none", wrong)
		}
	}
	conn, err := dial("admin", "swordfish")
	must(t, err)
	defer conn.Close()
	echoed := func(text string) {
		t.Helper()
		must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		must(t, websocket.Message.Send(conn, text))
		var got string
		if err := websocket.Message.Receive(conn, &got); err != nil || got != "admin: "+text {
			t.Errorf("got %q, %v, want %q", got, err, "admin: "+text)
		}
	}
	echoed("one")
	echoed("two")

	t.Run("browser", func(t *testing.T) {
		browser := program(t, "chromium")
		profile := testkit.BrowserDir(t)
		start(t, profile, append(e.env, "HOME="+profile, "XDG_CONFIG_HOME="+profile), browser, "--headless", "--no-sandbox", "--disable-gpu",
			"--ignore-certificate-errors", "--user-data-dir="+profile, "--remote-debugging-port=0", e.replaced.Replace("https://admin:swordfish@localhost:8443/"))
		eventually(t, "the page was answered", func() bool { return strings.Contains(received(), `"admin: hello"`) })
	})

	ends := func(conn *websocket.Conn) {
		t.Helper()
		must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		var got string
		if err := websocket.Message.Receive(conn, &got); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %q, %v, want the end of the connection", got, err)
		}
	}
	e.write("examples/.htpasswd", alice) // instead of admin
	eventually(t, "admin can no longer connect", func() bool {
		other, err := dial("admin", "swordfish")
		if err == nil {
			other.Close()
		}
		return err != nil
	})
	echoed("still here")
	e.write("examples/websocket/Caddyfile", strings.Replace(e.replaced.Replace(e.text), "stream_timeout 12h", "stream_timeout 1s", 1))
	if out, ok := e.run("go run ./cmd/caddy reload --config examples/websocket/Caddyfile"); !ok {
		t.Fatal(out)
	}
	ends(conn)
	conn, err = dial("alice", "secret")
	must(t, err)
	defer conn.Close()
	ends(conn)
}

// inYAML returns the value at a path of keys and indices in a YAML document, or nil.
func inYAML(v any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[step]
		case int:
			list, _ := v.([]any)
			if step >= len(list) {
				return nil
			}
			v = list[step]
		}
	}
	return v
}

// TestExampleKubernetes checks that the objects match each other and the Caddyfile.
// It runs the Caddyfile on a volume that changes as the kubelet's does.
func TestExampleKubernetes(t *testing.T) {
	parallel(t)
	objects := make(map[string]any) // by kind
	for _, name := range []string{"secret.yaml", "deployment.yaml"} {
		documents := yaml.NewDecoder(strings.NewReader(readText(t, "../examples/kubernetes/"+name)))
		for {
			var object any
			err := documents.Decode(&object)
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			objects[fmt.Sprint(inYAML(object, "apiVersion"), " ", inYAML(object, "kind"))] = object
		}
	}
	secret, config, deployment := objects["v1 Secret"], objects["v1 ConfigMap"], objects["apps/v1 Deployment"]
	service, ingress := objects["v1 Service"], objects["networking.k8s.io/v1 Ingress"]
	if len(objects) != 5 {
		t.Errorf("got %d objects, want 5", len(objects))
	}
	text := readText(t, "../examples/kubernetes/Caddyfile")
	pods := inYAML(deployment, "spec", "template", "spec")
	container := inYAML(pods, "containers", 0)
	for _, row := range []struct {
		name      string
		got, want any
	}{
		{"the Caddyfile", inYAML(config, "data", "Caddyfile"), text[strings.Index(text, "\n{\n")+1:]},
		{"its path", inYAML(container, "command"), []any{"caddy", "run", "--config", "/etc/caddy/Caddyfile"}},
		{"its volume", inYAML(pods, "volumes", 1), map[string]any{"name": inYAML(container, "volumeMounts", 1, "name"), "configMap": map[string]any{"name": inYAML(config, "metadata", "name")}}},
		{"its mount", inYAML(container, "volumeMounts", 1), map[string]any{"name": "caddyfile", "mountPath": "/etc/caddy", "readOnly": true}},
		{"the users' volume", inYAML(pods, "volumes", 0), map[string]any{"name": "users", "secret": map[string]any{"secretName": inYAML(secret, "metadata", "name"), "defaultMode": 0o440}}},
		{"the users' mount, without subPath", inYAML(container, "volumeMounts", 0), map[string]any{"name": "users", "mountPath": "/etc/htpasswd", "readOnly": true}},
		{"the group of the files", inYAML(pods, "securityContext", "fsGroup"), inYAML(pods, "securityContext", "runAsGroup")},
		{"the port", inYAML(container, "ports"), []any{map[string]any{"containerPort": 8080}}},
		{"the service", inYAML(service, "spec", "ports"), []any{map[string]any{"port": 80, "targetPort": 8080}}},
		{"the pods of the service", inYAML(service, "spec", "selector"), inYAML(deployment, "spec", "template", "metadata", "labels")},
		{"the pods of the deployment", inYAML(deployment, "spec", "selector", "matchLabels"), inYAML(service, "spec", "selector")},
		{"the backend of the ingress", inYAML(ingress, "spec", "rules", 0, "http", "paths", 0, "backend", "service"), map[string]any{"name": inYAML(service, "metadata", "name"), "port": map[string]any{"number": 80}}},
		{"the readiness probe", inYAML(container, "readinessProbe", "httpGet"), map[string]any{"path": "/healthz", "port": 8080}},
		{"the liveness probe", inYAML(container, "livenessProbe", "httpGet"), map[string]any{"path": "/healthz", "port": 8080}},
	} {
		if row.got == nil || !reflect.DeepEqual(row.got, row.want) {
			t.Errorf("%s: got %v, want %v", row.name, row.got, row.want)
		}
	}
	users, _ := inYAML(secret, "stringData", "users").(string)

	volume := t.TempDir()
	version := func(name, text string) {
		t.Helper()
		must(t, os.Mkdir(filepath.Join(volume, name), 0o750))
		must(t, os.WriteFile(filepath.Join(volume, name, "users"), []byte(text), 0o440))
		must(t, os.Symlink(name, filepath.Join(volume, "..data_tmp")))
		must(t, os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")))
	}
	version("..2026_11_24_09_00_00.1", users)
	must(t, os.Symlink("..data/users", filepath.Join(volume, "users")))

	app := testkit.NewWitness(t)
	e := loadExample(t, "kubernetes", "/etc/htpasswd", volume, "10.0.0.0/8", "127.0.0.1/32", "application:8080", app.Listener.Addr().String())
	e.commands = append(e.commands, "go run ./cmd/caddy run --config examples/kubernetes/Caddyfile")
	e.start()
	eventually(t, "the server answers", func() bool {
		_, ok := e.run("curl http://127.0.0.1:8080/healthz")
		return ok
	})
	// passed sends a request as the ingress controller does.
	passed := func(line string) string {
		return strings.Replace(line, "https://example.com/", "-H 'X-Forwarded-Proto: https' -H 'X-Forwarded-For: 192.0.2.7' http://127.0.0.1:8080/", 1)
	}
	e.checkAnswer(passed(e.said("curl -i https://example.com/")), exampleAnswer{status: 401})
	app.None(t)
	e.checkAnswer(passed(e.said("curl -u alice:swordfish https://example.com/")), exampleAnswer{body: "application"})
	if got := app.One(t).Header.Get("X-Remote-User"); got != "alice" {
		t.Errorf("the application got the user %q, want alice", got)
	}
	e.checkAll()
	e.checkAnswer("curl -i http://127.0.0.1:8080/healthz", exampleAnswer{status: 200, body: "OK"})
	e.checkAnswer("curl -i -u alice:swordfish http://127.0.0.1:8080/", exampleAnswer{status: 403}) // not through the controller
	app.None(t)

	// The kubelet adds a new version, and removes the previous one.
	version("..2026_11_24_10_00_00.2", bobSecret)
	must(t, os.RemoveAll(filepath.Join(volume, "..2026_11_24_09_00_00.1")))
	asBob, asAlice := passed("curl -i -u bob:secret https://example.com/"), passed("curl -i -u alice:swordfish https://example.com/")
	eventually(t, "bob can log in", func() bool { return e.ask(asBob).Status == http.StatusOK })
	e.checkAnswer(asAlice, exampleAnswer{status: 401})
	if strings.Contains(e.log(), `"level":"error"`) || strings.Contains(e.log(), "world-readable") {
		t.Errorf("got errors or warnings in the log, want none: %s", e.log())
	}
}

// TestExampleFail2ban runs fail2ban's filter on the log of a Caddy with all kinds
// of logins.
func TestExampleFail2ban(t *testing.T) {
	parallel(t)
	program(t, "fail2ban-regex")
	e := loadExample(t, "fail2ban")
	e.start()
	e.check([]exampleAnswer{
		{"curl -k -i -u admin:wrong https://localhost:8443/", 401, "", nil},
		{"curl -k -u admin:swordfish https://localhost:8443/", 0, "Hello, admin.\n", nil},
	})
	const read = "fail2ban-regex build/htpasswd.log examples/fail2ban/filter.d/caddy-htpasswd.conf"
	out, ok := e.run(e.said(read))
	for _, want := range []string{"\nFailregex: 1 total\n", `] ^\{"level":"warn","ts":{EPOCH}`, ", 0 ignored, 1 matched, "} {
		if !ok || !strings.Contains(out, want) {
			t.Errorf("got %s, want %q in it", out, want)
		}
	}

	// The jail, in a copy of fail2ban's configuration, without its server.
	conf := filepath.Join(t.TempDir(), "fail2ban")
	testkit.Run(t, "cp", "-r", "/etc/fail2ban", conf)
	must(t, os.RemoveAll(filepath.Join(conf, "jail.d"))) // the jails of this machine
	must(t, os.Mkdir(filepath.Join(conf, "jail.d"), 0o755))
	install := e.said("sudo cp -r examples/fail2ban/filter.d examples/fail2ban/jail.d /etc/fail2ban/")
	e.said("sudo fail2ban-client reload") // needs the fail2ban server, which is not running here
	if out, ok := e.run(strings.NewReplacer("sudo ", "", "/etc/fail2ban", conf).Replace(install)); !ok {
		t.Fatal(out)
	}
	e.checkAll()
	jail := filepath.Join(conf, "jail.d", "caddy-htpasswd.conf")
	must(t, os.WriteFile(jail, []byte(strings.Replace(readText(t, jail), "/var/log/caddy", filepath.Join(e.dir, "build"), 1)), 0o600))
	out = testkit.Run(t, "fail2ban-client", "-c", conf, "-d")
	for _, want := range []string{
		"['add', 'caddy-htpasswd', 'auto']",
		"['set', 'caddy-htpasswd', 'addlogpath', '" + e.dir + "/build/htpasswd.log', 'head']",
		"['set', 'caddy-htpasswd', 'maxretry', 20]",
		"['set', 'caddy-htpasswd', 'findtime', '10m']",
		"['set', 'caddy-htpasswd', 'bantime', '1h']",
		"['start', 'caddy-htpasswd']",
		"for proto in $(echo 'tcp,udp' | sed 's/,/ /g')",
		"--dports http,https ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("got %s, want %s in it", out, want)
		}
	}
	if out := testkit.Run(t, "fail2ban-client", "-c", conf, "-t"); !strings.Contains(out, "OK: configuration test is successful") {
		t.Errorf("got %s, want a configuration that fail2ban accepts", out)
	}
}

// TestExampleFail2banNames sends user names, hosts and header fields that are made
// to pass for other fields of the log.
func TestExampleFail2banNames(t *testing.T) {
	parallel(t)
	program(t, "fail2ban-regex")
	e := loadExample(t, "fail2ban", "http_port", "servers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t\ttrusted_proxies_strict\n\t}\n\thttp_port",
		"tls internal", "tls internal\n\tlog\n\tbind 127.0.0.1", "file examples/.htpasswd", "file examples/.htpasswd\n\t\trequire user admin")
	anyHost := regexp.MustCompile(`https://localhost:(\d+) \{`).ReplaceAllString(e.replaced.Replace(e.text), "https://localhost:$1, https://:$1 {")
	e.write("examples/fail2ban/Caddyfile", anyHost)
	e.write("examples/.htpasswd", readText(t, "../examples/.htpasswd")+alice+locked)
	e.start()
	line := `{"level":"warn","ts":1795513717.481353,"logger":"http.handlers.htpasswd","msg":"login failed","client_ip":"1.2.3.4","user":"a","reason":"wrong password","host":"localhost","realm":"Restricted"}`
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	t.Cleanup(client.CloseIdleConnections)
	eventually(t, "the server answers", func() bool {
		_, ok := e.run("curl -k https://localhost:8443/")
		return ok
	})
	address := e.replaced.Replace("https://localhost:8443/")
	var want []string
	began := time.Now()
	for _, row := range []struct {
		forwarded, authorization string
		status                   int
		found                    string // the address, if the filter finds it
	}{
		{"203.0.113.1", authorization("admin", "wrong 1"), 401, "203.0.113.1"},
		{"2001:db8::1", authorization("admin", "wrong 2"), 401, "2001:db8::1"},
		{"2001:db8::ffff:203.0.113.2", authorization("admin", "wrong 3"), 401, "2001:db8::ffff:cb00:7102"},
		{"203.0.113.3", authorization("nobody", "wrong 4"), 401, "203.0.113.3"},
		{"203.0.113.4", authorization("mallory", "wrong 5"), 401, "203.0.113.4"},
		{"203.0.113.5", authorization("admin", "swordfish"), 200, ""},
		{"203.0.113.6", authorization("alice", "secret"), 403, ""}, // not authorized
		{"203.0.113.7", "Basic ?", 401, ""},
		{"203.0.113.8", "", 401, ""},
		{"203.0.113.1", authorization("admin", "wrong 1"), 401, ""}, // repeated
		{"203.0.113.9", authorization("admin", "wrong 1"), 401, ""},
		{"1.2.3.4, 203.0.113.10", authorization("admin", "wrong 6"), 401, "203.0.113.10"},
		{`1.2.3.4","user":"a, 203.0.113.11`, authorization("admin", "wrong 7"), 401, "203.0.113.11"},
		{"203.0.113.12", authorization(`"client_ip":"1.2.3.4"`, "wrong 8"), 401, "203.0.113.12"},
		{"203.0.113.13", authorization(`a","client_ip":"1.2.3.4","user":"a`, "wrong 9"), 401, "203.0.113.13"},
		{"203.0.113.14", authorization(`a\","client_ip":"1.2.3.4","user":"a`, "wrong 10"), 401, "203.0.113.14"},
		{"203.0.113.15", authorization(`a","reason","wrong password","repeated"`, "wrong 11"), 401, "203.0.113.15"}, // does not hide the line
		{"203.0.113.16", authorization(`a\`, "wrong 12"), 401, "203.0.113.16"},
		{"203.0.113.17", authorization(`a\"`, "wrong 13"), 401, "203.0.113.17"},
		{"203.0.113.18", authorization("a\xff\u2028\u00a0b", "wrong 14"), 401, "203.0.113.18"},
		{"203.0.113.19", authorization("a\n"+line+"\n", "wrong 15"), 401, ""}, // malformed
		{"203.0.113.20", authorization(line, "wrong 16"), 401, "203.0.113.20"},
		{"203.0.113.21", authorization("1.2.3.4", "wrong 17"), 401, "203.0.113.21"},
	} {
		r, err := http.NewRequest(http.MethodGet, address+"?"+url.QueryEscape(line), nil)
		must(t, err)
		r.Header.Set("X-Forwarded-For", row.forwarded)
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("User-Agent", line)
		if row.authorization != "" {
			r.Header.Set("Authorization", row.authorization)
		}
		resp, err := client.Do(r)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != row.status {
			t.Errorf("%s: got status %d, want %d", row.forwarded, resp.StatusCode, row.status)
		}
		if row.found != "" {
			want = append(want, row.found)
		}
	}
	// The characters that a host can have over HTTP/1.1 and HTTP/2. TestFilterReadsFailedLogins has the others.
	hosts := []string{"1.2.3.4", "'client_ip':'1.2.3.4'", "a','reason':'wrong", "%22%2C%22client_ip%22%3A%221.2.3.4", "[::1]"}
	for i, host := range hosts {
		ip := fmt.Sprintf("203.0.113.%d", 100+i)
		want = append(want, ip)
		out := testkit.Run(t, "curl", "-sk", "--http2", "-o", os.DevNull, "-w", "%{http_version} %{http_code}", "-u", fmt.Sprintf("admin:wrong host %d", i),
			"-H", "Host: "+host, "-H", "X-Forwarded-For: "+ip, "-H", "X-Forwarded-Proto: https", address)
		if out != "2 401" {
			t.Errorf("host %q: got version and status %s, want 2 401", host, out)
		}
	}
	// As if both logs were one, with the access log in it.
	eventually(t, "all requests are in the access log", func() bool { return strings.Count(e.log(), `"handled request"`) >= 23+len(hosts) })
	must(t, os.WriteFile(filepath.Join(e.dir, "all.log"), []byte(e.log()+readText(t, filepath.Join(e.dir, "build/htpasswd.log"))), 0o600))
	for _, log := range []string{"build/htpasswd.log", "all.log"} {
		out, ok := e.run("fail2ban-regex -o '<ip> <time>' " + log + " examples/fail2ban/filter.d/caddy-htpasswd.conf")
		if !ok {
			t.Fatal(out)
		}
		var got []string
		for found := range strings.Lines(out) {
			var ip string
			var seconds float64
			if _, err := fmt.Sscan(found, &ip, &seconds); err != nil {
				t.Fatalf("%q: %v", found, err)
			}
			got = append(got, ip)
			if at := time.Unix(int64(seconds), 0); at.Before(began.Add(-time.Second)) || at.After(time.Now()) {
				t.Errorf("%s: got a failure at %s, want one after %s", ip, at, began)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got\n%q, want\n%q in\n%s", log, got, want, readText(t, filepath.Join(e.dir, log)))
		}
	}
}

// packagedUnit is the part of the unit in Caddy's package that the drop-in changes.
const packagedUnit = `[Unit]
Description=Caddy
After=network-online.target

[Service]
Type=notify
User=caddy
Group=caddy
ExecStart=/usr/bin/caddy run --environ --config /etc/caddy/Caddyfile
ExecReload=/usr/bin/caddy reload --config /etc/caddy/Caddyfile --force
AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE
`

// TestExampleSystemd installs the files as the text says, below another root
// directory. systemd checks them, and the test runs the commands of the unit.
func TestExampleSystemd(t *testing.T) {
	parallel(t)
	e := loadExample(t, "systemd")
	root := t.TempDir()
	for _, dir := range []string{"usr/local/bin", "etc/systemd/system", "etc/caddy", "var/log/caddy"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	for _, line := range []string{
		"sudo install -m 755 caddy /usr/local/bin/caddy",
		"sudo install -m 644 -D examples/systemd/caddy.service.d/htpasswd.conf /etc/systemd/system/caddy.service.d/htpasswd.conf",
		"sudo install -m 644 examples/systemd/Caddyfile /etc/caddy/Caddyfile",
	} {
		if out, ok := e.run(strings.NewReplacer("sudo ", "", "755 caddy", "755 "+caddyBinary, " /", " "+root+"/").Replace(e.said(line))); !ok {
			t.Fatal(out)
		}
	}
	e.said("sudo /usr/local/bin/caddy htpasswd -c /etc/caddy/.htpasswd admin") // TestPrompts, TestToolNewFile
	e.said("sudo systemctl daemon-reload")
	e.said("sudo systemctl restart caddy")
	must(t, os.WriteFile(filepath.Join(root, "etc/caddy/.htpasswd"), []byte(readText(t, "../examples/.htpasswd")), 0o640))

	units := filepath.Join(root, "etc/systemd/system")
	dropIn := filepath.Join(units, "caddy.service.d", "htpasswd.conf")
	commands := make(map[string]string) // those that take effect
	for _, m := range regexp.MustCompile(`(?m)^(Exec\w+)=(.*)$`).FindAllStringSubmatch(readText(t, dropIn), -1) {
		if old, found := commands[m[1]]; found && old != "" || !found && m[2] != "" {
			t.Errorf("%s: got %q first, want an empty value, which removes the package's command", m[1], m[2])
		}
		commands[m[1]] = m[2]
	}

	t.Run("systemd-analyze", func(t *testing.T) {
		program(t, "systemd-analyze")
		must(t, os.WriteFile(filepath.Join(units, "caddy.service"), []byte(packagedUnit), 0o644))
		must(t, os.WriteFile(dropIn, []byte(strings.ReplaceAll(readText(t, dropIn), "=/usr", "="+root+"/usr")), 0o644))
		verify := exec.Command("systemd-analyze", "verify", "--man=no", filepath.Join(units, "caddy.service"))
		verify.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+units+":")
		if out, err := verify.CombinedOutput(); err != nil || strings.Contains(string(out), "caddy") {
			t.Errorf("%v: %s", err, out)
		}
		// The package's unit alone is rated 9.3 of 10, and 2.1 with the drop-in.
		testkit.Run(t, "systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=25", filepath.Join(units, "caddy.service"))
	})

	// The command that systemd would run, with its variables.
	inProject := e.env
	e.env = append(slices.Clone(inProject), "CONFIGURATION_DIRECTORY="+filepath.Join(root, "etc/caddy"), "LOGS_DIRECTORY="+filepath.Join(root, "var/log/caddy"))
	command := func(name string) []string {
		return strings.Fields(strings.NewReplacer(" /etc", " "+root+"/etc", "/usr", root+"/usr").Replace(commands[name]))
	}
	t.Run("installed", func(t *testing.T) {
		e := *e
		e.t = t
		started := command("ExecStart")
		log := start(t, root, e.env, started[0], started[1:]...).Said
		eventually(t, "caddy has started", func() bool { return strings.Contains(log(), "serving initial configuration") })
		eventually(t, "the server answers", func() bool {
			_, ok := e.run("curl -k https://localhost:8443/")
			return ok
		})
		must(t, os.WriteFile(filepath.Join(root, "etc/caddy/.htpasswd"), []byte(alice), 0o640))
		if out, ok := e.run(strings.Join(command("ExecReload"), " ")); !ok {
			t.Error(out)
		}
		e.checkAnswer("curl -k -u alice:secret https://localhost:8443/", exampleAnswer{body: "Hello, alice.\n"})
		eventually(t, "the request is in the access log", func() bool {
			return strings.Contains(readText(t, filepath.Join(root, "var/log/caddy/access.log")), `"user_id":"alice"`)
		})
	})

	e.env = inProject
	e.start()
	e.check([]exampleAnswer{
		{"curl -k -i https://localhost:8443/", 401, "", nil},
		{"curl -k -u admin:swordfish https://localhost:8443/", 0, "Hello, admin.\n", nil},
	})
	e.checkAll()
	eventually(t, "the request is in the access log", func() bool {
		return strings.Contains(readText(t, filepath.Join(e.dir, "build/access.log")), `"user_id":"admin"`)
	})

	// On a server, the two lines are removed, and the name is changed.
	server := strings.NewReplacer("\thttp_port 8080\n\tskip_install_trust\n", "", "https://localhost:8443", "example.com").Replace(e.text)
	if _, config, _ := strings.Cut(server, "\n{\n"); strings.Contains(config, "8080") || strings.Contains(config, "localhost") {
		t.Errorf("got another configuration than the text says: %s", config)
	}
	e.write("on-a-server", server)
	adapt(t, e.dir, "on-a-server")
}

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

const containersPage = "../docs/containers.md"

// containerCommands are the commands of the page.
var containerCommands = []string{
	"docker compose build",
	"docker compose run --rm caddy caddy htpasswd -c /etc/htpasswd/.htpasswd alice",
	"docker compose up -d",
	"docker compose exec caddy caddy htpasswd /etc/htpasswd/.htpasswd bob",
	"docker compose exec caddy caddy htpasswd -D /etc/htpasswd/.htpasswd bob",
	"docker compose exec caddy caddy htpasswd --list /etc/htpasswd/.htpasswd",
	"docker compose exec -T caddy caddy htpasswd -i /etc/htpasswd/.htpasswd bob <password.txt",
	"docker compose exec --user 1000:1000 caddy caddy htpasswd -c /etc/htpasswd/.htpasswd alice",
}

var (
	_ = ranBy("TestContainerCommands", containerCommands...)
	_ = ranBy("TestContainerFiles", "FROM caddy:2.11.9-builder AS builder", "services:")
	_ = ranBy("TestContainerDollarSigns", "configs:")
	_ = ranBy("TestExampleDocker",
		"curl -k -i https://localhost/",
		"curl -k -u alice https://localhost/",
		"docker compose exec caddy caddy reload --config /etc/caddy/Caddyfile --force")
)

// TestContainerFiles checks that the image is built with the versions of this project,
// and that the services match the Caddyfile. It does not need Docker.
func TestContainerFiles(t *testing.T) {
	parallel(t)
	dockerfile, compose := readText(t, "../examples/docker/Dockerfile"), readText(t, "../examples/docker/compose.yaml")
	if blocks(t, containersPage, "dockerfile")[0] != dockerfile || block(t, containersPage, "yaml", "services:") != compose {
		t.Error("the page and the example have different files")
	}
	site := block(t, containersPage, "caddyfile", "/etc/htpasswd/.htpasswd")
	if !strings.HasSuffix(readText(t, "../examples/docker/Caddyfile"), "\n"+site) {
		t.Error("the page and the example have different sites")
	}

	version := regexp.MustCompile(`(?m)^\tgithub.com/caddyserver/caddy/v2 (v\S+)$`).FindStringSubmatch(readText(t, "../go.mod"))[1]
	build := regexp.MustCompile(`(?m)^RUN xcaddy build (\S+) --with (\S+)$`).FindStringSubmatch(dockerfile)
	if build == nil || build[1] != version || !strings.Contains(readText(t, "../go.mod"), "module "+build[2]+"\n") {
		t.Fatalf("got %q, want a build of %s with this module", build, version)
	}
	makefile := readText(t, "../Makefile") // "make xcaddy" builds with these
	for _, line := range []string{"\nPLUGIN  := " + build[2] + "\n", "\nCADDY   := " + build[1] + "\n"} {
		if !strings.Contains(makefile, line) {
			t.Errorf("make xcaddy builds something else than the image: no line %q", line)
		}
	}
	if !strings.Contains(readText(t, "../README.md"), "--with "+build[2]+"\n") {
		t.Error("the README has another command to build")
	}
	image := "caddy:" + strings.TrimPrefix(version, "v")
	var stages []string
	for _, m := range regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(dockerfile, -1) {
		stages = append(stages, m[1])
	}
	if want := []string{image + "-builder", image}; !reflect.DeepEqual(stages, want) || !strings.Contains(dockerfile, "\nCOPY --from=builder /usr/bin/caddy /usr/bin/caddy\n") {
		t.Errorf("got the stages %q, want %q, and the binary of one in the other", stages, want)
	}

	var project any
	must(t, yaml.Unmarshal([]byte(compose), &project))
	caddy, application := inYAML(project, "services", "caddy"), inYAML(project, "services", "application")
	if got := inYAML(caddy, "image"); got != "caddy-htpasswd:"+strings.TrimPrefix(version, "v") || inYAML(application, "image") != image {
		t.Errorf("got the image %v, want one with the version of Caddy", got)
	}
	mounted := make(map[string]bool)
	for _, v := range inYAML(caddy, "volumes").([]any) {
		parts := strings.Split(v.(string), ":")
		mounted[parts[1]] = true
		if !strings.HasPrefix(parts[0], ".") {
			if _, named := inYAML(project, "volumes").(map[string]any)[parts[0]]; !named {
				t.Errorf("%s: no such volume", v)
			}
			continue
		}
		if info, err := os.Stat(filepath.Join("../examples/docker", parts[0])); err == nil && !info.IsDir() {
			t.Errorf("%s is a single file, want a directory", v)
		}
	}
	for _, m := range regexp.MustCompile(`\bfile (\S+)/\S+\n`).FindAllStringSubmatch(site, -1) {
		if !mounted[m[1]] || !mounted["/etc/caddy"] || !mounted["/data"] {
			t.Errorf("got the mounts %v, want %s, the Caddyfile's directory and Caddy's storage", mounted, m[1])
		}
	}

	// The health check and the application, as the containers run them.
	strs := func(v any) (words []string) {
		for _, word := range v.([]any) {
			words = append(words, word.(string))
		}
		return words
	}
	s := startServer(t, "")
	check := strs(inYAML(caddy, "healthcheck", "test"))[1:]
	healthy := func() bool {
		t.Helper()
		url := strings.Replace(check[len(check)-1], ":2019/", fmt.Sprintf(":%d/", s.Admin), 1)
		return exec.Command(program(t, check[0]), append(append([]string{"-T", "5"}, check[1:len(check)-1]...), url)...).Run() == nil
	}
	if healthy() {
		t.Error("healthy without a server")
	}
	must(t, s.Reload(secureSite("respond ok")))
	if !healthy() {
		t.Error("not healthy")
	}
	app := strs(inYAML(application, "command"))
	port := fmt.Sprint(freePorts(t, 1)[0])
	if !strings.Contains(site, "reverse_proxy application"+app[3]+"\n") {
		t.Errorf("the Caddyfile has another server than the one at %s", app[3])
	}
	app[3] = "127.0.0.1:" + port
	start(t, s.Dir, s.env(), caddyBinary, app[1:]...)
	eventually(t, "the application answers", func() bool {
		resp, err := http.Get("http://127.0.0.1:" + port)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && string(body) == app[4]
	})
}

// inContainer runs a command of the tool as in a container, with a password. dir stands
// for the mounted directory.
func inContainer(t *testing.T, dir, line string) (string, error) {
	t.Helper()
	m := regexp.MustCompile(`^docker compose (?:run --rm|exec)(?: -T)?(?: --user (\d+):(\d+))? caddy caddy htpasswd (.*)$`).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("not a command of the tool: %s", line)
	}
	args := strings.ReplaceAll(m[3], "/etc/htpasswd", dir)
	switch {
	case strings.Contains(args, "-D ") || strings.Contains(args, "--list ") || strings.Contains(args, "-i "):
	case strings.HasPrefix(args, "-c "):
		args = "-b" + args[1:] + " secret"
	default:
		args = "-b " + args + " secret"
	}
	cmd := exec.Command("sh", "-c", caddyBinary+" htpasswd "+args)
	if m[1] != "" {
		public := filepath.Join(testkit.PublicDir(t), "caddy")
		binary, err := os.ReadFile(caddyBinary)
		must(t, err)
		must(t, os.WriteFile(public, binary, 0o755))
		cmd = exec.Command("sh", "-c", public+" htpasswd "+args)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	}
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestContainerCommands runs the commands of the page as far as they are the tool's.
func TestContainerCommands(t *testing.T) {
	parallel(t)
	lines := make(map[string]bool)
	for line := range strings.Lines(strings.Join(blocks(t, containersPage, "console"), "")) {
		lines[strings.TrimSpace(line)] = true
	}
	for _, line := range containerCommands {
		if !lines[line] {
			t.Errorf("not in the page: %s", line)
		}
	}
	dir := testkit.PublicDir(t)
	must(t, os.WriteFile(filepath.Join(dir, "password.txt"), []byte("another secret\n"), 0o600))
	for _, step := range []struct{ line, users string }{
		{containerCommands[1], "alice"}, {containerCommands[3], "alice bob"}, {containerCommands[4], "alice"}, {containerCommands[6], "alice bob"},
	} {
		if out, err := inContainer(t, dir, step.line); err != nil {
			t.Fatalf("%s: %v: %s", step.line, err, out)
		}
		list, err := inContainer(t, dir, containerCommands[5])
		if err != nil || strings.Join(strings.Fields(list), " ") != step.users {
			t.Errorf("after %s: got the users %q, %v, want %s", step.line, list, err, step.users)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, ".htpasswd")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("got %v %v, want a file of mode 0640", info, err)
	}

	// A directory of another user.
	if os.Getuid() != 0 {
		t.Skip("this needs root")
	}
	own := testkit.PublicDir(t)
	must(t, os.Chown(own, 1000, 1000))
	if out, err := inContainer(t, own, containerCommands[1]); err == nil || !strings.Contains(out, "the directory "+own+" belongs to ") {
		t.Errorf("root in a directory of another user: got %v %s, want it refused", err, out)
	}
	if out, err := inContainer(t, own, containerCommands[7]); err != nil {
		t.Errorf("that user: %v %s", err, out)
	}
	if out, err := inContainer(t, own, containerCommands[3]); err != nil {
		t.Errorf("root, with a file of that user: %v %s", err, out)
	}
	if info, err := os.Stat(filepath.Join(own, ".htpasswd")); err != nil || info.Sys().(*syscall.Stat_t).Uid != 1000 {
		t.Errorf("got %v %v, want a file of user 1000", info, err)
	}
}

// TestContainerDollarSigns has a hash as Compose wants it in its own file, there and in
// a mounted one.
func TestContainerDollarSigns(t *testing.T) {
	parallel(t)
	var project any
	must(t, yaml.Unmarshal([]byte(block(t, containersPage, "yaml", "configs:")), &project))
	content := inYAML(project, "configs", "users", "content").(string)
	s := startServer(t, "")
	s.Write("users", strings.ReplaceAll(content, "$$", "$")) // what Compose makes of it
	must(t, s.Reload(secureSite("htpasswd {\nfile {dir}/users\n}\nrespond ok")))
	if a := s.get("/", "alice", "swordfish"); a.Status != 200 {
		t.Errorf("got %d, want alice logged in", a.Status)
	}
	doubled := s.Write("mounted", content)
	if err := s.Reload(secureSite("htpasswd {\nfile " + doubled + "\n}\nrespond ok")); err == nil || !strings.Contains(err.Error(), "write a single $") {
		t.Errorf("a mounted file with $$: got %v, want an error that says what to write", err)
	}
}

// TestExampleDocker runs the example without Docker: its directory of users is another one.
func TestExampleDocker(t *testing.T) {
	parallel(t)
	app := testkit.NewWitness(t)
	ports, users := freePorts(t, 2), testkit.PublicDir(t)
	e := loadExample(t, "docker", "application:8080", app.Listener.Addr().String(), "/etc/htpasswd", users, "skip_install_trust", fmt.Sprintf("skip_install_trust\n\thttp_port %d", ports[0]),
		"\nlocalhost {", fmt.Sprintf("\nhttps://localhost:%d {", ports[1]), "https://localhost/", fmt.Sprintf("https://localhost:%d/", ports[1]), "-u alice", "-u alice:secret", "-u bob", "-u bob:secret")
	e.said("docker compose build") // TestContainerFiles
	e.said("docker compose up -d")
	if out, err := inContainer(t, users, e.said(containerCommands[1])); err != nil {
		t.Fatal(out)
	}
	e.commands = append(e.commands, "go run ./cmd/caddy run --config examples/docker/Caddyfile")
	e.start()
	e.check([]exampleAnswer{
		{"curl -k -i https://localhost/", 401, "", nil},
		{"curl -k -u alice https://localhost/", 0, "application", nil},
	})
	if got := app.One(t).Header.Get("X-Remote-User"); got != "alice" {
		t.Errorf("the application was told %q, want alice", got)
	}
	if out, err := inContainer(t, users, e.said(containerCommands[3])); err != nil {
		t.Fatal(out)
	}
	e.checkAnswer(e.said("curl -k -u bob https://localhost/"), exampleAnswer{body: "application"})
	reload := strings.TrimPrefix(e.said("docker compose exec caddy caddy reload --config /etc/caddy/Caddyfile --force"), "docker compose exec caddy caddy ")
	if out, ok := e.run(caddyBinary + " " + strings.Replace(reload, "/etc/caddy/", "examples/docker/", 1)); !ok {
		t.Error(out)
	}
	e.checkAll()
	if strings.Contains(e.log(), `"level":"error"`) || strings.Contains(e.log(), `"logger":"http.handlers.htpasswd","msg":"file `) {
		t.Errorf("got errors or warnings in the log, want none: %s", e.log())
	}
}

// relay passes connections on to a port, so that all clients have the address of this
// machine, as behind a NAT that replaces addresses. Before each it may write a line of
// the PROXY protocol.
func relay(t *testing.T, port int, withProxyProtocol bool) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
				if err != nil {
					return
				}
				defer server.Close()
				if withProxyProtocol {
					from := client.RemoteAddr().(*net.TCPAddr)
					fmt.Fprintf(server, "PROXY TCP4 %s 127.0.0.1 %d %d\r\n", from.IP, from.Port, port)
				}
				go func() {
					_, _ = io.Copy(server, client)
					_ = server.(*net.TCPConn).CloseWrite()
				}()
				_, _ = io.Copy(client, server)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// TestContainerNAT has a relay replace the addresses of clients, and checks the effect on
// the limits, without and with the settings that the page recommends.
func TestContainerNAT(t *testing.T) {
	parallel(t)
	needsLoopback(t)
	text := sectionBlocks(t, containersPage, "NAT", "caddyfile")
	proxyProtocol, deviceCookie, bothSettings := text[0], text[1], text[2]
	clientOff := strings.Replace(bothSettings, "\t\tdevice_cookie\n", "", 1)
	const attacker, somebody = "127.0.0.2", "127.0.0.3"
	limits := func(lines ...string) string {
		return strings.Replace(clientOff, "throttle client off", strings.Join(lines, "\n"), 1)
	}
	const login, client, user = "throttle login 10 1m", "throttle client 30 1m", "throttle user 100 1h" // the defaults
	setUp := func(t *testing.T, caddyfile string, withProxyProtocol bool) (*server, docsClient) {
		t.Helper()
		s, c := docsSite(t, caddyfile)
		c.port = relay(t, c.port, withProxyProtocol)
		return s, c
	}
	guess := func(c docsClient, n int, name string, want int) {
		c.t.Helper()
		for i := range n {
			name := name
			if name == "" {
				name = fmt.Sprint("nobody", i)
			}
			c.expect([]asked{{path: "/", from: attacker, login: fmt.Sprint(name, ":guess", i), want: want}})
		}
	}

	t.Run("client", func(t *testing.T) {
		s, c := setUp(t, limits(login, client, user), false)
		c.expect([]asked{{path: "/", from: somebody, login: asAlice, want: 200}})
		guess(c, 30, "", 401)
		c.expect([]asked{
			{path: "/", from: attacker, login: "nobody:guess", want: 429},
			{path: "/", from: somebody, login: "bob:builder", want: 429}, // who has not logged in yet
			{path: "/", from: somebody, login: asAlice, want: 200},
		})
		if log := s.Log(); strings.Contains(log, `"client_ip":"`+attacker) || !strings.Contains(log, `"client_ip":"127.0.0.1"`) {
			t.Error("the log has the address of the attacker, want that of the relay")
		}
	})
	t.Run("client off", func(t *testing.T) {
		_, c := setUp(t, clientOff, false)
		guess(c, 31, "", 401)
		c.expect([]asked{{path: "/", from: somebody, login: "bob:builder", want: 200}})
		guess(c, 10, "bob", 401)
		c.expect([]asked{{path: "/", from: attacker, login: "bob:guess", want: 429}})
	})
	t.Run("login", func(t *testing.T) {
		_, c := setUp(t, limits(login, client, user), false)
		c.expect([]asked{{path: "/", from: somebody, login: asAlice, want: 200}})
		guess(c, 10, "alice", 401)
		c.expect([]asked{{path: "/", from: somebody, login: asAlice, want: 429}})
	})
	t.Run("user", func(t *testing.T) {
		few := limits("throttle login 100 1h", client, "throttle user 5 1h")
		_, c := setUp(t, few, false)
		guess(c, 5, "alice", 401)
		c.expect([]asked{{path: "/", from: attacker, login: "alice:more", want: 429}})
		_, c = setUp(t, few, false)
		c.expect([]asked{{path: "/", from: somebody, login: asAlice, want: 200}})
		guess(c, 10, "alice", 401) // the limit does not hold
	})
	t.Run("exempt", func(t *testing.T) {
		exempting := func(ranges string) string {
			return strings.Replace(clientOff, "\t\tfile", "\t\texempt remote_ip "+ranges+"\n\t\tfile", 1)
		}
		_, c := setUp(t, exempting("private_ranges"), false)
		c.expect([]asked{{path: "/", from: attacker, want: 200}})
		caddyfile := exempting("127.0.0.1/32")
		_, c = setUp(t, caddyfile, false)
		c.expect([]asked{{path: "/", from: attacker, want: 200}})
		_, direct := docsSite(t, caddyfile)
		direct.expect([]asked{{path: "/", from: attacker, want: 401}})
	})
	t.Run("trusted_proxies", func(t *testing.T) {
		trusting := "{\n\tservers {\n\t\ttrusted_proxies static private_ranges\n\t\ttrusted_proxies_strict\n\t}\n" + clientOff[2:]
		s, c := setUp(t, trusting, false)
		c.expect([]asked{{path: "/", from: attacker, header: "X-Forwarded-For: 203.0.113.7", login: "alice:guess", want: 401}})
		if !strings.Contains(s.Log(), `"client_ip":"203.0.113.7"`) {
			t.Error("the client could not forge its address, want that it can, as the page warns")
		}
	})
	for name, caddyfile := range map[string]string{
		"device_cookie":                "{\n\thtpasswd {\n\t\t" + strings.Join([]string{login, client, user}, "\n\t\t") + "\n\t}\n}\n" + deviceCookie,
		"device_cookie and client off": bothSettings,
	} {
		t.Run(name, func(t *testing.T) {
			_, c := setUp(t, caddyfile, false)
			answer := c.must(asked{path: "/", from: somebody, login: asAlice})
			cookie, _, _ := strings.Cut(answer.Header.Get("Set-Cookie"), ";")
			if answer.Status != 200 || !strings.HasPrefix(cookie, "__Host-htpasswd-device=") {
				t.Fatalf("the first login: got %d and the cookie %q, want 200 and a device cookie", answer.Status, cookie)
			}
			guess(c, 10, "alice", 401)
			guess(c, 20, "", 401)
			c.expect([]asked{
				{path: "/", from: somebody, login: asAlice, want: 429},
				{path: "/", from: somebody, login: asAlice, header: "Cookie: " + cookie, want: 200},
				{path: "/", from: somebody, login: "bob:builder", want: map[bool]int{false: 429, true: 200}[caddyfile == bothSettings]},
			})
		})
	}
	t.Run("PROXY protocol", func(t *testing.T) {
		if !strings.HasPrefix(proxyProtocol, "{\n") {
			t.Fatal("no global options")
		}
		caddyfile := strings.NewReplacer("allow 192.0.2.0/24", "allow 127.0.0.1/32").Replace("{\n\thtpasswd {\n\t\t" + strings.Join([]string{login, client, user}, "\n\t\t") + "\n\t}\n" + proxyProtocol[2:])
		s, c := setUp(t, caddyfile, true)
		guess(c, 30, "", 401)
		c.expect([]asked{
			{path: "/", from: attacker, login: "nobody:guess", want: 429},
			{path: "/", from: somebody, login: "bob:builder", want: 200},
		})
		if !strings.Contains(s.Log(), `"client_ip":"`+attacker) {
			t.Error("the log does not have the address of the attacker")
		}
	})
}

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// example is one of the examples, run in its own process, in a directory that has
// only the examples. Its ports replace those of the text.
type example struct {
	t        *testing.T
	dir      string
	text     string // of its Caddyfile
	replaced *strings.Replacer
	env      []string
	log      func() string
	commands []string // of the text, not run yet
}

// exampleCommand is a command in the text above an example.
var exampleCommand = regexp.MustCompile(`(?m)^#\t((?:curl|openssl|go run|sudo|for|docker|chmod) .*)$`)

// curlSettings make curl print errors only.
const curlSettings = "silent\nshow-error\nmax-time = 30\n"

// loadExample prepares an example. names are pairs: a text of the Caddyfile and its
// commands, and what replaces it. Ports are always replaced.
func loadExample(t *testing.T, name string, names ...string) *example {
	t.Helper()
	program(t, "curl")
	e := &example{t: t, dir: t.TempDir(), text: readText(t, filepath.Join("../examples", name, "Caddyfile"))}
	for _, m := range exampleCommand.FindAllStringSubmatch(e.text, -1) {
		e.commands = append(e.commands, m[1])
	}
	ports := []string{"8443", "8080", "8081", "9001"}
	free := freePorts(t, len(ports)+1)
	for i, port := range ports {
		names = append(names, port, fmt.Sprint(free[i]))
	}
	e.replaced = strings.NewReplacer(append(names, "go run ./cmd/caddy", caddyBinary)...)
	e.env = append(environment(e.dir), fmt.Sprintf("CADDY_ADMIN=localhost:%d", free[len(ports)]), "CURL_HOME="+e.dir)
	if err := os.CopyFS(filepath.Join(e.dir, "examples"), os.DirFS("../examples")); err != nil {
		t.Fatal(err)
	}
	e.write(filepath.Join("examples", name, "Caddyfile"), e.replaced.Replace(e.text))
	e.write(".curlrc", curlSettings)
	return e
}

func (e *example) write(name, text string) {
	e.t.Helper()
	if err := os.WriteFile(filepath.Join(e.dir, name), []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// start runs the one command of the text that is a server, until the end of
// the test, after those that change modes of files.
func (e *example) start() {
	e.t.Helper()
	for _, line := range slices.Clone(e.commands) {
		if strings.HasPrefix(line, "chmod ") {
			if out, ok := e.run(e.said(line)); !ok {
				e.t.Fatalf("%s: %s", line, out)
			}
		}
	}
	i := slices.IndexFunc(e.commands, func(line string) bool { return strings.HasPrefix(line, "go run ./cmd/caddy run ") })
	if i < 0 {
		e.t.Fatal("the text has no command that starts the server")
	}
	command := strings.Fields(e.replaced.Replace(e.commands[i]))
	e.commands = slices.Delete(e.commands, i, i+1)
	e.log = start(e.t, e.dir, e.env, command[0], command[1:]...).Said
	eventually(e.t, "caddy has started", func() bool { return strings.Contains(e.log(), "serving initial configuration") })
}

// said returns a command that the text must have.
func (e *example) said(line string) string {
	e.t.Helper()
	if !strings.Contains(e.text, "\n#\t"+line+"\n") {
		e.t.Errorf("not in the text: %s", line)
	}
	e.commands = slices.DeleteFunc(e.commands, func(c string) bool { return c == line })
	return line
}

// run runs a command line. It returns the output, and whether the command succeeded.
func (e *example) run(line string) (string, bool) {
	e.t.Helper()
	cmd := exec.Command("sh", "-c", e.replaced.Replace(line))
	cmd.Dir, cmd.Env = e.dir, e.env
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// ask runs a curl command. Without -i, the answer has a body only.
func (e *example) ask(line string) answer {
	e.t.Helper()
	out, ok := e.run(line)
	if !ok {
		e.t.Fatalf("%s: %s", line, out)
	}
	if !strings.Contains(line, " -i ") {
		return answer{Body: out}
	}
	_, rest, _ := strings.Cut(out, " ") // net/http doesn't read the first line of HTTP/2
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader("HTTP/1.0 "+rest)), nil)
	if err != nil {
		e.t.Fatalf("%s: %v: %s", line, err, out)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		e.t.Fatalf("%s: %v: %s", line, err, out)
	}
	return answer{Status: resp.StatusCode, Header: resp.Header, Body: body.String()}
}

// exampleAnswer is the expected answer to a request of the text.
type exampleAnswer struct {
	line   string
	status int // 0 without -i
	body   string
	header http.Header // fields with these values; without a value, the field must be absent
}

// check waits until the example answers, and then sends the requests.
func (e *example) check(answers []exampleAnswer) {
	e.t.Helper()
	eventually(e.t, "the example answers", func() bool {
		_, ok := e.run(answers[0].line)
		return ok
	})
	for _, want := range answers {
		e.checkAnswer(e.said(want.line), want)
	}
}

// checkAll checks that every command of the text was run.
func (e *example) checkAll() {
	e.t.Helper()
	for _, line := range e.commands {
		e.t.Errorf("the test does not run: %s", line)
	}
}

func (e *example) checkAnswer(line string, want exampleAnswer) {
	e.t.Run(line, func(t *testing.T) {
		e := *e
		e.t = t
		a := e.ask(line)
		checkStatus(t, a, want.status, restricted)
		if a.Body != want.body {
			t.Errorf("got the answer %q, want %q", a.Body, want.body)
		}
		for name, values := range want.header {
			if !slices.Equal(a.Header.Values(name), values) {
				t.Errorf("%s: got %q, want %q", name, a.Header.Values(name), values)
			}
		}
	})
}

// needsLoopback skips the test if the system has no address 127.0.0.2.
func needsLoopback(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skipf("the system has no address 127.0.0.2: %v", err)
	}
	l.Close()
}

// certificateCommands are the commands of the example and of the documentation.
var certificateCommands = []string{
	"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE -keyout examples/certificates/key.pem -out examples/certificates/cert.pem",
	"go run ./cmd/caddy run --config examples/certificates/Caddyfile",
	"openssl s_client -CAfile examples/certificates/cert.pem -verify_hostname localhost -verify_return_error -connect localhost:8443 -servername localhost -brief </dev/null",
	"curl --cacert examples/certificates/cert.pem -u admin:swordfish https://localhost:8443/",
	"go run ./cmd/caddy reload --config examples/certificates/Caddyfile --force",
}

// TestExampleCertificates creates the certificate as the text says, and replaces it
// while the server runs.
func TestExampleCertificates(t *testing.T) {
	parallel(t)
	program(t, "openssl")
	makeIt, runIt, look, ask, reload := certificateCommands[0], certificateCommands[1], certificateCommands[2], certificateCommands[3], certificateCommands[4]
	e := loadExample(t, "certificates")
	if out, ok := e.run(e.said(makeIt)); !ok {
		t.Fatal(out)
	}
	if info, err := os.Stat(filepath.Join(e.dir, "examples/certificates/key.pem")); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("got mode %v of the key, %v, want one that others cannot read", info.Mode(), err)
	}
	if !strings.Contains(readText(t, "../.gitignore"), "/examples/certificates/*.pem\n") {
		t.Error("git does not ignore the key")
	}
	if !slices.Contains(e.commands, runIt) {
		t.Errorf("not in the text: %s", runIt)
	}
	e.start()

	isTrusted := func() bool {
		out, ok := e.run(look)
		return ok && strings.Contains(out, "\nVerification: OK\n") && strings.Contains(out, "\nVerified peername: localhost\n")
	}
	eventually(t, "openssl trusts the certificate", isTrusted)
	if out, ok := e.run(e.said("curl -u admin:swordfish https://localhost:8443/")); ok || !strings.Contains(out, "certificate") {
		t.Errorf("curl trusts the certificate without being told to: %s", out)
	}
	if out, ok := e.run(e.said(makeIt)); !ok || isTrusted() {
		t.Errorf("the server has the new certificate already: %s", out)
	}
	if out, ok := e.run(strings.TrimSuffix(e.said(reload), " --force")); !ok || isTrusted() {
		t.Errorf("--force is not needed: %s", out)
	}
	if out, ok := e.run(reload); !ok {
		t.Error(out)
	}
	eventually(t, "the server has the new certificate", isTrusted)
	e.said(look)
	e.check([]exampleAnswer{
		{"curl --cacert examples/certificates/cert.pem -i https://localhost:8443/", 401, "", nil},
		{ask, 0, "Hello, admin.\n", nil},
	})
	e.checkAll()
	e.checkAnswer("curl -i http://localhost:8080/", exampleAnswer{status: 308, header: http.Header{"Location": {e.replaced.Replace("https://localhost:8443/")}}})
	for _, secret := range []string{"swordfish", "PRIVATE KEY"} {
		if strings.Contains(e.log(), secret) {
			t.Errorf("the log contains %q", secret)
		}
	}
}

// TestExamplePublic runs the example with an application, and with the lines for
// a trial without the public name.
func TestExamplePublic(t *testing.T) {
	parallel(t)
	app := testkit.NewWitness(t)
	e := loadExample(t, "public", "localhost:9001", app.Listener.Addr().String(), "/etc/caddy/.htpasswd", "users", "-u alice", "-u alice:secret")
	e.write("users", alice)
	local := regexp.MustCompile(`(?m)^#(\t(?:local_certs|skip_install_trust|http_port \d+|https_port \d+)\n)`).FindAllStringSubmatch(e.text, -1)
	if len(local) != 4 {
		t.Fatalf("got %d lines for a trial, want 4", len(local))
	}
	options := "\n{\n"
	for _, line := range local {
		options += line[1]
	}
	e.write("examples/public/Caddyfile", e.replaced.Replace(strings.Replace(e.text, "\n{\n", options, 1)))
	e.said("sudo caddy htpasswd -c /etc/caddy/.htpasswd alice") // TestPrompts, TestToolNewFile
	e.commands = append(e.commands, "go run ./cmd/caddy run --config examples/public/Caddyfile")
	e.start()

	kept := http.Header{"Strict-Transport-Security": {"max-age=31536000"}}
	redirected := http.Header{"Location": {"https://example.com/"}, "Strict-Transport-Security": nil}
	e.check([]exampleAnswer{
		{"curl -i -k --connect-to example.com:443:localhost:8443 https://example.com/", 401, "", kept},
		{"curl -i -k --connect-to example.com:443:localhost:8443 -u alice https://example.com/", 200, "application", kept},
		{"curl -i --connect-to example.com:80:localhost:8080 http://example.com/", 308, "", redirected},
	})
	if got := app.One(t).Header["X-Remote-User"]; !slices.Equal(got, []string{"alice"}) {
		t.Errorf("the application got the user %q, want alice", got)
	}
	// The same as if the name were public, and the CA trusted.
	e.write(".curlrc", e.replaced.Replace(curlSettings+`
connect-to = "example.com:80:localhost:8080"
connect-to = "example.com:443:localhost:8443"
cacert = "caddy/pki/authorities/local/root.crt"
`))
	e.check([]exampleAnswer{
		{"curl -i https://example.com/", 401, "", kept},
		{"curl -i -u alice https://example.com/", 200, "application", kept},
		{"curl -i http://example.com/", 308, "", redirected},
	})
	e.checkAnswer("curl -i -u alice http://example.com/", exampleAnswer{status: 308, header: redirected}) // not over HTTP
	e.checkAll()
}

// TestExampleBehindProxy sends requests as the proxy does, and then through nginx.
func TestExampleBehindProxy(t *testing.T) {
	parallel(t)
	needsLoopback(t)
	e := loadExample(t, "behind-proxy")
	e.start()
	const asked = "curl -i -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-For: 192.0.2.7' -u admin:swordfish http://127.0.0.1:8080/"
	answers := []exampleAnswer{
		{"curl -i -H 'X-Forwarded-Proto: https' http://127.0.0.1:8080/", 401, "", nil},
		{asked, 200, "Hello, admin at 192.0.2.7.\n", nil},
		{"curl -i -H 'X-Forwarded-Proto: http' -u admin:swordfish http://127.0.0.1:8080/", 403, "", nil},
		{"curl -i -u admin:swordfish http://127.0.0.1:8080/", 403, "", nil},
		{"curl -i --interface 127.0.0.2 -H 'X-Forwarded-Proto: https' -u admin:swordfish http://127.0.0.1:8080/", 403, "", nil},
		{`for i in 1 2 3 4 5 6 7 8 9 10 11; do curl -s -o /dev/null -w '%{http_code}\n' -H 'X-Forwarded-Proto: https' -H "X-Forwarded-For: 203.0.113.$i, 192.0.2.66" -u admin:guess$i http://127.0.0.1:8080/; done`,
			0, strings.Repeat("401\n", 10) + "429\n", nil},
	}
	e.check(answers)
	e.checkAll()
	for line, want := range map[string]exampleAnswer{
		asked: answers[1], // no limit of this client is exceeded
		strings.Replace(asked, "192.0.2.7", "192.0.2.66", 1):              {status: 429},
		strings.Replace(asked, "192.0.2.7", "192.0.2.7, 192.0.2.66", 1):   {status: 429},
		strings.Replace(asked, "192.0.2.7", "192.0.2.66, 203.0.113.1", 1): {status: 200, body: "Hello, admin at 203.0.113.1.\n"},
	} {
		e.checkAnswer(line, want)
	}
	eventually(t, "the log names the client", func() bool {
		return strings.Contains(e.log(), `"client_ip":"192.0.2.66","user":"admin","limit":"login"`)
	})
	if strings.Contains(e.log(), "trusted_proxies without") || strings.Contains(e.log(), `"client_ip":"203.0.113.`) {
		t.Error("the log has the forged address")
	}

	t.Run("nginx", func(t *testing.T) {
		program(t, "nginx")
		location := regexp.MustCompile(`(?ms)^#\tlocation / \{$.*?^#\t\}$`).FindString(e.text)
		if location == "" {
			t.Fatal("the text has no configuration for nginx")
		}
		testkit.Run(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
			"-subj", "/CN=localhost", "-keyout", filepath.Join(e.dir, "key"), "-out", filepath.Join(e.dir, "cert"))
		peer := testkit.StartPeer(t, e.dir, fmt.Sprintf("server {\nlisten 127.0.0.1:{port} ssl;\nlisten 127.0.0.1:{plain_port};\nssl_certificate %[1]s/cert;\nssl_certificate_key %[1]s/key;\n%[2]s\n}",
			e.dir, e.replaced.Replace(strings.ReplaceAll(location, "#\t", ""))), testkit.NginxCommand)
		e := *e
		e.t = t
		forged := " -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-For: 192.0.2.7'"
		https, http := fmt.Sprintf(" https://127.0.0.1:%d/", peer.Port), fmt.Sprintf(" http://127.0.0.1:%d/", peer.PlainPort)
		for line, want := range map[string]exampleAnswer{
			"curl -i -k" + https: {status: 401},
			"curl -i -k --interface 127.0.0.2 -u admin:swordfish" + https:          {status: 200, body: "Hello, admin at 127.0.0.2.\n"},
			"curl -i -k --interface 127.0.0.2 -u admin:swordfish" + forged + https: {status: 200, body: "Hello, admin at 127.0.0.2.\n"},
			"curl -i --interface 127.0.0.2 -u admin:swordfish" + forged + http:     {status: 403},
			"curl -i --interface 127.0.0.2 -u admin:swordfish" + http:              {status: 403},
		} {
			e.checkAnswer(line, want)
		}
	})
}

// TestExampleOffice sends requests from the office and from elsewhere, directly and
// through a proxy.
func TestExampleOffice(t *testing.T) {
	parallel(t)
	needsLoopback(t)
	e := loadExample(t, "office")
	e.start()
	e.check([]exampleAnswer{
		{"curl -k --interface 127.0.0.2 https://127.0.0.1:8443/", 0, "directly, user: \n", nil},
		{"curl -k -i https://127.0.0.1:8443/", 401, "", nil},
		{"curl -k -i -H 'X-Forwarded-For: 127.0.0.2' https://127.0.0.1:8443/", 401, "", nil},
		{"curl -k -u admin:swordfish https://127.0.0.1:8443/", 0, "directly, user: admin\n", nil},
		{"curl -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-For: 192.0.2.7' http://127.0.0.1:8081/", 0, "by the proxy, user: \n", nil},
		{"curl -i -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-For: 198.51.100.7' http://127.0.0.1:8081/", 401, "", nil},
		{"curl -i -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-For: 192.0.2.7, 198.51.100.7' http://127.0.0.1:8081/", 401, "", nil},
		{"curl -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-For: 198.51.100.7' -u admin:swordfish http://127.0.0.1:8081/", 0, "by the proxy, user: admin\n", nil},
		{"curl -i --interface 127.0.0.2 -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-For: 192.0.2.7' http://127.0.0.1:8081/", 403, "", nil},
		{"curl -k --interface 127.0.0.2 -u admin:swordfish https://127.0.0.1:8443/", 0, "directly, user: \n", nil},
	})
	e.checkAll()
	e.checkAnswer("curl -H 'X-Forwarded-For: 2001:db8:1::7' http://127.0.0.1:8081/", exampleAnswer{body: "by the proxy, user: \n"})
	e.checkAnswer("curl -k --interface 127.0.0.2 https://localhost:8443/", exampleAnswer{body: "directly, user: \n"})
}

// TestExampleOfficeReasons shows what the text says about the alternatives.
func TestExampleOfficeReasons(t *testing.T) {
	parallel(t)
	const trusted = "trusted_proxies static 127.0.0.1/32"
	for _, test := range []struct {
		name, options, exempt string
		forwarded             string
		passes                bool
	}{
		{"remote_ip behind a proxy: nobody", trusted + "\n\t\ttrusted_proxies_strict", "remote_ip 192.0.2.0/24", "192.0.2.7", false},
		{"remote_ip behind a proxy: everybody", trusted + "\n\t\ttrusted_proxies_strict", "remote_ip 127.0.0.0/8", "198.51.100.7", true},
		{"client_ip without trusted_proxies is the same: the office", "", "client_ip 127.0.0.1/32", "198.51.100.7", true},
		{"client_ip without trusted_proxies is the same: forged", "", "client_ip 192.0.2.0/24", "192.0.2.7", false},
		{"client_ip without trusted_proxies_strict: forged", trusted, "client_ip 192.0.2.0/24", "192.0.2.7, 198.51.100.7", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := alicesSite(t, "{\n\tservers {\n\t\t"+test.options+"\n\t}\n}\nhttp://:{http} {\n\tbind 127.0.0.1\n\thtpasswd {\n\t\tfile {dir}/users\n\t\texempt "+
				test.exempt+"\n\t}\n\trespond ok\n}\n")
			a := s.Plain("/", http.Header{"X-Forwarded-For": {test.forwarded}, "X-Forwarded-Proto": {"https"}})
			if passes := a.Status == http.StatusOK; passes != test.passes {
				t.Errorf("got status %d, want the request passed: %v", a.Status, test.passes)
			}
		})
	}
}

// TestExampleCORS checks the header fields that browsers decide by.
func TestExampleCORS(t *testing.T) {
	parallel(t)
	e := loadExample(t, "cors")
	e.start()
	const origin, other = "-H 'Origin: https://app.example.com' ", "-H 'Origin: https://evil.example' "
	const preflight = "-H 'Access-Control-Request-Method: PUT' "
	header := func(origin, methods, headers, maxAge []string) http.Header {
		credentials, exposed := []string{"true"}, []string{"Retry-After"}
		if origin == nil {
			credentials, exposed = nil, nil
		}
		return http.Header{"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": credentials, "Access-Control-Expose-Headers": exposed,
			"Access-Control-Allow-Methods": methods, "Access-Control-Allow-Headers": headers, "Access-Control-Max-Age": maxAge, "Vary": {"Origin"}}
	}
	app := []string{"https://app.example.com"}
	allowed, none := header(app, nil, nil, nil), header(nil, nil, nil, nil)
	e.check([]exampleAnswer{
		{"curl -k -i -X OPTIONS " + origin + preflight + "-H 'Access-Control-Request-Headers: authorization' https://localhost:8443/items", 204, "",
			header(app, []string{"GET, PUT, POST, DELETE"}, []string{"Authorization, Content-Type"}, []string{"600"})},
		{"curl -k -i " + origin + "https://localhost:8443/items", 401, "", allowed},
		{"curl -k -i " + origin + "-u admin:swordfish https://localhost:8443/items", 200, "the items of admin\n", allowed},
		{"curl -k -i -X OPTIONS " + other + preflight + "https://localhost:8443/items", 401, "", none},
		{"curl -k -i " + other + "-u admin:swordfish https://localhost:8443/items", 200, "the items of admin\n", none},
		{"curl -k -i -X OPTIONS " + origin + "https://localhost:8443/items", 401, "", allowed},
		{"curl -k https://localhost:8443/health", 0, "OK", nil},
		{"curl -k -i https://localhost:8443/health/more", 401, "", none},
	})
	e.checkAll()
	for line, want := range map[string]exampleAnswer{
		"curl -k -i " + preflight + origin + "https://localhost:8443/items":                   {status: 401, header: allowed}, // a GET
		"curl -k -i -X OPTIONS " + preflight + "https://localhost:8443/items":                 {status: 401, header: none},    // no origin
		"curl -k -i " + origin + "-u admin:wrong https://localhost:8443/items":                {status: 401, header: allowed},
		"curl -k -i -X OPTIONS " + origin + "-u admin:swordfish https://localhost:8443/items": {status: 200, body: "the items of admin\n", header: allowed},
	} {
		e.checkAnswer(line, want)
	}
}

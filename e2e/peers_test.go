package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// apacheCommand is Apache with mod_alias.
var apacheCommand = testkit.ApacheCommand("alias")

// startNginx runs an nginx in a directory of its own; see testkit.NginxCommand.
func startNginx(t testing.TB, conf string) *testkit.Peer {
	t.Helper()
	return testkit.StartPeer(t, testkit.PublicDir(t), conf, testkit.NginxCommand)
}

// startApache runs an Apache in a directory of its own; see testkit.ApacheCommand.
func startApache(t testing.TB, conf string) *testkit.Peer {
	t.Helper()
	return testkit.StartPeer(t, testkit.PublicDir(t), conf, apacheCommand)
}

// askRaw sends the bytes of a request and returns all that comes back.
func askRaw(t testing.TB, port int, request string) []byte {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, sent := io.WriteString(c, request) // a server may close before it has read a request that it doesn't like
	said, err := io.ReadAll(c)
	if len(said) == 0 && (err != nil || sent != nil) {
		t.Errorf("no answer to %.60q: %v, %v", request, sent, err)
	}
	return said
}

// page is what the servers of TestPeers have behind the password.
const page = "the page"

// verdict is an answer as it stands in docs/differences.md: the status, and what
// else is to be known about it.
func verdict(t testing.TB, said []byte) string {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(said)), nil)
	if err != nil {
		t.Errorf("no answer of HTTP: %.80q: %v", said, err)
		return "none"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	if isPage := strings.TrimSpace(string(body)) == page; isPage != (resp.StatusCode == http.StatusOK) {
		t.Errorf("status %d with %.80q", resp.StatusCode, body)
	}
	text := fmt.Sprint(resp.StatusCode)
	wanted := 0
	if resp.StatusCode == http.StatusUnauthorized {
		wanted = 1
	}
	if n := len(resp.Header["Www-Authenticate"]); n != wanted {
		text += fmt.Sprintf(", challenges: %d", n)
	}
	return text
}

// The three servers, in the order of the columns of the table.
const (
	nginx = iota
	apache
	here
)

// comparison is a case and what the three answer.
type comparison struct {
	name    string
	answers [3]string
}

func (c *comparison) alike() bool {
	return c.answers[nginx] == c.answers[here] && c.answers[apache] == c.answers[here]
}

// TestPeers asks nginx, Apache and Caddy with this plugin the same, byte for
// byte, with the same password files (R1 to R11 and F1 to F10). All that they
// answer differently is in the table of docs/differences.md, with the reason,
// and all that they answer alike in the other table there; nothing else is.
// UPDATE_DIFFERENCES=1 writes the tables anew; the reasons of new rows are to
// be filled in.
func TestPeers(t *testing.T) {
	parallel(t)
	program(t, "nginx")
	program(t, "apache2")
	found := comparePeers(t)
	if t.Failed() {
		return
	}
	const doc = "../docs/differences.md"
	text, err := os.ReadFile(doc)
	must(t, err)
	if os.Getenv("UPDATE_DIFFERENCES") != "" {
		text = updateDifferences(t, string(text), found)
		must(t, os.WriteFile(doc, text, 0o644))
	}
	differ, alike := wantedRows(t, string(text), found)
	compareRows(t, "differences", tableRows(t, string(text), differHeader), differ)
	compareRows(t, "answers that are alike", tableRows(t, string(text), alikeHeader), alike)
}

// Headers of the tables.
const (
	differHeader = "| case | nginx | Apache | here | why |"
	alikeHeader  = "| case | all three |"
)

// tableRows returns the rows of the table under a header.
func tableRows(t testing.TB, doc, header string) []string {
	t.Helper()
	_, rest, found := strings.Cut(doc, "\n"+header+"\n|---")
	if !found {
		t.Fatalf("there is no table %q", header)
	}
	rows := strings.Split(rest, "\n")[1:]
	end := slices.IndexFunc(rows, func(row string) bool { return !strings.HasPrefix(row, "|") })
	return rows[:end]
}

// wantedRows are the rows that have to stand in the tables, with the reasons
// that do stand there.
func wantedRows(t testing.TB, doc string, found []comparison) (differ, alike []string) {
	t.Helper()
	reasons := make(map[string]string)
	for _, row := range tableRows(t, doc, differHeader) {
		cells := strings.Split(strings.Trim(row, "|"), " | ")
		if len(cells) != 5 {
			t.Errorf("a row of %d cells: %s", len(cells), row)
			continue
		}
		reasons[strings.TrimSpace(cells[0])] = strings.TrimSpace(cells[4])
	}
	for i := range found {
		c := &found[i]
		if c.alike() {
			alike = append(alike, fmt.Sprintf("| %s | %s |", c.name, c.answers[here]))
			continue
		}
		reason := reasons[c.name]
		if reason == "" {
			t.Errorf("%s: no reason for the difference", c.name)
		}
		differ = append(differ, fmt.Sprintf("| %s | %s | %s |", c.name, strings.Join(c.answers[:], " | "), reason))
	}
	return differ, alike
}

func compareRows(t testing.TB, what string, stand, want []string) {
	t.Helper()
	if len(want) < 20 {
		t.Errorf("only %d %s: the test does not ask enough", len(want), what)
	}
	for _, row := range stand {
		if !slices.Contains(want, row) {
			t.Errorf("%s: listed, but not so:\n%s", what, row)
		}
	}
	for _, row := range want {
		if !slices.Contains(stand, row) {
			t.Errorf("%s: not listed:\n%s", what, row)
		}
	}
	if !t.Failed() && !slices.Equal(stand, want) {
		t.Errorf("%s: listed twice, or in another order than the test asks", what)
	}
}

// updateDifferences returns the page with the rows as they have to be.
func updateDifferences(t testing.TB, doc string, found []comparison) []byte {
	t.Helper()
	differ, alike := wantedRows(t, doc, found)
	for header, rows := range map[string][]string{differHeader: differ, alikeHeader: alike} {
		doc = regexp.MustCompile(regexp.QuoteMeta(header)+`\n(\|---.*\n)(\|.*\n)*`).
			ReplaceAllStringFunc(doc, func(table string) string {
				return strings.Join(append(strings.SplitN(table, "\n", 3)[:2], rows...), "\n") + "\n"
			})
	}
	return []byte(doc)
}

// notAllowed is a place where Caddy takes no password over plain HTTP.
const notAllowed = "/encrypted"

// threeServers are nginx, Apache and Caddy with a place /<name>/ for each
// password file <dir>/<name>.
type threeServers struct {
	t     *testing.T
	dir   string
	ports [3]int
	caddy *server
}

// startThree starts the three for files that are there. The page is there for
// whoever passes; throttling is off, since one of three has it, and passwords
// go over plain HTTP, so that all get the same bytes.
func startThree(t *testing.T, dir string, files []string) *threeServers {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, "page.html"), []byte(page), 0o644))
	nginxPlaces, apachePlaces, caddyPlaces := "", "", ""
	for _, name := range files {
		file := filepath.Join(dir, name)
		nginxPlaces += nginxPlace("/"+name+"/", "Restricted", file)
		apachePlaces += apachePlace("/"+name+"/", "Restricted", file)
		caddyPlaces += caddyPlace("/"+name+"/*", "Restricted", file)
	}
	users := filepath.Join(dir, "requests")
	nginxPlaces += nginxPlace(notAllowed, "Restricted", users)
	apachePlaces += apachePlace(notAllowed, "Restricted", users)
	caddyPlaces += strings.Replace(caddyPlace(notAllowed, "Restricted", users), "allow_http\n", "", 1)
	s := &threeServers{t: t, dir: dir}
	s.ports[nginx] = startNginx(t, nginxConf(dir, nginxPlaces)).Port
	s.ports[apache] = startApache(t, apacheConf(dir, apachePlaces)).Port
	s.caddy = startCaddy(t, caddyGlobal, caddySite(caddyPlaces))
	s.ports[here] = s.caddy.HTTP
	testkit.AwaitPort(t, s.ports[here])
	return s
}

func nginxConf(dir, places string) string {
	return "server {\n\tlisten 127.0.0.1:{port};\n\troot " + dir + ";\n" + places + "}\n"
}

func nginxPlace(path, realm, file string) string {
	return fmt.Sprintf("location %s {\n\tauth_basic \"%s\";\n\tauth_basic_user_file %s;\n\ttry_files /page.html =404;\n}\n",
		path, quoted(realm), file)
}

func apacheConf(dir, places string) string {
	return fmt.Sprintf("Listen 127.0.0.1:{port}\nAliasMatch \"^/.*\" \"%[1]s/page.html\"\n<Directory \"%[1]s\">\n\tRequire all granted\n</Directory>\n%[2]s", dir, places)
}

func apachePlace(path, realm, file string) string {
	return fmt.Sprintf("<Location \"%s\">\n\tAuthType Basic\n\tAuthName \"%s\"\n\tAuthBasicProvider file\n\tAuthUserFile %s\n\tRequire valid-user\n</Location>\n",
		path, quoted(strings.ReplaceAll(realm, `\`, `\\`)), file) // the name is an expression, which has backslashes of its own
}

const caddyGlobal = "auto_https off\nhtpasswd {\nthrottle off\npoll 400ms\n}"

func caddySite(places string) string { return "http://:{http} {\n" + places + "}" }

func caddyPlace(path, realm, file string) string {
	return fmt.Sprintf("handle %s {\nhtpasswd {\nfile %s\nrealm `%s`\nallow_http\n}\nrespond \"%s\"\n}\n", path, file, realm, page)
}

// quoted escapes a text for between double quotes.
func quoted(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text)
}

// ask sends the same to all three.
func (s *threeServers) ask(name, request string) comparison {
	s.t.Helper()
	c := comparison{name: name}
	for i, port := range s.ports {
		c.answers[i] = verdict(s.t, askRaw(s.t, port, request))
	}
	return c
}

// validates reports whether Caddy would start with these sites.
func validates(t testing.TB, global, sites string) bool {
	t.Helper()
	s := newServerIn(t, t.TempDir()) // nothing listens
	s.configure(global, sites)
	return testkit.Succeeds(t, s.command("validate", "--config", "Caddyfile"))
}

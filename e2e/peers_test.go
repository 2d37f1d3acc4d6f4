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

// askRaw sends the bytes of a request and returns all bytes of the answer.
func askRaw(t testing.TB, port int, request string) []byte {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, sent := io.WriteString(c, request) // a server may close the connection before it has read a request that it rejects
	said, err := io.ReadAll(c)
	if len(said) == 0 && (err != nil || sent != nil) {
		t.Errorf("no answer to %.60q: %v, %v", request, sent, err)
	}
	return said
}

// page is the content that the servers of TestPeers protect.
const page = "the page"

// verdict returns an answer as docs/differences.md shows it: the status, and the
// number of challenges if that is unusual.
func verdict(t testing.TB, said []byte) string {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(said)), nil)
	if err != nil {
		t.Errorf("got %.80q, which is not an HTTP response: %v", said, err)
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

// comparison is a case with the answers of the three servers.
type comparison struct {
	group   group
	name    string
	answers [3]string
}

func (c *comparison) alike() bool {
	return c.answers[nginx] == c.answers[here] && c.answers[apache] == c.answers[here]
}

// TestPeers sends nginx, Apache and Caddy with this plugin the same bytes, with
// the same password files. The tables under "Differences" in docs/differences.md
// have each case with different answers, and a reason; those under "Same answers"
// have all other cases. UPDATE_DIFFERENCES=1 rewrites the tables; the reasons of
// new rows have to be added by hand.
func TestPeers(t *testing.T) {
	parallel(t)
	program(t, "nginx")
	program(t, "apache2")
	found := comparePeers(t)
	cases := make(map[string]bool)
	for i := range found {
		if name := found[i].name; cases[name] {
			t.Errorf("got two cases named %q, want unique names", name)
		} else {
			cases[name] = true
		}
	}
	if t.Failed() {
		return
	}
	const doc = "../docs/differences.md"
	text := readText(t, doc)
	differ, alike := wantedRows(t, text, found)
	if os.Getenv("UPDATE_DIFFERENCES") != "" {
		text = differTables.update(t, text, differ)
		text = alikeTables.update(t, text, alike)
		must(t, os.WriteFile(doc, []byte(text), 0o644))
	}
	differTables.compare(t, text, differ)
	alikeTables.compare(t, text, alike)
}

// tables is a section of docs/differences.md. It has one table for each group,
// with a heading for each table and the same header in all of them.
type tables struct{ title, header, rule string }

var (
	differTables = tables{"Differences", "| case | nginx | Apache | Caddy | reason |", "|---|---|---|---|---|"}
	alikeTables  = tables{"Same answers", "| case | all three servers |", "|---|---|"}
)

// tableRow is a row and the heading above its table.
type tableRow struct{ heading, text string }

// find returns the text of the section and its position.
func (s tables) find(t testing.TB, doc string) (text string, begin int) {
	t.Helper()
	title := "\n## " + s.title + "\n"
	before, rest, found := strings.Cut(doc, title)
	if !found {
		t.Fatalf("got no section %q, want one", s.title)
	}
	text, _, _ = strings.Cut(rest, "\n## ")
	return text, len(before) + len(title)
}

// rows returns the rows of the section, and fails if it has text outside its tables.
func (s tables) rows(t testing.TB, doc string) []tableRow {
	t.Helper()
	text, _ := s.find(t, doc)
	var rows []tableRow
	parts := strings.Split("\n"+text, "\n### ")
	if outside := strings.TrimSpace(parts[0]); outside != "" {
		t.Errorf("%s: got %q before the first heading, want nothing", s.title, outside)
	}
	for _, part := range parts[1:] {
		heading, table, _ := strings.Cut(part, "\n")
		lines, found := strings.CutPrefix(strings.Trim(table, "\n"), s.header+"\n"+s.rule+"\n")
		if !found {
			t.Errorf("%s, %s: got %q, want a table with the header %q", s.title, heading, table, s.header)
		}
		for line := range strings.SplitSeq(lines, "\n") {
			if !strings.HasPrefix(line, "| ") {
				t.Errorf("%s, %s: got %q, want a row", s.title, heading, line)
			}
			rows = append(rows, tableRow{heading, line})
		}
	}
	return rows
}

// compare fails if the section has other rows than it should, or another order.
func (s tables) compare(t testing.TB, doc string, want []tableRow) {
	t.Helper()
	got := s.rows(t, doc)
	if len(want) < 20 {
		t.Errorf("%s: got %d cases, want 20 or more", s.title, len(want))
	}
	differs := false
	for _, row := range got {
		if !slices.Contains(want, row) {
			differs = true
			t.Errorf("%s: got an unexpected row under %s:\n%s", s.title, row.heading, row.text)
		}
	}
	for _, row := range want {
		if !slices.Contains(got, row) {
			differs = true
			t.Errorf("%s: missing a row under %s:\n%s", s.title, row.heading, row.text)
		}
	}
	if !differs && !slices.Equal(got, want) {
		t.Errorf("%s: got rows twice or in another order than the cases:\n%q\nwant\n%q", s.title, got, want)
	}
}

// update returns the page with these rows in the section.
func (s tables) update(t testing.TB, doc string, rows []tableRow) string {
	t.Helper()
	var b strings.Builder
	heading := ""
	for _, row := range rows {
		if row.heading != heading {
			heading = row.heading
			fmt.Fprintf(&b, "\n### %s\n\n%s\n%s\n", heading, s.header, s.rule)
		}
		b.WriteString(row.text + "\n")
	}
	old, begin := s.find(t, doc)
	return doc[:begin] + b.String() + doc[begin+len(old):]
}

// wantedRows returns the rows that the tables should have, with the reasons that
// they already have.
func wantedRows(t testing.TB, doc string, found []comparison) (differ, alike []tableRow) {
	t.Helper()
	reasons := make(map[string]string)
	for _, row := range differTables.rows(t, doc) {
		cells := strings.Split(strings.Trim(row.text, "|"), " | ")
		if len(cells) != 5 {
			t.Errorf("got %d cells, want 5: %s", len(cells), row.text)
			continue
		}
		reasons[strings.TrimSpace(cells[0])] = strings.TrimSpace(cells[4])
	}
	for i := range found {
		c := &found[i]
		heading := headings[c.group]
		if c.alike() {
			alike = append(alike, tableRow{heading, fmt.Sprintf("| %s | %s |", c.name, c.answers[here])})
			continue
		}
		reason := reasons[c.name]
		if reason == "" {
			t.Errorf("%s: got no reason for the difference, want one", c.name)
		}
		differ = append(differ, tableRow{heading, fmt.Sprintf("| %s | %s | %s |", c.name, strings.Join(c.answers[:], " | "), reason)})
	}
	return differ, alike
}

// notAllowed is a path where Caddy accepts no password over plain HTTP.
const notAllowed = "/encrypted"

// threeServers is nginx, Apache and Caddy, each with a path /<name>/ for every
// password file <dir>/<name>.
type threeServers struct {
	t     *testing.T
	dir   string
	ports [3]int
	caddy *server
}

// startThree starts the three servers for files that exist. Rate limits are off,
// since only Caddy has them, and passwords go over plain HTTP, so that all
// servers get the same bytes.
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
		path, quoted(strings.ReplaceAll(realm, `\`, `\\`)), file) // an expression, in which a backslash escapes
}

const caddyGlobal = "auto_https off\nhtpasswd {\nthrottle off\npoll 400ms\n}"

func caddySite(places string) string { return "http://:{http} {\n" + places + "}" }

func caddyPlace(path, realm, file string) string {
	return fmt.Sprintf("handle %s {\nhtpasswd {\nfile %s\nrealm `%s`\nallow_http\n}\nrespond \"%s\"\n}\n", path, file, realm, page)
}

// quoted escapes a text for use in double quotes.
func quoted(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text)
}

// answers sends a request to all three servers.
func (s *threeServers) answers(request string) (answers [3]string) {
	s.t.Helper()
	for i, port := range s.ports {
		answers[i] = verdict(s.t, askRaw(s.t, port, request))
	}
	return answers
}

// ask returns the comparison of one request.
func (s *threeServers) ask(in group, name, request string) comparison {
	s.t.Helper()
	return comparison{group: in, name: name, answers: s.answers(request)}
}

// validates reports whether Caddy would start with these sites.
func validates(t testing.TB, global, sites string) bool {
	t.Helper()
	s := newServerIn(t, t.TempDir()) // nothing listens
	s.configure(global, sites)
	return testkit.Succeeds(t, s.command("validate", "--config", "Caddyfile"))
}

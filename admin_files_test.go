package caddyhtpasswd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/fileapi"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htedit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// fakeEditable is a file that several servers change by compare and set.
type fakeEditable struct {
	mutex     sync.Mutex
	text      string
	revision  int
	conflicts int
	err       error
}

func (f *fakeEditable) load() (text string, revision int) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.text, f.revision
}

func (*fakeEditable) Name() string { return "fleet://staff" }

func (f *fakeEditable) Check() error { return f.err }

func (f *fakeEditable) Edit(ctx context.Context, edit func(text string) (string, error)) error {
	for ctx.Err() == nil && f.err == nil {
		text, revision := f.load()
		edited, err := edit(text)
		if err != nil {
			return err
		}
		f.mutex.Lock()
		isSame := f.revision == revision
		if isSame {
			f.text, f.revision = edited, revision+1
		} else {
			f.conflicts++
		}
		f.mutex.Unlock()
		if isSame {
			return nil
		}
	}
	return errors.Join(f.err, ctx.Err())
}

const adminFilesSite = `{
	admin localhost:{admin}
}
https://localhost:{https} {
	respond ok
}`

// newEditableSite runs a server that uses fleet://staff and the group file storage://groups.
func newEditableSite(t *testing.T) (s *server, staff, groups *fakeEditable) {
	t.Helper()
	staff, groups = new(fakeEditable), new(fakeEditable)
	s = startServer(t, "")
	process.editable = func(url string) (htedit.Target, string, bool) {
		switch url {
		case "fleet://staff":
			return staff, "users", true
		case "storage://groups":
			return groups, "groups", true
		}
		return nil, "", false
	}
	must(t, s.reload(adminFilesSite))
	return s, staff, groups
}

// change sends a change of a file to the admin API.
func (s *server) change(path, contentType, body string) (status int, said string) {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://localhost:%d%s", s.admin, path), strings.NewReader(body))
	must(s.t, err)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	a := s.do(r)
	return a.status, a.body
}

// TestAdminFiles sends changes to a real admin API.
func TestAdminFiles(t *testing.T) {
	const canary = "{SHA}canaryAAAAAAAAAAAAAAAAAAAAA="
	const line = "ann:" + shaSecret1 + "\n"
	const set = `{"set":{"user":"ann","hash":"` + canary + `"}}`
	const path = "/htpasswd/files/fleet/staff"
	s, staff, groups := newEditableSite(t)
	for _, test := range []struct {
		name, path, contentType, body string
		text                          string // before
		status                        int
		want                          string // a part of the answer
		after                         string // "" for text
		audit                         string // the end of the log line, "" for none
	}{
		{"a new user", path, "application/json", set, line[:0], 200, `{"result":"added","users":1}` + "\n", "ann:" + canary + "\n", `"action":"added"`},
		{"a known user, with a charset", path, "application/json; charset=utf-8", set, line, 200, `{"result":"updated","users":1}` + "\n", "ann:" + canary + "\n", `"action":"updated"`},
		{"remove", path, "application/json", `{"remove":{"user":"ann"}}`, line + "bob:!\n", 200, `{"result":"removed","users":0}` + "\n", "bob:!\n", `"action":"removed"`},
		{"remove nobody", path, "application/json", `{"remove":{"user":"bob"}}`, line, 200, `{"result":"not_found","users":1}` + "\n", "", ""},
		{"remove from a file that nobody has written", path, "application/json", `{"remove":{"user":"bob"}}`, "", 200, `{"result":"not_found","users":0}` + "\n", "", ""},
		{"import", path, "application/json", `{"import":{"text":"ann:` + canary + `\nbob:` + canary + `\n","overwrite":true}}`, line, 200, `{"result":"imported","users":2}` + "\n", "ann:" + canary + "\nbob:" + canary + "\n", `"action":"imported"`},
		{"import groups", "/htpasswd/files/storage/groups", "application/json", `{"import":{"text":"staff: ann\n"}}`, "", 200, `{"result":"imported","users":1}` + "\n", "staff: ann\n", `"action":"imported"`},
		{"import over users", path, "application/json", `{"import":{"text":"ann:` + canary + `\n"}}`, line, 409, `fleet://staff has lines already; to replace all of them, add \"overwrite\":true`, "", ""},
		{"a text that a server would refuse", path, "application/json", `{"remove":{"user":"ann"}}`, line + "canary\n", 409, "a server would refuse the file without this line", "", ""},
		{"no type", path, "", set, line, 415, "expected the header field Content-Type: application/json", "", ""},
		{"the type of a form", path, "text/plain", set, line, 415, "expected the header field Content-Type: application/json", "", ""},
		{"no body", path, "application/json", "", line, 400, "the body is empty; expected exactly one of", "", ""},
		{"an unknown field", path, "application/json", `{"set":{"user":"ann","hash":"` + canary + `","x":1}}`, line, 400, "set: expected", "", ""},
		{"a bad name", path, "application/json", `{"set":{"user":"a:b","hash":"` + canary + `"}}`, line, 400, "user: user name contains ':'", "", ""},
		{"a bad hash", path, "application/json", `{"set":{"user":"ann","hash":"canary"}}`, line, 400, "hash: unknown password hash format", "", ""},
		{"a large body", path, "application/json", `{"import":{"text":"` + strings.Repeat("#", int(fileapi.MaxBody(fileapi.MaxFleetText))) + `"}}`, line, 413, "a text of fleet://staff has at most 4194304", "", ""},
		{"a large text", path, "application/json", `{"import":{"overwrite":true,"text":"` + strings.Repeat("#", fileapi.MaxFleetText) + `\n"}}`, line, 413, "at most 4194304 are supported", "", ""},
		{"a user of a group file", "/htpasswd/files/storage/groups", "application/json", set, "staff: ann\n", 400, "storage://groups is a group file", "", ""},
		{"a file that no site uses", "/htpasswd/files/fleet/other", "application/json", set, line, 404, "the running configuration does not use fleet://other", "", ""},
		{"a path on disk", "/htpasswd/files/file/etc", "application/json", set, line, 404, "where the scheme is fleet or storage", "", ""},
		{"no name", "/htpasswd/files/fleet/", "application/json", set, line, 404, "<name>", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			file := staff
			if strings.Contains(test.path, "groups") {
				file = groups
			}
			file.text = test.text
			before := len(s.log())
			revision := file.revision
			status, said := s.change(test.path, test.contentType, test.body)
			if isWritten := file.revision > revision; isWritten != (test.audit != "") {
				t.Errorf("got a text that was written: %t, want %t", isWritten, test.audit != "")
			}
			var answer map[string]any
			if err := json.Unmarshal([]byte(said), &answer); err != nil {
				t.Errorf("got %q, want JSON: %v", said, err)
			}
			plain := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(said)
			if status != test.status || !strings.Contains(plain, test.want) {
				t.Errorf("got %d %s, want %d and '%s'", status, said, test.status, test.want)
			}
			want := test.after
			if want == "" {
				want = test.text
			}
			if file.text != want {
				t.Errorf("got the text %q, want %q", file.text, want)
			}
			written := s.log()[before:]
			if strings.Contains(said+written, "canary") {
				t.Errorf("got something of the hash in %s or in %s", said, written)
			}
			line := ""
			for l := range strings.Lines(written) {
				if strings.Contains(l, "file changed with the admin API") {
					line = l
				}
			}
			if (line != "") != (test.audit != "") || !strings.Contains(line, test.audit) {
				t.Errorf("got the log line %q, want one with %q", line, test.audit)
			}
			if line != "" && (!strings.Contains(line, `"remote_addr":"`) || !strings.Contains(line, `"file":"`) || !strings.Contains(line, `"level":"info"`)) {
				t.Errorf("got the log line %q, want the level info, the file and the address", line)
			}
			if strings.Contains(test.body, `"user"`) && line != "" && !strings.Contains(line, `"user":"ann"`) {
				t.Errorf("got the log line %q, want the user", line)
			}
		})
	}
	for _, method := range []string{"GET", "PUT", "DELETE", "PATCH"} {
		if status, body := s.ask(method, path); status != http.StatusMethodNotAllowed {
			t.Errorf("%s: got %d %s, want 405", method, status, body)
		}
	}
	staff.err = errors.New("fleet://staff: the store does not answer")
	if status, said := s.change(path, "application/json", set); status != http.StatusServiceUnavailable || !strings.Contains(said, "fleet://staff cannot be written now: the store does not answer; try again later") {
		t.Errorf("got %d %s, want 503 with the reason", status, said)
	}
}

// TestAdminFilesAtOnce changes a file by 50 requests at once, and loses none of them.
func TestAdminFilesAtOnce(t *testing.T) {
	const n = 50
	s, staff, _ := newEditableSite(t)
	for i := range n / 2 {
		staff.text += fmt.Sprintf("old%d:%s\n", i, shaSecret1)
	}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			body, want := fmt.Sprintf(`{"set":{"user":"new%d","hash":"%s"}}`, i, shaSecret1), `"added"`
			if i%2 == 1 {
				body, want = fmt.Sprintf(`{"remove":{"user":"old%d"}}`, i/2), `"removed"`
			}
			if status, said := s.change("/htpasswd/files/fleet/staff", "application/json", body); status != 200 || !strings.Contains(said, want) {
				t.Errorf("got %d %s, want 200 and %s", status, said, want)
			}
		})
	}
	all.Wait()
	users, err := htfile.Parse(staff.text)
	must(t, err)
	var got, want []string
	for _, u := range users.All {
		got = append(got, u.Name)
	}
	for i := 0; i < n; i += 2 {
		want = append(want, fmt.Sprint("new", i))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || staff.revision != n {
		t.Errorf("got %q after %d changes, want %q", got, staff.revision, want)
	}
	t.Logf("%d conflicts", staff.conflicts)
}

// TestAskCaddy checks what the command gets from a real admin API.
func TestAskCaddy(t *testing.T) {
	s, staff, _ := newEditableSite(t)
	address := fmt.Sprintf("localhost:%d", s.admin)
	if got, err := askCaddy(address, "GET", "/htpasswd", nil); err != nil || got.Status != 200 || !strings.Contains(string(got.Body), `"files":[]`) || got.Address != address {
		t.Errorf("got %+v and %v, want the answer", got, err)
	}
	body := []byte(`{"set":{"user":"ann","hash":"` + shaSecret1 + `"}}`)
	if got, err := askCaddy(address, "POST", "/htpasswd/files/fleet/staff", body); err != nil || got.Status != 200 || staff.text != "ann:"+shaSecret1+"\n" {
		t.Errorf("got %+v and %v, want a user in the file", got, err)
	}
	got, err := askCaddy(address, "POST", "/htpasswd/files/fleet/other", body)
	var said struct{ Error string }
	if err != nil || got.Status != 404 || json.Unmarshal(got.Body, &said) != nil || !strings.Contains(said.Error, "does not use fleet://other") {
		t.Errorf("got %+v and %v, want the refusal", got, err)
	}
	if got, err := askCaddy(fmt.Sprintf("localhost:%d", freePorts(t, 1)[0]), "GET", "/htpasswd", nil); err == nil || got.Status != 0 || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %+v and %v, want no connection", got, err)
	}
}

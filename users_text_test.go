package caddyhtpasswd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// textHandler returns a handler whose only source is a text.
func textHandler(text string) *Handler { return &Handler{Sources: []Source{{Users: text}}} }

// TestUsersText has texts of users in many forms. Users can log in, and findings have the
// numbers of lines within the text.
func TestUsersText(t *testing.T) {
	secret := writeFile(t, "# a secret\nalice:"+shaSecret1+"\n")
	for _, test := range []struct {
		name, text string
		users      []string // who can log in with the password secret1
		log        []string
	}{
		{"one line", "alice:" + shaSecret1, []string{"alice"}, nil},
		{"several formats", "alice:" + shaSecret1 + "\nbob:" + apr1Secret1 + "\ncarol:" + bcrypt4Secret1 + "\n", []string{"alice", "bob", "carol"}, nil},
		{"line ends of Windows", "alice:" + shaSecret1 + "\r\nbob:" + shaSecret1 + "\r\n", []string{"alice", "bob"}, nil},
		{"a byte order mark", "\uFEFFalice:" + shaSecret1, []string{"alice"}, nil},
		{"indented lines", "\n\talice:" + shaSecret1 + "\n\t  bob:" + shaSecret1 + "\n\t", []string{"alice", "bob"}, nil},
		{"a text that is cut off", "alice:" + shaSecret1 + "\nbob:" + shaSecret1[:10], []string{"alice"}, []string{"users 2 invalid line skipped; its user cannot log in"}},
		{"an invalid line", "# staff\n\nalice:" + shaSecret1 + "\nbob:canary", []string{"alice"}, []string{"users 4 invalid line skipped; its user cannot log in"}},
		{"a placeholder within a text", "alice:" + shaSecret1 + "\nbob:{env.HTPASSWD_HASH}", []string{"alice"}, []string{"users 2 invalid line skipped; its user cannot log in"}},
		{"only comments", "# nobody", nil, []string{"users - file contains no users"}},
		{"a placeholder of the environment", "{env.HTPASSWD_TEXT}", []string{"alice", "bob"}, nil},
		{"a placeholder of a file", "{file." + secret + "}", []string{"alice"}, nil},
		{"a placeholder with an invalid line", "{env.HTPASSWD_CUT}", []string{"alice"}, []string{"{env.HTPASSWD_CUT} 2 invalid line skipped; its user cannot log in"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("HTPASSWD_TEXT", "alice:"+shaSecret1+"\nbob:"+bcrypt4Secret1)
			t.Setenv("HTPASSWD_CUT", "alice:"+shaSecret1+"\nbob:canary")
			t.Setenv("HTPASSWD_HASH", shaSecret1)
			logger, logs := observed()
			h := textHandler(test.text)
			h.shared, h.logger = process, logger
			must(t, h.provisionSources(new(App).labelWithoutSites))
			defer func() { must(t, h.Cleanup()) }()
			for _, user := range []string{"alice", "bob", "carol"} {
				if got, want := h.users.now().find([]byte(user)).isUsable(), slices.Contains(test.users, user); got != want {
					t.Errorf("%s can log in: %v, want %v", user, got, want)
				}
			}
			var got []string
			for _, entry := range logs.All() {
				fields := entry.ContextMap()
				line := fields["line"]
				if line == nil {
					line = "-"
				}
				if !strings.Contains(entry.Message, "weak") {
					got = append(got, fmt.Sprint(fields["file"], " ", line, " ", entry.Message))
				}
			}
			if !slices.Equal(got, test.log) {
				t.Errorf("got the log %q, want %q", got, test.log)
			}
			if text := logText(logs); strings.Contains(text, "canary") || strings.Contains(text, shaSecret1[:10]) {
				t.Errorf("the log shows the text:\n%s", text)
			}
			if path, ok := h.users.now()[0].target(); ok {
				t.Errorf("got the path %s, want none: a text cannot be written", path)
			}
		})
	}
}

// labelWithoutSites labels a text of users outside of a site.
func (a *App) labelWithoutSites(text string) string {
	if isOnePlaceholder(text) {
		return quotedPlaceholder(text)
	}
	return a.texts.add(text)
}

// TestUsersTextRefused has texts of users that are no text, and texts and paths that are
// mistaken for each other. No error shows any of the text.
func TestUsersTextRefused(t *testing.T) {
	ctx, number := emptyContext(t), regexp.MustCompile(`users \d+:`) // all texts here belong to one configuration
	large := filepath.Join(t.TempDir(), "large")
	must(t, os.WriteFile(large, bytes.Repeat([]byte("#"), maxPlaceholderFile+1), 0o600))
	good := writeFile(t, alice)
	t.Setenv("HTPASSWD_EMPTY", " \n")
	t.Setenv("HTPASSWD_BROKEN", "\ncanary:canary")
	t.Setenv("HTPASSWD_PATH", "/canary/file")
	for _, test := range []struct{ name, source, want string }{
		{"whitespace", `{"users": " \n"}`, "users: expected the text of a password file, found an empty text; for no users, write a comment such as '# nobody'"},
		{"an empty placeholder", `{"users": "{env.HTPASSWD_EMPTY}"}`, "users: '{env.HTPASSWD_EMPTY}' is empty or unknown; set it to the text of a password file"},
		{"a variable that is not set", `{"users": "{env.HTPASSWD_UNSET}"}`, "users: '{env.HTPASSWD_UNSET}' is empty or unknown"},
		{"a file that is missing", `{"users": "{file./no/such}"}`, "users: '{file./no/such}' is empty or unknown"},
		{"a file that is too large for Caddy", `{"users": "{file.` + large + `}"}`, "is larger than 1 MiB, and Caddy reads no more of it; write 'file <path>' instead of 'users'"},
		{"a placeholder of a request", `{"users": "{http.request.canary}"}`, "users: the placeholder is unknown or empty; expected a global placeholder such as {env.HTPASSWD}"},
		{"a placeholder without a namespace", `{"users": "{canary}"}`, "users: the placeholder is unknown or empty"},
		{"two placeholders", `{"users": "{env.CANARY}{env.CANARY}"}`, "users: value is not the text of a password file"},
		{"a path", `{"users": "/canary/htpasswd"}`, "users: value is not the text of a password file (not shown here); expected lines such as user:hash, or one placeholder alone; for a file, write 'file <path>' instead of 'users'"},
		{"a path in a placeholder", `{"users": "{env.HTPASSWD_PATH}"}`, "users {env.HTPASSWD_PATH}: value is not the text of a password file"},
		{"an invalid line", `{"users": "canary:canary"}`, "users: no valid user:hash line (invalid lines: 1); line 1: "},
		{"an invalid line in a placeholder", `{"users": "{env.HTPASSWD_BROKEN}"}`, "users {env.HTPASSWD_BROKEN}: no valid user:hash line (invalid lines: 1); line 2: "},
		{"a hash alone", `{"users": "$2y$10$canary"}`, "users: no valid user:hash line"},
		{"a semicolon", `{"users": "canary:$2y$canary;"}`, "lines end without a semicolon"},
		{"a page", `{"users": "<html>\n<p>canary"}`, "users: no valid user:hash line (invalid lines: 2)"},
		{"a text in place of a path", `{"file": "canary:$2y$10$canary"}`, "file value looks like the text of a password file (not shown here); expected the path of a file with this text, such as /etc/caddy/.htpasswd; for the text itself, write 'users' instead of 'file'"},
		{"a text with wildcards in place of a path", `{"file": "canary:*"}`, "looks like the text of a password file"},
		{"another type", `{"users": ["canary"]}`, "cannot unmarshal array"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ctx.LoadModuleByID("http.handlers.htpasswd", []byte(`{"sources": [{"file": "`+good+`"}, `+test.source+`]}`))
			if err == nil || !strings.Contains(number.ReplaceAllString(err.Error(), "users:"), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
			if err != nil && (strings.Contains(err.Error(), "canary") || len(err.Error()) > 600) {
				t.Errorf("the error shows the text: %.600s", err)
			}
			if n := references(good); n != [2]int{} {
				t.Errorf("the other source is held %v times, want none", n)
			}
			if files := process.sources.inUse(); len(files) != 0 {
				t.Errorf("got %d sources in use, want none", len(files))
			}
		})
	}
}

// TestUsersTextOf10MB has a text with a hundred thousand users.
func TestUsersTextOf10MB(t *testing.T) {
	var text strings.Builder
	for i := 0; text.Len() < 10<<20; i++ {
		fmt.Fprintf(&text, "user%d:%s:%060d\n", i, shaSecret1, 0)
	}
	h := provision(t, textHandler(text.String()))
	if got, _ := checkLogin(t, h.users.now(), "user50000", "secret1", &cachePolicy{now: clock}); got != resultPassed {
		t.Errorf("got %s, want %s", got, resultPassed)
	}
}

// TestUsersTextReload replaces a configuration with texts of users: unchanged ones keep
// all that is known, and changed ones what is known about unchanged lines. Metrics and
// admin API show each name once, and a refused configuration changes nothing.
func TestUsersTextReload(t *testing.T) {
	s := startSite(t, nil, nil, textSite("alice:"+shaSecret1, "bob:"+shaSecret1))
	passes := func(when string, want map[string]int) {
		t.Helper()
		for user, status := range want {
			a := s.get("/", user, "secret1")
			if user == "bob" {
				a = s.plain("/", http.Header{"Authorization": {basic(user, "secret1")}})
			}
			if a.status != status {
				t.Errorf("%s: %s: got status %d, want %d", when, user, a.status, status)
			}
		}
	}
	labels := func() string {
		var labels []string
		for _, f := range process.sources.inUse() {
			labels = append(labels, f.Name())
		}
		return strings.Join(labels, ", ")
	}
	passes("at first", map[string]int{"alice": 200, "bob": 200, "carol": 401})
	if got := labels(); got != "users, users 2" {
		t.Errorf("got the sources %s, want users, users 2", got)
	}
	hashes := process.guard.hashCount()

	for range 5 { // Caddy provisions servers in random order
		must(t, s.reload(textSite("alice:"+shaSecret1, "bob:"+shaSecret1)))
	}
	passes("unchanged", map[string]int{"alice": 200, "bob": 200})
	must(t, s.reload(textSite("alice:"+shaSecret1+"\ncarol:"+shaSecret1, "bob:"+shaSecret1)))
	passes("changed", map[string]int{"alice": 200, "bob": 200})
	if got := process.guard.hashCount(); got != hashes {
		t.Errorf("got %d more hashes, want none: the passwords are cached", got-hashes)
	}
	passes("changed", map[string]int{"carol": 200})
	if got := labels(); got != "users, users 2" {
		t.Errorf("got the sources %s, want users, users 2", got)
	}

	if err := s.reload(textSite("alice:"+shaSecret1, "bob:rubbish")); err == nil || strings.Contains(err.Error(), "rubbish") || !strings.Contains(err.Error(), "users 2: no valid") && !strings.Contains(err.Error(), "users: no valid") {
		t.Errorf("got error %v, want one about the second text, without the text", err)
	}
	passes("after a refused configuration", map[string]int{"alice": 200, "bob": 200, "carol": 200})
}

// textSite returns a Caddyfile with two servers, each of which has a text of users.
func textSite(one, two string) string {
	heredoc := func(text string) string {
		return "<<END\n\t\t\t" + strings.ReplaceAll(text, "\n", "\n\t\t\t") + "\n\t\t\tEND"
	}
	return httpsSite("\n\thtpasswd {\n\t\tusers "+heredoc(one)+"\n\t}\n\trespond ok\n") +
		"\nhttp://localhost:{http} {\n\thtpasswd {\n\t\tallow_http\n\t\tusers " + heredoc(two) + "\n\t}\n\trespond ok\n}\n"
}

// TestUsersTextTwice has two texts of users with one name at the same time, as while a
// configuration is replaced. There is one of each metric.
func TestUsersTextTwice(t *testing.T) {
	t.Setenv("HTPASSWD_TEXT", "alice:"+shaSecret1)
	one := provision(t, textHandler("{env.HTPASSWD_TEXT}"))
	if got, _ := checkLogin(t, one.users.now(), "alice", "secret1", &cachePolicy{now: clock}); got != resultPassed {
		t.Fatalf("got %s, want %s", got, resultPassed)
	}
	t.Setenv("HTPASSWD_TEXT", "alice:"+shaSecret1+"\nbob:"+shaSecret1)
	two := &Handler{Sources: []Source{{Users: "{env.HTPASSWD_TEXT}"}}}
	must(t, two.Provision(configContext(t)))
	if one.users.now()[0] == two.users.now()[0] || one.users.now()[0].key != two.users.now()[0].key {
		t.Error("want another store with the same key of the limits")
	}
	entry := two.users.now().find([]byte("alice")).entry
	if entry.verified.Load() == nil {
		t.Error("the cached password is lost")
	}
	shown := func(want int) {
		t.Helper()
		files := process.sources.inUse()
		if families := gathered(t); families["caddy_htpasswd_file_users"] != 1 {
			t.Errorf("got %d metrics with the number of users, want one", families["caddy_htpasswd_file_users"])
		}
		if len(files) != 1 || files[0].Name() != "{env.HTPASSWD_TEXT}" || len(files[0].users.file.All) != want {
			t.Errorf("got %d sources, want one with %d users", len(files), want)
		}
	}
	shown(2)
	must(t, two.Cleanup()) // the configuration was refused
	shown(1)
}

// gathered returns how many metrics there are of each name. Two with equal labels are an
// error.
func gathered(t *testing.T) map[string]int {
	t.Helper()
	registry := prometheus.NewRegistry()
	must(t, process.metrics.register(registry))
	families, err := registry.Gather()
	must(t, err)
	numbers := make(map[string]int)
	for _, family := range families {
		numbers[family.GetName()] = len(family.GetMetric())
	}
	return numbers
}

// TestUsersTextIsShared has the same text in two handlers and in a placeholder.
func TestUsersTextIsShared(t *testing.T) {
	text := "alice:" + shaSecret1
	t.Setenv("HTPASSWD_TEXT", text)
	h := provision(t, &Handler{Sources: []Source{{Users: text}, {Users: "bob:" + shaSecret1}, {Users: text}, {Users: "{env.HTPASSWD_TEXT}"}}})
	var names []string
	for _, s := range h.users.now() {
		names = append(names, s.path)
	}
	if want := []string{"users", "users 2", "users", "{env.HTPASSWD_TEXT}"}; !slices.Equal(names, want) {
		t.Errorf("got the names %q, want %q", names, want)
	}
	if h.users.now()[0] != h.users.now()[2] {
		t.Error("got two stores of one text, want one")
	}
}

// TestUsersTextInAdminAPI has texts of users in the running configuration, and looks for
// them in the admin API, the metrics and the log.
func TestUsersTextInAdminAPI(t *testing.T) {
	t.Setenv("HTPASSWD_TEXT", "alice:"+shaSecret1+"\ncanary1:canary2\n")
	s := startSite(t, nil, nil, "{\n\tadmin localhost:{admin}\n\tmetrics\n}\n"+httpsSite("\n\thtpasswd {\n\t\tusers {env.HTPASSWD_TEXT}\n\t\tusers <<END\n\t\t\tbob:"+shaSecret1+"\n\t\t\tcanary3:canary4\n\t\t\tEND\n\t}\n\trespond ok"))
	for _, user := range []string{"alice", "bob"} {
		if a := s.get("/", user, "secret1"); a.status != 200 {
			t.Errorf("%s: got status %d, want 200", user, a.status)
		}
	}
	var status adminStatus
	text, err := json.Marshal(adminFiles(t))
	must(t, err)
	must(t, json.Unmarshal(text, &status.Files))
	if len(status.Files) != 2 || status.Files[0].Path != "users" || status.Files[1].Path != "{env.HTPASSWD_TEXT}" || status.Files[0].InvalidLines[0].Line != 2 {
		t.Errorf("got the sources %s, want users and {env.HTPASSWD_TEXT}, each with an invalid line 2", text)
	}
	for _, file := range process.sources.inUse() {
		if reload := reloadFile(&file, zap.NewNop()); reload.Result != reloadUnchanged {
			t.Errorf("got %+v, want %s", reload, reloadUnchanged)
		}
	}
	if strings.Contains(string(text), "canary") {
		t.Errorf("the admin API shows a text of users:\n%s", text)
	}
	for line := range strings.Lines(s.log()) {
		// At the level debug, Caddy logs its whole configuration, including a literal text.
		isConfig := strings.Contains(line, `"msg":"adjusted config"`)
		if !isConfig && (strings.Contains(line, "canary") || strings.Contains(line, shaSecret1)) || strings.Contains(line, "canary1") {
			t.Errorf("the log shows a text of users: %s", line)
		}
	}
}

// adminFiles returns the files in the answer of the admin API.
func adminFiles(t *testing.T) (files []adminFile) {
	t.Helper()
	for _, f := range process.sources.inUse() {
		files = append(files, newAdminFile(&f))
	}
	return files
}

// FuzzUsersText loads a text of users as JSON and from a Caddyfile. Nothing panics, and no
// error shows a part of the text.
func FuzzUsersText(f *testing.F) {
	for _, text := range []string{"", "alice:" + shaSecret1, "alice:x\r\nbob", "{env.X}", "{", "}", "{}", "\uFEFF#", "/etc/htpasswd", "a:b;", "$2y$10$", "\x00", "<<END", "[*", "{file./etc/hostname}", "{env.A}{env.B}"} {
		f.Add(text)
	}
	ctx := emptyContext(f)
	f.Fuzz(func(t *testing.T, text string) {
		const canary = "c4n4ry"
		if len(text) > 1<<16 {
			t.Skip()
		}
		marked := text + canary
		if strings.HasPrefix(text, "{env.") || strings.HasPrefix(text, "{file.") {
			marked = text // a placeholder is no secret
		}
		config, err := json.Marshal(map[string]any{"sources": []map[string]string{{"users": marked}}})
		must(t, err)
		loaded, err := ctx.LoadModuleByID("http.handlers.htpasswd", config)
		if err == nil {
			must(t, loaded.(*Handler).Cleanup())
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("the error shows the text: %v", err)
		}
		file := "example.com {\n\thtpasswd {\n\t\tusers `" + strings.ReplaceAll(marked, "`", "") + "` x\n\t}\n}\n"
		if _, err := adapted(file); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("got error %v, want one without the text", err)
		}
	})
}

package e2e

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

const operationsPage = "../docs/operations.md"

// loggedMessage is a log message of the code: its levels, and all fields that
// can come with it.
type loggedMessage struct {
	levels, fields map[string]bool
}

// logSource is the source of one package, in which log messages are looked for.
type logSource struct {
	t         *testing.T
	fset      *token.FileSet
	files     []*ast.File
	functions []*ast.FuncDecl
	constants map[string]ast.Expr
	messages  map[string]*loggedMessage // of all packages
}

// messagesInCode returns the log messages of the plugin, by the calls of loggers
// in its source.
func messagesInCode(t *testing.T) map[string]*loggedMessage {
	t.Helper()
	messages := make(map[string]*loggedMessage)
	directories, err := filepath.Glob("../internal/*")
	must(t, err)
	for _, directory := range append(directories, "..") {
		if filepath.Base(directory) == "testkit" {
			continue
		}
		names, err := filepath.Glob(filepath.Join(directory, "*.go"))
		must(t, err)
		s := &logSource{t: t, fset: token.NewFileSet(), constants: make(map[string]ast.Expr), messages: messages}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(s.fset, name, nil, parser.SkipObjectResolution)
			must(t, err)
			s.files = append(s.files, file)
		}
		s.collect()
	}
	return messages
}

func (s *logSource) collect() {
	for _, file := range s.files {
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				s.functions = append(s.functions, d)
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok && d.Tok == token.CONST && len(v.Values) == len(v.Names) {
						for i, name := range v.Names {
							s.constants[name.Name] = v.Values[i]
						}
					}
				}
			}
		}
	}
	for _, fn := range s.functions {
		ast.Inspect(fn, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				s.collectCall(fn, call)
			}
			return true
		})
	}
}

// collectCall collects the messages of a call, if it is one of a logger.
func (s *logSource) collectCall(fn *ast.FuncDecl, call *ast.CallExpr) {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 {
		return
	}
	level, at := strings.ToUpper(selector.Sel.Name), 0
	from := []ast.Node{call}
	switch receiver, _ := selector.X.(*ast.Ident); {
	case receiver != nil && (receiver.Name == "caddyhttp" || receiver.Name == "zap"):
		return
	case selector.Sel.Name == "Check" && len(call.Args) == 2: // logger.Check(zap.DebugLevel, "..."); c.Write(fields...)
		of, ok := call.Args[0].(*ast.SelectorExpr)
		if !ok || !strings.HasSuffix(of.Sel.Name, "Level") {
			return
		}
		level, at = strings.ToUpper(strings.TrimSuffix(of.Sel.Name, "Level")), 1
		from = []ast.Node{fn.Body}
	case !slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, selector.Sel.Name):
		return
	case len(call.Args) > 2: // ratelog's, with the time and the logger first
		if _, isTime := call.Args[0].(*ast.CallExpr); isTime {
			at = 2
		}
	}
	for _, text := range s.texts(fn, call.Args[at], nil) {
		m := s.messages[text.value]
		if m == nil {
			m = &loggedMessage{levels: make(map[string]bool), fields: make(map[string]bool)}
			s.messages[text.value] = m
		}
		m.levels[level] = true
		k := fieldKeys{s: s, via: text.via, keys: m.fields, seen: make(map[ast.Node]bool)}
		for _, node := range from {
			k.addAll(fn, node)
		}
	}
}

// caller is a call of a function, and the function that it is in.
type caller struct {
	in   *ast.FuncDecl
	call *ast.CallExpr
}

// logText is a text that an expression can have. It comes by these calls, by the
// name of the function that is called.
type logText struct {
	value string
	via   map[string]caller
}

// texts returns the texts that an expression of a function can have.
func (s *logSource) texts(fn *ast.FuncDecl, expr ast.Expr, via map[string]caller) []logText {
	switch e := expr.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return []logText{{text, via}}
		}
	case *ast.BinaryExpr:
		var all []logText
		for _, left := range s.texts(fn, e.X, via) {
			for _, right := range s.texts(fn, e.Y, via) {
				all = append(all, logText{left.value + right.value, right.via})
			}
		}
		return all
	case *ast.Ident:
		if value, ok := s.constants[e.Name]; ok {
			return s.texts(fn, value, via)
		}
		var all []logText
		for _, value := range assigned(fn, e.Name) {
			all = append(all, s.texts(fn, value, via)...)
		}
		if place, kind := parameter(fn, e.Name); place >= 0 {
			if kind, ok := kind.(*ast.Ident); !ok || kind.Name != "string" {
				return nil
			}
			for _, c := range s.callers(fn) {
				by := maps.Clone(via)
				if by == nil {
					by = make(map[string]caller)
				}
				by[fn.Name.Name] = c
				all = append(all, s.texts(c.in, c.call.Args[place], by)...)
			}
		}
		if len(all) == 0 {
			s.t.Errorf("%s: cannot tell what '%s' says", s.fset.Position(e.Pos()), e.Name)
		}
		return all
	}
	return nil
}

// assigned returns what a function assigns to a variable.
func assigned(fn *ast.FuncDecl, name string) (values []ast.Expr) {
	ast.Inspect(fn, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == len(a.Rhs) {
			for i, left := range a.Lhs {
				if ident, ok := left.(*ast.Ident); ok && ident.Name == name {
					values = append(values, a.Rhs[i])
				}
			}
		}
		return true
	})
	return values
}

// parameter returns the place and the type of a parameter, -1 if there is none of that name.
func parameter(fn *ast.FuncDecl, name string) (int, ast.Expr) {
	place := 0
	for _, field := range fn.Type.Params.List {
		for _, ident := range field.Names {
			if ident.Name == name {
				return place, field.Type
			}
			place++
		}
	}
	return -1, nil
}

// callers returns the calls of a function in its package.
func (s *logSource) callers(fn *ast.FuncDecl) (callers []caller) {
	for _, in := range s.functions {
		ast.Inspect(in, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && calledName(call) == fn.Name.Name && len(call.Args) >= fn.Type.Params.NumFields()-1 {
				callers = append(callers, caller{in, call})
			}
			return true
		})
	}
	return callers
}

func calledName(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// fieldKeys collects the keys of zap fields.
type fieldKeys struct {
	s    *logSource
	via  map[string]caller // the calls by which the message comes
	keys map[string]bool
	seen map[ast.Node]bool
}

// addAll adds the keys of all fields in a part of a function, and of those that
// its variables, parameters and calls bring along.
func (k *fieldKeys) addAll(fn *ast.FuncDecl, part ast.Node) {
	if k.seen[part] {
		return
	}
	k.seen[part] = true
	ast.Inspect(part, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			k.addCall(n)
		case *ast.Ident:
			for _, value := range assigned(fn, n.Name) {
				k.addAll(fn, value)
			}
			if place, kind := parameter(fn, n.Name); place >= 0 && isFields(kind) {
				callers := k.s.callers(fn)
				if c, ok := k.via[fn.Name.Name]; ok {
					callers = []caller{c}
				}
				for _, c := range callers {
					for _, arg := range c.call.Args[min(place, len(c.call.Args)):] {
						k.addAll(c.in, arg)
					}
				}
			}
		}
		return true
	})
}

func (k *fieldKeys) addCall(call *ast.CallExpr) {
	if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
		if of, ok := selector.X.(*ast.Ident); ok && of.Name == "zap" {
			if selector.Sel.Name == "Error" {
				k.keys["error"] = true
			} else if key, ok := call.Args[0].(*ast.BasicLit); ok {
				text, _ := strconv.Unquote(key.Value)
				k.keys[text] = true
			}
			return
		}
	}
	for _, fn := range k.s.functions {
		if fn.Name.Name == calledName(call) && fn.Type.Results != nil && slices.ContainsFunc(fn.Type.Results.List, func(f *ast.Field) bool { return isFields(f.Type) }) {
			k.addAll(fn, fn.Body)
		}
	}
}

// isFields reports whether a type is one or several zap fields.
func isFields(kind ast.Expr) bool {
	switch of := kind.(type) {
	case *ast.ArrayType:
		return isFields(of.Elt)
	case *ast.Ellipsis:
		return isFields(of.Elt)
	case *ast.SelectorExpr:
		return of.Sel.Name == "Field"
	}
	return false
}

// messageRow is a row of a table: the texts of its cells.
type messageRow []string

// names returns what stands between backquotes in a cell.
func (r messageRow) names(cell int) (names []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(r[cell], -1) {
		names = append(names, m[1])
	}
	return names
}

// tableRows returns the rows of all tables in a section whose first cell is a name.
func messageRows(t *testing.T, page, heading string, cells int) (rows []messageRow) {
	t.Helper()
	for line := range strings.Lines(section(t, page, heading)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		row := messageRow(strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|"))
		if len(row) == cells { // the section can have other tables
			rows = append(rows, row)
		}
	}
	return rows
}

// TestOperationsPageLogMessages compares the tables of log messages with the code:
// messages, levels and fields.
func TestOperationsPageLogMessages(t *testing.T) {
	parallel(t)
	code, listed := messagesInCode(t), make(map[string]bool)
	if len(code) < 30 {
		t.Errorf("got only %d messages in the code, want at least 30", len(code))
	}
	for _, row := range messageRows(t, operationsPage, "Log messages", 4) {
		message := row.names(0)[0]
		m := code[message]
		switch {
		case listed[message]:
			t.Errorf("listed twice: %s", message)
		case m == nil:
			t.Errorf("no longer in the code: %s", message)
		default:
			if level := strings.TrimSpace(row[1]); !maps.Equal(m.levels, map[string]bool{level: true}) {
				t.Errorf("%s: got the level %s on the page, want %v", message, level, slices.Collect(maps.Keys(m.levels)))
			}
			if got, want := slices.Sorted(slices.Values(row.names(2))), slices.Sorted(maps.Keys(m.fields)); !slices.Equal(got, want) {
				t.Errorf("%s: got the fields %q on the page, want %q", message, got, want)
			}
		}
		listed[message] = true
	}
	for message := range code {
		if !listed[message] {
			t.Errorf("not on the page: %s", message)
		}
	}
}

// TestDocsLogLines checks that the code can write each log line that the docs show.
func TestDocsLogLines(t *testing.T) {
	parallel(t)
	code, lines := messagesInCode(t), 0
	for _, page := range append(docsPages(t), "../README.md") {
		for _, b := range blocks(t, page, "json") {
			if !strings.Contains(b, `"msg":`) {
				continue
			}
			for text := range strings.Lines(b) {
				lines++
				var line map[string]any
				if err := json.Unmarshal([]byte(text), &line); err != nil {
					t.Errorf("%s: %v: %s", page, err, text)
					continue
				}
				m := code[fmt.Sprint(line["msg"])]
				if m == nil {
					t.Errorf("%s: no message of the code: %s", page, text)
					continue
				}
				if level := strings.ToUpper(fmt.Sprint(line["level"])); !m.levels[level] {
					t.Errorf("%s: not written at the level %s: %s", page, level, text)
				}
				for _, key := range []string{"level", "ts", "logger", "msg"} {
					delete(line, key)
				}
				for field := range line {
					if !m.fields[field] {
						t.Errorf("%s: the field %s is never written with the message: %s", page, field, text)
					}
				}
			}
		}
	}
	if lines < 3 {
		t.Errorf("got only %d log lines in the docs, want at least 3", lines)
	}
}

var (
	_ = ranBy("TestOperationsPageReload",
		"sudo -u caddy caddy validate --config /etc/caddy/Caddyfile",
		"caddy reload --config /etc/caddy/Caddyfile --force")
	_ = ranBy("TestOperationsPageAdmin",
		"curl localhost:2019/htpasswd",
		"curl -X POST localhost:2019/htpasswd/reload",
		"curl localhost:2019/htpasswd/throttle",
		"curl localhost:2019/htpasswd/throttle/alice",
		"curl localhost:2019/htpasswd/throttle/192.0.2.7",
		"curl -X DELETE localhost:2019/htpasswd/throttle/alice",
		"curl -X DELETE localhost:2019/htpasswd/throttle/192.0.2.7",
		"curl -X DELETE localhost:2019/htpasswd/throttle",
		"curl localhost:2019/metrics")
	_ = ranBy("TestDocsLogLines",
		`{"level":"warn","logger":"http.handlers.htpasswd","msg":"login failed","client_ip":"192.0.2.7","user":"alice","reason":"wrong password","host":"example.com","realm":"Restricted"}`)
)

// TestOperationsPageReload runs the commands of the page, first with a file that
// is right and then with one that is not.
func TestOperationsPageReload(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "users"), []byte(plain("ann")), 0o640))
	s := startIn(t, dir, "", site)
	commands := strings.Split(strings.TrimSpace(sectionBlocks(t, operationsPage, "Reload", "console")[0]), "\n")
	if len(commands) != 2 {
		t.Fatalf("got %q, want two commands", commands)
	}
	run := func(command string, wantCode int, want string) {
		t.Helper()
		args := strings.Fields(strings.Replace(strings.TrimPrefix(command, "sudo -u caddy "), "/etc/caddy/Caddyfile", "Caddyfile", 1))
		if out, code := s.caddy(args[1:]...); code != wantCode || !strings.Contains(out, want) {
			t.Errorf("%s: got exit code %d and %s, want %d and %q", command, code, out, wantCode, want)
		}
	}
	validate, reload := commands[0], commands[1]
	without, isForced := strings.CutSuffix(reload, " --force")
	if !isForced || !strings.Contains(packagedUnit, "\nExecReload=/usr/bin/"+reload+"\n") {
		t.Errorf("got %s, want the command of the packaged unit, with --force", reload)
	}
	for _, command := range commands {
		run(command, 0, "")
	}
	must(t, os.Remove(filepath.Join(dir, "users")))
	run(validate, 1, "users: no such file")
	run(reload, 1, "users: no such file")
	run(without, 0, "")
	if a := s.get("/", "ann", "ann"); a.Status != 200 {
		t.Errorf("after the refused reloads: got %d, want 200 by the previous version", a.Status)
	}
}

// jsonPaths adds the paths of all values in a JSON value, such as a.b and a[].b.
func jsonPaths(paths map[string]bool, at string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, value := range v {
			path := strings.TrimPrefix(at+"."+key, ".")
			paths[path] = true
			jsonPaths(paths, path, value)
		}
	case []any:
		for _, value := range v {
			jsonPaths(paths, at+"[]", value)
		}
	}
}

// TestOperationsPageAdmin runs the requests to the admin API, and compares the
// fields of the answers with those on the page.
func TestOperationsPageAdmin(t *testing.T) {
	parallel(t)
	curl := program(t, "curl")
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "users"), []byte(plain("alice")+"bob:hash\n"), 0o640))
	must(t, os.Mkdir(filepath.Join(dir, "users.d"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "users.d", "carol"), []byte(plain("carol")), 0o640))
	withPattern := strings.Replace(site, "file {dir}/users\n", "file {dir}/users {dir}/users.d/*\n\t\trehash\n", 1)
	s := startIn(t, dir, "\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32 ::1/128\n\t\ttrusted_proxies_strict\n\t}", withPattern)
	page := section(t, operationsPage, "Admin API")
	ran := make(map[string]bool)
	run := func(command string) (answer map[string]any) {
		t.Helper()
		if !strings.Contains(page, "\n"+command+"\n") {
			t.Errorf("not on the page: %s", command)
		}
		ran[command] = true
		out := testkit.Run(t, "sh", "-c", strings.NewReplacer("localhost:2019", fmt.Sprintf("localhost:%d", s.Admin), "curl ", curl+" -s ").Replace(command))
		must(t, json.Unmarshal([]byte(out), &answer))
		return answer
	}
	guesses := 0 // each with another password: repeated ones do not count
	exceed := func(limit int) {
		t.Helper()
		for i := range limit + 1 {
			guesses++
			r := s.Request(http.MethodGet, "/", nil)
			r.SetBasicAuth("alice", fmt.Sprint("wrong", guesses))
			r.Header.Set("X-Forwarded-For", "192.0.2.7")
			if a := s.Do(r); (a.Status == 429) != (i == limit) {
				t.Errorf("guess %d: got %d, want 401 until the limit of %d is exceeded, and then 429", i, a.Status, limit)
			}
		}
	}
	cleared := func(command string) {
		t.Helper()
		if answer := run(command); len(answer) != 1 || answer["cleared"] == nil || answer["cleared"] == 0.0 {
			t.Errorf("%s: got %v, want a number of cleared counters", command, answer)
		}
	}
	listed := func(command string, want int) (entry map[string]any) {
		t.Helper()
		found, _ := run(command)["exceeded"].([]any)
		if len(found) != want {
			t.Errorf("%s: got %v, want %d exceeded limits", command, found, want)
		}
		if len(found) > 0 {
			entry, _ = found[0].(map[string]any)
		}
		return entry
	}

	fileOf := func(answer map[string]any) map[string]any { // the file users
		t.Helper()
		for _, f := range answer["files"].([]any) {
			if file := f.(map[string]any); file["path"] == filepath.Join(dir, "users") {
				return file
			}
		}
		t.Fatalf("got %v, want an entry for the file users", answer)
		return nil
	}
	exceed(10)
	s.Write("users", plain("alice")+"bob:hash\ncarol:hash\n")
	if result := fileOf(run("curl -X POST localhost:2019/htpasswd/reload")); result["result"] != "reloaded" && result["result"] != "unchanged" {
		t.Errorf("got %v, want a file that is read", result)
	}
	s.Write("users", "<html>\n")
	for out := range 2 { // the second time it has failed for the same reason
		if file := fileOf(run("curl -X POST localhost:2019/htpasswd/reload")); file["result"] != "failed" || file["error"] == nil {
			t.Errorf("reload %d: got %v, want a failed one with an error", out, file)
		}
	}
	status := run("curl localhost:2019/htpasswd")
	if file := fileOf(status); file["load_failures"] != 1.0 || file["invalid_line_count"] != 2.0 {
		t.Errorf("got %v, want one failed load and two invalid lines", file)
	}
	got, want := make(map[string]bool), make(map[string]bool)
	jsonPaths(got, "", status)
	for path := range got { // what is inside is said in the text
		if strings.HasPrefix(path, "limits.") || strings.HasPrefix(path, "hash_queue.") || strings.HasPrefix(path, "files[].rehash.") || strings.HasPrefix(path, "exceeded[]") || strings.Count(path, "[]") > 1 {
			delete(got, path)
		}
	}
	for _, row := range messageRows(t, operationsPage, "Admin API", 2) {
		for _, name := range row.names(0) {
			if !slices.Contains([]string{"unchanged", "reloaded", "failed", "pending", "fleet"}, name) { // fleet is in TestFleetStatus of the root package
				want[name] = true
			}
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("got the fields %q, want those on the page, %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	for object, keys := range map[string][]string{"hash_queue": {"busy", "waiting", "workers"}, "limits": {"client", "login", "user"}} {
		of, _ := status[object].(map[string]any)
		if got := slices.Sorted(maps.Keys(of)); !slices.Equal(got, keys) {
			t.Errorf("%s: got %q, want %q", object, got, keys)
		}
	}

	entry := listed("curl localhost:2019/htpasswd/throttle", 1)
	var example map[string]any
	must(t, json.Unmarshal([]byte(sectionBlocks(t, operationsPage, "Admin API", "json")[0]), &example))
	for _, e := range []map[string]any{entry, example} {
		delete(e, "until")
		delete(e, "file")
	}
	if !maps.Equal(entry, example) {
		t.Errorf("got %v, want the entry on the page, %v", entry, example)
	}
	listed("curl localhost:2019/htpasswd/throttle/alice", 1)
	listed("curl localhost:2019/htpasswd/throttle/192.0.2.7", 1)
	cleared("curl -X DELETE localhost:2019/htpasswd/throttle/alice")
	listed("curl localhost:2019/htpasswd/throttle/alice", 0)
	exceed(10)
	cleared("curl -X DELETE localhost:2019/htpasswd/throttle/192.0.2.7")
	listed("curl localhost:2019/htpasswd/throttle/192.0.2.7", 0)
	cleared("curl -X DELETE localhost:2019/htpasswd/throttle")
	for _, b := range sectionBlocks(t, operationsPage, "Admin API", "console") {
		for line := range strings.Lines(b) {
			if !ran[strings.TrimSpace(line)] {
				t.Errorf("not run: %s", line)
			}
		}
	}
}

// TestOperationsPageMetrics compares the metrics, their types and labels, and the
// results of requests with the tables.
func TestOperationsPageMetrics(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "users"), []byte(alice), 0o640))
	must(t, os.WriteFile(filepath.Join(dir, "groups"), []byte("staff: alice\n"), 0o640))
	s := startIn(t, dir, "", strings.Replace(site, "{dir}/users", "{dir}/users\n\t\trehash\n\t\tgroup_file {dir}/groups", 1))
	if a := s.get("/", "alice", "secret"); a.Status != 200 {
		t.Fatalf("got %d, want 200", a.Status)
	}
	command := strings.TrimSpace(sectionBlocks(t, operationsPage, "Metrics", "console")[0])
	text := testkit.Run(t, "sh", "-c", strings.NewReplacer("localhost:2019", fmt.Sprintf("localhost:%d", s.Admin), "curl ", program(t, "curl")+" -s ").Replace(command))
	got := make(map[string]string) // type and labels by name
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (caddy_htpasswd_\w+) (\w+)$`).FindAllStringSubmatch(text, -1) {
		sample := regexp.MustCompile(`(?m)^` + m[1] + `(?:_count)?(?:\{(.*)\})? `).FindStringSubmatch(text)
		if sample == nil {
			t.Fatalf("%s: no sample", m[1])
		}
		var labels []string
		for _, label := range regexp.MustCompile(`(\w+)="[^"]*"`).FindAllStringSubmatch(sample[1], -1) {
			labels = append(labels, label[1])
		}
		got[m[1]] = fmt.Sprint(m[2], labels)
	}
	results := make(map[string]map[string]bool) // by metric
	for _, m := range regexp.MustCompile(`(?m)^(caddy_htpasswd_\w+)\{result="(\w+)"\}`).FindAllStringSubmatch(text, -1) {
		if results[m[1]] == nil {
			results[m[1]] = make(map[string]bool)
		}
		results[m[1]][m[2]] = true
	}
	want, wantResults := make(map[string]string), make(map[string]map[string]bool)
	metric := "" // whose results are in the next table
	for line := range strings.Lines(section(t, operationsPage, "Metrics")) {
		if m := regexp.MustCompile("^The values of `result` of `(\\w+)`:").FindStringSubmatch(line); m != nil {
			metric = m[1]
			wantResults[metric] = make(map[string]bool)
		}
		row := messageRow(strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|"))
		switch {
		case !strings.HasPrefix(line, "| `"):
		case strings.HasPrefix(row.names(0)[0], "caddy_htpasswd_fleet_"): // TestFleetStatus of the root package
		case len(row) == 4:
			want[row.names(0)[0]] = fmt.Sprint(strings.TrimSpace(row[1]), row.names(2))
		default:
			wantResults[metric][row.names(0)[0]] = true
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("got the metrics %v, want those on the page, %v", got, want)
	}
	if !maps.EqualFunc(results, wantResults, maps.Equal) {
		t.Errorf("got the results %v, want those on the page, %v", results, wantResults)
	}
	for _, name := range regexp.MustCompile("`(caddy_htpasswd_\\w+)`").FindAllStringSubmatch(section(t, operationsPage, "Prometheus"), -1) {
		if want[name[1]] == "" {
			t.Errorf("no metric of the table: %s", name[1])
		}
	}
}

// TestOperationsPageReasons compares the reasons of failed logins with the code.
func TestOperationsPageReasons(t *testing.T) {
	parallel(t)
	var sources strings.Builder
	for _, name := range []string{"../result.go", "../module.go", "../failurelog.go"} {
		sources.WriteString(readText(t, name))
	}
	_, reasons, _ := strings.Cut(sources.String(), "resultReasons = ")
	reasons, _, _ = strings.Cut(reasons, "\n}")
	want := make(map[string]bool)
	for _, m := range regexp.MustCompile(`: +"([^"]+)"`).FindAllStringSubmatch(reasons, -1) {
		want[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`zap\.String\("reason", "([^"]+)"\)`).FindAllStringSubmatch(sources.String(), -1) {
		want[m[1]] = true
	}
	_, table, _ := strings.Cut(section(t, operationsPage, "Log messages"), "| reason | meaning |")
	table, _, _ = strings.Cut(table, "\n\n")
	got := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(table, -1) {
		got[m[1]] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("got the reasons %q on the page, want %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// TestRateLimitingPage has logins fail in all ways that the page lists as counted,
// or not counted.
func TestRateLimitingPage(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	users := plain("ann", "bob") + "eve:!\nmax:hash\n"
	for _, name := range []string{"users", "others"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(users), 0o640))
	}
	s := startIn(t, dir, "\thtpasswd {\n\t\tthrottle login 3 1h\n\t}", `https://localhost:{https} {
	handle /other {
		htpasswd {
			file {dir}/others
		}
		respond other
	}
	handle /ann {
		htpasswd {
			file {dir}/users
			require user ann
		}
		respond ann
	}
	handle {
		htpasswd {
			file {dir}/users
		}
		respond ok
	}
}`)
	try := func(path, user, password string, times, want int) {
		t.Helper()
		for range times {
			if a := s.get(path, user, password); a.Status != want || (a.Header.Get("Retry-After") != "") != (want == 429) {
				t.Fatalf("%s as %s with %q: got %d, Retry-After %q, want %d", path, user, password, a.Status, a.Header.Get("Retry-After"), want)
			}
		}
	}
	try("/", "", "", 5, 401)
	for range 5 {
		if a := s.Send("/", http.Header{"Authorization": {"Basic ?"}}); a.Status != 401 {
			t.Fatalf("malformed: got %d, want 401", a.Status)
		}
	}
	try("/ann", "bob", "bob", 5, 403)
	try("/", "bob", "bob", 1, 200)
	try("/", "ann", "wrong 1", 5, 401) // counts once
	try("/", "ann", "wrong 2", 1, 401)
	try("/", "ann", "ann", 1, 200) // resets nothing
	try("/ann", "ann", "wrong 3", 1, 401)
	try("/", "ann", "ann", 5, 429)
	try("/ann", "ann", "ann", 1, 429)
	try("/other", "ann", "ann", 1, 200) // another file
	for _, user := range []string{"nobody", "eve", "max"} {
		for i := range 3 {
			try("/", user, fmt.Sprint(user, i), 1, 401)
		}
		try("/", user, "4", 1, 429)
	}
	if out, code := s.caddy("reload", "--config", "Caddyfile", "--force"); code != 0 {
		t.Fatalf("got exit code %d: %s", code, out)
	}
	s.Client.CloseIdleConnections()
	try("/", "ann", "ann", 1, 429)
	putInPlace(t, filepath.Join(dir, "users"), strings.Replace(users, "{PLAIN}ann", "{PLAIN}new", 1))
	try("/", "ann", "new", 1, 200) // the password is reset
}

const troubleshootingPage = "../docs/troubleshooting.md"

var _ = ranBy("TestTroubleshootingPage",
	`journalctl -u caddy --since -1h | grep '"user":"alice"'`,
	"curl localhost:2019/htpasswd",
	"curl localhost:2019/htpasswd/throttle",
	"sudo caddy htpasswd --check /etc/caddy/.htpasswd",
	"sudo caddy htpasswd -v /etc/caddy/.htpasswd alice",
	"curl -i https://example.com/",
	"curl -i -u alice https://example.com/")

// TestTroubleshootingPage causes symptoms of the page on a real server, and looks for
// their causes where the page says to look.
func TestTroubleshootingPage(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"users":   plain("ann", "bob", "alice:secret") + "ann:{PLAIN}second\neve:!\nmax:hash\nzoe :{PLAIN}zoe\nlatin:{PLAIN}caf\xe9\n",
		"earlier": plain("ann:first"),
		"groups":  "staff: ann\n",
		"single":  plain("ann"),
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640))
	}
	htpasswdIn(t, dir, "-bd", "users", "des", "password")
	dead := freePorts(t, 2)
	global := fmt.Sprintf("\thtpasswd {\n\t\tthrottle client off\n\t}\n\tupstream app {\n\t\tserver 127.0.0.1:%d\n\t\tserver 127.0.0.1:%d\n\t}", dead[0], dead[1])
	s := startIn(t, dir, global, `https://localhost:{https} {
	handle /earlier {
		htpasswd {
			file {dir}/earlier {dir}/users
		}
		respond {http.auth.user.id}
	}
	handle /staff {
		htpasswd {
			file {dir}/users
			group_file {dir}/groups
			require group staff
		}
		respond {http.auth.user.id}
	}
	handle /twice {
		htpasswd {
			file {dir}/users
		}
		htpasswd {
			file {dir}/earlier
		}
		respond {http.auth.user.id}
	}
	handle /exempt {
		htpasswd {
			file {dir}/users
			exempt expression `+"`int({http.request.uri.query.n}) > 5`"+`
		}
		respond "user:{http.auth.user.id}"
	}
	handle /admin {
		htpasswd /admin {
			file {dir}/users
		}
		respond {http.auth.user.id}
	}
	handle /unreached {
		route {
			respond open
			htpasswd {
				file {dir}/users
			}
		}
	}
	handle /nothing {
		htpasswd {
			file {dir}/users
		}
	}
	handle /group {
		proxy_pass app
	}
	handle /name {
		reverse_proxy app
	}
	handle /single {
		htpasswd {
			file {dir}/single
		}
		respond {http.auth.user.id}
	}
	handle {
		htpasswd {
			file {dir}/users
		}
		respond {http.auth.user.id}
	}
}
http://localhost:{http} {
	htpasswd {
		file {dir}/users
	}
	respond {http.auth.user.id}
}`)
	page := readText(t, troubleshootingPage)
	// says looks for a line of the log with a message, which the page has, and with all of words.
	says := func(name, message string, words ...string) {
		t.Helper()
		if !strings.Contains(page, message) {
			t.Errorf("%s: the page does not name %q", name, message)
		}
		eventually(t, fmt.Sprintf("%s: the log says %q with %q", name, message, words), func() bool {
			for line := range strings.Lines(s.process.Said()) {
				if strings.Contains(line, `"msg":"`+message) && !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
					return true
				}
			}
			return false
		})
	}
	for _, row := range []struct {
		name, path, user, password string
		status                     int
		message, word              string
	}{
		{"another name", "/", "Ann", "ann", 401, "login failed", `"reason":"unknown user"`},
		{"an earlier file", "/earlier", "ann", "ann", 401, "users already defined in an earlier file; those entries take precedence", `"users":1`},
		{"a second line", "/", "ann", "second", 401, "duplicate user; the first line wins", `"line":4`},
		{"a locked account", "/", "eve", "eve", 401, "login failed", `"reason":"locked user"`},
		{"an invalid line", "/", "max", "max", 401, "invalid line skipped; its user cannot log in", `"line":6`},
		{"an invalid line, at the login", "/", "max", "other", 401, "login failed", `"reason":"invalid line"`},
		{"whitespace before the colon", "/", "zoe", "zoe", 401, "invalid line skipped; its user cannot log in", `"line":7`},
		{"another encoding", "/", "latin", "café", 401, "login failed", `"reason":"wrong password"`},
		{"two files", "/twice", "ann", "ann", 401, "login failed", `"reason":"wrong password"`},
		{"DES", "/", "des", "password, and more", 200, "", ""},
		{"not required", "/staff", "bob", "bob", 403, "login failed", `"reason":"user not authorized"`},
		{"a matcher that fails", "/exempt?n=abc", "", "", 500, "exempt matcher failed", ""},
		{"an exempt request", "/exempt?n=6", "", "", 200, "requests need a password", `"exempt":"`},
		{"an exact path", "/admin", "", "", 401, "htpasswd protects only this exact path; to include everything below it, end the path with *", ""},
		{"never reached", "/unreached", "", "", 200, "htpasswd is never reached; an earlier handler answers every request", ""},
		{"nothing answers", "/nothing", "ann", "ann", 200, "", ""},
		{"no server of a group", "/group", "", "", 502, "request to upstream group failed", `"group":"app"`},
		{"and for a while", "/group", "", "", 503, "request to upstream group failed", "no upstreams available"},
		{"the name of a group", "/name", "", "", 502, "upstream is a host name here, but an upstream group has the same name; use proxy_pass for the group", ""},
	} {
		a := s.get(row.path, row.user, row.password)
		if a.Status != row.status {
			t.Errorf("%s: got %d %q, want %d", row.name, a.Status, a.Body, row.status)
		}
		if row.path == "/nothing" && a.Body != "" || row.path == "/exempt?n=6" && a.Body != "user:" {
			t.Errorf("%s: got %q, want it empty", row.name, a.Body)
		}
		if row.message != "" {
			says(row.name, row.message, row.word)
		}
	}
	if a := s.Send("/", http.Header{"Authorization": {authorization("ann", "ann"), authorization("bob", "bob")}}); a.Status != 400 {
		t.Errorf("two headers: got %d, want 400", a.Status)
	}
	says("two headers", "request with more than one Authorization header refused with 400")
	if a := s.Plain("/", nil); a.Status != 403 {
		t.Errorf("plain HTTP: got %d, want 403", a.Status)
	}
	says("plain HTTP", "request over plain HTTP refused with 403", `"fix":"`)
	r := s.Request(http.MethodGet, "/", nil)
	r.Host = "other.example"
	if a := s.Do(r); a.Status != 200 || a.Body != "" || a.Header.Get("Www-Authenticate") != "" {
		t.Errorf("another host: got %d %q, want 200 without a body", a.Status, a.Body)
	}
	for i := range 11 {
		if a := s.get("/", "bob", fmt.Sprint("wrong", i)); (a.Status == 429) != (i == 10) {
			t.Errorf("guess %d: got %d, want 429 for the last one only", i, a.Status)
		}
	}
	says("too many", "login rate limit exceeded; responding 429 until the window ends", `"user":"bob"`)

	single := filepath.Join(dir, "single")
	putInPlace(t, single, "<html>\n")
	says("a new version that is invalid", "cannot load file; keeping the previous version", single)
	if a := s.get("/single", "ann", "ann"); a.Status != 200 {
		t.Errorf("by the previous version: got %d, want 200", a.Status)
	}
	putInPlace(t, single, "")
	says("an empty file", "file is empty; keeping the previous version for a grace period", single)

	console := strings.Join(blocks(t, troubleshootingPage, "console"), "")
	command := func(line string) []string {
		t.Helper()
		if !strings.Contains(console, line+"\n") {
			t.Errorf("not on the page: %s", line)
		}
		return strings.Fields(strings.Replace(strings.TrimPrefix(line, "sudo caddy "), "/etc/caddy/.htpasswd", "users", 1))
	}
	if out, code := s.caddy(command("sudo caddy htpasswd --check /etc/caddy/.htpasswd")...); code != 0 || !strings.Contains(out, "users:5: locked: user eve") {
		t.Errorf("got exit code %d and %s, want the locked account", code, out)
	}
	verify := command("sudo caddy htpasswd -v /etc/caddy/.htpasswd alice")
	for _, row := range []struct {
		user, password string
		want           int
	}{{"alice", "secret", 0}, {"alice", "wrong", 3}, {"nobody", "secret", 6}, {"latin", "café", 3}} {
		cmd := s.command(verify...)
		cmd.Args[len(cmd.Args)-1] = row.user
		cmd.Args[len(cmd.Args)-3] = "-vi" // instead of a terminal
		cmd.Stdin = strings.NewReader(row.password + "\n")
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != row.want {
			t.Errorf("%s with %s: got exit code %d and %s, want %d", row.user, row.password, got, out, row.want)
		}
	}
	if a := s.get("/", "alice", "wrong"); a.Status != 401 {
		t.Errorf("a wrong password: got %d, want 401", a.Status)
	}
	eventually(t, "the log has the failed login", func() bool { return strings.Contains(s.process.Said(), `"user":"alice"`) })
	must(t, os.WriteFile(filepath.Join(dir, "journal"), []byte(s.process.Said()), 0o600))
	run := func(line string) string {
		t.Helper()
		if !strings.Contains(console, line+"\n") {
			t.Errorf("not on the page: %s", line)
		}
		return testkit.Run(t, "sh", "-c", strings.NewReplacer("curl ", program(t, "curl")+" -s -k ", "-u alice", "-u alice:secret", "https://example.com", s.URL(""),
			"localhost:2019", fmt.Sprintf("localhost:%d", s.Admin), "journalctl -u caddy --since -1h", "cat "+filepath.Join(dir, "journal")).Replace(line))
	}
	for line, want := range map[string]string{
		`journalctl -u caddy --since -1h | grep '"user":"alice"'`: `"reason":"wrong password"`,
		"curl localhost:2019/htpasswd":                            `"path":"` + single + `"`,
		"curl localhost:2019/htpasswd/throttle":                   `"user":"bob"`,
		"curl -i https://example.com/":                            "HTTP/2 401",
		"curl -i -u alice https://example.com/":                   "HTTP/2 200",
	} {
		if out := run(line); !strings.Contains(out, want) {
			t.Errorf("%s: got %s, want %s", line, out, want)
		}
	}
}

// TestTroubleshootingStart has Caddy refuse configurations with the errors of the page.
func TestTroubleshootingStart(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"users": plain("ann"), "bad": "<html>\n"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640))
	}
	s := newServerIn(t, dir)
	in := func(block string) string { return "https://localhost:{https} {\n" + block + "\n\trespond ok\n}" }
	htpasswd := func(lines string) string { return in("\thtpasswd {\n\t\t" + lines + "\n\t}") }
	const elsewhere = "" // another test, or nothing that runs here
	cases := map[string]string{
		"unrecognized directive: htpasswd":             in("\txyzzy"),
		"no such file":                                 htpasswd("file {dir}/none"),
		"permission denied":                            elsewhere, // root may read all files
		"is not a regular file":                        htpasswd("file /dev/null"),
		"is a directory":                               htpasswd("file {dir}"),
		"no valid user:hash line":                      htpasswd("file {dir}/bad"),
		"0 links":                                      elsewhere, // TestOrphanedSite
		"expected at least one password file":          in("\thtpasswd {dir}/users"),
		"put the file inside the block":                in("\thtpasswd users"),
		"would leave nothing protected":                htpasswd("file {dir}/users\n\t\texempt *"),
		"before 'htpasswd' has verified a user":        in("\troot /srv/{http.auth.user.id}\n\thtpasswd {\n\t\tfile {dir}/users\n\t}"),
		"address already in use":                       elsewhere, // Caddy's
		"unknown engine":                               elsewhere, // TestFleetSettings
		"there is no local copy of an earlier version": elsewhere, // TestFleetFileDown
		"sealed with another secret":                   elsewhere, // TestFleetFileForged
		"max_stale allows no version older":            elsewhere, // TestFleetFileMaxStale
	}
	listed := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)`.*$").FindAllStringSubmatch(section(t, troubleshootingPage, "Caddy does not start, or refuses to reload"), -1) {
		listed[row[1]] = true
		sites, ok := cases[row[1]]
		if !ok {
			t.Errorf("no configuration for %q", row[1])
		}
		if sites == elsewhere {
			continue
		}
		s.configure("", sites)
		want := strings.NewReplacer(": htpasswd", ": xyzzy").Replace(row[1])
		if out, code := s.caddy("validate", "--config", "Caddyfile"); code != 1 || !strings.Contains(out, want) {
			t.Errorf("%s: got exit code %d and %s, want 1 and %q", row[1], code, out, want)
		}
	}
	if len(listed) != len(cases) {
		t.Errorf("got %d errors on the page, want all %d", len(listed), len(cases))
	}
}

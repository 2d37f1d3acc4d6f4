package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// binary is a test binary with all mutations of a package. For each mutation, it has
// a mutated copy of a function. The function calls the copy if that mutation is
// selected. So the package, which takes longer to build than to test, is built once.
type binary struct {
	path, dir, skip string
	broken          map[int]string // why a mutation does not compile, by its number
	sources         []*source
}

// switchFile has the variable that selects the mutation.
const switchFile = "mutant_switch.go"

// restore restores the files.
func (b *binary) restore() {
	for _, s := range b.sources {
		_ = os.WriteFile(s.path, []byte(s.text), 0o600)
	}
	_ = os.Remove(filepath.Join(b.dir, switchFile))
}

// source is a file of a package.
type source struct {
	path  string
	text  string
	file  *ast.File
	set   *token.FileSet
	edits map[int]string // what to insert, by offset
	tail  strings.Builder
	owner []int // the mutation of each line of tail, -1 for none
}

// build builds the tests of a package in a copy of the tree, with all mutations.
func (t *target) build(scratch string) (*binary, error) {
	dir := filepath.Join(scratch, t.dir)
	b := &binary{path: filepath.Join(scratch, "mutants.test"), dir: dir, skip: t.skip, broken: make(map[int]string)}
	sources, err := parseDir(dir)
	if err != nil {
		return nil, err
	}
	b.sources = sources
	places := make([]place, len(t.mutations))
	var errs []error
	for i, m := range t.mutations {
		places[i], err = findPlace(sources, m.old)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.fault, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	switchText := fmt.Sprintf("package %s\n\nimport (\n\t\"os\"\n\t\"strconv\"\n)\n\n"+
		"var activeMutant = func() int { n, _ := strconv.Atoi(os.Getenv(\"MUTANT\")); return n }()\n", sources[0].file.Name.Name)
	if err := os.WriteFile(filepath.Join(dir, switchFile), []byte(switchText), 0o600); err != nil {
		return nil, err
	}
	for { // until all remaining mutations compile
		for _, s := range sources {
			s.reset()
		}
		for i, p := range places {
			if b.broken[i] == "" {
				p.source.add(i, p.function, t.mutations[i])
			}
		}
		for _, s := range sources {
			if err := os.WriteFile(s.path, []byte(s.mutated()), 0o600); err != nil {
				return nil, err
			}
		}
		isNew, err := compile(dir, sources, b.broken)
		if err != nil {
			return nil, err
		}
		if !isNew {
			break
		}
	}
	args := []string{"test", "-c", "-ldflags=-s -w", "-o", b.path}
	if t.race {
		args = append(args, "-race")
	}
	c := exec.Command("go", append(args, ".")...) //nolint:gosec // made here
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return b, nil
}

// parseDir parses the files of a package that are built here, without tests.
func parseDir(dir string) (sources []*source, err error) {
	list := exec.Command("go", "list", "-f", `{{range .GoFiles}}{{.}}{{"\n"}}{{end}}`, ".")
	list.Dir = dir
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	for name := range strings.FieldsSeq(string(out)) {
		s := &source{path: filepath.Join(dir, name), set: token.NewFileSet()}
		text, err := os.ReadFile(s.path)
		if err != nil {
			return nil, err
		}
		s.text = string(text)
		if s.file, err = parser.ParseFile(s.set, s.path, text, parser.SkipObjectResolution); err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	return sources, nil
}

// place is the function that a mutation changes.
type place struct {
	source   *source
	function *ast.FuncDecl
}

// findPlace finds the function that a text is in. The text must be unique in
// the package.
func findPlace(sources []*source, old string) (found place, err error) {
	n := 0
	for _, s := range sources {
		n += strings.Count(s.text, old)
		at := strings.Index(s.text, old)
		if at < 0 {
			continue
		}
		for _, d := range s.file.Decls {
			f, isFunction := d.(*ast.FuncDecl)
			if isFunction && s.offset(f.Pos()) <= at && at+len(old) <= s.offset(f.End()) {
				found = place{s, f}
			}
		}
	}
	switch {
	case n != 1:
		return place{}, fmt.Errorf("the text occurs %d times in the code, want once: %q", n, old)
	case found.function == nil:
		return place{}, fmt.Errorf("the text is not in a function: %q", old)
	}
	return found, nil
}

func (s *source) offset(p token.Pos) int { return s.set.Position(p).Offset }

func (s *source) reset() {
	s.edits, s.owner = make(map[int]string), nil
	s.tail.Reset()
}

// add adds a mutated copy of a function, and a call of it to the function.
func (s *source) add(number int, f *ast.FuncDecl, m mutation) {
	copyName := fmt.Sprintf("%s_mutant%d", f.Name.Name, number)
	begin := s.offset(f.Pos())
	name := s.offset(f.Name.Pos()) - begin // no mutation changes what is before it
	text := strings.Replace(s.text[begin:s.offset(f.End())], m.old, m.new, 1)
	text = text[:name] + copyName + text[name+len(f.Name.Name):]
	s.tail.WriteString("\n" + text + "\n")
	for range strings.Count(text, "\n") + 2 {
		s.owner = append(s.owner, number)
	}
	call := copyName
	if f.Recv != nil {
		call = f.Recv.List[0].Names[0].Name + "." + call
	} else if f.Type.TypeParams != nil {
		call += "[" + strings.Join(fieldNames(f.Type.TypeParams), ", ") + "]"
	}
	arguments := strings.Join(fieldNames(f.Type.Params), ", ")
	if list := f.Type.Params.List; len(list) > 0 {
		if _, isVariadic := list[len(list)-1].Type.(*ast.Ellipsis); isVariadic {
			arguments += "..."
		}
	}
	call += "(" + arguments + ")"
	if f.Type.Results != nil {
		call = "return " + call
	} else {
		call += "; return"
	}
	s.edits[s.offset(f.Body.Lbrace)+1] += fmt.Sprintf(" if activeMutant == %d { %s }; ", number, call) // on the same line
}

func fieldNames(fields *ast.FieldList) (names []string) {
	for _, field := range fields.List {
		for _, name := range field.Names {
			names = append(names, name.Name)
		}
	}
	return names
}

// mutated returns the text with all additions.
func (s *source) mutated() string {
	var text strings.Builder
	at := 0
	for _, offset := range slices.Sorted(maps.Keys(s.edits)) {
		text.WriteString(s.text[at:offset] + s.edits[offset])
		at = offset
	}
	return text.String() + s.text[at:] + s.tail.String()
}

// compileError matches an error of the compiler.
var compileError = regexp.MustCompile(`(?m)^(?:vet: )?(?:\./)?(\S+\.go):(\d+):\d+: (.*)$`)

// compile notes which mutations do not compile, and reports whether it found new ones.
func compile(dir string, sources []*source, broken map[int]string) (isNew bool, err error) {
	c := exec.Command("go", "build", "-gcflags=-e", ".")
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err == nil {
		return false, nil
	}
	for _, found := range compileError.FindAllStringSubmatch(string(out), -1) {
		line, _ := strconv.Atoi(found[2])
		for _, s := range sources {
			at := line - 1 - strings.Count(s.text, "\n")
			if filepath.Base(s.path) == found[1] && at >= 0 && at < len(s.owner) {
				broken[s.owner[at]], isNew = found[3], true
			}
		}
	}
	if !isNew {
		return false, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return true, nil
}

package e2e

import (
	"errors"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the root of the repository.
const root = ".."

// TestInternalDoesNotImportCaddy lists all dependencies of packages under internal/.
func TestInternalDoesNotImportCaddy(t *testing.T) {
	t.Parallel()
	list := exec.Command("go", "list", "-deps", "./internal/...")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		if strings.HasPrefix(path, "github.com/caddyserver/") {
			t.Errorf("a package under internal/ imports %s; list it with: go list -deps ./internal/...", path)
		}
	}
}

// maxLines is the maximum length of a source file. Tests may be longer.
const maxLines = 400

func TestFilesAreShort(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "build" || strings.HasPrefix(entry.Name(), ".") && path != root) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if n := strings.Count(string(text), "\n"); n > maxLines {
			t.Errorf("%s has %d lines, want at most %d: move a part into another file or package", path, n, maxLines)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "module_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > 600 {
		t.Errorf("module_test.go has %d lines, want at most 600: move tests beside what they test", n)
	}
}

// maxCycle limits how many files of the root package depend on each other through
// package-level names. The largest such set is the login.
const maxCycle = 9

func TestRootFilesHaveNoLargeCycle(t *testing.T) {
	t.Parallel()
	uses := usesBetweenFiles(t, root)
	cycle := slices.MaxFunc(cycles(uses), func(a, b []string) int { return len(a) - len(b) })
	t.Logf("%d files; the largest cycle: %s", len(uses), strings.Join(cycle, ", "))
	if len(cycle) > maxCycle {
		for _, file := range cycle {
			for other, names := range uses[file] {
				if slices.Contains(cycle, other) {
					t.Logf("%s uses %s of %s", file, strings.Join(slices.Sorted(maps.Keys(names)), ", "), other)
				}
			}
		}
		t.Errorf("%d files use each other, want at most %d", len(cycle), maxCycle)
	}
}

// fileUses maps each file to the files whose package-level names it uses, and these
// to the names.
type fileUses map[string]map[string]map[string]bool

// usesBetweenFiles type-checks a package without its imports, which are not needed
// to resolve names of the package itself.
func usesBetweenFiles(t *testing.T, dir string) fileUses {
	t.Helper()
	found, err := build.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	uses := make(fileUses)
	for _, name := range found.GoFiles {
		file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		uses[name] = make(map[string]map[string]bool)
	}
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: noImports{}, Error: func(error) {}}
	pkg, _ := config.Check(found.Name, fset, files, info) // errors come from the missing imports
	for id, object := range info.Uses {
		if object.Parent() != pkg.Scope() {
			continue
		}
		from, to := filepath.Base(fset.Position(id.Pos()).Filename), filepath.Base(fset.Position(object.Pos()).Filename)
		if from == to {
			continue
		}
		if uses[from][to] == nil {
			uses[from][to] = make(map[string]bool)
		}
		uses[from][to][object.Name()] = true
	}
	return uses
}

// noImports is an importer that finds no package.
type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not imported") }

// cycles returns the sets of files that depend on each other: strongly connected
// components, by Tarjan's algorithm.
func cycles(uses fileUses) [][]string {
	var found [][]string
	var stack []string
	number, low := make(map[string]int), make(map[string]int)
	var visit func(file string)
	visit = func(file string) {
		number[file] = len(number) + 1
		low[file] = number[file]
		stack = append(stack, file)
		for _, other := range slices.Sorted(maps.Keys(uses[file])) {
			if number[other] == 0 {
				visit(other)
				low[file] = min(low[file], low[other])
			} else if slices.Contains(stack, other) {
				low[file] = min(low[file], number[other])
			}
		}
		if low[file] == number[file] {
			i := slices.Index(stack, file)
			cycle := slices.Sorted(slices.Values(stack[i:]))
			stack = stack[:i]
			found = append(found, cycle)
		}
	}
	for _, file := range slices.Sorted(maps.Keys(uses)) {
		if number[file] == 0 {
			visit(file)
		}
	}
	return found
}

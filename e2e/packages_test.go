package e2e

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// architecturePage lists the packages and their imports.
const architecturePage = "../docs/architecture.md"

// redisModule is the directory of the Go module of the store on Redis.
const redisModule = "../fleet/redis"

// goPackage is the output of go list for a package.
type goPackage struct {
	Dir, ImportPath, Name     string
	GoFiles, IgnoredGoFiles   []string // IgnoredGoFiles are for other systems, and can be tests
	TestGoFiles, XTestGoFiles []string
	Imports                   []string // of GoFiles
}

// packagesIn lists the packages of the module in a directory.
func packagesIn(t *testing.T, dir string) []goPackage {
	t.Helper()
	list := exec.Command("go", "list", "-json=Dir,ImportPath,Name,GoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Imports", "./...")
	list.Dir = dir
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// module is the path of the plugin's module.
const module = "github.com/seed10b5b978/caddy-htpasswd"

// pathInModule returns the path of a package as written on the page, or "" for a
// package of another module.
func pathInModule(importPath string) string {
	if importPath == module {
		return "caddyhtpasswd"
	}
	path, _ := strings.CutPrefix(importPath, module+"/")
	if path == importPath {
		return ""
	}
	return path
}

// TestArchitectureArrows compares the arrows of the diagram with the imports, and
// the rows of the table with the packages.
func TestArchitectureArrows(t *testing.T) {
	t.Parallel()
	text := readText(t, architecturePage)
	arrows, rows := arrowsIn(t, text), packageRows(text)
	imports, packages := make(map[string]bool), make(map[string]bool)
	for _, p := range slices.Concat(packagesIn(t, root), packagesIn(t, redisModule)) {
		from := pathInModule(p.ImportPath)
		packages[from] = true
		for _, path := range p.Imports {
			if to := pathInModule(path); to != "" {
				imports[from+" --> "+to] = true
			}
		}
	}
	if len(imports) == 0 || len(arrows) == 0 || len(rows) == 0 {
		t.Fatalf("found %d imports, %d arrows, %d rows, want some of each", len(imports), len(arrows), len(rows))
	}
	compareSets(t, arrows, imports, "the diagram has an arrow without an import", "the diagram has no arrow for the import")
	compareSets(t, rows, packages, "the table has a row without a package", "the table has no row for the package")
}

// compareSets reports items that are in only one of two sets.
func compareSets(t *testing.T, page, code map[string]bool, onlyPage, onlyCode string) {
	t.Helper()
	for _, item := range slices.Sorted(maps.Keys(page)) {
		if !code[item] {
			t.Errorf("%s: %s: %s", architecturePage, onlyPage, item)
		}
	}
	for _, item := range slices.Sorted(maps.Keys(code)) {
		if !page[item] {
			t.Errorf("%s: %s: %s", architecturePage, onlyCode, item)
		}
	}
}

// arrowsIn returns the arrows of the first diagram of a page, by the labels of
// their nodes. Arrows are lines such as "a --> b & c", and nodes such as a["path"].
func arrowsIn(t *testing.T, page string) map[string]bool {
	t.Helper()
	_, diagram, found := strings.Cut(page, "```mermaid\n")
	diagram, _, closed := strings.Cut(diagram, "```")
	if !found || !closed {
		t.Fatalf("%s has no diagram", architecturePage)
	}
	labels := make(map[string]string)
	for _, m := range regexp.MustCompile(`(\w+)\["([^"]+)"\]`).FindAllStringSubmatch(diagram, -1) {
		labels[m[1]] = m[2]
	}
	arrows := make(map[string]bool)
	for line := range strings.Lines(diagram) {
		from, to, isArrow := strings.Cut(strings.TrimSpace(line), " --> ")
		if !isArrow {
			continue
		}
		for _, from := range strings.Split(from, " & ") {
			for _, to := range strings.Split(to, " & ") {
				if labels[from] == "" || labels[to] == "" {
					t.Errorf("%s: a node of %q has no label", architecturePage, line)
				}
				arrows[labels[from]+" --> "+labels[to]] = true
			}
		}
	}
	return arrows
}

// packageRows returns the packages in the table of the section "Packages".
func packageRows(page string) map[string]bool {
	_, section, _ := strings.Cut(page, "\n## Packages\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1) {
		rows[m[1]] = true
	}
	return rows
}

// TestArchitectureNames checks that the files and identifiers on the page exist,
// except in the section on future additions.
func TestArchitectureNames(t *testing.T) {
	t.Parallel()
	text, _, found := strings.Cut(readText(t, architecturePage), "\n## Where new things go\n")
	if !found {
		t.Fatalf("%s has no section on future additions", architecturePage)
	}
	files, names := declaredNames(t, slices.Concat(packagesIn(t, root), packagesIn(t, redisModule)), false)
	checkNames(t, architecturePage, text, files, names)
}

// TestContributingNames does the same for CONTRIBUTING.md, and checks its tests and
// targets of the Makefile.
func TestContributingNames(t *testing.T) {
	t.Parallel()
	const page = "../CONTRIBUTING.md"
	files, names := declaredNames(t, slices.Concat(packagesIn(t, root), packagesIn(t, redisModule), packagesIn(t, ".")), true)
	text := readText(t, page)
	checkNames(t, page, text, files, names)
	makefile := readText(t, "../Makefile")
	for _, m := range regexp.MustCompile("`make ([^`]+)`").FindAllStringSubmatch(text, -1) {
		if !strings.Contains(makefile, "\n"+m[1]+":") {
			t.Errorf("%s: the Makefile has no target %q", page, m[1])
		}
	}
	for _, m := range regexp.MustCompile(`-(?:run|fuzz|bench) '?(\w+)`).FindAllStringSubmatch(text, -1) {
		isPrefix := func(name string) bool {
			return strings.HasPrefix(name, m[1]) || strings.HasPrefix(name, "Benchmark"+m[1])
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(names)), isPrefix) {
			t.Errorf("%s: there is no test %q", page, m[0])
		}
	}
}

// checkNames reports files and identifiers that a page names, but the code does not
// have. Identifiers are recognized by a dot or a capital letter.
func checkNames(t *testing.T, page, text string, files, names map[string]bool) {
	t.Helper()
	isName := regexp.MustCompile(`^(?:\w+\.\w+(?:\.\w+)?|\w*[a-z]\w*[A-Z]\w*|[A-Z]\w*[a-z]\w*)$`)
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(text, -1) {
		switch name := m[1]; {
		case strings.HasSuffix(name, ".go"):
			if !files[name] {
				t.Errorf("%s: there is no file %s", page, name)
			}
		case strings.Contains(name, "_") || slices.Contains([]string{".md", ".mod", ".txt"}, filepath.Ext(name)):
		case regexp.MustCompile(`^v\d+\.\d+\.\d+$`).MatchString(name): // a version
		case isName.MatchString(name) && !names[name]:
			t.Errorf("%s: the code declares no %s; write methods as Type.method", page, name)
		}
	}
}

// declaredNames returns the source files of packages, by name and by path in the
// module, and the identifiers that they declare: Name, Type.method and Type.field,
// with and without the name of the package.
func declaredNames(t *testing.T, packages []goPackage, withTests bool) (files, names map[string]bool) {
	t.Helper()
	files, names = make(map[string]bool), make(map[string]bool)
	for _, p := range packages {
		parsed := parseFiles(t, p)
		if withTests {
			maps.Copy(parsed, parse(t, p.Dir, slices.Concat(p.TestGoFiles, p.XTestGoFiles)))
		}
		for name, file := range parsed {
			files[name], files[pathInModule(p.ImportPath)+"/"+name] = true, true
			for _, d := range declarationsIn(file) {
				names[d.name], names[p.Name+"."+d.name] = true, true
			}
		}
	}
	return files, names
}

// parseFiles parses the files of a package, except tests.
func parseFiles(t *testing.T, p goPackage) map[string]*ast.File {
	t.Helper()
	isTest := func(name string) bool { return strings.HasSuffix(name, "_test.go") }
	return parse(t, p.Dir, slices.DeleteFunc(slices.Concat(p.GoFiles, p.IgnoredGoFiles), isTest))
}

// parse parses files of a directory.
func parse(t *testing.T, dir string, names []string) map[string]*ast.File {
	t.Helper()
	files := make(map[string]*ast.File)
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = file
	}
	return files
}

// declaration is an identifier that a file declares.
type declaration struct {
	name    string // methods, fields of structs and methods of interfaces: Type.name
	comment string // "" if it has none
	isField bool   // a field of a struct, whose name can be enough
	isValue bool   // a constant or variable, which can share a comment with others
}

// declarationsIn returns the declarations of a file.
func declarationsIn(file *ast.File) []declaration {
	var found []declaration
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				name = receiver(d.Recv.List[0].Type) + "." + name
			}
			found = append(found, declaration{name: name, comment: d.Doc.Text()})
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				found = append(found, declarationsOf(spec, d.Doc.Text())...)
			}
		}
	}
	return found
}

// declarationsOf returns the declarations of a type, of constants or variables.
func declarationsOf(spec ast.Spec, above string) []declaration {
	var found []declaration
	switch s := spec.(type) {
	case *ast.TypeSpec:
		found = append(found, declaration{name: s.Name.Name, comment: above + s.Doc.Text()})
		var parts *ast.FieldList
		isField := false
		switch typ := s.Type.(type) {
		case *ast.StructType:
			parts, isField = typ.Fields, true
		case *ast.InterfaceType:
			parts = typ.Methods
		default:
			return found
		}
		for _, part := range parts.List {
			for _, name := range part.Names {
				found = append(found, declaration{name: s.Name.Name + "." + name.Name, comment: part.Doc.Text() + part.Comment.Text(), isField: isField})
			}
		}
	case *ast.ValueSpec:
		for _, name := range s.Names {
			found = append(found, declaration{name: name.Name, comment: above + s.Doc.Text() + s.Comment.Text(), isValue: true})
		}
	}
	return found
}

// receiver returns the type name of a receiver.
func receiver(typ ast.Expr) string {
	switch typ := typ.(type) {
	case *ast.StarExpr:
		return receiver(typ.X)
	case *ast.IndexExpr:
		return receiver(typ.X)
	case *ast.IndexListExpr:
		return receiver(typ.X)
	case *ast.Ident:
		return typ.Name
	}
	return ""
}

// TestPackageComments checks that each package has a comment that begins with its name.
func TestPackageComments(t *testing.T) {
	t.Parallel()
	for _, p := range slices.Concat(packagesIn(t, root), packagesIn(t, redisModule), packagesIn(t, ".")) {
		if len(p.GoFiles) == 0 {
			continue // only tests
		}
		begin := "Package " + p.Name + " "
		if p.Name == "main" {
			begin = "Command " + filepath.Base(p.Dir) + " "
		}
		hasComment := false
		for name, file := range parseFiles(t, p) {
			if file.Doc == nil {
				continue
			}
			hasComment = true
			if !strings.HasPrefix(file.Doc.Text(), begin) {
				t.Errorf("%s of %s: the package comment begins with %.40q, want %q", name, p.ImportPath, file.Doc.Text(), begin)
			}
		}
		if !hasComment {
			t.Errorf("%s has no package comment, want one that begins with %q", p.ImportPath, begin)
		}
	}
}

// TestExportedNamesHaveComments checks that exported identifiers under internal/,
// except fields of structs, have a comment that begins with the name.
func TestExportedNamesHaveComments(t *testing.T) {
	t.Parallel()
	for _, p := range packagesIn(t, filepath.Join(root, "internal")) {
		for file, parsed := range parseFiles(t, p) {
			for _, d := range declarationsIn(parsed) {
				name := d.name[strings.LastIndexByte(d.name, '.')+1:]
				if d.isField || !isExported(d.name) {
					continue
				}
				switch begin := regexp.MustCompile(`^(?:An? |The )?` + name + `\b`); {
				case d.comment == "":
					t.Errorf("%s of %s: %s has no comment", file, p.ImportPath, d.name)
				case !d.isValue && !begin.MatchString(d.comment):
					t.Errorf("%s of %s: the comment of %s begins with %.40q, want the name", file, p.ImportPath, d.name, d.comment)
				}
			}
		}
	}
}

// isExported reports whether all parts of a name are exported.
func isExported(name string) bool {
	for part := range strings.SplitSeq(name, ".") {
		if !ast.IsExported(part) {
			return false
		}
	}
	return true
}

package docscheck

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A term is a word, or several, that the glossary replaces.
type term struct {
	pattern *regexp.Regexp
	say     string
	except  []string // words after it with which it is allowed
}

// not returns a term of the glossary. A space in the pattern also matches line ends
// and comment markers in a text.
func not(pattern, say string, except ...string) term {
	return term{regexp.MustCompile(`(?i)` + strings.ReplaceAll(pattern, " ", `[\s#/*_-]+`)), say, except}
}

// terms are the words that have no other meaning in this project.
var terms = []term{
	not(`log-ins?`, "login"),
	not(`budgets?`, "limit"),
	not(`used up`, "exceeded"),
	not(`in force`, "active"),
	not(`bad lines?`, "invalid line"),
	not(`folders?`, "directory"),
	not(`blanks`, "whitespace"),
	not(`blank`, "whitespace", "line", "page", "identifier", "import", "field", "password", "user", "value"),
	not(`dear(?:er|est)`, "most expensive"),
	not(`(?:by|in) turns`, "alternating"),
	not(`anew`, "create, replace, reset, again"),
	not(`mend(?:s|ed|ing)?`, "fix"),
	not(`who(?:m)?(?:so)?ever`, "users who, clients that"),
	not(`whom (?:it|they|that) names?`, "its user"),
	not(`in calm`, "baseline"),
	not(`quickly undone`, "weak"),
	not(`last good`, "previous"),
	not(`version (?:that was )?loaded before`, "previous version"),
	not(`go(?:es)? on \w+ing`, "continue"),
	not(`(?:somebody|someone|anybody|anyone|those) (?:who|that) (?:attacks?|guess(?:es)?)`, "attacker"),
	not(`known clients?`, "recognized client"),
	not(`remembered (?:logins?|passwords?|hash(?:es)?)`, "cached password; of a browser: saved password"),
	not(`hash slots?`, "hash queue, worker"),
	not(`comes? behind`, "upstream, follows"),
	not(`names? that can(?:no|')t log in`, "unknown user, invalid user"),
}

// findWords returns a fault for each word of a text that the glossary replaces.
// first is the line at which the text begins.
func findWords(file, text string, first int) []Fault {
	type word struct {
		at    int
		fault Fault
	}
	var words []word
	for _, t := range terms {
		for _, at := range t.pattern.FindAllStringIndex(text, -1) {
			before, _ := utf8.DecodeLastRuneInString(text[:at[0]])
			after, _ := utf8.DecodeRuneInString(text[at[1]:])
			if unicode.IsLetter(before) || unicode.IsLetter(after) {
				continue
			}
			next := strings.TrimLeft(text[at[1]:], " \n\t#/*_-")
			if slices.ContainsFunc(t.except, func(word string) bool { return strings.HasPrefix(next, word) }) {
				continue
			}
			found := strings.Join(strings.Fields(text[at[0]:at[1]]), " ")
			words = append(words, word{at[0], Fault{file, first + lineAt(text, at[0]) - 1, "'" + found + "': write " + t.say}})
		}
	}
	slices.SortStableFunc(words, func(a, b word) int { return a.at - b.at })
	var faults []Fault
	for _, w := range words {
		faults = append(faults, w.fault)
	}
	return faults
}

// Dialect searches a page, code blocks included.
func (p *Page) Dialect() []Fault { return findWords(p.Name, string(p.source), 1) }

// own is the directory of this package, the only one whose files may contain the
// words.
const own = "e2e/internal/docscheck/"

// Dialect searches comments and string literals of Go files, all files of
// examples, and the files that build the project. It does not search pages.
func Dialect(root string, tests bool) ([]Fault, error) {
	var faults []Fault
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if entry.IsDir() {
			if name == "build" || name == "e2e/output" || name == ".git" {
				return fs.SkipDir
			}
			return nil
		}
		switch {
		case strings.HasPrefix(name, own), !entry.Type().IsRegular():
		case path.Ext(name) == ".go":
			if tests || !strings.HasSuffix(name, "_test.go") {
				var found []Fault
				found, err = goWords(root, name)
				faults = append(faults, found...)
			}
		case isSearched(name):
			var text []byte
			text, err = readFile(root, name)
			faults = append(faults, findWords(name, string(text), 1)...)
		}
		return err
	})
	return faults, err
}

// isSearched reports whether a file that is neither Go nor a page is searched.
func isSearched(name string) bool {
	if strings.HasPrefix(name, "examples/") {
		return path.Ext(name) != ".pem" && path.Base(name) != ".htpasswd"
	}
	dir := path.Dir(name)
	return name == "Makefile" || name == ".golangci.yml" || name == ".editorconfig" ||
		dir == ".ci" || dir == ".github" || strings.HasPrefix(dir, ".github/")
}

// goWords searches the comments and string literals of a Go file.
func goWords(root, name string) ([]Fault, error) {
	source, err := readFile(root, name)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var faults []Fault
	search := func(pos token.Pos, text string) {
		faults = append(faults, findWords(name, text, fset.Position(pos).Line)...)
	}
	for _, group := range file.Comments {
		from, to := fset.Position(group.Pos()).Offset, fset.Position(group.End()).Offset
		search(group.Pos(), string(source[from:to]))
	}
	joined := make(map[ast.Node]bool) // operands of a concatenation
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.BinaryExpr:
			if text := literals(node, joined); text != "" && !joined[node] {
				search(node.Pos(), text)
			}
		case *ast.BasicLit:
			if node.Kind == token.STRING && !joined[node] {
				if text, err := strconv.Unquote(node.Value); err == nil {
					search(node.Pos(), text)
				}
			}
		}
		return true
	})
	slices.SortStableFunc(faults, func(a, b Fault) int { return a.Line - b.Line })
	return faults, nil
}

// literals returns the text of a concatenation, in which terms can span several
// literals. Each operand that is not a literal becomes '%'.
func literals(node ast.Expr, joined map[ast.Node]bool) string {
	switch node := node.(type) {
	case *ast.BinaryExpr:
		if node.Op != token.ADD {
			return ""
		}
		text := literals(node.X, joined) + literals(node.Y, joined)
		joined[node.X], joined[node.Y] = true, true
		return text
	case *ast.BasicLit:
		if node.Kind == token.STRING {
			text, _ := strconv.Unquote(node.Value)
			return text
		}
	}
	return "%"
}

package docscheck

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// Links follows the links of pages, and checks that the index of docs links to each
// page in docs.
func Links(root string, pages []*Page) []Fault {
	var faults []Fault
	targets := make(map[string]*Page) // pages that were read, by name
	for _, p := range pages {
		targets[p.Name] = p
	}
	for _, p := range pages {
		for _, l := range append(p.links, p.paths...) {
			if err := follow(root, p, l.to, targets); err != nil {
				faults = append(faults, Fault{p.Name, l.line, err.Error()})
			}
		}
	}
	index, err := Read(root, docsIndex)
	if err != nil {
		return append(faults, Fault{docsIndex, 1, err.Error()})
	}
	linked := map[string]bool{docsIndex: true}
	for _, l := range index.links {
		name, _, _ := strings.Cut(l.to, "#")
		linked[path.Join("docs", name)] = true
	}
	for _, p := range pages {
		if strings.HasPrefix(p.Name, "docs/") && !linked[p.Name] {
			faults = append(faults, Fault{docsIndex, 1, "no link to " + p.Name})
		}
	}
	return faults
}

var (
	scheme     = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*:`)
	lineAnchor = regexp.MustCompile(`^L\d+(-L\d+)?$`)
)

// follow returns an error if a link of a page is broken. Links to other sites are
// not checked.
func follow(root string, from *Page, to string, targets map[string]*Page) error {
	if scheme.MatchString(to) || strings.HasPrefix(to, "//") {
		return nil
	}
	name, anchor, _ := strings.Cut(to, "#")
	name, _, _ = strings.Cut(name, "?")
	name, err := url.PathUnescape(name)
	if err != nil {
		return fmt.Errorf("broken link %s: %w", to, err)
	}
	switch {
	case name == "":
		name = from.Name
	case strings.HasPrefix(name, "/"): // GitHub means the root of the repository
		name = path.Join(name[1:])
	default:
		name = path.Join(path.Dir(from.Name), name)
	}
	if name == ".." || strings.HasPrefix(name, "../") {
		return fmt.Errorf("broken link %s: it leads out of the repository", to)
	}
	info, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		return fmt.Errorf("broken link %s: no file %s", to, name)
	}
	if anchor == "" {
		return nil
	}
	if info.IsDir() {
		name = path.Join(name, "README.md") // GitHub shows it below the directory
	}
	if path.Ext(name) != ".md" {
		if lineAnchor.MatchString(anchor) {
			return nil
		}
		return fmt.Errorf("broken link %s: %s is not a page, want #L and a line", to, name)
	}
	page := targets[name]
	if page == nil {
		if page, err = Read(root, name); err != nil {
			return fmt.Errorf("broken link %s: %w", to, err)
		}
		targets[name] = page
	}
	if !page.anchors[anchor] {
		return fmt.Errorf("broken link %s: no heading #%s in %s", to, anchor, name)
	}
	return nil
}

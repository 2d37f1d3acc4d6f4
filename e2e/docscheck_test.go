package e2e

import (
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/e2e/internal/docscheck"
)

// TestDocsLinks follows the links of all pages. "make docs-check" does so, too,
// and measures the pages.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	names, err := docscheck.Pages(root)
	must(t, err)
	var pages []*docscheck.Page
	for _, name := range names {
		page, err := docscheck.Read(root, name)
		must(t, err)
		pages = append(pages, page)
	}
	for _, fault := range docscheck.Links(root, pages) {
		t.Error(fault)
	}
}

// TestDialect searches the code and the examples for words that the glossary
// replaces. "make docs-check" searches the pages, too.
func TestDialect(t *testing.T) {
	t.Parallel()
	faults, err := docscheck.Dialect(root, false)
	must(t, err)
	for _, fault := range faults {
		t.Error(fault)
	}
}

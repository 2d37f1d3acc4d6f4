package e2e

import (
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/e2e/internal/docscheck"
)

// docsCheckPages reads all pages.
func docsCheckPages(t *testing.T) []*docscheck.Page {
	t.Helper()
	names, err := docscheck.Pages(root)
	must(t, err)
	var pages []*docscheck.Page
	for _, name := range names {
		page, err := docscheck.Read(root, name)
		must(t, err)
		pages = append(pages, page)
	}
	return pages
}

// TestDocsLinks follows the links of all pages. "make docs-check" does so, too,
// and measures the pages.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	for _, fault := range docscheck.Links(root, docsCheckPages(t)) {
		t.Error(fault)
	}
}

// TestDialect searches pages, code and examples for words that the glossary
// replaces. "make docs-check" does so, too.
func TestDialect(t *testing.T) {
	t.Parallel()
	faults, err := docscheck.Dialect(root, false)
	must(t, err)
	for _, page := range docsCheckPages(t) {
		faults = append(faults, page.Dialect()...)
	}
	for _, fault := range faults {
		t.Error(fault)
	}
}

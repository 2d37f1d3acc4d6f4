// Command docscheck prints the length of each page of the documentation. It fails if a
// page or a sentence is too long, if a link is broken, or if a page, the code or an
// example contains a word that the glossary replaces. "make docs-check" runs it.
//
//	docscheck [-tests] [<root of the repository> [<page>...]]
//
// With pages, it checks only these pages.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/seed10b5b978/caddy-htpasswd/e2e/internal/docscheck"
)

func main() {
	tests := flag.Bool("tests", false, "search tests for words of the glossary, too")
	flag.Parse()
	root, pages := ".", flag.Args()
	if len(pages) > 0 {
		root, pages = pages[0], pages[1:]
	}
	n, err := run(root, pages, *tests)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "docscheck:", err)
		os.Exit(2)
	case n > 0:
		fmt.Fprintf(os.Stderr, "docscheck: %d to correct\n", n)
		os.Exit(1)
	}
}

// run prints a table and all faults, and returns how many there are.
func run(root string, names []string, tests bool) (int, error) {
	all := len(names) == 0
	if all {
		var err error
		if names, err = docscheck.Pages(root); err != nil {
			return 0, err
		}
	}
	pages, faults, err := docscheck.Check(root, names)
	if err != nil {
		return 0, err
	}
	if all {
		words, err := docscheck.Dialect(root, tests)
		if err != nil {
			return 0, err
		}
		faults = append(faults, words...)
	}
	if err := docscheck.WriteTable(os.Stdout, pages); err != nil {
		return 0, err
	}
	for _, fault := range faults {
		fmt.Println(fault)
	}
	return len(faults), nil
}

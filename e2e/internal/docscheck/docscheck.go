// Package docscheck measures the documentation, follows its links, and searches
// for words that the glossary of the project replaces.
//
// How a page is measured:
//
//   - Lines and words are counted as by wc: in the whole file, code blocks included.
//   - Paragraphs and list items are split into sentences. A sentence ends with
//     '.', '!' or '?' before whitespace, or with its block. A heading, a table
//     cell and the text of an image are sentences of their own. Code blocks, the
//     delimiter rows of tables, and addresses of links are not counted.
//   - A word contains a letter or digit. A code span is one word, and so is an
//     address. Neither ends a sentence.
//   - MaxSentence applies to every sentence. The average is that of paragraphs and
//     list items only: headings and cells of one word would hide long sentences.
package docscheck

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
)

// Limits of pages. Sentences are measured in words.
const (
	MaxReadmeLines = 260
	MaxReadmeWords = 1800
	MaxAverage     = 20
	MaxSentence    = 35
)

// A Fault is something to correct.
type Fault struct {
	File string
	Line int
	Text string
}

func (f Fault) String() string { return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text) }

// topPages are the pages outside docs.
var topPages = []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"}

// docsIndex is the page that must link to each page in docs.
const docsIndex = "docs/README.md"

// Pages returns the names of all pages, relative to root.
func Pages(root string) ([]string, error) {
	pages := slices.Clone(topPages)
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if filepath.Ext(path) == ".md" {
			name, err := filepath.Rel(root, path)
			pages = append(pages, filepath.ToSlash(name))
			return err
		}
		return nil
	})
	return pages, err
}

// Check reads pages, and returns them with their faults.
func Check(root string, names []string) ([]*Page, []Fault, error) {
	var pages []*Page
	var faults []Fault
	for _, name := range names {
		page, err := Read(root, name)
		if errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, Fault{name, 1, "no such page"})
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		pages = append(pages, page)
		faults = append(faults, page.lengths()...)
		faults = append(faults, page.Dialect()...)
	}
	return pages, append(faults, Links(root, pages)...), nil
}

// lengths returns a fault for each length of the page that exceeds its limit.
func (p *Page) lengths() []Fault {
	var faults []Fault
	report := func(line int, format string, args ...any) {
		faults = append(faults, Fault{p.Name, line, fmt.Sprintf(format, args...)})
	}
	if p.Name == "README.md" {
		if p.Lines > MaxReadmeLines {
			report(1, "%d lines, want at most %d", p.Lines, MaxReadmeLines)
		}
		if p.Words > MaxReadmeWords {
			report(1, "%d words, want at most %d", p.Words, MaxReadmeWords)
		}
	}
	if average := p.Average(); average > MaxAverage {
		report(1, "sentences have %.1f words on average, want at most %d", average, MaxAverage)
	}
	for _, s := range p.Sentences {
		if s.Words > MaxSentence {
			report(s.Line, "sentence of %d words, want at most %d: %s", s.Words, MaxSentence, s.Text)
		}
	}
	return faults
}

// WriteTable writes a row of figures for each page.
func WriteTable(w io.Writer, pages []*Page) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "lines\twords\tsentences\taverage\tlongest\t  page")
	for _, p := range pages {
		prose, longest := 0, 0
		for _, s := range p.Sentences {
			longest = max(longest, s.Words)
			if s.Prose {
				prose++
			}
		}
		_, _ = fmt.Fprintf(table, "%d\t%d\t%d\t%.1f\t%d\t  %s\n", p.Lines, p.Words, prose, p.Average(), longest, p.Name)
	}
	return table.Flush() // which reports the errors of all writes
}

// readFile returns the text of a file in root.
func readFile(root, name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(root, filepath.FromSlash(name))) //nolint:gosec // a file of the repository
}

// lineAt returns the number of the line of text that an offset is in, from 1.
func lineAt(text string, offset int) int {
	return 1 + strings.Count(text[:offset], "\n")
}

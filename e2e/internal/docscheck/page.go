package docscheck

import (
	"bytes"
	"fmt"
	"html"
	"regexp"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"
)

// A Page is a Markdown file with its measurements.
type Page struct {
	Name         string // relative to the root of the repository
	Lines, Words int
	Sentences    []Sentence
	links        []link
	paths        []link // code spans that name a file of the repository
	anchors      map[string]bool
	source       []byte
}

// A Sentence is one of a paragraph or list item if it is prose, and otherwise a
// heading, a table cell, or the text of an image.
type Sentence struct {
	Line  int
	Text  string
	Words int
	Prose bool
}

// A link leads to a file, a heading, or an address.
type link struct {
	line int
	to   string
}

// Average returns how many words the sentences of prose have on average.
func (p *Page) Average() float64 {
	words, sentences := 0, 0
	for _, s := range p.Sentences {
		if s.Prose {
			words += s.Words
			sentences++
		}
	}
	return float64(words) / float64(max(sentences, 1))
}

// Read reads a page of the repository at root.
func Read(root, name string) (*Page, error) {
	source, err := readFile(root, name)
	if err != nil {
		return nil, err
	}
	return parse(name, source), nil
}

var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser()

// parse measures the text of a page.
func parse(name string, source []byte) *Page {
	p := &Page{
		Name:    name,
		Lines:   bytes.Count(source, []byte("\n")),
		Words:   len(bytes.Fields(source)),
		anchors: make(map[string]bool),
		source:  source,
	}
	headings := make(map[string]int)
	document := markdown.Parse(text.NewReader(source))
	_ = ast.Walk(document, func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch node := node.(type) {
		case *ast.HTMLBlock:
			for i := range node.Lines().Len() {
				segment := node.Lines().At(i)
				p.addHTML(segment.Start, string(segment.Value(source)))
			}
		case *ast.Heading:
			words := p.addInline(node, false)
			p.addAnchor(headings, words)
		case *ast.Paragraph, *ast.TextBlock:
			p.addInline(node, true)
		case *extast.TableCell:
			p.addInline(node, false)
		}
		return ast.WalkContinue, nil
	})
	return p
}

// A char is a character of a sentence. Whitespace and full stops in code are
// part of a word.
type char struct {
	r    rune
	at   int // offset in the source
	code bool
}

// addInline adds the sentences and links of a block, and returns its text.
func (p *Page) addInline(block ast.Node, prose bool) string {
	var chars []char
	at := 0 // offset of the last text that was found
	add := func(segment text.Segment, code bool) {
		at = segment.Start
		for i, r := range string(segment.Value(p.source)) {
			chars = append(chars, char{r, segment.Start + i, code})
		}
	}
	inCode := false
	_ = ast.Walk(block, func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		switch node := node.(type) {
		case *ast.CodeSpan:
			inCode = entering
			if entering {
				p.addPath(node)
			}
		case *ast.Text:
			if entering {
				add(node.Segment, inCode)
				if node.SoftLineBreak() || node.HardLineBreak() {
					chars = append(chars, char{' ', node.Segment.Stop, inCode})
				}
			}
		case *ast.AutoLink:
			if entering {
				for _, r := range string(node.Label(p.source)) {
					chars = append(chars, char{r, at, true})
				}
			}
		case *ast.RawHTML:
			if entering {
				for i := range node.Segments.Len() {
					segment := node.Segments.At(i)
					p.addHTML(segment.Start, string(segment.Value(p.source)))
				}
				chars = append(chars, char{' ', at, false})
			}
		case *ast.Link:
			if entering {
				p.links = append(p.links, link{p.lineOf(node, at), string(node.Destination)})
			}
		case *ast.Image:
			if entering {
				p.links = append(p.links, link{p.lineOf(node, at), string(node.Destination)})
				var alt []char
				alt, chars = chars, alt // the text of an image is not part of the sentence around it
				for child := node.FirstChild(); child != nil; child = child.NextSibling() {
					if t, isText := child.(*ast.Text); isText {
						add(t.Segment, false)
					}
				}
				p.addSentences(chars, false)
				chars = alt
				return ast.WalkSkipChildren, nil
			}
		}
		return ast.WalkContinue, nil
	})
	return p.addSentences(chars, prose)
}

// lineOf returns the line of a link: that of its first text, or else of the last
// text before it.
func (p *Page) lineOf(node ast.Node, at int) int {
	_ = ast.Walk(node, func(child ast.Node, _ bool) (ast.WalkStatus, error) {
		if t, isText := child.(*ast.Text); isText {
			at = t.Segment.Start
			return ast.WalkStop, nil
		}
		return ast.WalkContinue, nil
	})
	return lineAt(string(p.source), at)
}

// repositoryPath matches a code span that names an example or a page.
var repositoryPath = regexp.MustCompile(`^(examples|docs)/[\w./-]*$`)

func (p *Page) addPath(code *ast.CodeSpan) {
	if first, isText := code.FirstChild().(*ast.Text); isText {
		if name := string(first.Segment.Value(p.source)); repositoryPath.MatchString(name) {
			p.paths = append(p.paths, link{lineAt(string(p.source), first.Segment.Start), "/" + name})
		}
	}
}

var (
	htmlLink   = regexp.MustCompile(`(?i)\b(?:href|src|srcset)\s*=\s*["']([^"'\s]+)["']`)
	htmlAnchor = regexp.MustCompile(`(?i)\b(?:id|name)\s*=\s*["']([^"'\s]+)["']`)
)

// addHTML adds the links and anchors of HTML. Its text is not measured.
func (p *Page) addHTML(at int, source string) {
	for _, m := range htmlLink.FindAllStringSubmatch(source, -1) {
		p.links = append(p.links, link{lineAt(string(p.source), at), html.UnescapeString(m[1])})
	}
	for _, m := range htmlAnchor.FindAllStringSubmatch(source, -1) {
		p.anchors[m[1]] = true
	}
}

// addAnchor adds the anchor that GitHub gives a heading: letters and digits in
// lower case, '_' and '-'; a '-' for each space; -1 at the second of the same name.
func (p *Page) addAnchor(headings map[string]int, heading string) {
	anchor := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Pc):
			return unicode.ToLower(r)
		}
		return -1
	}, html.UnescapeString(heading))
	if n := headings[anchor]; n == 0 {
		p.anchors[anchor] = true
	} else {
		p.anchors[fmt.Sprintf("%s-%d", anchor, n)] = true
	}
	headings[anchor]++
}

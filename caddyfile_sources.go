package caddyhtpasswd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

func (p *directiveParser) parseFiles() error {
	paths, err := p.parsePaths()
	for _, path := range paths {
		p.sources = append(p.sources, Source{File: path})
	}
	return err
}

// parsePaths parses the paths of files. It first refuses the text of a password file
// with a semicolon after it, because the error for a semicolon shows the argument.
func (p *directiveParser) parsePaths() ([]string, error) {
	ahead := *p.Dispenser
	for _, t := range ahead.RemainingArgsAsTokens() {
		if strings.HasSuffix(t.Text, ";") && htfile.IsTextNotPath(t.Text) {
			return nil, p.s.lineContext().at(t, "%w", errTextAsPath)
		}
	}
	return p.s.arguments("one or more paths")
}

// parseUsers does not use the methods of subdirectives, because their errors show the
// value, which has password hashes.
func (p *directiveParser) parseUsers() error {
	line := p.Token()
	args := p.RemainingArgsAsTokens()
	expected := func(found, instead string) error {
		return p.s.lineContext().expected(line, "the text of a password file as one argument: a heredoc, or a placeholder such as {env.HTPASSWD}", found, instead)
	}
	switch {
	case len(args) == 0:
		return expected(foundNothing, "")
	case len(args) > 1:
		return expected(fmt.Sprintf("%d arguments", len(args)), "put text with spaces or several lines into a heredoc")
	case strings.TrimSpace(args[0].Text) == "":
		return expected("an empty text", "for no users, write a comment such as '# nobody'")
	case strings.HasSuffix(args[0].Text, ";") && !args[0].Quoted():
		return expected("a semicolon at the end", "lines end without a semicolon")
	}
	p.sources = append(p.sources, Source{Users: args[0].Text})
	return p.s.noBlock()
}

// setSources sets the sources of the handler, in the short form if they are all files.
func (p *directiveParser) setSources() {
	if slices.ContainsFunc(p.sources, func(s Source) bool { return s.Users != "" }) {
		p.handler.Sources = p.sources
		return
	}
	for _, s := range p.sources {
		p.handler.Files = append(p.handler.Files, s.File)
	}
}

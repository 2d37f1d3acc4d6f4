package follow

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"go.uber.org/zap"
)

// MaxMatches is how many files can match a Pattern.
const MaxMatches = 1000

// A Pattern is a Source: the list of the files that match a pattern of
// filepath.Match, such as "/etc/caddy/users.d/*.htpasswd". Each element of the path
// can have wildcards. The text of the source is the list, see Matches.
//
// Regular files match, and symlinks to them. Hidden files match only if the pattern
// has the dot. Backups and temporary files of editors and of packages match only if
// the pattern ends as they do, see isBackup. A list without a file is an error that is
// fs.ErrNotExist.
//
// The directory is watched if its path has no wildcards. Otherwise the poll finds
// changes.
type Pattern struct {
	written  string   // the part of the path without wildcards, as configured
	base     string   // the same, absolute
	elements []string // the rest of the path
	name     string

	notices *directoryNotices // nil if the path of the directory has wildcards
}

// IsPattern reports whether a path has wildcards: *, ? or [.
func IsPattern(path string) bool { return strings.ContainsAny(path, "*?[") }

// NewPattern returns the Pattern for a path with wildcards.
func NewPattern(pattern string) (*Pattern, error) {
	fixed, elements := splitPattern(filepath.Clean(pattern))
	for _, element := range elements {
		if _, err := filepath.Match(element, ""); err != nil {
			return nil, fmt.Errorf("expected a pattern such as users.d/*.htpasswd, found the invalid element '%s': close each [ with ], or write \\[ for the character", element)
		}
		if strings.Contains(element, "**") {
			return nil, errors.New("expected a pattern such as users.d/*.htpasswd, found '**': one * matches within one directory; write one pattern for each depth")
		}
	}
	base, err := filepath.Abs(fixed)
	if err != nil {
		return nil, err
	}
	p := &Pattern{written: fixed, base: base, elements: elements, name: filepath.Join(base, filepath.Join(elements...))}
	if len(elements) == 1 {
		p.notices = newNotices(base, noticedNames{names: [2]string{"", kubernetesData}, matches: p.matches})
	}
	return p, nil
}

// splitPattern splits a path before the first element with wildcards.
func splitPattern(pattern string) (fixed string, elements []string) {
	special := `*?[\`
	if runtime.GOOS == "windows" {
		special = "*?[" // the backslash is a separator there
	}
	end := strings.IndexAny(pattern, special)
	start := strings.LastIndexByte(pattern[:end+1], filepath.Separator) + 1
	if fixed = filepath.Clean(pattern[:start]); start == 0 {
		fixed = "."
	}
	return fixed, strings.Split(pattern[start:], string(filepath.Separator))
}

// Name returns the pattern with an absolute path.
func (p *Pattern) Name() string { return p.name }

// Base returns the absolute path of the directory before the first wildcard.
func (p *Pattern) Base() string { return p.base }

// Changed implements Source.
func (p *Pattern) Changed() <-chan struct{} {
	if p.notices == nil {
		return nil
	}
	return p.notices.changed
}

// Renew implements Renewer: it watches the directory.
func (p *Pattern) Renew(logger *zap.Logger) {
	if p.notices != nil {
		p.notices.renew(logger)
	}
}

// Close implements Renewer.
func (p *Pattern) Close() error {
	if p.notices != nil {
		p.notices.close()
	}
	return nil
}

// fileList is a version of a Pattern: the matches, separated by NUL.
type fileList struct {
	neverRacy
	text string
}

// Version implements Source.
func (p *Pattern) Version() (Version, error) {
	matches, err := p.list()
	if err != nil {
		return nil, err
	}
	return fileList{text: strings.Join(matches, "\x00")}, nil
}

// Fetch implements Source.
func (p *Pattern) Fetch() (string, Version, error) {
	v, err := p.Version()
	if err != nil {
		return "", nil, err
	}
	return v.(fileList).text, v, nil
}

// A Match is a file that matches a Pattern.
type Match struct {
	Name string // as configured: the pattern with the wildcards replaced
	Path string // absolute
}

// Matches returns the files in a text of the source, in the order of their paths.
func (p *Pattern) Matches(text string) []Match {
	names := strings.Split(text, "\x00")
	matches := make([]Match, 0, len(names))
	for _, name := range names {
		matches = append(matches, Match{Name: filepath.Join(p.written, name), Path: filepath.Join(p.base, name)})
	}
	return matches
}

// noMatch is the error of a pattern that no file matches.
type noMatch struct{ cause error }

func (e noMatch) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("no file matches the pattern: %v", e.cause)
	}
	return "no file matches the pattern"
}

func (noMatch) Is(target error) bool { return target == fs.ErrNotExist }

// list returns the matches, relative to base and sorted.
func (p *Pattern) list() ([]string, error) {
	matches, err := p.expand(nil, "", p.elements)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, noMatch{fmt.Errorf("directory '%s' does not exist", p.base)}
	case err != nil:
		return nil, err
	case len(matches) == 0:
		return nil, noMatch{}
	}
	slices.Sort(matches)
	return matches, nil
}

// expand appends the matches of the elements in a directory, which is relative to base.
func (p *Pattern) expand(matches []string, directory string, elements []string) ([]string, error) {
	element, isLast := elements[0], len(elements) == 1
	path := filepath.Join(p.base, directory)
	entries, err := os.ReadDir(path)
	if err != nil {
		if directory != "" && (errors.Is(err, fs.ErrNotExist) || !isDirectory(path)) {
			return matches, nil // one of several directories: a file, or just removed
		}
		return nil, fmt.Errorf("cannot list directory '%s': %w", path, withAdvice(err))
	}
	for _, entry := range entries {
		if !matchesElement(element, entry.Name()) {
			continue
		}
		name := filepath.Join(directory, entry.Name())
		if !isLast {
			if !entry.IsDir() && entry.Type()&fs.ModeSymlink == 0 {
				continue
			}
			if matches, err = p.expand(matches, name, elements[1:]); err != nil {
				return nil, err
			}
			continue
		}
		if !isFile(entry, filepath.Join(p.base, name)) {
			continue
		}
		if len(matches) == MaxMatches {
			return nil, fmt.Errorf("more than %d files match the pattern: put several users into one file", MaxMatches)
		}
		matches = append(matches, name)
	}
	return matches, nil
}

// isFile reports whether an entry is a regular file, or a symlink that does not
// certainly lead to something else. Following the file reports what is wrong with it.
func isFile(entry fs.DirEntry, path string) bool {
	if entry.Type()&fs.ModeSymlink == 0 {
		return entry.Type().IsRegular()
	}
	info, err := os.Stat(path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return info.Mode().IsRegular()
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// matches reports whether a name matches the last element.
func (p *Pattern) matches(name string) bool {
	return matchesElement(p.elements[len(p.elements)-1], name)
}

// matchesElement reports whether a name matches an element of a pattern.
func matchesElement(element, name string) bool {
	if ok, err := filepath.Match(element, name); err != nil || !ok {
		return false
	}
	isHidden := name[0] == '.' && element[0] != '.'
	return !isHidden && !isTemporary(name) && (!isBackup(name) || isBackup(element))
}

// isTemporary reports whether a name is one that package atomicfile uses while it
// replaces a file.
func isTemporary(name string) bool {
	return name[0] == '.' && strings.Contains(name, ".caddy-htpasswd-")
}

// backupEndings are the endings of names that editors, patch, package managers and
// file transfers use beside the file that is meant.
var backupEndings = []string{
	"~", ".bak", ".backup", ".old", ".orig", ".save", ".swp", ".swo", ".swx", ".tmp", ".temp", ".part", ".new", ".rej", ".lock",
	".rpmsave", ".rpmnew", ".rpmorig", ".pacsave", ".pacnew", ".pacorig", ".apk-new",
}

// isBackup reports whether a name is one of a backup or of a temporary file.
func isBackup(name string) bool {
	name = strings.ToLower(name)
	if slices.ContainsFunc(backupEndings, func(ending string) bool { return strings.HasSuffix(name, ending) }) {
		return true
	}
	ending := filepath.Ext(name)
	return strings.HasPrefix(ending, ".dpkg-") || strings.HasPrefix(ending, ".ucf-") ||
		len(name) > 1 && strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#")
}

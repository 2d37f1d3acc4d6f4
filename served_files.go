package caddyhtpasswd

import (
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/routes"
)

// checkServed warns about password files that a file server would serve.
func (c *siteChecks) checkServed(h *Handler, served map[string][]routes.ServedFiles) {
	names := slices.Clone(h.GroupFiles)
	for _, source := range h.sourceList() {
		if source.File != "" {
			names = append(names, source.File)
		}
	}
	for _, name := range names {
		absolute, ok := absolutePath(name)
		if !ok || c.warned[absolute] {
			continue
		}
		c.warned[absolute] = true
		for _, path := range pathsOf(name, absolute) {
			if root, ok := rootThatServes(path, served); ok {
				c.logger.Warn("password file is below the root of a file_server, which may serve it; move the file, or add hide",
					zap.String("file", name), zap.String("root", root), zap.String("hide", filepath.Base(absolute)))
				break // one warning for a pattern
			}
		}
	}
}

// rootThatServes returns the root of a file server that may serve a file.
func rootThatServes(path string, served map[string][]routes.ServedFiles) (root string, ok bool) {
	for root = filepath.Dir(path); ; root = filepath.Dir(root) {
		if slices.ContainsFunc(served[root], func(files routes.ServedFiles) bool { return files.MayServe(root, path) }) {
			return root, true
		}
		if root == filepath.Dir(root) {
			return "", false
		}
	}
}

// pathsOf returns the absolute paths of the files that a configured name stands for: those
// that match a pattern now, or one path.
func pathsOf(configured, absolute string) []string {
	name, err := fileName(configured)
	if err != nil || !follow.IsPattern(name) {
		return []string{absolute}
	}
	pattern, err := follow.NewPattern(name)
	if err != nil {
		return nil
	}
	text, _, err := pattern.Fetch()
	if err != nil {
		return nil
	}
	var paths []string
	for _, match := range pattern.Matches(text) {
		paths = append(paths, match.Path)
	}
	return paths
}

// absoluteRoots returns what file servers serve, by the absolute paths of their roots.
// Roots that depend on the request are omitted.
func absoluteRoots(served map[string][]routes.ServedFiles) map[string][]routes.ServedFiles {
	roots := make(map[string][]routes.ServedFiles)
	for root, list := range served {
		path, ok := absolutePath(root)
		if !ok {
			continue
		}
		for _, files := range list {
			roots[path] = append(roots[path], routes.ServedFiles{Hide: absoluteHide(files.Hide), Paths: files.Paths})
		}
	}
	return roots
}

// absoluteHide returns the patterns that a file server hides, with absolute paths. A
// name without a separator is hidden in any directory, and is not changed.
func absoluteHide(hide []string) []string {
	patterns := make([]string, 0, len(hide))
	for _, pattern := range hide {
		ok := true
		if strings.ContainsRune(pattern, filepath.Separator) {
			pattern, ok = absolutePath(pattern)
		}
		if ok {
			patterns = append(patterns, pattern)
		}
	}
	return patterns
}

// absolutePath replaces global placeholders and makes a path absolute. It returns false
// if the path has other placeholders, which depend on the request, and for a file that is
// not on disk.
func absolutePath(name string) (string, bool) {
	name, err := fileName(name)
	if err != nil || isSharedName(name) {
		return "", false
	}
	path, err := filepath.Abs(name)
	return path, err == nil
}

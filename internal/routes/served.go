package routes

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
)

// ServedFiles describes which files a file server serves from its root.
type ServedFiles struct {
	Hide  []string // hide patterns, as configured
	Paths []string // path patterns of the matchers around it; none for any path
}

// MayServe reports whether the file server may serve a file below the root. Both are
// absolute paths. Patterns in Hide that contain a separator must be absolute, too.
func (f *ServedFiles) MayServe(root, file string) bool {
	if isHidden(file, f.Hide) {
		return false
	}
	rel, err := filepath.Rel(root, file)
	return err != nil || len(f.Paths) == 0 || slices.ContainsFunc(f.Paths, func(pattern string) bool {
		return mayMatchPath(pattern, "/"+filepath.ToSlash(rel)) // the request path, if it is not rewritten
	})
}

// mayMatchPath reports whether a pattern of Caddy's path matcher may match a path.
func mayMatchPath(pattern, path string) bool {
	prefix, isPrefix := strings.CutSuffix(strings.ToLower(pattern), "*")
	path = strings.ToLower(path)
	if strings.ContainsAny(prefix, `*?[\{%`) {
		return true
	}
	return path == prefix || isPrefix && strings.HasPrefix(path, prefix)
}

// isHidden reports whether hide patterns hide a file.
func isHidden(path string, hide []string) bool {
	const separator = string(filepath.Separator)
	names := strings.Split(path, separator)
	return slices.ContainsFunc(hide, func(pattern string) bool {
		if strings.Contains(pattern, separator) {
			return matchesName(pattern, path) || strings.HasPrefix(path, pattern+separator)
		}
		return slices.ContainsFunc(names, func(name string) bool { return matchesName(pattern, name) })
	})
}

// matchesName reports whether a pattern is valid and matches a name.
func matchesName(pattern, name string) bool {
	matched, err := filepath.Match(pattern, name)
	return matched && err == nil
}

// addFileServer adds a file server to the report.
func (w *walk) addFileServer(step *Step, at *position) {
	roots := at.roots
	if fs := laxjson.String(step.field("fs")); fs != "" && fs != "{http.vars.fs}" {
		return // not the files of this machine
	}
	if own := laxjson.String(step.field("root")); own != "" && own != "{http.vars.root}" {
		roots = []string{own}
	}
	if len(roots) == 0 {
		roots = []string{"."}
	}
	files := ServedFiles{Hide: laxjson.Strings(step.field("hide")), Paths: at.paths}
	for _, root := range roots {
		if root != unknownRoot {
			w.report.Served[root] = append(w.report.Served[root], files)
		}
	}
}

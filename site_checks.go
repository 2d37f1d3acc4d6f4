package caddyhtpasswd

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// checkSites looks at all sites of a configuration, once, when the first
// htpasswd in it is loaded: later the JSON of the routes before it is gone. It
// logs what is protected and what looks wrong, refuses what is wrong for sure,
// and puts a gate in front of each server, see requestGate.
func (a *App) checkSites(ctx caddy.Context) error {
	http := httpAppOf(ctx)
	if http == nil || a.checked == caddy.Module(http) {
		return nil
	}
	a.checked = http
	walk := walkSites(http)
	if walk.refusal != nil {
		return walk.refusal
	}
	for name, server := range http.Servers {
		if walk.hasLogin[name] {
			requestGate{allowConnect: walk.tunnels[name]}.putInFront(server)
		}
	}
	c := siteChecks{siteWalk: walk, http: http, logger: ctx.Logger(), warned: make(map[string]bool)}
	c.run()
	return nil
}

// httpAppOf returns the http app that is loading the module, nil for another.
func httpAppOf(ctx caddy.Context) *caddyhttp.App {
	for _, module := range ctx.Modules() {
		if app, ok := module.(*caddyhttp.App); ok {
			return app
		}
	}
	return nil
}

// siteChecks is what follows from a walk through the sites.
type siteChecks struct {
	*siteWalk
	http   *caddyhttp.App
	logger *zap.Logger
	warned map[string]bool // servers and password files
}

func (c *siteChecks) run() {
	for i := range c.uncertain {
		c.uncertain[i].warn(c.logger)
	}
	roots := c.absoluteRoots()
	for i := range c.findings {
		finding := &c.findings[i]
		finding.log(c.logger)
		finding.warn(c.logger)
		finding.warnOfExemptHosts(c.logger)
		c.checkTLS(finding)
		c.checkServed(finding, roots)
	}
}

// log says what is protected, from which files, and what is open.
func (f *htpasswdFinding) log(logger *zap.Logger) {
	requests := "all"
	if len(f.requests) > 0 {
		requests = strings.Join(f.requests, "; ")
	}
	fields := append(f.fields(), zap.String("requests", requests))
	if len(f.except) > 0 {
		fields = append(fields, zap.String("except", strings.Join(f.except, "; ")))
	}
	fields = append(fields, zap.Strings("files", f.Files))
	if len(f.GroupFiles) > 0 {
		fields = append(fields, zap.Strings("group_files", f.GroupFiles))
	}
	if len(f.ExemptRaw) > 0 {
		fields = append(fields, zap.String("exempt", describeSets(f.ExemptRaw)))
	}
	logger.Info("requests need a password", fields...)
}

// fields are those of every line about an htpasswd.
func (p *routePlace) fields() []zap.Field {
	fields := []zap.Field{zap.String("server", p.server)}
	if len(p.hosts) > 0 {
		fields = append(fields, zap.Strings("hosts", p.hosts))
	}
	return fields
}

func (u *reportedUse) warn(logger *zap.Logger) {
	logger.Warn(u.warning(), append(u.at.fields(), zap.String("placeholder", u.placeholder), zap.String("used_in", u.usedIn()))...)
}

func (f *htpasswdFinding) warn(logger *zap.Logger) {
	if f.isUnreached {
		logger.Warn("htpasswd is never asked; a handler before it answers every request", f.fields()...)
	}
	if f.exactPath != "" {
		logger.Warn("htpasswd protects this one path only; to protect everything below it, end the path with a star",
			append(f.fields(), zap.String("path", f.exactPath), zap.String("write", f.exactPath+"*"))...)
	}
}

// errExemptAll is the error for an exemption that leaves everything open.
func errExemptAll(set caddy.ModuleMap) error {
	return fmt.Errorf("exempt: '%s' matches every request, so there would be nothing protected: write what is to be open, such as 'exempt /public/*'", describeSet(set))
}

// checkExempt refuses exemptions that surely leave everything open, and warns of
// those that a client can choose.
func (h *Handler) checkExempt() error {
	for _, set := range h.ExemptRaw {
		switch reachOf(set, h.AllowHTTP) {
		case reachEverything:
			return errExemptAll(set)
		case reachChosen:
			warnOfExempt(h.logger, set)
		}
	}
	return nil
}

// warnOfExempt warns of an exemption that a client can choose.
func warnOfExempt(logger *zap.Logger, set caddy.ModuleMap, fields ...zap.Field) {
	logger.Warn("exempt may match every request; restrict it by path, method or remote_ip", append(fields, zap.String("matcher", describeSet(set)))...)
}

// warnOfExemptHosts does so for exemptions by the name of the host, which every
// client of the site may give. It is no error: sites may have the lines in common.
func (f *htpasswdFinding) warnOfExemptHosts(logger *zap.Logger) {
	for _, set := range f.ExemptRaw {
		hosts := stringsIn(set["host"])
		rest := maps.Clone(set)
		delete(rest, "host")
		if len(hosts) == 0 || reachOf(rest, f.AllowHTTP) == reachLimited {
			continue
		}
		if !slices.ContainsFunc(f.hosts, func(host string) bool { return !slices.Contains(hosts, host) }) {
			warnOfExempt(logger, set, f.fields()...)
		}
	}
}

// warnOfNobody warns of names in require that no file has. It is said when the
// configuration is loaded only: files may change in the course of a removal.
func (h *Handler) warnOfNobody() {
	if h.Require == nil {
		return
	}
	users := slices.DeleteFunc(slices.Clone(h.Require.Users), func(user string) bool { return h.users.find([]byte(user)).exists() })
	if len(users) > 0 {
		h.logger.Warn("require names users who are in no password file", zap.Strings("users", users), zap.Strings("files", h.Files))
	}
	groups := slices.DeleteFunc(slices.Clone(h.Require.Groups), h.groups.haveMembers)
	if len(groups) > 0 {
		h.logger.Warn("require names groups that have no members", zap.Strings("groups", groups), zap.Strings("group_files", h.GroupFiles))
	}
}

// haveMembers reports whether anybody is in the group.
func (s groupStores) haveMembers(group string) bool {
	for _, store := range s {
		for _, groups := range store.current.Load().Of {
			if slices.Contains(groups, group) {
				return true
			}
		}
	}
	return false
}

// checkTLS warns of a server on which no request can bring a password.
func (c *siteChecks) checkTLS(f *htpasswdFinding) {
	server := c.http.Servers[f.server]
	if f.AllowHTTP || c.warned[f.server] || mayBeEncrypted(c.http, server) {
		return
	}
	c.warned[f.server] = true
	c.logger.Warn("server without TLS will answer 403 to every request that needs a password; "+
		"serve it over HTTPS, set trusted_proxies in the global option servers, or add allow_http",
		append(f.fields(), zap.Strings("listen", server.Listen))...)
}

// mayBeEncrypted reports whether a request can come to the server by TLS, or
// from a proxy that is trusted to say so. Automatic HTTPS has decided already
// when handlers are loaded.
func mayBeEncrypted(app *caddyhttp.App, server *caddyhttp.Server) bool {
	if server.TrustedProxiesUnix || server.TrustedProxiesRaw != nil || hasTrustedProxies(server) {
		return true
	}
	if len(server.TLSConnPolicies) == 0 {
		return false
	}
	httpPort := strconv.Itoa(cmp.Or(app.HTTPPort, caddyhttp.DefaultHTTPPort))
	for _, listen := range server.Listen {
		address, err := caddy.ParseNetworkAddress(caddy.NewReplacer().ReplaceKnown(listen, ""))
		if err != nil || address.PortRangeSize() != 1 || strconv.FormatUint(uint64(address.StartPort), 10) != httpPort {
			return true
		}
	}
	return len(server.Listen) == 0
}

// hasTrustedProxies looks at what Caddy has made of the setting, which only it
// can see. If it is not there any more, better no warning than a wrong one.
func hasTrustedProxies(server *caddyhttp.Server) bool {
	field := reflect.ValueOf(server).Elem().FieldByName("trustedProxies")
	return !field.IsValid() || field.Kind() != reflect.Interface || !field.IsNil()
}

// absoluteRoots returns the roots of file servers that are known, and what is
// hidden below them.
func (c *siteChecks) absoluteRoots() map[string][]servedFiles {
	roots := make(map[string][]servedFiles)
	for root, files := range c.served {
		if path, ok := absolutePath(root); ok {
			roots[path] = append(roots[path], files...)
		}
	}
	return roots
}

// absolutePath resolves global placeholders; others differ from request to request.
func absolutePath(name string) (string, bool) {
	name, err := caddy.NewReplacer().ReplaceOrErr(name, true, true)
	if err != nil {
		return "", false
	}
	path, err := filepath.Abs(name)
	return path, err == nil
}

// checkServed warns of a password file that a file server would hand out.
func (c *siteChecks) checkServed(f *htpasswdFinding, roots map[string][]servedFiles) {
	for _, name := range slices.Concat(f.Files, f.GroupFiles) {
		path, ok := absolutePath(name)
		if !ok || c.warned[path] {
			continue
		}
		c.warned[path] = true
		for root := filepath.Dir(path); ; root = filepath.Dir(root) {
			if slices.ContainsFunc(roots[root], func(files servedFiles) bool { return files.mayServe(root, path) }) {
				c.logger.Warn("file lies below the root of a file_server, which may serve it; move it, or add hide to file_server",
					zap.String("file", name), zap.String("root", root), zap.String("hide", filepath.Base(path)))
				break
			}
			if root == filepath.Dir(root) {
				break
			}
		}
	}
}

// mayServe reports whether there may be a request for a file below the root. The
// path that a request has then is the file's own, unless something rewrites it.
func (f *servedFiles) mayServe(root, file string) bool {
	if isHidden(file, f.hide) {
		return false
	}
	rel, err := filepath.Rel(root, file)
	return err != nil || len(f.paths) == 0 || slices.ContainsFunc(f.paths, func(pattern string) bool {
		return mayMatchPath(pattern, "/"+filepath.ToSlash(rel))
	})
}

// mayMatchPath reports whether a pattern of Caddy's matcher path may match.
func mayMatchPath(pattern, path string) bool {
	prefix, isPrefix := strings.CutSuffix(strings.ToLower(pattern), "*")
	path = strings.ToLower(path)
	if strings.ContainsAny(prefix, `*?[\{%`) {
		return true
	}
	return path == prefix || isPrefix && strings.HasPrefix(path, prefix)
}

// isHidden reports whether file_server hides a file, by an absolute path.
func isHidden(path string, hide []string) bool {
	const separator = string(filepath.Separator)
	for _, pattern := range hide {
		if !strings.Contains(pattern, separator) {
			if slices.ContainsFunc(strings.Split(path, separator), func(name string) bool { return matchesName(pattern, name) }) {
				return true
			}
			continue
		}
		pattern, ok := absolutePath(pattern)
		if ok && (matchesName(pattern, path) || strings.HasPrefix(path, pattern+separator)) {
			return true
		}
	}
	return false
}

func matchesName(pattern, name string) bool {
	matched, err := filepath.Match(pattern, name)
	return matched && !errors.Is(err, filepath.ErrBadPattern)
}

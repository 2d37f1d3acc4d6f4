package caddyhtpasswd

import (
	"cmp"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/routes"
)

// checkSites checks all sites of a configuration once, when its first htpasswd is loaded.
// Later, the JSON of the routes before this htpasswd is gone. checkSites logs what is
// protected and what may be a mistake, refuses certain mistakes, and puts a requestGate
// before the routes of each server with htpasswd.
func (a *App) checkSites(ctx caddy.Context) error {
	http := httpAppOf(ctx)
	if http == nil || a.checked == caddy.Module(http) {
		return nil
	}
	a.checked = http
	report := routes.Walk(serversOf(http))
	if err := checkEarlyUses(report.EarlyUses); err != nil {
		return err
	}
	for name, server := range http.Servers {
		if report.HasLogin[name] {
			requestGate{allowConnect: report.HasForwardProxy[name]}.putInFront(server)
		}
	}
	c := siteChecks{http: http, logger: ctx.Logger(), warned: make(map[string]bool)}
	c.run(report)
	return nil
}

// httpAppOf returns the http app that is loading the module, or nil.
func httpAppOf(ctx caddy.Context) *caddyhttp.App {
	for _, module := range ctx.Modules() {
		if app, ok := module.(*caddyhttp.App); ok {
			return app
		}
	}
	return nil
}

// siteChecks logs the findings of a walk through the sites.
type siteChecks struct {
	http   *caddyhttp.App
	logger *zap.Logger
	warned map[string]bool // servers and password files
}

// foundLogin is an htpasswd that the walk has found. Its handler is not provisioned, and
// has only its settings.
type foundLogin struct {
	*routes.Login
	handler *Handler
}

func newFoundLogin(login *routes.Login) *foundLogin {
	handler := new(Handler)
	_ = json.Unmarshal(login.Config, handler) // Caddy reports errors later
	return &foundLogin{Login: login, handler: handler}
}

func (c *siteChecks) run(report *routes.Report) {
	for i := range report.EarlyUses {
		warnOfEarlyUse(c.logger, &report.EarlyUses[i])
	}
	served := absoluteRoots(report.Served)
	for i := range report.Logins {
		login := newFoundLogin(&report.Logins[i])
		login.log(c.logger)
		login.warn(c.logger)
		login.warnOfExemptHosts(c.logger)
		login.warnOfUnreachedPage(c.logger)
		c.checkTLS(login)
		c.checkServed(login.handler, served)
	}
}

// log logs which requests need a password, the files, and the exemptions.
func (l *foundLogin) log(logger *zap.Logger) {
	requests := "all"
	if len(l.Requests) > 0 {
		requests = strings.Join(l.Requests, "; ")
	}
	fields := append(placeFields(&l.Place), zap.String("requests", requests))
	if len(l.Except) > 0 {
		fields = append(fields, zap.String("except", strings.Join(l.Except, "; ")))
	}
	fields = append(fields, zap.Strings("files", sourceNames(l.handler.sourceList())))
	if len(l.handler.GroupFiles) > 0 {
		fields = append(fields, zap.Strings("group_files", l.handler.GroupFiles))
	}
	if len(l.handler.ExemptRaw) > 0 {
		fields = append(fields, zap.String("exempt", l.handler.describeExempt()))
	}
	logger.Info("requests need a password", fields...)
}

// placeFields returns the log fields that identify an htpasswd.
func placeFields(place *routes.Place) []zap.Field {
	fields := []zap.Field{zap.String("server", place.Server)}
	if len(place.Hosts) > 0 {
		fields = append(fields, zap.Strings("hosts", place.Hosts))
	}
	return fields
}

func (l *foundLogin) warn(logger *zap.Logger) {
	if l.IsUnreached {
		logger.Warn("htpasswd is never reached; an earlier handler answers every request", placeFields(&l.Place)...)
	}
	if l.ExactPath != "" {
		logger.Warn("htpasswd protects only this exact path; to include everything below it, end the path with *",
			append(placeFields(&l.Place), zap.String("path", l.ExactPath), zap.String("write", l.ExactPath+"*"))...)
	}
}

// checkTLS warns about a server on which every request with a password is refused.
func (c *siteChecks) checkTLS(l *foundLogin) {
	server := c.http.Servers[l.Server]
	if l.handler.AllowHTTP || c.warned[l.Server] || mayBeEncrypted(c.http, server) {
		return
	}
	c.warned[l.Server] = true
	c.logger.Warn("server without TLS responds 403 to every request that needs a password; "+
		"serve it over HTTPS, set trusted_proxies, or add allow_http",
		append(placeFields(&l.Place), zap.Strings("listen", server.Listen))...)
}

// mayBeEncrypted reports whether a request can reach the server over TLS, or from a
// trusted proxy. Automatic HTTPS is set up before handlers are loaded.
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

// hasTrustedProxies reports whether the server has trusted proxies. Caddy has no exported
// field for them. If the field does not exist, hasTrustedProxies returns true, because a
// missing warning is better than a wrong one.
func hasTrustedProxies(server *caddyhttp.Server) bool {
	field := reflect.ValueOf(server).Elem().FieldByName("trustedProxies")
	return !field.IsValid() || field.Kind() != reflect.Interface || !field.IsNil()
}

package routes

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// usesIn returns the early uses of a report as text.
func usesIn(report *Report) []string {
	var texts []string
	for _, use := range report.EarlyUses {
		what := use.Directive
		if use.Matcher != "" {
			what = "matcher " + use.Matcher
		}
		verdict := map[UseVerdict]string{UseMayNameUser: "may", UseOnOpenPage: "open page", UseNeverNamesUser: "never"}[use.Verdict]
		texts = append(texts, what+" "+use.Placeholder+": "+verdict)
	}
	return texts
}

func TestVerdictsOfEarlyUses(t *testing.T) {
	t.Parallel()
	const (
		never     = "vars {http.auth.user.id}: never"
		may       = "vars {http.auth.user.id}: may"
		openPage  = "vars {http.auth.user.id}: open page"
		condition = `"match":[{"vars":{"{http.auth.user.id}":["alice"]}}]`
	)
	for _, test := range []struct {
		name, routes string
		want         []string
	}{
		{"before the login in the route", list(route(use, login)), []string{never}},
		{"after the login", list(route(login, use)), nil},
		{"without a login", list(route(use)), nil},
		{"in a route before", list(route(use), route(login)), []string{never}},
		{"in a subroute before", list(route(subroute(route(use)), login)), []string{never}},
		{"on each way to several logins, once", list(route(use, login, login), route(login)), []string{never}},
		{"for the paths of the login", list(routeFor(path("/a"), use), routeFor(path("/a"), login)), []string{never}},
		{"for some paths of the login", list(routeFor(path("/a"), use), route(login)), []string{never}},
		{"for other paths than the login, perhaps", list(routeFor(path("/a"), use), routeFor(path("/b"), login)), []string{may}},
		{"for paths that are perhaps exempt", list(routeFor(path("/a"), use), route(someLogin)), []string{may}},
		{"for all paths where some are exempt", list(route(use), route(someLogin)), []string{never}},
		{"for another site", list(routeFor(host("a"), use), routeFor(host("b"), login)), nil},
		{"for the same site", list(routeFor(host("a"), use), routeFor(host("a"), login)), []string{never}},
		{"for the same site in other letters", list(routeFor(host("A"), use), routeFor(host("a"), login)), []string{may}},
		{"for a site that may be the same", list(routeFor(host("*.a"), use), routeFor(host("b.a"), login)), []string{may}},
		{"in another route of the group", list(routeFor(group("g")+","+path("/a"), use), routeFor(group("g"), login)), nil},
		{"in a route of another group", list(routeFor(group("f"), use), routeFor(group("g"), login)), []string{never}},
		{"in a route that answers some requests", list(routeFor(path("/a"), use, answer), route(login)), []string{openPage}},
		{"in a route that may answer", list(routeFor(path("/a"), use, `{"handler":"acme_server"}`), route(login)), []string{may}},
		{"in a terminal route", list(routeFor(`"terminal":true`, use), route(login)), nil},
		{"in the matcher of a terminal route", list(routeFor(`"terminal":true,`+condition), route(login)), []string{"matcher vars {http.auth.user.id}: never"}},
		{"in the matcher of the login", list(routeFor(condition, login)), []string{"matcher vars {http.auth.user.id}: never"}},
		{"in the call of an expression", list(routeFor(`"match":[{"expression":"ph(req, 'http.auth.user.id') == 'alice'"}]`, login)), []string{"matcher expression http.auth.user.id') == 'alice'\": never"}},
		{"in the configuration of the login", list(route(`{"handler":"htpasswd","realm":"{http.auth.user.id}"}`)), []string{"htpasswd {http.auth.user.id}: never"}},
		{"after a login with exemptions", list(route(someLogin, use, login)), []string{may}},
		{"after a login for some paths", list(routeFor(path("/a"), login), route(use, login)), []string{may}},
		{"after a login of another kind", list(route(`{"handler":"authentication"}`, use, login)), nil},
		{"after a third-party handler", list(route(foreign, use, login)), []string{may}},
		{"in a third-party handler", list(route(`{"handler":"third_party","x":"{http.auth.user.id}"}`, login)), []string{"third_party {http.auth.user.id}: may"}},
		{"after a variable that sets the user", list(route(`{"handler":"vars","http.auth.user.id":"eve"}`, use, login)), []string{may}},
		{"after logins in all routes of a group", list(routeFor(group("g")+","+path("/a"), login), routeFor(group("g"), login), route(use, login)), []string{may}},
		{"in a proxy that passes some responses on to the login", list(route(`{"handler":"reverse_proxy","x":"{http.auth.user.id}","handle_response":[{"routes":[]}]}`, login)), []string{"reverse_proxy {http.auth.user.id}: never"}},
		{"in a proxy that passes some responses on to other routes", list(routeFor(path("/a"), `{"handler":"reverse_proxy","x":"{http.auth.user.id}","handle_response":[{"routes":[]}]}`), route(login)), []string{"reverse_proxy {http.auth.user.id}: may"}},
		{"in the routes for the responses of a proxy", list(route(`{"handler":"reverse_proxy","handle_response":[{"routes":[`+route(use)+`]}]}`, login)), []string{never}},
		{"in the routes for the responses of handlers after it", list(route(`{"handler":"intercept","handle_response":[{"routes":[`+route(use)+`]}]}`, login)), nil},
		{"in the error routes of a subroute", list(route(`{"handler":"subroute","errors":{"routes":[`+route(use)+`]}}`, login)), nil},
		{"on the way to a login in error routes", list(route(`{"handler":"subroute","errors":{"routes":[` + route(use, login) + `]}}`)), []string{may}},
		{"before a login in a third-party handler", list(route(use, `{"handler":"third_party","inside":`+login+`}`)), []string{never}},
		{"before a named route", list(route(use, invoke("named0"))), []string{never}},
		{"before the second call of a named route", list(routeFor(path("/a"), invoke("named0")), route(use, invoke("named0"))), []string{may}},
		{"in a handler that evaluates it later", list(route(`{"handler":"templates","x":"{http.auth.user.id}"}`, login)), nil},
		{"in headers of the response that are set at once", list(route(`{"handler":"headers","response":{"set":{"X":["{http.auth.user.id}"]}}}`, login)), []string{"header {http.auth.user.id}: never"}},
		{"in headers of the response that are set later", list(route(`{"handler":"headers","response":{"deferred":true,"set":{"X":["{http.auth.user.id}"]}}}`, login)), nil},
		{"in response headers that depend on the response", list(route(`{"handler":"headers","response":{"require":{},"set":{"X":["{http.auth.user.id}"]}}}`, login)), nil},
		{"in headers of the request", list(route(`{"handler":"headers","request":{"set":{"X":["{http.auth.user.id}"]}}}`, login)), []string{"request_header {http.auth.user.id}: never"}},
		{"in a log field", list(route(`{"handler":"log_append","value":"{http.auth.user.id}"}`, login)), nil},
		{"in a log field, early", list(route(`{"handler":"log_append","early":true,"value":"{http.auth.user.id}"}`, login)), []string{"log_append {http.auth.user.id}: never"}},
		{"in a redirection", list(routeFor(path("/a"), `{"handler":"static_response","headers":{"Location":["/{http.auth.user.id}"]}}`), route(login)), []string{"redir {http.auth.user.id}: open page"}},
		{"in the name of a logger", list(route(`{"handler":"vars","access_logger_names":["{http.auth.user.id}"]}`, login)), []string{"log_name {http.auth.user.id}: never"}},
		{"after a backslash", list(route(`{"handler":"vars","x":"\\{http.auth.user.id}"}`, login)), nil},
		{"after a backslash and as a placeholder", list(route(`{"handler":"vars","x":"\\{http.auth.user.id} {http.auth.user.id}"}`, login)), []string{never}},
		{"in escapes", list(route(`{"handler":"vars","x":"\u007bhttp\u002eauth.user.id}"}`, login)), []string{never}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := usesIn(walked(t, test.routes, route(login))); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestErrorRoutesMayHaveAUser checks that an error may have happened after a login.
func TestErrorRoutesMayHaveAUser(t *testing.T) {
	t.Parallel()
	report := Walk([]Server{{Routes: routesOf(t, list(route(use))), Errors: routesOf(t, list(route(use, login)))}})
	if got, want := usesIn(report), []string{"vars {http.auth.user.id}: may"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestResultsOfMapsAreFollowed(t *testing.T) {
	t.Parallel()
	mapOf := func(source, destinations, mappings, defaults string) string {
		return `{"handler":"map","source":"` + source + `","destinations":[` + destinations + `],"mappings":[` + mappings + `],"defaults":[` + defaults + `]}`
	}
	const ofUser = "{http.auth.user.id}"
	useOf := func(placeholder string) string { return `{"handler":"vars","who":"` + placeholder + `"}` }
	for _, test := range []struct {
		name, routes string
		want         []string
	}{
		{"by the user", list(route(mapOf(ofUser, `"{a}"`, "", `"x"`), useOf("{a}"), login)), []string{"vars {a}: never"}},
		{"by the result of a map", list(route(mapOf(ofUser, `"{a}"`, "", ""), mapOf("{a}", `"{b}"`, "", ""), useOf("{b}"), login)), []string{"vars {b}: never"}},
		{"in the column of the user", list(route(mapOf("{host}", `"{a}","{b}"`, `{"outputs":["x","`+ofUser+`"]}`, ""), useOf("{b}"), login)), []string{"vars {b}: may"}},
		{"in another column", list(route(mapOf("{host}", `"{a}","{b}"`, `{"outputs":["x","`+ofUser+`"]}`, ""), useOf("{a}"), login)), nil},
		{"in the defaults", list(route(mapOf("{host}", `"{a}"`, `{"outputs":["x"]}`, `"`+ofUser+`"`), useOf("{a}"), login)), []string{"vars {a}: may"}},
		{"after the login", list(route(mapOf(ofUser, `"{a}"`, "", ""), login, useOf("{a}"))), nil},
		{"in another route of the group", list(routeFor(group("g")+","+path("/a"), mapOf(ofUser, `"{a}"`, "", "")), routeFor(group("g"), useOf("{a}"), login)), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := usesIn(walked(t, test.routes)); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestEachUseIsReportedOnce combines sets so that a use is in them more than once.
func TestEachUseIsReportedOnce(t *testing.T) {
	t.Parallel()
	a, b, c := newUses(&earlyUse{placeholder: "a"}), newUses(&earlyUse{placeholder: "b"}), newUses(&earlyUse{placeholder: "c"})
	var empty *useSet
	set := empty.with(a).with(b.inRoute(endMayEnd)).with(empty).with(a).with(c.inRoute(endAlways).inRoute(endMayEnd))
	got := make(map[string]routeEnd)
	var order strings.Builder
	for range 2 { // the second time reports nothing
		set.report(func(use *earlyUse, end routeEnd) {
			order.WriteString(use.placeholder)
			got[use.placeholder] = end
		})
	}
	if order.String() != "abc" {
		t.Errorf("got %s, want abc", order.String())
	}
	if want := map[string]routeEnd{"a": endGoesOn, "b": endMayEnd, "c": endAlways}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	empty.report(func(*earlyUse, routeEnd) { t.Error("got a use of an empty set") })
}

// TestManyOpenGroups checks that no use is certain if there are more groups at once
// than the walk distinguishes.
func TestManyOpenGroups(t *testing.T) {
	t.Parallel()
	for _, n := range []int{maxOpenGroups - 1, maxOpenGroups + 1} {
		var begin, end []string
		for i := range n {
			name := fmt.Sprintf("g%d", i)
			begin, end = append(begin, routeFor(group(name)+","+path(fmt.Sprintf("/%d", i)), use)), append(end, routeFor(group(name), use))
		}
		report := walked(t, list(slices.Concat(begin, []string{route(login)}, end)...))
		if got := len(report.EarlyUses); got != n {
			t.Errorf("%d groups: got %d uses, want as many", n, got)
		}
		want := UseNeverNamesUser
		if n > maxOpenGroups {
			want = UseMayNameUser
		}
		for _, use := range report.EarlyUses {
			if use.Verdict != want {
				t.Errorf("%d groups: got verdict %d, want %d", n, use.Verdict, want)
			}
		}
	}
}

// FuzzWalk analyzes arbitrary routes.
func FuzzWalk(f *testing.F) {
	for _, text := range []string{
		list(route(login)),
		`[{"match":[{"path":["/a"]},{"not":[{"header":{"X":["{http.auth.user.id}"]}}]}],"handle":[{"handler":"subroute","routes":[{"group":"g","terminal":true,"handle":[{"handler":"vars","root":"/x"}]}],"errors":{"routes":[{}]}}]}]`,
		`[{"handle":[{"handler":"reverse_proxy","handle_response":[{"routes":[{"handle":[{"handler":"invoke","name":"x"}]}]}]},{"handler":"map","source":"{http.auth.user.id}","destinations":["{a}"]},{"handler":"proxy_pass","proxy":{"handler":"reverse_proxy"}}]}]`,
		`[{"handle":[{"handler":"headers","response":{"deferred":true}},{"handler":"log_append","early":true},{"handler":"file_server","root":"{a}","hide":["/x"]},{"handler":"other","x":{"handler":"htpasswd"}}]}]`,
		list(routeFor(group("g")+","+path("/a"), use), routeFor(host("a"), use, someLogin), routeFor(group("g"), invoke("x"), foreign)),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var routes []Route
		if json.Unmarshal(text, &routes) != nil {
			return
		}
		report := Walk([]Server{{Name: "s", Routes: routes, Errors: routes, Named: map[string]Route{"x": {Steps: []Step{{Name: "subroute", Routes: routes}}}}}})
		if len(report.Logins) > 0 && !report.HasLogin["s"] {
			t.Error("got a login, but none on the server")
		}
		if len(report.Logins) == 0 && len(report.EarlyUses) > 0 {
			t.Errorf("got %+v without a login", report.EarlyUses)
		}
		for _, list := range report.Served {
			for _, files := range list {
				_ = files.MayServe("/x", "/x/y")
			}
		}
	})
}

package routes

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
	"github.com/seed10b5b978/caddy-htpasswd/internal/matchers"
)

// Handlers as JSON, of which the tests build routes.
const (
	login       = `{"handler":"htpasswd","files":["x"]}`
	someLogin   = `{"handler":"htpasswd","files":["x"],"exempt":[{"path":["/exempt/*"]}]}`
	use         = `{"handler":"vars","who":"{http.auth.user.id}"}`
	answer      = `{"handler":"static_response"}`
	proxy       = `{"handler":"reverse_proxy"}`
	files       = `{"handler":"file_server"}`
	stripPrefix = `{"handler":"rewrite","strip_path_prefix":"/x"}`
	foreign     = `{"handler":"third_party"}`
)

// route returns a route of handlers.
func route(handlers ...string) string { return routeFor("", handlers...) }

// routeFor returns a route with fields such as a match or a group.
func routeFor(fields string, handlers ...string) string {
	if fields != "" {
		fields += ","
	}
	return `{` + fields + `"handle":[` + strings.Join(handlers, ",") + `]}`
}

func subroute(routes ...string) string {
	return `{"handler":"subroute","routes":[` + strings.Join(routes, ",") + `]}`
}

func path(patterns ...string) string {
	return `"match":[{"path":["` + strings.Join(patterns, `","`) + `"]}]`
}

func host(names ...string) string {
	return `"match":[{"host":["` + strings.Join(names, `","`) + `"]}]`
}

func group(name string) string { return `"group":"` + name + `"` }

func invoke(name string) string { return `{"handler":"invoke","name":"` + name + `"}` }

func list(routes ...string) string { return "[" + strings.Join(routes, ",") + "]" }

func routesOf(t testing.TB, text string) (routes []Route) {
	t.Helper()
	if err := json.Unmarshal(laxjson.Unescape([]byte(text)), &routes); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return routes
}

// walked analyzes one server with these routes, and with named routes that are called
// named0, named1 and so on.
func walked(t testing.TB, text string, named ...string) *Report {
	t.Helper()
	server := Server{Name: "srv", Routes: routesOf(t, text), Named: make(map[string]Route)}
	for i, text := range named {
		server.Named[fmt.Sprintf("named%d", i)] = routesOf(t, list(text))[0]
	}
	return Walk([]Server{server})
}

func TestLoginsAndTheirPlaces(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, routes string
		want         Place
	}{
		{"all requests", list(route(login)), Place{}},
		{"the matcher of the route", list(routeFor(path("/a*"), login)), Place{Requests: []string{"path /a*"}}},
		{"matchers of routes around it", list(routeFor(path("/a*"), subroute(routeFor(path("/a/b*"), login)))), Place{Requests: []string{"path /a*", "path /a/b*"}}},
		{"a matcher that matches everything is omitted", list(routeFor(path("/*"), login)), Place{}},
		{"the name of the site", list(routeFor(host("a", "b"), login)), Place{Hosts: []string{"a", "b"}}},
		{"the name of a host in a site is a matcher", list(routeFor(host("a"), subroute(routeFor(host("b"), login)))), Place{Hosts: []string{"a"}, Requests: []string{"host b"}}},
		{"paths that are answered before", list(routeFor(path("/open"), answer), route(login)), Place{Except: []string{"path /open"}}},
		{"paths that a route before takes in the same group", list(routeFor(group("g")+","+path("/open"), use), routeFor(group("g"), login)), Place{Except: []string{"path /open"}}},
		{"paths that a route before takes in another group", list(routeFor(group("f")+","+path("/open"), use), routeFor(group("g"), login)), Place{}},
		{"paths that go on", list(routeFor(path("/open"), use), route(login)), Place{}},
		{"paths of a terminal route", list(routeFor(`"terminal":true,`+path("/open"), use), route(login)), Place{Except: []string{"path /open"}}},
		{"another site is no exception", list(routeFor(host("a"), answer), route(login)), Place{}},
		{"after an answer to all", list(route(answer), route(login)), Place{IsUnreached: true}},
		{"after an answer to all, in the same route", list(route(answer, login)), Place{IsUnreached: true}},
		{"after early hints", list(route(`{"handler":"static_response","status_code":103}`, login)), Place{}},
		{"after a status that a placeholder gives", list(route(`{"handler":"static_response","status_code":"{x}"}`, login)), Place{}},
		{"after a file server that passes on", list(route(`{"handler":"file_server","pass_thru":true}`, login)), Place{}},
		{"after a file server", list(route(files, login)), Place{IsUnreached: true}},
		{"after a third-party handler", list(route(foreign, login)), Place{}},
		{"after all routes of a group answer, one of them to all", list(routeFor(group("g")+","+path("/a"), answer), routeFor(group("g"), answer), route(login)), Place{Except: []string{"path /a"}, IsUnreached: true}},
		{"in a third-party handler", list(routeFor(path("/a"), `{"handler":"third_party","inside":[{"x":`+login+`}]}`)), Place{Requests: []string{"path /a"}}},
		{"in the responses of a proxy", list(route(`{"handler":"reverse_proxy","handle_response":[{"routes":[` + routeFor(path("/a"), login) + `]}]}`)), Place{Requests: []string{"path /a"}}},
		{"in the responses of a wrapped proxy", list(route(`{"handler":"proxy_pass","proxy":{"handler":"reverse_proxy","handle_response":[{"routes":[` + route(login) + `]}]}}`)), Place{}},
		{"in the responses of handlers after it", list(route(`{"handler":"intercept","handle_response":[{"routes":[` + route(login) + `]}]}`)), Place{}},
		{"in the error routes of a subroute", list(route(`{"handler":"subroute","errors":{"routes":[` + route(login) + `]}}`)), Place{}},
		{"in a named route", list(routeFor(path("/a"), invoke("named0"))), Place{Requests: []string{"path /a"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			report := walked(t, test.routes, route(login))
			if len(report.Logins) != 1 {
				t.Fatalf("got %d logins, want 1", len(report.Logins))
			}
			got := report.Logins[0].Place
			test.want.Server, got.matchers = "srv", nil
			if got, want := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", test.want); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if !report.HasLogin["srv"] {
				t.Error("got no login on the server, want one")
			}
		})
	}
}

func TestOnlySomeExceptionsAreNamed(t *testing.T) {
	t.Parallel()
	var routes []string
	for i := range 20 {
		routes = append(routes, routeFor(path(fmt.Sprintf("/%d", i)), answer))
	}
	if got := len(walked(t, list(append(routes, route(login))...)).Logins[0].Except); got != maxSideRoutes {
		t.Errorf("got %d exceptions, want %d", got, maxSideRoutes)
	}
}

func TestExactPathOfALogin(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, routes, want string }{
		{"the only handler for the path", list(routeFor(path("/a"), login), route(answer)), "/a"},
		{"two htpasswd for the path", list(routeFor(path("/a"), login, login), route(answer)), "/a"},
		{"another handler for the path, in the route", list(routeFor(path("/a"), login, answer)), ""},
		{"another route for the path", list(routeFor(path("/a"), login), routeFor(path("/a"), answer)), ""},
		{"a pattern", list(routeFor(path("/a*"), login)), ""},
		{"a PHP file", list(routeFor(path("/a.php"), login), route(answer)), "/a.php"},
		{"another file", list(routeFor(path("/a.png"), login), route(answer)), ""},
		{"all paths", list(route(login)), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := walked(t, test.routes).Logins[0].ExactPath; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestServersWithALoginAndForwardProxies(t *testing.T) {
	t.Parallel()
	report := Walk([]Server{
		{Name: "login", Routes: routesOf(t, list(route(login)))},
		{Name: "login for errors", Errors: routesOf(t, list(route(login)))},
		{Name: "unreadable handler", Routes: []Route{{Steps: []Step{{Name: "third_party"}}}}},
		{Name: "forward proxy", Routes: routesOf(t, list(route(`{"handler":"forward_proxy"}`)))},
		{Name: "neither", Routes: routesOf(t, list(route(subroute(route(proxy)), foreign))), Named: map[string]Route{"not called": routesOf(t, list(route(login)))[0]}},
		{Name: "empty"},
	})
	for name, want := range map[string]bool{"login": true, "login for errors": true, "unreadable handler": true, "forward proxy": false, "neither": false, "empty": false} {
		if got := report.HasLogin[name]; got != want {
			t.Errorf("%s: got login %t, want %t", name, got, want)
		}
		if got, want := report.HasForwardProxy[name], name == "forward proxy"; got != want {
			t.Errorf("%s: got forward proxy %t, want %t", name, got, want)
		}
	}
}

// TestNamedRoutesMayInvokeThemselves checks named routes whose invocations would not
// end, or would double with each route.
func TestNamedRoutesMayInvokeThemselves(t *testing.T) {
	t.Parallel()
	t.Run("one that invokes itself", func(t *testing.T) {
		t.Parallel()
		report := walked(t, list(route(use, invoke("named0"))), route(invoke("named0"), login, invoke("named0")))
		if len(report.Logins) == 0 || len(report.EarlyUses) != 1 {
			t.Errorf("got %d logins and %d early uses, want some and 1", len(report.Logins), len(report.EarlyUses))
		}
	})
	t.Run("two that invoke each other", func(t *testing.T) {
		t.Parallel()
		if got := len(walked(t, list(route(invoke("named0"))), route(invoke("named1")), route(invoke("named0"), login)).Logins); got == 0 {
			t.Error("got no login, want some")
		}
	})
	t.Run("a hundred, each of which invokes the next one twice", func(t *testing.T) {
		t.Parallel()
		var named []string
		for i := range 100 {
			next := invoke(fmt.Sprintf("named%d", i+1))
			named = append(named, route(next, use, next))
		}
		report := walked(t, list(route(invoke("named0"))), append(named, route(login))...)
		if got := len(report.Logins); got == 0 || got > 3 { // at most one for each userKnowledge
			t.Errorf("got %d logins, want 1 to 3", got)
		}
	})
	t.Run("one that does not exist", func(t *testing.T) {
		t.Parallel()
		if got := walked(t, list(route(use, invoke("nowhere"), login))).EarlyUses; len(got) != 1 || got[0].Verdict != UseNeverNamesUser {
			t.Errorf("got %+v, want one that never names a user", got)
		}
	})
}

func TestWalkChangesNothing(t *testing.T) {
	t.Parallel()
	text := list(
		routeFor(host("a"), subroute(routeFor(group("g")+","+path("/a"), use, someLogin), routeFor(group("g"), stripPrefix, files))),
		route(`{"handler":"map","source":"{http.auth.user.id}","destinations":["{a}"]}`, invoke("named0")),
	)
	server := Server{Name: "srv", Routes: routesOf(t, text), Errors: routesOf(t, text), Named: map[string]Route{"named0": routesOf(t, text)[0]}}
	before := fmt.Sprintf("%+v", server)
	Walk([]Server{server})
	if after := fmt.Sprintf("%+v", server); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
}

func TestStepsAreReadFromJSON(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		want       Step
	}{
		{"a handler", answer, Step{Name: "static_response", Config: json.RawMessage(answer)}},
		{"a subroute", subroute(route(answer)), Step{Name: "subroute", Routes: []Route{{Steps: []Step{{Name: "static_response", Config: json.RawMessage(answer)}}}}}},
		{"a matcher with escapes", subroute(`{"match":[{"path":["\u002fa"]}],"terminal":true,"group":"g"}`),
			Step{Name: "subroute", Routes: []Route{{Matchers: matchers.Sets{{"path": json.RawMessage(`["/a"]`)}}, Terminal: true, Group: "g"}}}},
		{"a wrapped proxy", `{"handler":"proxy_pass","proxy":` + proxy + `}`, Step{Name: "reverse_proxy", Config: json.RawMessage(proxy)}},
		{"a wrapper of nothing", `{"handler":"proxy_pass"}`, Step{Name: "proxy_pass", Config: json.RawMessage(`{"handler":"proxy_pass"}`)}},
		{"a number", `1`, Step{Config: json.RawMessage(`1`)}},
		{"nothing", `null`, Step{Config: json.RawMessage(`null`)}},
		{"a subroute with invalid routes", `{"handler":"subroute","routes":1,"errors":[]}`, Step{Name: "subroute"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got Step
			if err := got.UnmarshalJSON([]byte(test.text)); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestServedFilesAreFoundByTheirRoot(t *testing.T) {
	t.Parallel()
	const root = `{"handler":"vars","root":"/site"}`
	for _, test := range []struct {
		name, routes string
		want         []string // root and patterns of paths
	}{
		{"the root of the site", list(route(root, files)), []string{"/site []"}},
		{"no root", list(route(files)), []string{". []"}},
		{"a root of its own", list(route(root, `{"handler":"file_server","root":"/own"}`)), []string{"/own []"}},
		{"files that are not of this machine", list(route(root, `{"handler":"file_server","fs":"s3"}`)), nil},
		{"a root for some paths", list(routeFor(path("/a*"), root), route(files)), []string{"/site []"}},
		{"some paths", list(route(root), routeFor(path("/a*"), files)), []string{"/site [/a*]"}},
		{"paths that were rewritten", list(route(root), routeFor(path("/a*"), stripPrefix, files)), []string{"/site []"}},
		{"paths that a third-party handler may rewrite", list(route(root), routeFor(path("/a*"), foreign, files)), []string{"/site []"}},
		{"paths that are rewritten only where they end", list(route(root), routeFor(path("/b*"), stripPrefix, answer), routeFor(path("/a*"), files)), []string{"/site [/a*]"}},
		{"a named route", list(route(root, invoke("named0"))), []string{"/site []"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for root, list := range walked(t, test.routes, route(files)).Served {
				for _, files := range list {
					got = append(got, fmt.Sprint(root, " ", files.Paths))
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestFilesForErrorsComeFromAnUnknownRoot(t *testing.T) {
	t.Parallel()
	if got := Walk([]Server{{Errors: routesOf(t, list(route(files)))}}).Served; len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
}

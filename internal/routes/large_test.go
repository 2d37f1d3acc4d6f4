package routes

import (
	"encoding/json"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// largeList returns n copies of the routes of the text. N stands for the number of the
// copy, and M for the number of the one half a list later.
func largeList(text string, n int) string {
	routes := make([]string, 0, n+1)
	for i := range n {
		routes = append(routes, strings.NewReplacer("N", strconv.Itoa(i), "M", strconv.Itoa((i+n/2)%n)).Replace(text))
	}
	return list(append(routes, routeFor(path("/z"), login))...)
}

// TestLargeConfiguration checks that the work does not grow with the square of the
// number of routes. It measures memory, which other processes do not disturb.
func TestLargeConfiguration(t *testing.T) {
	for _, test := range []struct {
		name, routes string
	}{
		{"handle blocks with a login", routeFor(group("g")+","+path("/aN/*"), subroute(route(`{"handler":"vars","root":"/srv"}`), route(login, proxy)))},
		{"early uses in groups of their own", routeFor(group("gN")+","+path("/aN"), use)},
		{"early uses in groups that overlap", routeFor(group("gN")+","+path("/aN"), use) + "," + routeFor(group("gM")+","+path("/bN"), use)},
		{"early uses in one group", routeFor(group("g")+","+path("/aN"), use)},
		{"early uses in blocks", routeFor(path("/aN"), subroute(route(use), route(use)))},
		{"early uses, each before a login", routeFor(path("/aN"), use) + "," + routeFor(path("/bN"), login)},
		{"early uses before calls of a named route", routeFor(path("/aN"), use, invoke("login"))},
		{"early uses that are certain", route(use)},
		{"maps with names of their own", route(`{"handler":"map","source":"{http.auth.user.id}","destinations":["{aN}"]}`, `{"handler":"vars","x":"{bN}"}`)},
		{"calls of a named route with early uses in it", routeFor(path("/aN"), invoke("use"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			memory := func(n int) uint64 {
				text := []byte(largeList(test.routes, n))
				named := map[string]Route{"login": routesOf(t, list(route(login)))[0], "use": routesOf(t, list(route(use)))[0]}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				var routes []Route
				if err := json.Unmarshal(text, &routes); err != nil {
					t.Fatal(err)
				}
				report := Walk([]Server{{Name: "s", Routes: routes, Named: named}})
				runtime.ReadMemStats(&after)
				want := strings.Count(test.routes, use) * n
				if strings.Contains(test.routes, invoke("use")) {
					want = 1 // a use in a named route is reported once
				}
				if got := len(report.EarlyUses); got != want {
					t.Errorf("got %d early uses, want %d", got, want)
				}
				return after.TotalAlloc - before.TotalAlloc
			}
			memory(10)
			small, large := memory(250), memory(2000)
			if large > 12*small { // eight times as many
				t.Errorf("got %d bytes for 250 and %d for 2000, want at most 12 times as many", small, large)
			}
		})
	}
}

func BenchmarkWalk(b *testing.B) {
	servers := []Server{{Name: "s", Routes: routesOf(b, largeList(
		routeFor(group("g")+","+path("/aN/*"), subroute(route(`{"handler":"vars","root":"/srv"}`), route(login, proxy))), 1000))}}
	b.ReportAllocs()
	for b.Loop() {
		Walk(servers)
	}
}

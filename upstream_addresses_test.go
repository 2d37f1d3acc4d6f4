package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/balance"
)

// adaptedServers returns the servers of a group, in order, with the settings that a
// Caddyfile gives them: "10.0.0.1:80 weight=2 max_conns=3".
func adaptedServers(t *testing.T, group string) string {
	t.Helper()
	var proxy struct {
		Upstreams []struct {
			Dial        string
			MaxRequests int `json:"max_requests"`
		}
		LoadBalancing struct {
			Retries         int
			SelectionPolicy UpstreamGroup `json:"selection_policy"`
		} `json:"load_balancing"`
	}
	must(t, json.Unmarshal([]byte(adaptedProxies(t, "{\nupstream web {\n"+group+"\n}\n}\n:80 {\nproxy_pass web\n}\n", nil)), &proxy))
	var all []string
	for _, u := range proxy.Upstreams {
		text, s := u.Dial, proxy.LoadBalancing.SelectionPolicy.Servers[u.Dial]
		if s.Weight != 0 {
			text += fmt.Sprintf(" weight=%d", s.Weight)
		}
		if u.MaxRequests != 0 {
			text += fmt.Sprintf(" max_conns=%d", u.MaxRequests)
		}
		if s.Backup {
			text += " backup"
		}
		if s.Down {
			text += " down"
		}
		all = append(all, text)
	}
	return fmt.Sprintf("%s; retries %d", strings.Join(all, ", "), proxy.LoadBalancing.Retries)
}

// TestServerOnSeveralLines checks that weights and limits of a server are added, as nginx
// does, and that it is still one server.
func TestServerOnSeveralLines(t *testing.T) {
	t.Parallel()
	for group, want := range map[string]string{
		"server 10.0.0.1\nserver 10.0.0.1":                                           "10.0.0.1:80 weight=2; retries 0",
		"server 10.0.0.1 weight=3\nserver 10.0.0.1":                                  "10.0.0.1:80 weight=4; retries 0",
		"server 10.0.0.1 weight=65534\nserver 10.0.0.1":                              "10.0.0.1:80 weight=65535; retries 0",
		"server 10.0.0.1\nserver 10.0.0.1:80\nserver 10.0.0.1":                       "10.0.0.1:80 weight=3; retries 0",
		"server 10.0.0.1 max_conns=2\nserver 10.0.0.1 max_conns=3":                   "10.0.0.1:80 weight=2 max_conns=5; retries 0",
		"server 10.0.0.1 max_conns=2\nserver 10.0.0.1":                               "10.0.0.1:80 weight=2; retries 0",
		"server 10.0.0.1 max_conns=0\nserver 10.0.0.1 max_conns=3":                   "10.0.0.1:80 weight=2; retries 0",
		"server 10.0.0.1\nserver 10.0.0.2 weight=2\nserver 10.0.0.1 weight=4":        "10.0.0.1:80 weight=5, 10.0.0.2:80 weight=2; retries 1",
		"server 10.0.0.2\nserver 10.0.0.1 backup\nserver 10.0.0.1 weight=2 backup":   "10.0.0.2:80, 10.0.0.1:80 weight=3 backup; retries 1",
		"server 10.0.0.2\nserver 10.0.0.1 down backup\nserver 10.0.0.1 backup down":  "10.0.0.2:80, 10.0.0.1:80 weight=2 backup down; retries 0",
		"server 10.0.0.1:1-3 weight=2 max_conns=4\nserver 10.0.0.1:2 max_conns=1":    "10.0.0.1:1 weight=2 max_conns=4, 10.0.0.1:2 weight=3 max_conns=5, 10.0.0.1:3 weight=2 max_conns=4; retries 2",
		"server 10.0.0.1:2\nserver 10.0.0.1:1-3":                                     "10.0.0.1:2 weight=2, 10.0.0.1:1, 10.0.0.1:3; retries 2",
		"server a\nserver a":                                                         "a:80 weight=2; retries 1", // a name can have several addresses
		"server unix//x\nserver unix//x":                                             "unix//x weight=2; retries 0",
		"server {env.X}\nserver {env.X}":                                             "{env.X} weight=2; retries 0",
		"server 10.0.0.1 max_conns=2147483647\nserver 10.0.0.1 max_conns=2147483647": "10.0.0.1:80 weight=2 max_conns=2147483647; retries 0",
	} {
		t.Run(group, func(t *testing.T) {
			if got := adaptedServers(t, group); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
	for group, want := range map[string][]string{
		"server 10.0.0.1\nserver 10.0.0.1 backup":                                     {"server 10.0.0.1: expected the same parameters as for '10.0.0.1:80' on line 3 (none), found 'backup': the lines of a server may differ only in weight and max_conns, which are added", ":4"},
		"server 10.0.0.1 down\nserver 10.0.0.2\nserver 10.0.0.1":                      {"for '10.0.0.1:80' on line 3 ('down'), found none: the lines of a server may differ only in", ":5"},
		"server 10.0.0.1 backup\nserver 10.0.0.2\nserver 10.0.0.1 down":               {"on line 3 ('backup'), found 'down'", ":5"},
		"server 10.0.0.1 backup down\nserver 10.0.0.1 down":                           {"on line 3 ('backup down'), found 'down'", ":4"},
		"server 10.0.0.1 weight=65535\nserver 10.0.0.1":                               {"server 10.0.0.1: expected weights of '10.0.0.1:80' with a sum of at most 65535, found 65536", ":4"},
		"server 10.0.0.1 weight=40000\nserver 10.0.0.2\nserver 10.0.0.1 weight=40000": {"a sum of at most 65535, found 80000", ":5"},
	} {
		_, err := adaptCaddyfile("", "{\nupstream web {\n"+group+"\n}\n}\n")
		checkError(t, group, err, want)
	}
}

// TestServersByModel compares groups of random lines with sums that are computed server by
// server.
func TestServersByModel(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(16, 7))
	for range 300 {
		var group, want []string
		weights, limits := make(map[string]int), make(map[string]int)
		for range 1 + random.IntN(6) {
			first, weight, limit := 1+random.IntN(4), 1+random.IntN(4), random.IntN(3)
			last := min(first+random.IntN(3), 4)
			line := fmt.Sprintf("server 10.0.0.1:%d-%d", first, last)
			if first == last {
				line = fmt.Sprintf("server 10.0.0.1:%d", first)
			}
			line += fmt.Sprintf(" weight=%d", weight)
			if limit > 0 || random.IntN(2) == 0 {
				line += fmt.Sprintf(" max_conns=%d", limit)
			}
			for port := first; port <= last; port++ {
				dial := fmt.Sprintf("10.0.0.1:%d", port)
				if weights[dial] == 0 {
					want = append(want, dial)
				}
				weights[dial] += weight
				if limit == 0 {
					limits[dial] = -1000 // no limit, whatever comes
				}
				limits[dial] += limit
			}
			group = append(group, line)
		}
		retries := len(want) - 1
		for i, dial := range want {
			want[i] += fmt.Sprintf(" weight=%d", weights[dial])
			if limits[dial] > 0 {
				want[i] += fmt.Sprintf(" max_conns=%d", limits[dial])
			}
		}
		if got, want := adaptedServers(t, strings.Join(group, "\n")), fmt.Sprintf("%s; retries %d", strings.Join(want, ", "), retries); got != want {
			t.Fatalf("%s: got %s, want %s", strings.Join(group, "\n"), got, want)
		}
	}
}

// TestProxyServerOnSeveralLines sends requests to such a server: its share and its limit
// are those of its lines together.
func TestProxyServerOnSeveralLines(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	a := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			entered <- struct{}{}
			<-leave
		}
		io.WriteString(w, "a")
	}))
	t.Cleanup(a.Close)
	var site string
	line := "server " + a.URL + " max_conns=1\n"
	get := runProxy(t, line+"server "+namedBackend(t, "b").URL+"\n"+line+line, &site)
	if got := strings.Join(answers(get, 8), ""); got != "aabaaaba" {
		t.Errorf("got answers %s, want aabaaaba", got)
	}
	done := make(chan error)
	for n := range 3 {
		// Requests that b takes are repeated until a has one more.
		go func() {
			_, err := http.Get(site + "/wait")
			done <- err
		}()
		for waiting := true; waiting; {
			select {
			case <-entered:
				waiting = false
			case err := <-done:
				must(t, err)
				go func() {
					_, err := http.Get(site + "/wait")
					done <- err
				}()
			}
		}
		want := "a and b"
		if n == 2 {
			want = "b"
		}
		got := "b"
		if strings.Contains(strings.Join(answers(get, 8), ""), "a") {
			got = "a and b"
		}
		if got != want {
			t.Errorf("with %d requests at a: got answers of %s, want of %s", n+1, got, want)
		}
	}
	close(leave)
	for range 3 {
		must(t, <-done)
	}
}

// oneServerLines are server lines with all combinations of parameters.
func oneServerLines(weights, limits []string) (lines []string) {
	for _, marks := range []string{"", " backup", " down", " backup down", " down backup"} {
		for _, weight := range weights {
			for _, limit := range limits {
				lines = append(lines, weight+marks+limit)
			}
		}
	}
	return lines
}

// marksOf reports what a line has.
func marksOf(line string) string {
	var marks string
	for _, mark := range []string{"backup", "down"} {
		if strings.Contains(line, mark) {
			marks += " " + mark
		}
	}
	return marks
}

// TestGroupsOfOneServer tries all combinations of parameters of a single server, on one
// line and on two. Each is a clear error, or a group that responds as documented.
func TestGroupsOfOneServer(t *testing.T) {
	address := namedBackend(t, "a").URL
	const odd = "-1 x 1.5 1e3"
	limits := []string{"", " max_conns=0", " max_conns=1", " max_conns=2147483647"}
	badWeights, badLimits := []string{" weight=0", " weight=65536", " weight", " weight=", " weight=99999999999999999999"}, []string{" max_conns", " max_conns=", " max_conns=2147483648", " max_conns=9223372036854775807"}
	for _, text := range strings.Fields(odd) {
		badWeights, badLimits = append(badWeights, " weight="+text), append(badLimits, " max_conns="+text)
	}
	good := oneServerLines([]string{"", " weight=1", " weight=65535"}, limits)

	rows := make(map[string]string) // from the group to the status, or a part of the error
	add := func(want string, lines ...string) {
		var group strings.Builder
		for _, line := range lines {
			group.WriteString("server " + address + line + "\n")
		}
		rows[group.String()] = want
	}
	usual := func(marks string) string {
		switch marks {
		case "":
			return "200"
		case " down":
			return "502"
		}
		return "expected at least one server without 'backup', found none"
	}
	for _, line := range good {
		add(usual(marksOf(line)), line)
	}
	for _, line := range oneServerLines(badWeights, limits) {
		add("expected weight=<n> with n from 1 to 65535, found 'weight", line)
	}
	for _, line := range oneServerLines([]string{"", " weight=2"}, badLimits) {
		add("expected max_conns=<n> with n from 0 (no limit) to 2147483647, found 'max_conns", line)
	}
	for _, first := range good {
		for _, second := range good {
			switch {
			case marksOf(first) != marksOf(second):
				add("expected the same parameters as for '", first, second)
			case strings.Contains(first+second, "weight=65535"):
				add("with a sum of at most 65535, found ", first, second)
			default:
				add(usual(marksOf(first)), first, second)
			}
		}
	}

	for _, method := range balance.Methods() {
		name := string(method)
		if method == balance.MethodHash {
			name += " {uri}"
		}
		for _, line := range []string{"", " weight=65535", " max_conns=1", " down"} {
			rows["balance "+name+"\nserver "+address+line+"\n"] = usual(marksOf(line))
			rows["balance "+name+"\nserver "+address+line+"\nlb_retries 3\n"] = usual(marksOf(line))
			if method.HasSlowStart() {
				rows["balance "+name+"\nslow_start 1s\nserver "+address+line+"\n"] = usual(marksOf(line))
			}
		}
	}

	// The groups without an error run in one configuration.
	var groups, routes strings.Builder
	var wanted []string
	for group, want := range rows {
		_, err := adaptCaddyfile("", "{\nupstream web {\n"+group+"}\n}\n")
		if len(want) > 3 {
			checkError(t, group, err, []string{"upstream web", want, ":"})
			continue
		}
		if err != nil {
			t.Errorf("%s: got error %v, want none", group, err)
			continue
		}
		fmt.Fprintf(&groups, "upstream g%d {\n%s}\n", len(wanted), group)
		fmt.Fprintf(&routes, "proxy_pass /%d g%d\n", len(wanted), len(wanted))
		wanted = append(wanted, want)
	}
	s := startServer(t, "{\nhttp_port {http}\n"+groups.String()+"}\nhttp://localhost:{http} {\n"+routes.String()+"}\n")
	for i, want := range wanted {
		if got := s.plain(fmt.Sprintf("/%d", i), nil).status; fmt.Sprint(got) != want {
			t.Errorf("group g%d: got status %d, want %s", i, got, want)
		}
	}
	if len(wanted) < 50 {
		t.Errorf("got %d groups that load, want at least 50", len(wanted))
	}
}

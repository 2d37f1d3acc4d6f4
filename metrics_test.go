package caddyhtpasswd

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// metricsSite uses everything that is counted, and serves the metrics at /metrics.
const metricsSite = `{
	htpasswd {
		max_hashes 3
		throttle user 1000 1h
	}
}
https://localhost:{https} {
	route {
		metrics /metrics
		htpasswd {
			file {dir}/users
			group_file {dir}/groups
			require group staff
			exempt /open
		}
		respond ok
	}
}
http://localhost:{http} {
	htpasswd {
		file {dir}/users
	}
	respond ok
}`

const metricsUsers = "ann:$2y$04$bQ5GWxJ6bzCjZ3Ra1nSg9./FyxwgOMNCNm2YjVGyXwJdSrNYBZ0Su\nbob:" + shaSecret1 + "\ndora:*\nevil\n"

// scrape returns the samples of the plugin by name and labels.
func (s *server) scrape() map[string]float64 {
	s.t.Helper()
	samples := make(map[string]float64)
	for _, m := range regexp.MustCompile(`(?m)^caddy_htpasswd_(\S+?) (\S+)$`).FindAllStringSubmatch(s.get("/metrics", "", "").body, -1) {
		var value float64
		if _, err := fmt.Sscan(m[2], &value); err != nil {
			s.t.Fatal(err)
		}
		samples[strings.ReplaceAll(m[1], s.dir, "")] = value
	}
	return samples
}

func TestMetrics(t *testing.T) {
	s := startServer(t, "")
	s.write("users", metricsUsers)
	s.write("groups", "staff: ann bob nobody\n")
	must(t, s.reload(metricsSite))
	before := s.scrape()

	plain := func(path string) int {
		t.Helper()
		resp, err := s.client.Get(fmt.Sprintf("http://localhost:%d%s", s.http, path))
		must(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	ambiguous := s.request(http.MethodGet, "/", nil)
	ambiguous.Header["Authorization"] = []string{"Basic YTpi", "Basic YTpi"}
	bad := s.request(http.MethodGet, "/", nil)
	bad.Header.Set("Authorization", "Basic ?")
	for i, status := range []int{
		s.get("/", "", "").status,
		s.get("/open", "", "").status,
		s.get("/", "bob", "secret1").status,
		s.get("/", "bob", "secret1").status,
		s.get("/", "bob", "secret1").status,
		s.get("/", "bob", "wrong").status,
		s.get("/", "carl", "wrong").status,
		s.get("/", "dora", "wrong").status,
		s.do(ambiguous).status,
		s.do(bad).status,
		plain("/"),
	} {
		if want := []int{401, 200, 200, 200, 200, 401, 401, 401, 400, 401, 403}[i]; status != want {
			t.Errorf("answer %d: got status %d, want %d", i+1, status, want)
		}
	}
	after := s.scrape()
	for sample, want := range map[string]float64{
		`requests_total{result="no_credentials"}`: 1,
		`requests_total{result="exempt"}`:         1,
		`requests_total{result="ok"}`:             3,
		`requests_total{result="wrong_password"}`: 1,
		`requests_total{result="unknown_user"}`:   1,
		`requests_total{result="locked_user"}`:    1,
		`requests_total{result="ambiguous"}`:      1,
		`requests_total{result="malformed"}`:      1,
		`requests_total{result="not_encrypted"}`:  1,
		`requests_total{result="forbidden"}`:      0,
		`requests_total{result="throttled"}`:      0,
		`password_cache_hits_total`:               2,
		`hash_duration_seconds_count{format="sha1"}` + "+" + `hash_duration_seconds_count{format="bcrypt"}`: 4,
	} {
		grown := 0.0
		for name := range strings.SplitSeq(sample, "+") {
			grown += after[name] - before[name]
		}
		if grown != want {
			t.Errorf("%s: %v more, not %v", sample, grown, want)
		}
	}
	now := float64(time.Now().Unix())
	for sample, want := range map[string]float64{
		`hash_workers`:                                                           3,
		`hash_workers_busy`:                                                      0,
		`hash_queue_length`:                                                      0,
		`file_users{file="/users"}`:                                              2,
		`file_weak_hashes{file="/users"}`:                                        1,
		`file_invalid_lines{file="/users",kind="users"}`:                         1,
		`file_invalid_lines{file="/groups",kind="groups"}`:                       0,
		`file_last_load_successful{file="/users",kind="users"}`:                  1,
		`file_load_failures_total{file="/users",kind="users"}`:                   0,
		`file_last_load_success_timestamp_seconds{file="/users",kind="users"}`:   now,
		`file_last_load_success_timestamp_seconds{file="/groups",kind="groups"}`: now,
	} {
		got, ok := after[sample]
		if !ok || got != want && (want != now || got < now-60 || got > now+60) {
			t.Errorf("%s: got %v (there: %t), want %v", sample, got, ok, want)
		}
	}

	// A broken file changes the metrics; a reload does not.
	replace(t, s.dir+"/users", "<html>")
	eventually(t, "the bad file is noticed", func() bool { return s.scrape()[`file_last_load_successful{file="/users",kind="users"}`] == 0 })
	s.write("users", "ann:"+shaSecret1+"\nbob:"+shaSecret1+"\n")
	eventually(t, "the good one, too", func() bool {
		return s.scrape()[`file_users{file="/users"}`] == 2 && s.scrape()[`file_invalid_lines{file="/users",kind="users"}`] == 0
	})
	s.write("groups", "staff: bob\n")
	must(t, s.reload(metricsSite+"\n# again"))
	again := s.scrape()
	if got := again[`file_load_failures_total{file="/users",kind="users"}`]; got != 1 {
		t.Errorf("after a reload: got %v failures to load, want 1", got)
	}
	if got := again[`requests_total{result="ok"}`]; got != after[`requests_total{result="ok"}`] {
		t.Errorf("after a reload: got %v requests, want %v as before", got, after[`requests_total{result="ok"}`])
	}
	if a := s.get("/", "ann", "secret1"); a.status != 403 || s.scrape()[`requests_total{result="forbidden"}`] != again[`requests_total{result="forbidden"}`]+1 {
		t.Errorf("got status %d, want 403 and one more that is forbidden", a.status)
	}
	for range 11 {
		s.get("/", "bob", fmt.Sprint(time.Now()))
	}
	end := s.scrape()
	if end[`requests_total{result="throttled"}`] == again[`requests_total{result="throttled"}`] || end[`limits_exceeded_total{limit="login"}`] == again[`limits_exceeded_total{limit="login"}`] {
		t.Error("got the same counts of throttled requests and exceeded limits, want more")
	}
	text := s.get("/metrics", "", "").body
	for _, secret := range []string{"secret1", shaSecret1, "$2y$", "ann", "bob", "carl"} {
		if strings.Contains(text, secret) {
			t.Errorf("got %q in the metrics, want nothing of users and passwords", secret)
		}
	}
}

// TestMetricNames checks the names and help texts of the metrics with Prometheus' linter,
// and looks for each metric in docs/operations.md.
func TestMetricNames(t *testing.T) {
	s := startServer(t, "")
	s.write("users", metricsUsers)
	s.write("groups", "staff: ann\n")
	must(t, s.reload(strings.Replace(metricsSite, "file {dir}/users", "file {dir}/users\n\t\t\trehash", 1)))
	s.get("/", "ann", "wrong")
	registry := prometheus.NewPedanticRegistry()
	for range 2 { // as for two sites
		must(t, process.metrics.register(registry))
	}
	families, err := registry.Gather()
	must(t, err)
	if len(families) != 18 {
		t.Errorf("got %d metrics, want 18", len(families))
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	must(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	page := readText(t, "docs/operations.md")
	for _, family := range families {
		if !regexp.MustCompile("(?m)^\\| .*`" + family.GetName() + "`").MatchString(page) {
			t.Errorf("got no row of %s in docs/operations.md, want one", family.GetName())
		}
	}
}

// TestOddPaths checks that a file name that is not UTF-8 does not break the metrics.
func TestOddPaths(t *testing.T) {
	s := startServer(t, "")
	name := s.dir + "/\xff"
	if err := os.WriteFile(name, []byte(metricsUsers), 0o640); err != nil {
		t.Skipf("no such names here: %v", err)
	}
	h := &Handler{Files: []string{name}}
	must(t, h.Provision(configContext(t)))
	defer h.Cleanup()
	registry := prometheus.NewPedanticRegistry()
	must(t, process.metrics.register(registry))
	if _, err := registry.Gather(); err != nil {
		t.Error(err)
	}
}

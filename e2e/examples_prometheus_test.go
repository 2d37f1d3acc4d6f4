package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestPrometheusRules checks the example's files with promtool, and that its alerts
// fire.
func TestPrometheusRules(t *testing.T) {
	parallel(t)
	promtool := program(t, "promtool")
	testkit.Run(t, promtool, "check", "config", "../examples/prometheus/prometheus.yml")
	testkit.Run(t, promtool, "test", "rules", "testdata/prometheus/rules_test.yml")
}

// TestExamplePrometheus scrapes the example with a real Prometheus. It sends every
// query of the dashboard and of the alerts.
func TestExamplePrometheus(t *testing.T) {
	parallel(t)
	prometheus := program(t, "prometheus")
	s := startServer(t, "")
	must(t, os.CopyFS(filepath.Join(s.Dir, "examples"), os.DirFS("../examples")))
	site := strings.NewReplacer("localhost:8443 {", "localhost:{https} {", "http_port 8080", "http_port {http}",
		"file examples/prometheus/.htpasswd", "file examples/prometheus/.htpasswd\n\t\trehash").Replace( // so that all metrics exist
		readText(t, "../examples/prometheus/Caddyfile"))
	must(t, s.Reload(site))
	for _, request := range []struct {
		path, user string
		status     int
		text       string
	}{
		{"/", "", 401, ""},
		{"/metrics", "", 401, ""},
		{"/metrics", "prometheus", 200, "\ncaddy_htpasswd_requests_total"},
	} {
		a := s.get(request.path, request.user, "swordfish")
		if a.Status != request.status || !strings.Contains(a.Body, request.text) {
			t.Errorf("%s as %q: got %d %.200q, want %d with %q", request.path, request.user, a.Status, a.Body, request.status, request.text)
		}
	}

	dir := t.TempDir()
	for _, name := range []string{"prometheus.yml", "htpasswd.rules.yml", "password"} {
		text := strings.NewReplacer("localhost:8443", fmt.Sprintf("localhost:%d", s.HTTPS), "_interval: 15s", "_interval: 1s").
			Replace(readText(t, filepath.Join("../examples/prometheus", name)))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	address := fmt.Sprintf("localhost:%d", freePorts(t, 1)[0])
	start(t, dir, os.Environ(), prometheus, "--config.file", filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", address)
	ask := func(path string, answer any) error {
		resp, err := (&http.Client{Timeout: 10 * time.Second}).Get("http://" + address + path)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return json.NewDecoder(resp.Body).Decode(answer)
	}
	// series returns the number of results of a query.
	series := func(query string) int {
		t.Helper()
		var answer struct {
			Status, Error string
			Data          struct{ Result []any }
		}
		if err := ask("/api/v1/query?query="+url.QueryEscape(query), &answer); err == nil && answer.Status != "success" {
			t.Fatalf("%s: %s", query, answer.Error)
		}
		return len(answer.Data.Result)
	}
	eventually(t, "Prometheus has scraped twice", func() bool {
		s.get("/", "prometheus", fmt.Sprint("wrong", time.Now())) // an event to count
		return series(`count_over_time(up[1m]) >= 2`) == 1 && series(`up == 1`) == 1
	})

	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	must(t, json.Unmarshal([]byte(readText(t, "../examples/prometheus/dashboard.json")), &dashboard))
	queries := 0
	answers := func(name, query string) {
		t.Helper()
		queries++
		eventually(t, name+": "+query, func() bool { return series(query) > 0 })
	}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			answers(panel.Title, strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*").Replace(target.Expr))
		}
	}
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Query, Health, LastError string }
			}
		}
	}
	eventually(t, "the rules were evaluated", func() bool {
		err := ask("/api/v1/rules", &rules)
		return err == nil && len(rules.Data.Groups) == 1 && rules.Data.Groups[0].Rules[0].Health != "unknown"
	})
	for _, rule := range rules.Data.Groups[0].Rules {
		if rule.LastError != "" {
			t.Errorf("%s: %s", rule.Name, rule.LastError)
		}
		// Without the comparison, which is true only when the alert fires.
		answers(rule.Name, regexp.MustCompile(` (==|>) \d+$`).ReplaceAllString(rule.Query, ""))
	}
	if queries < 20 {
		t.Errorf("got only %d queries, want at least 20", queries)
	}
}

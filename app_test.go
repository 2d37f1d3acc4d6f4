package caddyhtpasswd

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/ratelimit"
)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestAppSettings(t *testing.T) {
	defaults := [scopeCount]ratelimit.Limit{{Max: 10, Window: time.Minute}, {Max: 30, Window: time.Minute}, {Max: 100, Window: time.Hour}}
	half := max(runtime.GOMAXPROCS(0)/2, 1)
	for _, test := range []struct {
		name    string
		json    string
		poll    time.Duration
		hashes  int
		limits  [scopeCount]ratelimit.Limit
		problem string
	}{
		{"nothing configured: the defaults", `{}`, 5 * time.Second, half, defaults, ""},
		{"the minimum", `{"poll": "100ms", "max_hashes": 1}`, 100 * time.Millisecond, 1, defaults, ""},
		{"large values", `{"poll": "24h", "max_hashes": 1000}`, 24 * time.Hour, 1000, defaults, ""},
		{"poll too short", `{"poll": 99999999}`, 0, 0, defaults, "poll: expected at least 100ms, found 99.999999ms"},
		{"negative poll", `{"poll": "-1s"}`, 0, 0, defaults, "poll: expected at least 100ms, found -1s"},
		{"negative hashes", `{"max_hashes": -1}`, 0, 0, defaults, "max_hashes: expected at least 1, found -1"},
		{"limits", `{"throttle": {"login": {"failures": 1, "window": "1s"}, "client": {"failures": 1000000, "window": "720h"}, "user": {"off": true}}}`,
			5 * time.Second, half, [scopeCount]ratelimit.Limit{{Max: 1, Window: time.Second}, {Max: 1000000, Window: 720 * time.Hour}, {Window: time.Hour}}, ""},
		{"partial limits", `{"throttle": {"login": {"failures": 1}, "client": {"window": "2m"}, "user": {}}}`,
			5 * time.Second, half, [scopeCount]ratelimit.Limit{{Max: 1, Window: time.Minute}, {Max: 30, Window: 2 * time.Minute}, {Max: 100, Window: time.Hour}}, ""},
		{"off and on", `{"throttle": {"user": {"off": true, "failures": 1}}}`, 0, 0, defaults, "throttle user: expected either 'off' or"},
		{"negative failures", `{"throttle": {"login": {"failures": -1}}}`, 0, 0, defaults, "throttle login: failures: expected 1 to 1000000, found -1"},
		{"too many failures", `{"throttle": {"login": {"failures": 1000001}}}`, 0, 0, defaults, "throttle login: failures: expected 1 to 1000000, found 1000001"},
		{"window too short", `{"throttle": {"client": {"window": "999ms"}}}`, 0, 0, defaults, "throttle client: window: expected 1s to 720h0m0s, found 999ms"},
		{"window too long", `{"throttle": {"client": {"window": "721h"}}}`, 0, 0, defaults, "throttle client: window: expected 1s to 720h0m0s, found 721h"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before, changed := process.active.watch()
			a := new(App)
			if err := json.Unmarshal([]byte(test.json), a); err != nil {
				t.Fatal(err)
			}
			if err := a.Provision(configContext(t)); err != nil {
				t.Fatal(err)
			}
			err := a.Validate()
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("error %v, want %q", err, test.problem)
				}
				return
			}
			if err != nil || time.Duration(a.Poll) != test.poll || a.MaxHashes != test.hashes || a.settings.limits != test.limits {
				t.Errorf("got poll %s, %d hashes, limits %v, error %v, want %s, %d, %v and none",
					time.Duration(a.Poll), a.MaxHashes, a.settings.limits, err, test.poll, test.hashes, test.limits)
			}
			if now := process.active.get(); isClosed(changed) || now != before {
				t.Error("before the start: got the new settings, want the previous ones")
			}
			if err := a.Start(); err != nil {
				t.Fatal(err)
			}
			if now, _ := process.active.watch(); now != a.settings || process.active.get() != a.settings || !isClosed(changed) {
				t.Error("after the start: got the previous settings or no notice, want the new ones")
			}
			if err := a.Stop(); err != nil {
				t.Fatal(err)
			}
			if now := process.active.get(); now != before {
				t.Error("after the stop: got the new settings, want the previous ones")
			}
		})
	}
}

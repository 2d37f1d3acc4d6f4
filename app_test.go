package caddyhtpasswd

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestAppStack(t *testing.T) {
	a, b, c := &App{Poll: 1}, &App{Poll: 2}, &App{Poll: 3}
	for _, test := range []struct {
		name string
		do   func(s *appStack)
		want *App // nil: the defaults
	}{
		{"nothing runs", func(*appStack) {}, nil},
		{"one runs", func(s *appStack) { s.start(a) }, a},
		{"the last one started is in force", func(s *appStack) { s.start(a); s.start(b) }, b},
		{"a reload: the old one is stopped after the new one is started", func(s *appStack) { s.start(a); s.start(b); s.stop(a) }, b},
		{"a refused reload: the new one is stopped", func(s *appStack) { s.start(a); s.start(b); s.stop(b) }, a},
		{"a refused reload, then a good one", func(s *appStack) { s.start(a); s.start(b); s.stop(b); s.start(c); s.stop(a) }, c},
		{"one that was never started is stopped", func(s *appStack) { s.start(a); s.stop(b) }, a},
		{"stopped", func(s *appStack) { s.start(a); s.stop(a) }, nil},
		{"all stopped, in any order", func(s *appStack) {
			s.start(a)
			s.start(b)
			s.start(c)
			s.stop(b)
			s.stop(a)
			s.stop(c)
		}, nil},
		{"the middle one stopped", func(s *appStack) { s.start(a); s.start(b); s.start(c); s.stop(b); s.stop(c) }, a},
		{"stopped twice", func(s *appStack) { s.start(a); s.start(b); s.stop(b); s.stop(b) }, a},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s appStack
			test.do(&s)
			got, changed := s.inForce()
			if test.want != nil && got != test.want {
				t.Errorf("poll %d, want %d", got.Poll, test.want.Poll)
			}
			if test.want == nil && (got.Poll != caddy.Duration(defaultPoll) || got.logger == nil) {
				t.Errorf("%+v is not the default", got)
			}
			if isClosed(changed) {
				t.Error("the notice comes before the change")
			}
		})
	}
}

func TestAppStackNotices(t *testing.T) {
	var s appStack
	a, b := new(App), new(App)
	for i, change := range []func(){
		func() { s.start(a) }, func() { s.start(b) }, func() { s.stop(a) }, func() { s.stop(b) },
	} {
		_, one := s.inForce()
		_, two := s.inForce() // as many wait as there are files
		if isClosed(one) || isClosed(two) {
			t.Errorf("change %d: the notice comes before it", i)
		}
		change()
		if !isClosed(one) || !isClosed(two) {
			t.Errorf("change %d: no notice", i)
		}
	}
	s.start(a) // nobody waits
	s.start(b)
	if got, _ := s.inForce(); got != b {
		t.Error("not the last one")
	}
}

func TestAppSettings(t *testing.T) {
	defaults := [scopeCount]limit{{10, time.Minute}, {30, time.Minute}, {100, time.Hour}}
	half := max(runtime.GOMAXPROCS(0)/2, 1)
	for _, test := range []struct {
		name    string
		json    string
		poll    time.Duration
		hashes  int
		limits  [scopeCount]limit
		problem string
	}{
		{"nothing said: the defaults", `{}`, 5 * time.Second, half, defaults, ""},
		{"the least", `{"poll": "100ms", "max_hashes": 1}`, 100 * time.Millisecond, 1, defaults, ""},
		{"much", `{"poll": "24h", "max_hashes": 1000}`, 24 * time.Hour, 1000, defaults, ""},
		{"too little", `{"poll": 99999999}`, 0, 0, defaults, "poll is 99.999999ms, but must be at least 100ms"},
		{"negative", `{"poll": "-1s"}`, 0, 0, defaults, "poll is -1s"},
		{"negative hashes", `{"max_hashes": -1}`, 0, 0, defaults, "max_hashes is -1, but must be at least 1"},
		{"budgets", `{"throttle": {"login": {"failures": 1, "window": "1s"}, "client": {"failures": 1000000, "window": "720h"}, "user": {"off": true}}}`,
			5 * time.Second, half, [scopeCount]limit{{1, time.Second}, {1000000, 720 * time.Hour}, {0, time.Hour}}, ""},
		{"parts of budgets", `{"throttle": {"login": {"failures": 1}, "client": {"window": "2m"}, "user": {}}}`,
			5 * time.Second, half, [scopeCount]limit{{1, time.Minute}, {30, 2 * time.Minute}, {100, time.Hour}}, ""},
		{"off and on", `{"throttle": {"user": {"off": true, "failures": 1}}}`, 0, 0, defaults, "throttle user: must be either off, or"},
		{"negative failures", `{"throttle": {"login": {"failures": -1}}}`, 0, 0, defaults, "throttle login: -1 failures, but must be 1 to 1000000"},
		{"too many failures", `{"throttle": {"login": {"failures": 1000001}}}`, 0, 0, defaults, "throttle login: 1000001 failures"},
		{"too short", `{"throttle": {"client": {"window": "999ms"}}}`, 0, 0, defaults, "throttle client: the window is 999ms, but must be 1s to 720h"},
		{"too long", `{"throttle": {"client": {"window": "721h"}}}`, 0, 0, defaults, "throttle client: the window is 721h"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before, changed := running.inForce()
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
			if err != nil || time.Duration(a.Poll) != test.poll || a.MaxHashes != test.hashes || a.limits != test.limits {
				t.Errorf("%s, %d, %v, %v", time.Duration(a.Poll), a.MaxHashes, a.limits, err)
			}
			if now := running.settings(); isClosed(changed) || now != before {
				t.Error("in force before it is started")
			}
			if err := a.Start(); err != nil {
				t.Fatal(err)
			}
			if now, _ := running.inForce(); now != a || running.settings() != a || !isClosed(changed) {
				t.Error("not in force when started")
			}
			if err := a.Stop(); err != nil {
				t.Fatal(err)
			}
			if now := running.settings(); now != before {
				t.Error("in force when stopped")
			}
		})
	}
}

package caddyhtpasswd

import (
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
		{"X3 the last one started is in force", func(s *appStack) { s.start(a); s.start(b) }, b},
		{"X3 a reload: the old one is stopped after the new one is started", func(s *appStack) { s.start(a); s.start(b); s.stop(a) }, b},
		{"X3 a refused reload: the new one is stopped", func(s *appStack) { s.start(a); s.start(b); s.stop(b) }, a},
		{"X3 a refused reload, then a good one", func(s *appStack) { s.start(a); s.start(b); s.stop(b); s.start(c); s.stop(a) }, c},
		{"X3 one that was never started is stopped", func(s *appStack) { s.start(a); s.stop(b) }, a},
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
	for _, test := range []struct {
		name    string
		poll    time.Duration
		want    time.Duration
		problem string
	}{
		{"nothing said: the default", 0, 5 * time.Second, ""},
		{"the least", 500 * time.Millisecond, 500 * time.Millisecond, ""},
		{"long", 24 * time.Hour, 24 * time.Hour, ""},
		{"too little", 100*time.Millisecond - 1, 0, "poll is 99.999999ms, but must be at least 100ms"},
		{"negative", -time.Second, 0, "poll is -1s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before, changed := running.inForce()
			a := &App{Poll: caddy.Duration(test.poll)}
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
			if err != nil || time.Duration(a.Poll) != test.want {
				t.Errorf("%s, %v", time.Duration(a.Poll), err)
			}
			if now, _ := running.inForce(); isClosed(changed) || now.Poll != before.Poll {
				t.Error("X3 in force before it is started")
			}
			if err := a.Start(); err != nil {
				t.Fatal(err)
			}
			if now, _ := running.inForce(); now != a || !isClosed(changed) {
				t.Error("not in force when started")
			}
			if err := a.Stop(); err != nil {
				t.Fatal(err)
			}
			if now, _ := running.inForce(); now == a {
				t.Error("in force when stopped")
			}
		})
	}
}

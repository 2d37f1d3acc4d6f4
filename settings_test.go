package caddyhtpasswd

import "testing"

func TestActiveSettings(t *testing.T) {
	t.Parallel()
	none := new(settings)
	a, b, c := &settings{poll: 1}, &settings{poll: 2}, &settings{poll: 3}
	for _, test := range []struct {
		name string
		do   func(s *activeSettings)
		want *settings // nil: the defaults
	}{
		{"nothing runs", func(*activeSettings) {}, nil},
		{"one runs", func(s *activeSettings) { s.start(a) }, a},
		{"the last one started is active", func(s *activeSettings) { s.start(a); s.start(b) }, b},
		{"a reload: the old one is stopped after the new one is started", func(s *activeSettings) { s.start(a); s.start(b); s.stop(a) }, b},
		{"a refused reload: the new one is stopped", func(s *activeSettings) { s.start(a); s.start(b); s.stop(b) }, a},
		{"a refused reload, then a valid one", func(s *activeSettings) { s.start(a); s.start(b); s.stop(b); s.start(c); s.stop(a) }, c},
		{"one that was never started is stopped", func(s *activeSettings) { s.start(a); s.stop(b) }, a},
		{"stopped", func(s *activeSettings) { s.start(a); s.stop(a) }, nil},
		{"all stopped, in any order", func(s *activeSettings) {
			s.start(a)
			s.start(b)
			s.start(c)
			s.stop(b)
			s.stop(a)
			s.stop(c)
		}, nil},
		{"the middle one stopped", func(s *activeSettings) { s.start(a); s.start(b); s.start(c); s.stop(b); s.stop(c) }, a},
		{"stopped twice", func(s *activeSettings) { s.start(a); s.start(b); s.stop(b); s.stop(b) }, a},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := activeSettings{fallback: func() *settings { return none }}
			test.do(&s)
			got, changed := s.watch()
			want := test.want
			if want == nil {
				want = none
			}
			if got != want || s.get() != want {
				t.Errorf("got the settings with poll %d, want %d", got.poll, want.poll)
			}
			if isClosed(changed) {
				t.Error("got a notice before the change, want it after")
			}
		})
	}
}

func TestActiveSettingsAreWatched(t *testing.T) {
	t.Parallel()
	none, a, b := new(settings), new(settings), new(settings)
	s := activeSettings{fallback: func() *settings { return none }}
	for i, change := range []func(){
		func() { s.start(a) }, func() { s.start(b) }, func() { s.stop(a) }, func() { s.stop(b) },
	} {
		_, one := s.watch()
		_, two := s.watch() // each file waits
		if isClosed(one) || isClosed(two) {
			t.Errorf("change %d: got a notice before it, want it after", i)
		}
		change()
		if !isClosed(one) || !isClosed(two) {
			t.Errorf("change %d: got no notice, want one", i)
		}
	}
	s.start(a) // without a waiter
	s.start(b)
	if got, _ := s.watch(); got != b {
		t.Error("got other settings than those started last")
	}
}

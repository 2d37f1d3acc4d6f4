//go:build unix

package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, test := range []struct {
		name   string
		sorted []time.Duration
		p      int
		want   time.Duration
	}{
		{"of nothing", nil, 99, 0},
		{"of one", hundred[:1], 99, 1},
		{"half of two", hundred[:2], 50, 1},
		{"half of three", hundred[:3], 50, 2},
		{"99 percent of a hundred", hundred, 99, 99},
		{"99 percent of ten are all of them", hundred[:10], 99, 10},
	} {
		if got := percentile(test.sorted, test.p); got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
}

// TestUserLines checks that each user has another hash.
func TestUserLines(t *testing.T) {
	text, err := userLines([]string{"ann", "bob", "carl"})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		_, hash, _ := strings.Cut(line, ":")
		if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)); err != nil || seen[hash] {
			t.Errorf("got a hash of another password, or of an earlier line (%v), want another hash of the password", err)
		}
		seen[hash] = true
	}
	if len(seen) != 3 || !strings.HasPrefix(text, "ann:") {
		t.Errorf("got %d lines, want 3 that begin with the first user", len(seen))
	}
}

// TestFirstLogins logs in some users for the first time: each from another address,
// and on a new connection.
func TestFirstLogins(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all addresses of 127.0.0.0/8")
	}
	var mu sync.Mutex
	var users []string
	seen := make(map[string]int)
	release := make(chan struct{})
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, sent, _ := r.BasicAuth()
		address, _, _ := strings.Cut(r.RemoteAddr, ":")
		mu.Lock()
		users = append(users, user)
		seen[address]++
		mu.Unlock()
		switch {
		case sent != password:
			t.Errorf("%s: got another password, want the one of the load", user)
		case user == "first8":
			w.WriteHeader(http.StatusTooManyRequests)
		case user == "first9":
			<-release
		}
	}))
	defer server.Close()
	defer close(release)
	target, err := url.Parse(server.URL + "/private")
	if err != nil {
		t.Fatal(err)
	}

	l := load{Kind: "first", Password: password, First: 5, Users: 4, Duration: time.Minute}
	r := l.firstLogins(target)
	if got := strings.Join(users, " "); got != "first5 first6 first7 first8" || len(seen) != 4 {
		t.Errorf("got users %s from %v, want first5 to first8 from four addresses", got, seen)
	}
	if r.Statuses[http.StatusOK] != 3 || r.Statuses[http.StatusTooManyRequests] != 1 || r.Failed != 0 || r.Unfinished != 0 || r.Median == 0 || r.P99 < r.Median {
		t.Errorf("got %+v, want three logins and one 429", r)
	}

	l.First, l.Duration = 9, 300*time.Millisecond // the server never answers the first one
	r = l.firstLogins(target)
	if len(r.Statuses) != 0 || r.Failed != 0 || r.Unfinished == 0 {
		t.Errorf("got %+v, want one login that is unfinished", r)
	}
}

func TestFirstRow(t *testing.T) {
	baseline := &result{Median: 60 * time.Millisecond}
	for _, test := range []struct {
		name string
		r    result
		want string
	}{
		{
			"all logged in", result{Statuses: map[int]int{200: 150}, Median: 100 * time.Millisecond, P99: 250 * time.Millisecond, Unfinished: time.Millisecond},
			"50 ms | 1.2 | 2.0 | 5.0 | 150",
		},
		{
			"some did not", result{Statuses: map[int]int{200: 3, 503: 1}, Median: time.Second, P99: time.Second, Unfinished: 2 * time.Second},
			"50 ms | 1.2 | 20.0 | 20.0 | 3, and one not answered within 40.0 hashes; all: 3 times 200, 1 times 503",
		},
	} {
		if got := test.r.firstRow(baseline, 50*time.Millisecond); got != test.want {
			t.Errorf("%s: got '%s', want '%s'", test.name, got, test.want)
		}
	}
}

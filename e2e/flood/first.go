//go:build unix

package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

const (
	firstUsers  = 400 // who have not logged in yet, in the password file
	calmLogins  = 20  // first logins before the flood
	hashSamples = 21  // computations of a hash, to know how long one takes
)

// firstUser is the name of somebody who has not logged in yet.
func firstUser(i int) string { return fmt.Sprint("first", i) }

// firstAddress is an address of this machine that nobody else has. Each person
// has another, from which nobody has logged in before or failed to.
func firstAddress(i int) string { return fmt.Sprintf("127.1.%d.%d", i/250, i%250+1) }

// userLines returns lines of a password file, each with a salt of its own: a
// server that remembers hashes could take the same one for a user who is known.
func userLines(users []string) (string, error) {
	texts, errs := make([]string, len(users)), make([]error, len(users))
	var group sync.WaitGroup
	places := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for i := range places {
				var hash []byte
				hash, errs[i] = bcrypt.GenerateFromPassword([]byte(password), cost)
				texts[i] = fmt.Sprintf("%s:%s\n", users[i], hash)
			}
		})
	}
	for i := range users {
		places <- i
	}
	close(places)
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return "", err
		}
	}
	return strings.Join(texts, ""), nil
}

// hashTime returns how long the plugin takes for one hash of this cost while
// nothing else runs: the median.
func hashTime() (time.Duration, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		return 0, err
	}
	class, err := crypt.Parse(string(hash))
	if err != nil {
		return 0, err
	}
	var took []time.Duration
	for range hashSamples {
		start := time.Now()
		if !class.Verify(string(hash), []byte(password)) {
			return 0, fmt.Errorf("%s is not a hash of the password", hash)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return percentile(took, 50), nil
}

// percentile returns the smallest of sorted values that at least p percent of
// them do not exceed, 0 if there are none.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max((len(sorted)*p+99)/100-1, 0)]
}

// firstLogins has people log in who have not done so before: one after the
// other, each with a connection of their own, until all have or the time is over.
// The pauses between them keep them from beginning always at the moment when the
// server has just finished a hash.
func (l load) firstLogins(target *url.URL) *result {
	r := &result{Statuses: make(map[int]int)}
	var took []time.Duration
	start := time.Now()
	deadline := start.Add(l.Duration)
	for i := l.First; i < l.First+l.Users && time.Now().Before(deadline); i++ {
		time.Sleep(rand.N(100 * time.Millisecond)) //nolint:gosec // no secret
		begin := time.Now()
		status, err := l.firstLogin(i, target, deadline)
		switch {
		case err != nil && time.Now().After(deadline):
			r.Unfinished = time.Since(begin)
		case err != nil:
			r.Failed++
		default:
			r.Statuses[status]++
			if status == http.StatusOK {
				took = append(took, time.Since(begin))
			}
		}
	}
	r.Duration = time.Since(start)
	slices.Sort(took)
	r.Median, r.P99 = percentile(took, 50), percentile(took, 99)
	return r
}

// firstLogin is one login of somebody who was not here before.
func (l load) firstLogin(i int, target *url.URL, deadline time.Time) (status int, err error) {
	l.From, l.User = firstAddress(i), firstUser(i)
	conn, err := l.dial(target, deadline)
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // there is nothing left to lose
	return l.exchange(conn, bufio.NewReader(conn), target, 0, i)
}

// firstRow formats the columns about first logins during a flood.
func (r *result) firstRow(calm *result, hash time.Duration) string {
	in := func(d time.Duration) string {
		return fmt.Sprintf("%s: %.1f", d.Round(time.Millisecond), float64(d)/float64(hash))
	}
	text := fmt.Sprintf("%s | %s | %s | %s | %d", hash.Round(time.Millisecond), in(calm.Median), in(r.Median), in(r.P99), r.Statuses[http.StatusOK])
	if r.Unfinished > r.P99 {
		text += fmt.Sprintf(", and one not answered in %s", in(r.Unfinished))
	}
	if r.Failed > 0 || len(r.Statuses) > 1 {
		text += "; all: " + r.statuses()
	}
	return text
}

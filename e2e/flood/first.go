//go:build unix

package main

import (
	"bufio"
	"errors"
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
	firstUsers     = 400 // users in the password file who have not logged in yet
	baselineLogins = 20  // first logins before the flood
	hashSamples    = 21  // hashes computed to measure how long one takes
)

// firstUser returns the name of a user who has not logged in yet.
func firstUser(i int) string { return fmt.Sprint("first", i) }

// firstAddress returns an address of this machine for one first login. No login
// has come from it before.
func firstAddress(i int) string { return fmt.Sprintf("127.1.%d.%d", i/250, i%250+1) }

// userLines returns lines of a password file, each with its own salt: a server
// that caches by hash could take the same one for a user who has logged in.
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

// hashTime returns the median time of one hash in the plugin, while nothing else
// runs.
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

// percentile returns the smallest of the sorted values that at least p percent of
// them do not exceed, and 0 if there are none.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max((len(sorted)*p+99)/100-1, 0)]
}

// firstLogins logs in users for the first time, one after the other, each on a new
// connection, until all have logged in or the time is over. Without the random
// pauses, each login would begin when the server has just finished a hash.
func (l load) firstLogins(target *url.URL) *result {
	r := &result{Statuses: make(map[int]int)}
	var took []time.Duration
	start := time.Now()
	deadline := start.Add(l.Duration)
	for i := l.First; i < l.First+l.Users && time.Now().Before(deadline); i++ {
		time.Sleep(rand.N(100 * time.Millisecond)) //nolint:gosec // no secret
		begin := time.Now()
		status, err := l.firstLogin(i, firstAddress(i), target, deadline)
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

// firstLogin logs in one user for the first time, and returns the status of the answer.
func (l load) firstLogin(i int, address string, target *url.URL, deadline time.Time) (status int, err error) {
	l.From, l.User = address, firstUser(i)
	conn, err := l.dial(target, deadline)
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // the answer has been read
	status, header, err := l.exchange(conn, bufio.NewReader(conn), target, 0, i)
	if err == nil && len(l.Cookies) > 0 && header["Set-Cookie"] != nil {
		err = errors.New("the server has not accepted the device cookie")
	}
	return status, err
}

// firstRow formats the columns about first logins during a flood.
func (r *result) firstRow(baseline *result, hash time.Duration) string {
	in := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(hash)) }
	text := fmt.Sprintf("%d ms | %s | %s | %s | %d", hash.Round(time.Millisecond).Milliseconds(), in(baseline.Median), in(r.Median), in(r.P99), r.Statuses[http.StatusOK])
	if r.Unfinished > r.P99 {
		text += fmt.Sprintf(", and one not answered within %s hashes", in(r.Unfinished))
	}
	if r.Failed > 0 || len(r.Statuses) > 1 {
		text += "; all: " + r.statuses()
	}
	return text
}

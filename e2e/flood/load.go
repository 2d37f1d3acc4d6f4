//go:build unix

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// load is what one kind of clients does, each connection one request after the
// other. It runs in a process of its own, so that the kinds share nothing but
// the machine.
type load struct {
	Kind        string
	URL         string
	From        string // address
	Connections int
	User        string // "": for a flood always another
	Password    string // "": for a flood always another
	Rotate      bool   // the client's address: X-Forwarded-For, always another
	First       int    // of those who log in for the first time, by number
	Users       int    // how many of them there are; else 0
	Duration    time.Duration
}

// result is what came of it.
type result struct {
	Duration time.Duration
	Statuses map[int]int
	Failed   int           // connections that broke
	P99      time.Duration // of good answers
	Median   time.Duration // the same; of first logins only
	// Unfinished is how long a first login had waited when the time was over.
	Unfinished time.Duration
}

func (l load) run(d time.Duration) (*result, error) {
	end, err := l.start(d)
	if err != nil {
		return nil, err
	}
	return end()
}

// start starts it, and returns a function that waits for its end.
func (l load) start(d time.Duration) (end func() (*result, error), err error) {
	l.Duration = d
	text, err := json.Marshal(l) //nolint:gosec // the password is this program's
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0], "-load", string(text)) //nolint:gosec // itself
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() (*result, error) {
		if err := cmd.Wait(); err != nil {
			return nil, err
		}
		r := new(result)
		if err := json.Unmarshal(out.Bytes(), r); err != nil {
			return nil, err
		}
		return r, nil
	}, nil
}

// calm checks that all was answered as it should be.
func (r *result) calm() error {
	if r.Failed > 0 || len(r.Statuses) != 1 || r.Statuses[http.StatusOK] == 0 {
		return fmt.Errorf("not calm: %s", r.statuses())
	}
	return nil
}

func (r *result) rate() float64 {
	n := 0
	for _, count := range r.Statuses {
		n += count
	}
	return float64(n) / r.Duration.Seconds()
}

// good is the rate of requests that were answered as they should.
func (r *result) good() float64 { return float64(r.Statuses[200]) / r.Duration.Seconds() }

// beside formats the columns for a result under flood.
func (r *result) beside(calm *result) string {
	return fmt.Sprintf("%.0f | %.2f | %s | %.1f", r.good(), r.good()/calm.good(), r.P99.Round(10*time.Microsecond), float64(r.P99)/float64(calm.P99))
}

func (r *result) statuses() string {
	var texts []string
	for _, status := range slices.Sorted(maps.Keys(r.Statuses)) {
		texts = append(texts, fmt.Sprintf("%d times %d", r.Statuses[status], status))
	}
	if r.Failed > 0 {
		texts = append(texts, fmt.Sprintf("%d connections broke", r.Failed))
	}
	return strings.Join(texts, ", ")
}

// runLoader is the process of its own.
func runLoader(text string) {
	var l load
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		log.Fatal(err)
	}
	target, err := url.Parse(l.URL)
	if err != nil {
		log.Fatal(err)
	}
	r := l.requests
	if l.Users > 0 {
		r = l.firstLogins
	}
	if err := json.NewEncoder(os.Stdout).Encode(r(target)); err != nil {
		log.Fatal(err)
	}
}

// requests has each connection send one request after the other.
func (l load) requests(target *url.URL) *result {
	var mu sync.Mutex
	var latencies []time.Duration
	r := &result{Statuses: make(map[int]int)}
	start := time.Now()
	deadline := start.Add(l.Duration)
	var group sync.WaitGroup
	for i := range l.Connections {
		group.Go(func() {
			for time.Now().Before(deadline) {
				statuses, took, err := l.connection(i, target, deadline)
				mu.Lock()
				latencies = append(latencies, took...)
				for status, n := range statuses {
					r.Statuses[status] += n
				}
				if err != nil && time.Now().Before(deadline) {
					r.Failed++
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	r.Duration = time.Since(start)
	slices.Sort(latencies)
	r.P99 = percentile(latencies, 99)
	return r
}

// connection is one connection, until the deadline or until it breaks.
func (l load) connection(number int, target *url.URL, deadline time.Time) (statuses map[int]int, took []time.Duration, err error) {
	statuses = make(map[int]int)
	conn, err := l.dial(target, deadline)
	if err != nil {
		time.Sleep(time.Millisecond)
		return statuses, nil, err
	}
	defer conn.Close() //nolint:errcheck // there is nothing left to lose
	reader := bufio.NewReader(conn)
	for i := 0; time.Now().Before(deadline); i++ {
		start := time.Now()
		status, err := l.exchange(conn, reader, target, number, i)
		if err != nil {
			return statuses, took, err
		}
		statuses[status]++
		if status == http.StatusOK {
			took = append(took, time.Since(start))
		}
	}
	return statuses, took, nil
}

// dial makes a connection that lasts to the deadline.
func (l load) dial(target *url.URL, deadline time.Time) (net.Conn, error) {
	dialer := &tls.Dialer{
		NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(l.From)}, Deadline: deadline},
		Config:    &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}, //nolint:gosec // of this machine
	}
	conn, err := dialer.Dial("tcp", target.Host)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(deadline)
}

// exchange sends a request and reads the answer to it.
func (l load) exchange(conn net.Conn, reader *bufio.Reader, target *url.URL, number, i int) (status int, err error) {
	if _, err := io.WriteString(conn, l.request(target, number, i)); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

func (l load) request(target *url.URL, connection, i int) string {
	user, password := l.User, l.Password
	if l.Kind == "flood" {
		password = fmt.Sprintf("guess %d %d %d", os.Getpid(), connection, i)
		if user == "" {
			user = fmt.Sprint("user", rand.Uint64()) //nolint:gosec // no secret
		}
	}
	text := "GET " + target.Path + " HTTP/1.1\r\nHost: localhost\r\n"
	if user != "" {
		text += "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
	}
	if l.Rotate {
		text += fmt.Sprintf("X-Forwarded-For: %d.%d.%d.%d\r\n", 1+rand.IntN(126), rand.IntN(256), rand.IntN(256), 1+rand.IntN(254)) //nolint:gosec // no secret
	}
	return text + "\r\n"
}

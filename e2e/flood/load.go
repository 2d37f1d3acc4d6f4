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

// load is what one kind of client does: one request after the other on each
// connection. It runs in a separate process, so that the kinds share only the
// machine.
type load struct {
	Kind        string
	URL         string
	From        string // address of the client
	Connections int
	User        string   // "": in a flood, another one in each request
	Password    string   // in a flood, another one in each request
	Rotate      bool     // send another address in X-Forwarded-For with each request
	Source      string   // which addresses; "": of many networks
	IsKnown     bool     // in a flood without a user, the names are those of users
	First       int      // number of the first user who logs in for the first time
	Users       int      // number of first logins; 0: none
	AtOnce      bool     // the first logins come at once, from one network
	Cookies     []string // device cookies of first logins, by the number of the user
	Duration    time.Duration
}

// result is the result of a load.
type result struct {
	Duration time.Duration
	Statuses map[int]int
	Failed   int           // connections that broke
	P99      time.Duration // of answers with status 200
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

// start starts the load, and returns a function that waits for its end.
func (l load) start(d time.Duration) (end func() (*result, error), err error) {
	l.Duration = d
	text, err := json.Marshal(l) //nolint:gosec // the password is this program's
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0], "-load", string(text)) //nolint:gosec // this program
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

// allGood returns an error unless every answer had status 200.
func (r *result) allGood() error {
	if r.Failed > 0 || len(r.Statuses) != 1 || r.Statuses[http.StatusOK] == 0 {
		return fmt.Errorf("baseline: expected status 200 for all requests, found: %s", r.statuses())
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

// good returns the answers per second with status 200.
func (r *result) good() float64 { return float64(r.Statuses[200]) / r.Duration.Seconds() }

// beside formats the columns for a result during a flood.
func (r *result) beside(baseline *result) string {
	return fmt.Sprintf("%.0f | %.2f | %s | %.1f", r.good(), r.good()/baseline.good(), r.P99.Round(10*time.Microsecond), float64(r.P99)/float64(baseline.P99))
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

// runLoader is the main function of the separate process.
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
	switch {
	case l.AtOnce:
		r = l.atOnce
	case l.Users > 0:
		r = l.firstLogins
	}
	if err := json.NewEncoder(os.Stdout).Encode(r(target)); err != nil {
		log.Fatal(err)
	}
}

// requests sends one request after the other on each connection.
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

// connection sends requests on one connection until the deadline, or until it breaks.
func (l load) connection(number int, target *url.URL, deadline time.Time) (statuses map[int]int, took []time.Duration, err error) {
	statuses = make(map[int]int)
	conn, err := l.dial(target, deadline)
	if err != nil {
		time.Sleep(time.Millisecond)
		return statuses, nil, err
	}
	defer conn.Close() //nolint:errcheck // all answers have been read
	reader := bufio.NewReader(conn)
	for i := 0; time.Now().Before(deadline); i++ {
		start := time.Now()
		status, _, err := l.exchange(conn, reader, target, number, i)
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

// dial opens a connection that lasts until the deadline.
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

// exchange sends a request, reads the whole answer to it, and returns its status and header.
func (l load) exchange(conn net.Conn, reader *bufio.Reader, target *url.URL, number, i int) (status int, header http.Header, err error) {
	if _, err := io.WriteString(conn, l.request(target, number, i)); err != nil {
		return 0, nil, err
	}
	answer, err := http.ReadResponse(reader, nil)
	if err != nil {
		return 0, nil, err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, answer.Header, errors.Join(err, answer.Body.Close())
}

func (l load) request(target *url.URL, connection, i int) string {
	user, password := l.User, l.Password
	if l.Kind == "flood" {
		password = fmt.Sprintf("guess %d %d %d", os.Getpid(), connection, i)
		switch {
		case user == "" && l.IsKnown:
			user = firstUser(rand.IntN(firstUsers)) //nolint:gosec // not a secret
		case user == "":
			user = fmt.Sprint("user", rand.Uint64()) //nolint:gosec // not a secret
		}
	}
	text := "GET " + target.Path + " HTTP/1.1\r\nHost: localhost\r\n"
	if user != "" {
		text += "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
	}
	if l.Rotate {
		text += "X-Forwarded-For: " + rotated(l.Source) + "\r\n"
	}
	if i < len(l.Cookies) {
		text += "Cookie: " + deviceCookie + "=" + l.Cookies[i] + "\r\n"
	}
	return text + "\r\n"
}

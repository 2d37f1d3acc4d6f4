package main

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/benchkit"
)

// load is requests as fast as they are answered, on connections connections.
type load struct {
	url  string
	user string // "": without a password
}

const connections = 16

// sample is what came of it.
type sample struct {
	rate     float64 // good answers a second
	p50, p99 time.Duration
	cpu      time.Duration // of the server for an answer; of processes that it has started, nothing
}

func (l load) authorization() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(l.user+":"+password))
}

// once asks once. Only 200 is no error.
func (l load) once() error {
	client := &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, //nolint:gosec // of this machine
		Timeout:   time.Minute,
	}
	r, err := http.NewRequest(http.MethodGet, l.url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", l.authorization())
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", l.url, resp.StatusCode)
	}
	return nil
}

var (
	wrkRate    = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkP50     = regexp.MustCompile(`50%\s+([\d.]+)(us|ms|s|m)`)
	wrkP99     = regexp.MustCompile(`99%\s+([\d.]+)(us|ms|s|m)`)
	wrkTrouble = regexp.MustCompile(`Non-2xx.*|Socket errors:.*(connect [1-9]|read [1-9]|write [1-9])`)
)

// run has wrk ask for some seconds.
func (l load) run(seconds int) (s sample, err error) {
	args := []string{"-t1", "-c" + strconv.Itoa(connections), fmt.Sprintf("-d%ds", seconds), "--timeout", "30s", "--latency"}
	if l.user != "" {
		args = append(args, "-H", "Authorization: "+l.authorization())
	}
	text, err := exec.Command("wrk", append(args, l.url)...).CombinedOutput() //nolint:gosec // our own
	if err != nil {
		return s, fmt.Errorf("wrk: %w: %s", err, text)
	}
	if trouble := wrkTrouble.Find(text); trouble != nil {
		return s, fmt.Errorf("wrk: %s", trouble)
	}
	rate, p50, p99 := wrkRate.FindSubmatch(text), wrkP50.FindSubmatch(text), wrkP99.FindSubmatch(text)
	if rate == nil || p50 == nil || p99 == nil {
		return s, errors.New("wrk says something else than before")
	}
	if s.rate, err = strconv.ParseFloat(string(rate[1]), 64); err != nil {
		return s, err
	}
	if s.p50, err = time.ParseDuration(string(p50[1]) + string(p50[2])); err != nil {
		return s, err
	}
	s.p99, err = time.ParseDuration(string(p99[1]) + string(p99[2]))
	return s, err
}

// version returns what a program says its version is.
func version(name string, args ...string) string {
	out, _ := exec.Command(benchkit.LookUp(name), args...).CombinedOutput() //nolint:gosec // our own
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return first
}

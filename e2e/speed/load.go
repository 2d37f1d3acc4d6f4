package main

import (
	"context"
	"crypto/tls"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/e2e/internal/benchkit"
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
	cpu      time.Duration // of the server for an answer
}

func (l load) authorization() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(l.user+":"+password))
}

// once asks once. Only 200 is no error.
func (l load) once(ctx context.Context) error {
	client := &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, //nolint:gosec // of this machine
		Timeout:   time.Minute,
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url, nil)
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

// wrk has wrk ask for some time and returns what it says.
func wrk(ctx context.Context, length time.Duration, args ...string) ([]byte, error) {
	args = append([]string{"-t1", "-c" + strconv.Itoa(connections), fmt.Sprintf("-d%.0fs", length.Seconds()), "--timeout", "30s", "--latency"}, args...)
	text, err := exec.CommandContext(ctx, "wrk", args...).CombinedOutput() //nolint:gosec // our own
	if err != nil {
		return nil, fmt.Errorf("wrk: %w: %s", err, text)
	}
	if trouble := wrkTrouble.Find(text); trouble != nil {
		return nil, fmt.Errorf("wrk: %s", trouble)
	}
	return text, nil
}

// run asks for some time.
func (l load) run(ctx context.Context, length time.Duration) (s sample, err error) {
	args := []string{l.url}
	if l.user != "" {
		args = []string{"-H", "Authorization: " + l.authorization(), l.url}
	}
	text, err := wrk(ctx, length, args...)
	if err != nil {
		return s, err
	}
	rate, p50, p99 := wrkRate.FindSubmatch(text), wrkP50.FindSubmatch(text), wrkP99.FindSubmatch(text)
	if rate == nil || p50 == nil || p99 == nil {
		return s, errUnknownWords
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

var errUnknownWords = errors.New("wrk says something else than before")

// round is the answers a second to each of the kinds of requests, measured at
// almost the same time.
type round [kinds]float64

//go:embed turns.lua
var turns string

// byTurns asks for each of the kinds of requests in turn, a tenth of a second
// each, over the same connections. What the machine does meanwhile, which
// changes from second to second, is then the same for all of them.
func byTurns(ctx context.Context, dir string, loads [kinds]load, length time.Duration) ([]round, error) {
	script := filepath.Join(dir, "turns.lua")
	if err := os.WriteFile(script, []byte(turns), 0o600); err != nil {
		return nil, err
	}
	args := []string{"-s", script, loads[0].url, "--"}
	for _, l := range loads {
		u, err := url.Parse(l.url)
		if err != nil {
			return nil, err
		}
		authorization := ""
		if l.user != "" {
			authorization = l.authorization()
		}
		args = append(args, u.Path, authorization)
	}
	text, err := wrk(ctx, length, args...)
	if err != nil {
		return nil, err
	}
	_, table, found := strings.Cut(string(text), "turns:\n")
	if !found {
		return nil, errUnknownWords
	}
	var rounds []round
	var r round
	const inRound = 2 * int(kinds) // there and back, so that none is always first
	for i, line := range strings.Split(strings.TrimSpace(table), "\n") {
		var kind int
		var rate float64
		if _, err := fmt.Sscanf(line, "%d %g", &kind, &rate); err != nil {
			return nil, fmt.Errorf("%w: %q", errUnknownWords, line)
		}
		r[kind] += rate / 2
		if i%inRound == inRound-1 {
			rounds, r = append(rounds, r), round{}
		}
	}
	if len(rounds) < 2 {
		return nil, errors.New("too short for a round")
	}
	return rounds[1:], nil // the first warms up
}

// version returns what a program says its version is.
func version(name string, args ...string) string {
	out, _ := exec.Command(benchkit.LookUp(name), args...).CombinedOutput() //nolint:gosec // our own
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return first
}

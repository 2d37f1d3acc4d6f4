package main

import (
	"cmp"
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

// load is requests on several connections, each of which sends the next request
// as soon as the last one is answered.
type load struct {
	url  string
	user string // "": without credentials

	connections int // 0: the default
}

// connections is the default number of connections of a load.
const connections = 16

// sample is the result of a load.
type sample struct {
	rate     float64 // answers per second, all with status 200
	p50, p99 time.Duration
	cpu      time.Duration // of the server, per request
}

func (l load) authorization() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(l.user+":"+password))
}

// once sends one request. Any status but 200 is an error.
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

// wrk runs wrk for some time and returns its output.
func wrk(ctx context.Context, length time.Duration, connections int, args ...string) ([]byte, error) {
	args = append([]string{"-t1", "-c" + strconv.Itoa(connections), fmt.Sprintf("-d%.0fs", length.Seconds()), "--timeout", "30s", "--latency"}, args...)
	text, err := exec.CommandContext(ctx, "wrk", args...).CombinedOutput() //nolint:gosec // a program of this benchmark
	if err != nil {
		return nil, fmt.Errorf("wrk: %w: %s", err, text)
	}
	if trouble := wrkTrouble.Find(text); trouble != nil {
		return nil, fmt.Errorf("wrk: %s", trouble)
	}
	return text, nil
}

// run sends requests for some time.
func (l load) run(ctx context.Context, length time.Duration) (s sample, err error) {
	args := []string{l.url}
	if l.user != "" {
		args = []string{"-H", "Authorization: " + l.authorization(), l.url}
	}
	text, err := wrk(ctx, length, cmp.Or(l.connections, connections), args...)
	if err != nil {
		return s, err
	}
	rate, p50, p99 := wrkRate.FindSubmatch(text), wrkP50.FindSubmatch(text), wrkP99.FindSubmatch(text)
	if rate == nil || p50 == nil || p99 == nil {
		return s, errUnknownOutput
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

var errUnknownOutput = errors.New("unexpected output of wrk")

// round has the answers per second for each kind of request, measured at almost
// the same time.
type round [kinds]float64

//go:embed alternate.lua
var alternateScript string

// alternate sends the kinds of requests alternating, a tenth of a second each,
// over the same connections. The load of the machine changes from second to
// second; this way it is the same for all kinds.
func alternate(ctx context.Context, dir string, loads [kinds]load, length time.Duration) ([]round, error) {
	script := filepath.Join(dir, "alternate.lua")
	if err := os.WriteFile(script, []byte(alternateScript), 0o600); err != nil {
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
	text, err := wrk(ctx, length, connections, args...)
	if err != nil {
		return nil, err
	}
	_, table, found := strings.Cut(string(text), "alternating:\n")
	if !found {
		return nil, errUnknownOutput
	}
	var rounds []round
	var r round
	const inRound = 2 * int(kinds) // forth and back, so that no kind is always first
	for i, line := range strings.Split(strings.TrimSpace(table), "\n") {
		var kind int
		var rate float64
		if _, err := fmt.Sscanf(line, "%d %g", &kind, &rate); err != nil {
			return nil, fmt.Errorf("%w: %q", errUnknownOutput, line)
		}
		r[kind] += rate / 2
		if i%inRound == inRound-1 {
			rounds, r = append(rounds, r), round{}
		}
	}
	if len(rounds) < 2 {
		return nil, errors.New("too short for one round")
	}
	return rounds[1:], nil // the first one is a warm-up
}

// version returns the version that a program prints, without the words around it.
func version(name string, args ...string) string {
	out, _ := exec.Command(benchkit.LookUp(name), args...).CombinedOutput() //nolint:gosec // a program of this benchmark
	return versionIn(string(out))
}

// versionIn returns the version in the first line of a text such as
// "nginx version: nginx/1.22.1".
func versionIn(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if _, after, found := strings.Cut(line, "version: "); found {
		line = after
	}
	line, _, _ = strings.Cut(line, " - ")
	return line
}

package main

import (
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/e2e/internal/benchkit"
)

// connectionCounts are the numbers of connections for which proxying alone is measured.
var connectionCounts = []int{16, 64, 256}

// connectionRounds is how often two servers are compared for each number of connections.
const connectionRounds = 5

// byConnections has the results of proxying with several numbers of connections.
type byConnections struct {
	samples map[string]map[int]sample // by the server and the number
	ratios  map[int]*spread           // proxy_pass, compared with reverse_proxy
}

// measureConnections measures the open path of all servers without credentials, over HTTP.
// For each number of connections, proxy_pass and Caddy's reverse_proxy are also measured
// alternating. All of it takes about two minutes.
func (b *bench) measureConnections() (*byConnections, error) {
	if err := b.writeUsers(format{"bcrypt 5", "bcrypt", 5}, 1); err != nil {
		return nil, err
	}
	result := &byConnections{make(map[string]map[int]sample), make(map[int]*spread)}
	var caddies []*benchkit.Server // with proxy_pass, and with reverse_proxy
	for _, p := range peers {
		if !strings.Contains(p.name, *only) || !p.isHere() {
			continue
		}
		s, err := b.start(p, false)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		if p.program == "" {
			defer s.Stop()
			caddies = append(caddies, s)
		}
		samples, err := b.proxiedBy(p, s)
		if p.program != "" {
			s.Stop()
		}
		if err != nil {
			return nil, err
		}
		result.samples[p.name] = samples
	}
	if len(caddies) < 2 {
		return result, nil
	}
	for _, n := range connectionCounts {
		var ratios []float64
		for range connectionRounds {
			with, err := b.proxied(caddies[0], n)
			if err != nil {
				return nil, err
			}
			without, err := b.proxied(caddies[1], n)
			if err != nil {
				return nil, err
			}
			ratios = append(ratios, with.rate/without.rate)
		}
		result.ratios[n] = spreadOf(ratios)
		log.Printf("%d connections: proxy_pass has %.2f of the requests of reverse_proxy", n, result.ratios[n].median)
	}
	return result, nil
}

// proxiedBy measures a server with all numbers of connections. Another server than Caddy
// can fail: Apache closes some of many connections.
func (b *bench) proxiedBy(p peer, s *benchkit.Server) (map[int]sample, error) {
	samples := make(map[int]sample)
	for _, n := range connectionCounts {
		got, err := b.proxied(s, n)
		switch {
		case err != nil && (p.program == "" || b.ctx.Err() != nil):
			return nil, fmt.Errorf("%s, %d connections: %w", p.name, n, err)
		case err != nil:
			log.Printf("%s, %d connections: left out: %v", p.name, n, err)
		default:
			log.Printf("%s, %d connections: %.0f", p.name, n, got.rate)
			samples[n] = got
		}
	}
	return samples, nil
}

// proxied measures the open path of a server.
func (b *bench) proxied(s *benchkit.Server, connections int) (sample, error) {
	return load{url: s.URL + "/open", connections: connections}.run(b.ctx, b.length())
}

// report is the part of the page about several numbers of connections.
func (c *byConnections) report() string {
	if c == nil || len(c.samples) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("### More connections\n\nRequests per second without a password, over HTTP, by the number of connections; in brackets, the p99. Caddy's basic_auth\n" +
		"stands in front of a `reverse_proxy`. A server that closes connections has no figure.\n\n| connections |")
	var names []string
	for _, p := range peers {
		names = append(names, p.name)
	}
	fmt.Fprintf(&b, " %s | proxy_pass, compared with reverse_proxy |\n%s|\n", strings.Join(names, " | "), strings.Repeat("|---", len(names)+2))
	for _, n := range connectionCounts {
		fmt.Fprintf(&b, "| %d |", n)
		for _, name := range names {
			text := "-"
			if s, ok := c.samples[name][n]; ok {
				text = fmt.Sprintf("%s (%s)", number(s.rate), short(s.p99.Round(time.Microsecond)))
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		text := "-"
		if s := c.ratios[n]; s != nil {
			text = fmt.Sprintf("%.2f (%.2f to %.2f)", s.median, s.least, s.most)
		}
		fmt.Fprintf(&b, " %s |\n", text)
	}
	return b.String() + "\n"
}

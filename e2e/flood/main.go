//go:build unix

// Command flood measures what a flood of wrong passwords does to users with
// cached passwords, to first logins, which need a hash, and to an open page of
// the same server. It compares Caddy with this plugin, Caddy's own basic_auth,
// and nginx, and prints the tables of docs/performance.md.
//
//	cd e2e && go run ./flood [-seconds 10] [-only nginx]
//
// Servers and load share the machine, so compare ratios of one run only. Users
// have two connections; the flood has 32 connections, and another address. First
// logins come one after the other, each by another user from another address, for
// three times as long. Everything is HTTPS, with bcrypt hashes of cost 10.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/e2e/internal/benchkit"
)

var (
	seconds = flag.Int("seconds", 10, "seconds for each measurement")
	only    = flag.String("only", "", "measure only servers with this text in their name")
	caddy   = flag.String("caddy", "", "path of a Caddy with the plugin; default: build one from this repository")
	loader  = flag.String("load", "", "for internal use")
)

// site is a server that is measured.
type site struct {
	name  string
	from  string // where the flood comes from, in words
	start func(dir string) (*benchkit.Server, error)
	flood load
}

func main() {
	log.SetFlags(0)
	flag.Parse()
	if *loader != "" {
		runLoader(*loader)
		return
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "flood")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	if err := prepare(dir); err != nil {
		return err
	}
	fromOne := load{Kind: "flood", From: "127.0.0.2", Connections: 32, User: "victim"}
	rotating, spray := fromOne, fromOne
	rotating.Rotate = true
	spray.Rotate, spray.User = true, ""
	first := []string{
		"| server | flood from | one hash | first login, baseline: hashes | median: hashes | p99: hashes | logins | answers to the flood |",
		"|---|---|---|---|---|---|---|---|",
	}
	header := func() {
		fmt.Println("| server | flood from | users: requests/s | of baseline | p99 | times baseline | open page: requests/s | of baseline | p99 | times baseline | memory early, midway and late in the flood |")
		fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|")
	}
	for _, s := range []site{
		{"caddy-htpasswd", "one address", startCaddy(htpasswdSite("")), fromOne},
		{"with `throttle off`", "one address", startCaddy(htpasswdSite("throttle off")), fromOne},
		{"caddy-htpasswd", "rotating addresses", startCaddy(htpasswdSite("")), rotating},
		{"caddy-htpasswd", "rotating addresses, unknown users", startCaddy(htpasswdSite("")), spray},
		{"Caddy's basic_auth", "one address", startCaddy(basicAuthSite), fromOne},
		{"nginx", "one address", startNginx, fromOne},
	} {
		if !strings.Contains(s.name+", "+s.from, *only) {
			continue
		}
		if len(first) == 2 {
			header()
		}
		row, err := measure(dir, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		first = append(first, row)
	}
	if len(first) > 2 {
		fmt.Printf("\n%s\n", strings.Join(first, "\n"))
	}
	return runDevices(dir)
}

// measure prints the row of one server, and returns its row about first logins.
func measure(dir string, s site) (first string, err error) {
	hash, err := hashTime()
	if err != nil {
		return "", err
	}
	server, err := s.start(dir)
	if err != nil {
		return "", err
	}
	defer server.Stop()
	users := load{Kind: "users", URL: server.URL + "/private", From: "127.0.0.1", Connections: 2, User: "person", Password: password}
	open := load{Kind: "open", URL: server.URL + "/open", From: "127.0.0.1", Connections: 2}
	newcomers := load{Kind: "first", URL: server.URL + "/private", Password: password, Users: baselineLogins}
	duration := time.Duration(*seconds) * time.Second
	longer := 3 * duration // first logins are rare

	if _, err := users.run(time.Second); err != nil { // first, so that the password is cached
		return "", err
	}
	baselineUsers, err := users.run(duration)
	if err != nil {
		return "", err
	}
	baselineOpen, err := open.run(duration)
	if err != nil {
		return "", err
	}
	baselineFirst, err := newcomers.run(longer)
	if err != nil {
		return "", err
	}
	if err := errors.Join(baselineUsers.allGood(), baselineOpen.allGood(), baselineFirst.allGood()); err != nil {
		return "", err
	}

	flood := s.flood
	flood.URL = server.URL + "/private"
	end, err := flood.start(2*duration + longer + 5*time.Second)
	if err != nil {
		return "", err
	}
	time.Sleep(2 * time.Second) // until all its connections are open
	begin := server.Memory()
	floodedUsers, err := users.run(duration)
	if err != nil {
		return "", err
	}
	middle := server.Memory()
	floodedOpen, err := open.run(duration)
	if err != nil {
		return "", err
	}
	newcomers.First, newcomers.Users = baselineLogins, firstUsers-baselineLogins
	floodedFirst, err := newcomers.run(longer)
	if err != nil {
		return "", err
	}
	flooded, err := end()
	if err != nil {
		return "", err
	}
	fmt.Printf("| %s | %s | %s | %s | %d, %d, %d MB |\n", s.name, s.from,
		floodedUsers.beside(baselineUsers), floodedOpen.beside(baselineOpen), begin>>20, middle>>20, server.Memory()>>20)
	return fmt.Sprintf("| %s | %s | %s | %.0f/s: %s |", s.name, s.from, floodedFirst.firstRow(baselineFirst, hash), flooded.rate(), flooded.statuses()), nil
}

//go:build unix

// Command flood measures what a flood of wrong passwords does to people
// with good ones, and to an open page of the same server: for Caddy with this
// plugin, for Caddy's own basic_auth, and for nginx. It prints the tables of
// the README: people who have logged in before, and how long a first login takes,
// which needs a hash.
//
//	cd e2e && go run ./flood [-seconds 10] [-only nginx]
//
// All of it runs on this machine, servers and load; compare the ratios of one
// run. People have two connections, the flood 32 and another address; it ends
// by itself. First logins come one after the other, each of another user from
// another address, for three times as long. Everything is HTTPS, with bcrypt
// hashes of cost 10.
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
	seconds = flag.Int("seconds", 10, "how long each measurement takes")
	only    = flag.String("only", "", "measure only the servers with this in their name")
	caddy   = flag.String("caddy", "", "a Caddy with the plugin; made from this project if not given")
	loader  = flag.String("load", "", "used by itself")
)

// site is a server to measure.
type site struct {
	name  string
	from  string // of the flood, in words
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
		"| server | flood from | connections of the flood | one hash | first login, calm: hashes | median: hashes | p99: hashes | logins |",
		"|---|---|---|---|---|---|---|---|",
	}
	fmt.Println("| server | flood from | people, requests/s | of calm | p99 | times calm | open page, requests/s | of calm | p99 | times calm | flood, answers/s | memory when it begins, in the middle, at its end |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, s := range []site{
		{"htpasswd", "one address", startCaddy(htpasswdSite("")), fromOne},
		{"htpasswd, `throttle off`", "one address", startCaddy(htpasswdSite("throttle off")), fromOne},
		{"htpasswd", "ever new addresses", startCaddy(htpasswdSite("")), rotating},
		{"htpasswd", "ever new addresses, unknown users", startCaddy(htpasswdSite("")), spray},
		{"Caddy's basic_auth", "one address", startCaddy(basicAuthSite), fromOne},
		{"nginx", "one address", startNginx, fromOne},
	} {
		if !strings.Contains(s.name+", "+s.from, *only) {
			continue
		}
		row, err := measure(dir, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		first = append(first, row)
	}
	fmt.Printf("\n%s\n", strings.Join(first, "\n"))
	return nil
}

// measure prints the row of one server, and returns that of first logins.
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
	people := load{Kind: "people", URL: server.URL + "/private", From: "127.0.0.1", Connections: 2, User: "person", Password: password}
	open := load{Kind: "open", URL: server.URL + "/open", From: "127.0.0.1", Connections: 2}
	newcomers := load{Kind: "first", URL: server.URL + "/private", Password: password, Users: calmLogins}
	duration := time.Duration(*seconds) * time.Second
	longer := 3 * duration // first logins are few

	if _, err := people.run(time.Second); err != nil { // logs in
		return "", err
	}
	calmPeople, err := people.run(duration)
	if err != nil {
		return "", err
	}
	calmOpen, err := open.run(duration)
	if err != nil {
		return "", err
	}
	calmFirst, err := newcomers.run(longer)
	if err != nil {
		return "", err
	}
	if err := errors.Join(calmPeople.calm(), calmOpen.calm(), calmFirst.calm()); err != nil {
		return "", err
	}

	flood := s.flood
	flood.URL = server.URL + "/private"
	end, err := flood.start(2*duration + longer + 5*time.Second)
	if err != nil {
		return "", err
	}
	time.Sleep(2 * time.Second) // until it is in full swing
	begin := server.Memory()
	floodedPeople, err := people.run(duration)
	if err != nil {
		return "", err
	}
	middle := server.Memory()
	floodedOpen, err := open.run(duration)
	if err != nil {
		return "", err
	}
	newcomers.First, newcomers.Users = calmLogins, firstUsers-calmLogins
	floodedFirst, err := newcomers.run(longer)
	if err != nil {
		return "", err
	}
	flooded, err := end()
	if err != nil {
		return "", err
	}
	fmt.Printf("| %s | %s | %s | %s | %.0f: %s | %d, %d, %d MB |\n", s.name, s.from,
		floodedPeople.beside(calmPeople), floodedOpen.beside(calmOpen), flooded.rate(), flooded.statuses(), begin>>20, middle>>20, server.Memory()>>20)
	return fmt.Sprintf("| %s | %s | %d | %s |", s.name, s.from, flood.Connections, floodedFirst.firstRow(calmFirst, hash)), nil
}

package caddyhtpasswd

import "github.com/seed10b5b978/caddy-htpasswd/internal/ratelog"

const (
	// failureRate is how many lines of one kind are written in a second, and
	// failureBurst how many more after a quiet time. A flood must not fill the disk.
	failureRate  = 10
	failureBurst = 200

	// insecureRate and insecureBurst are the same for requests over plain HTTP.
	// Each of their lines says the same about a site, and none of them is a guess.
	insecureRate  = 0.1
	insecureBurst = 3
)

// lineKind is a kind of log lines that clients can cause. Each kind has a rate
// of its own, for all handlers together: lines that cost a client nothing must not
// suppress those that say more.
type lineKind uint8

const (
	failureLines    lineKind = iota // a failed login was counted
	cheapLines                      // no failed login was counted: malformed credentials, a password that is known to be wrong
	exceededLines                   // a rate limit is exceeded
	insecureLines                   // a request over plain HTTP
	overloadedLines                 // no room in the hash queue
	errorLines                      // a login could not be checked
	errorRouteLines                 // an error route failed
	upstreamLines                   // an upstream group gave no answer
	lineKinds
)

// logLines bounds the rates of all kinds.
type logLines [lineKinds]*ratelog.Log

func newLogLines() (lines logLines) {
	for kind := range lines {
		lines[kind] = ratelog.New(failureRate, failureBurst)
	}
	lines[insecureLines] = ratelog.New(insecureRate, insecureBurst)
	return lines
}

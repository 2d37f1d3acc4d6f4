package caddyhtpasswd

import "github.com/seed10b5b978/caddy-htpasswd/internal/ratelog"

const (
	// failureRate is how many lines of one kind are logged per second. failureBurst is
	// how many more are logged after a quiet time. A flood must not fill the disk.
	failureRate  = 10
	failureBurst = 200

	// insecureRate and insecureBurst apply to requests over plain HTTP. All lines of a
	// site say the same, and none of the requests is a guess.
	insecureRate  = 0.1
	insecureBurst = 3
)

// lineKind is a kind of log lines that clients can cause. Each kind has its own rate,
// for all handlers together. So lines that a client can cause without effort do not
// suppress more important lines.
type lineKind uint8

const (
	failureLines    lineKind = iota // a failed login was counted
	cheapLines                      // no failed login was counted: malformed credentials, a repeated wrong password, a user who is not authorized
	exceededLines                   // a rate limit is exceeded
	insecureLines                   // a request over plain HTTP
	overloadedLines                 // no room in the hash queue
	errorLines                      // a login could not be checked
	errorRouteLines                 // an error route failed
	changeLines                     // a password was not changed
	upstreamLines                   // a request to an upstream group failed
	lineKinds
)

// logLines limits the rate of each kind.
type logLines [lineKinds]*ratelog.Log

func newLogLines() (lines logLines) {
	for kind := range lines {
		lines[kind] = ratelog.New(failureRate, failureBurst)
	}
	lines[insecureLines] = ratelog.New(insecureRate, insecureBurst)
	return lines
}

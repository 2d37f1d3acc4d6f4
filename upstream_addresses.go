package caddyhtpasswd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// groupAddresses are the servers of a group, by the addresses to dial. As in nginx, a
// server on several lines gets the sum of their weights and limits. It is one server
// nevertheless, with one count of failures, because Caddy counts by address.
type groupAddresses map[string]*groupServer

// addedParameters are the parameters that add up for a server on several lines. All
// others must be the same on each line.
var addedParameters = []string{"weight", "max_conns"}

// add adds the addresses of a line.
func (a groupAddresses) add(c errorContext, line *groupServer) error {
	for _, dial := range line.dials {
		first, known := a[dial]
		if !known {
			one := *line
			one.dials = []string{dial}
			a[dial] = &one
			continue
		}
		if !slices.Equal(first.marks, line.marks) {
			return c.expected(line.address, fmt.Sprintf("the same parameters as for %s %s (%s)", quoted(dial), lineOf(first.address, line.address), marksFound(first.marks)), marksFound(line.marks),
				"the lines of a server may differ only in "+strings.Join(addedParameters, " and ")+", which are added")
		}
		weight := max(first.Weight, 1) + max(line.Weight, 1)
		if weight > maxServerWeight {
			return c.expected(line.address, fmt.Sprintf("weights of %s with a sum of at most %d", quoted(dial), maxServerWeight), strconv.Itoa(weight), "")
		}
		first.Weight = weight
		first.maxConns = sumOfLimits(first.maxConns, line.maxConns)
	}
	return nil
}

// marksFound returns parameters for errors.
func marksFound(marks []string) string {
	if len(marks) == 0 {
		return "none"
	}
	return quoted(strings.Join(marks, " "))
}

// sumOfLimits adds two values of max_conns. 0 means no limit.
func sumOfLimits(a, b int) int {
	switch {
	case a == 0 || b == 0:
		return 0
	case a > maxServerConns-b:
		return maxServerConns
	}
	return a + b
}

// withoutRepeated returns the upstreams without those whose address came before.
func withoutRepeated(pool reverseproxy.UpstreamPool) reverseproxy.UpstreamPool {
	seen := make(map[string]bool, len(pool))
	return slices.DeleteFunc(pool, func(u *reverseproxy.Upstream) bool {
		repeated := seen[u.Dial]
		seen[u.Dial] = true
		return repeated
	})
}

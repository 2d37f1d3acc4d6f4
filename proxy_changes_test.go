package caddyhtpasswd

import (
	"fmt"
	"slices"
	"testing"
)

// TestProxyChangesByRequest has lines of a group turn a request into something that cannot
// be sent.
func TestProxyChangesByRequest(t *testing.T) {
	g := newGuardedGroup(t, serverKinds[0], "1m", `
			header_up X-Query {query.q}
			header_up X-{query.name} set
			header_up X-Both "^(.*)$" "{query.r}"
			header_up Host {header.X-Host}`)
	for _, row := range []struct{ name, target, header, want string }{
		{"an allowed change", "/?q=a&r=b", "", "200"},
		{"a line break in a value", "/?q=a%0ab", "", "400"},
		{"a line break in a name", "/?name=a%0ab", "", "400"},
		{"a line break in a replacement", "/?r=a%0ab", "X-Both: x\r\n", "400"},
		{"a replacement in a header that is not there", "/?r=a%0ab", "", "200"},
		{"a host with a space", "/", "X-Host: a b\r\n", "400"},
		{"a host", "/", "X-Host: a\r\n", "200"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := sendHTTP1(t, fmt.Sprintf("127.0.0.1:%d", g.http), "GET "+row.target+" HTTP/1.1\r\nHost: localhost\r\n"+row.header+"\r\n")
			if got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
			g.isWhole(t)
		})
	}
	rewrites := newGuardedGroup(t, serverKinds[0], "1m", "method {query.m}")
	for target, want := range map[string]string{"/?m=PUT": "200", "/?m=a%20b": "400", "/?m=a%0ab": "400"} {
		if got := sendHTTP1(t, fmt.Sprintf("127.0.0.1:%d", rewrites.http), "GET "+target+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); got != want {
			t.Errorf("method by %s: got %s, want %s", target, got, want)
		}
		if got := rewrites.failures(); slices.Max(got) > 0 {
			t.Errorf("method by %s: failures of the servers: got %d, want none", target, got)
		}
	}
}

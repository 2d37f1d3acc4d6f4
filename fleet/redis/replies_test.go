package redis

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestReplies checks replies, each in pieces of all sizes.
func TestReplies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		replies string
		isGood  bool
	}{
		{"+OK\r\n:1\r\n-ERR no\r\n$-1\r\n$0\r\n\r\n$5\r\na\r\n*9\r\n*-1\r\n*0\r\n*2\r\n*1\r\n:1\r\n$1\r\nx\r\n+OK\r\n", true},
		{strings.Repeat("*2\r\n:1\r\n*1\r\n:2\r\n", 2*maxDepth), true},
		{strings.Repeat("*1\r\n", maxDepth) + ":1\r\n+OK\r\n", true},
		{strings.Repeat("*1\r\n", maxDepth+1), false},
		{strings.Repeat("*2\r\n:1\r\n", maxDepth+1), false},
		{fmt.Sprintf("$%d\r\n", maxBulk), true},
		{fmt.Sprintf("$%d\r\n", maxBulk+1), false},
		{"*2\r\n$1\r\nx\r\n$9223372036854775807\r\n", false},
		{"*9223372036854775807\r\n", false},
		{"$92233720368547758070\r\n", false},
		{"$-2\r\n", false},
		{"$\r\n", false},
		{"\r\n", false},
		{strings.Repeat("%1\r\n+a\r\n*2\r\n|1\r\n+b\r\n#t\r\n_\r\n~1\r\n,1.5\r\n>1\r\n=5\r\ntxt:x\r\n|0\r\n!1\r\ne\r\n", 2*maxDepth), true},
		{"%9223372036854775807\r\n", false},
		{strings.Repeat("%1\r\n+a\r\n", maxDepth+1), false},
		{strings.Repeat("|1\r\n+a\r\n", maxDepth+1), false},
		{"?1\r\n", false},
		{"$?\r\n", false},
		{"-" + strings.Repeat("x", maxLine), false},
	} {
		for size := 1; size <= len(test.replies); size += 1 + size/8 {
			var r replies
			var err error
			for rest := test.replies; rest != "" && err == nil; {
				n := min(size, len(rest))
				err, rest = r.check([]byte(rest[:n])), rest[n:]
			}
			if (err == nil) != test.isGood || err != nil && !errors.Is(err, errReply) {
				t.Errorf("%.40q in pieces of %d: %v", test.replies, size, err)
			}
		}
	}
}

// TestHostileServer has servers whose replies would end the process.
func TestHostileServer(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{"$9223372036854775807\r\n", "$1099511627776\r\n", "*9223372036854775806\r\n", "*1099511627776\r\n"} {
		for _, e := range []Engine{{}, {Cluster: true}, {Sentinel: "main"}} {
			t.Run(fmt.Sprintf("%.4q cluster %v sentinel %q", reply, e.Cluster, e.Sentinel), func(t *testing.T) {
				t.Parallel()
				e := e
				e.Addresses = []string{listen(t, reply)}
				s := open(t, e)
				defer s.Close()
				if err := adds(t, s, 5*time.Second); err == nil {
					t.Error("Add succeeds")
				}
				if _, err := s.Load(t.Context(), "staff"); err == nil {
					t.Error("Load succeeds")
				}
				if err := s.receive(t.Context(), fleet.Subscriber{}); err == nil {
					t.Error("the subscription succeeds")
				}
			})
		}
	}
}

// listen starts a server that answers a reply to commands, and an error to those that begin a
// connection, and returns its address.
func listen(t *testing.T, reply string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	testkit.Must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close() //nolint:errcheck // a test
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					switch strings.ToLower(lines.Text()) {
					case "hello":
						_, _ = conn.Write([]byte("-ERR unknown command\r\n"))
					case "evalsha", "hstrlen", "subscribe", "cluster", "sentinel":
						_, _ = conn.Write([]byte(reply))
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

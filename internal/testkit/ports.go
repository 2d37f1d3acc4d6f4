package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Ports below the ephemeral ones: the system does not assign them to other processes
// between their choice here and their use.
const (
	firstPort      = 10_000
	usualEphemeral = 32_768 // on Linux; on other systems they begin later
)

var ports struct {
	sync.Mutex
	next, end int
}

// FreePorts returns n consecutive free ports. A process gets a port again only after
// all others.
func FreePorts(t testing.TB, n int) []int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	if ports.end == 0 {
		ports.end = firstEphemeral()
		ports.next = firstPort + rand.IntN(ports.end-firstPort) //nolint:gosec // so that processes seldom choose the same
	}
	var free []int
	for range 2 * (ports.end - firstPort) {
		if ports.next >= ports.end {
			ports.next, free = firstPort, nil
		}
		if isFree(ports.next) {
			free = append(free, ports.next)
		} else {
			free = nil
		}
		ports.next++
		if len(free) == n {
			return free
		}
	}
	t.Fatalf("no %d free ports in a row", n)
	return nil
}

// firstEphemeral returns the first ephemeral port of the system.
func firstEphemeral() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return usualEphemeral
	}
	low, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\t")
	if first, err := strconv.Atoi(low); err == nil && first > firstPort+1_000 {
		return first
	}
	return usualEphemeral
}

// isFree reports whether TCP and, for HTTP/3, UDP are free at all addresses.
func isFree(port int) bool {
	address := fmt.Sprintf(":%d", port)
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	defer l.Close() //nolint:errcheck // unused
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// AwaitOneListener waits until no two sockets listen at the same address with one of
// these ports. After a reload the listener of Caddy's old server stays open for a
// moment, and the system gives it every second connection. It does not wait where the
// system does not list listeners.
func AwaitOneListener(t testing.TB, ports ...int) {
	t.Helper()
	Eventually(t, "the old server does not listen any more", func() bool {
		for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
			text, err := os.ReadFile(file) //nolint:gosec // of the system
			if err != nil {
				continue
			}
			seen := make(map[string]bool)
			for line := range strings.Lines(string(text)) {
				fields := strings.Fields(line)
				const local, state, listening = 1, 3, "0A"
				if len(fields) <= state || fields[state] != listening {
					continue
				}
				_, hex, _ := strings.Cut(fields[local], ":")
				port, err := strconv.ParseInt(hex, 16, 32)
				if err != nil || !slices.Contains(ports, int(port)) {
					continue
				}
				if seen[fields[local]] {
					return false
				}
				seen[fields[local]] = true
			}
		}
		return true
	})
}

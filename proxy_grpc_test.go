package caddyhtpasswd

import (
	"strings"
	"testing"
	"time"
)

func TestGRPCTimeouts(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"1n": 1, "0n": 0, "00000001n": 1, "99999999n": 99999999, "20u": 20 * time.Microsecond, "5m": 5 * time.Millisecond, "7S": 7 * time.Second,
		"2M": 2 * time.Minute, "3H": 3 * time.Hour, "99999999M": 365 * 24 * time.Hour, "99999999H": 365 * 24 * time.Hour,
		"": -1, "n": -1, "1": -1, "1s": -1, "1h": -1, "-1S": -1, "+1S": -1, "1.5S": -1, "1_0S": -1, "0x1S": -1, " 1S": -1, "1S ": -1, "1 S": -1, "100000000n": -1, "١S": -1, "1S,2S": -1,
	} {
		got, ok := grpcTimeout([]string{value})
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
	for values, want := range map[string]time.Duration{"5S 3S 4S": 3 * time.Second, "x 5S": 5 * time.Second, "1n x": 1} {
		if got, ok := grpcTimeout(strings.Fields(values)); got != want || !ok {
			t.Errorf("%s: got %v, %t, want %v", values, got, ok, want)
		}
	}
	for timeout, want := range map[time.Duration]string{
		0: "0n", 1: "1n", 99999999: "99999999n", 100000000: "100000u", time.Second + 1: "1000001u", time.Minute: "60000000u",
		100 * time.Second: "100000m", 365 * 24 * time.Hour: "31536000S", 365*24*time.Hour + grpcSlack: "31536001S",
	} {
		if got := formatGRPCTimeout(timeout); got != want {
			t.Errorf("%v: got %s, want %s", timeout, got, want)
		}
	}
}

// FuzzGRPCTimeout checks that a server gets a valid timeout that is longer than the
// client's, whatever the client sends.
func FuzzGRPCTimeout(f *testing.F) {
	for _, seed := range []string{"1n", "99999999H", "10S", "x", "", "-1S"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		timeout, ok := parseGRPCTimeout(value)
		if !ok {
			return
		}
		sent, ok := parseGRPCTimeout(formatGRPCTimeout(timeout + grpcSlack))
		if !ok || timeout < 0 || sent < timeout+grpcSlack && sent < 365*24*time.Hour || sent > 2*timeout+2*grpcSlack {
			t.Errorf("%q: got %v, %t for the server, want a little more than %v", value, sent, ok, timeout)
		}
	})
}

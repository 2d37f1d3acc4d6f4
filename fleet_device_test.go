package caddyhtpasswd

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/devicecookie"
)

// TestFleetDeviceCookies sends wrong passwords with one device cookie to servers in turn.
// They count together, and nothing is counted for the client and the user. Then each
// server ignores the cookie.
func TestFleetDeviceCookies(t *testing.T) {
	const ip, limit = "192.0.2.1", 6
	settings := App{Throttle: &Throttle{Login: limitOf(limit, time.Minute), Client: off, User: off}}
	members := []*member{newMember(t, settings), newMember(t, settings), newMember(t, settings)}
	connected(t, members...)
	for _, m := range members {
		m.device = new(DeviceCookie).settings()
	}
	first := members[0]
	hash := first.users.now().find([]byte("alice")).entry.Hash
	token := first.guard.deviceSigners().Issue(new(devicecookie.Candidates), &devicecookie.Owner{User: []byte("alice"), Hash: hash}, first.guard.now())
	var key uint64
	for i := range limit {
		m := members[i%len(members)]
		sent := sending(m.device.name, token)
		if got := m.loginWith(sent, ip, "alice", fmt.Sprint("wrong", i)); got != loginWrong {
			t.Fatalf("guess %d: got %s, want %s", i+1, got, loginWrong)
		}
		if !sent.token.isUsed || key != 0 && sent.token.key != key {
			t.Fatalf("guess %d: the cookie was used: %t, under the key %d, want %d", i+1, sent.token.isUsed, sent.token.key, key)
		}
		key = sent.token.key
	}
	for i, m := range members {
		eventually(t, fmt.Sprintf("server %d ignores the cookie", i), func() bool { return m.guard.waitDevice(key, 0) > 0 })
		if m.isExceeded(ip, "alice") || m.guard.failures[scopeLogin].Peek(m.keysFor(ip, "alice")[scopeLogin]) > 0 {
			t.Errorf("server %d: failed logins with the cookie count for the client", i)
		}
	}
}

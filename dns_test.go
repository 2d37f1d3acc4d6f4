package caddyhtpasswd

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// nameServer is a DNS server on loopback, over UDP and TCP. It also decides when names are
// looked up again.
type nameServer struct {
	t       *testing.T
	address string

	mu      sync.Mutex
	names   map[string][]netip.Addr
	rcodes  map[string]dnsmessage.RCode
	waiting []chan time.Time // one for each name that waits for its next lookup
}

// startNameServer starts a DNS server without names.
func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	s := &nameServer{t: t, names: make(map[string][]netip.Addr), rcodes: make(map[string]dnsmessage.RCode)}
	var packets net.PacketConn
	var streams net.Listener
	for range 5 { // the port may be taken for UDP
		var err error
		streams, err = net.Listen("tcp", "127.0.0.1:0")
		testkit.Must(t, err)
		if packets, err = net.ListenPacket("udp", streams.Addr().String()); err == nil {
			break
		}
		streams.Close()
	}
	if packets == nil {
		t.Fatal("got no port for UDP and TCP")
	}
	s.address = packets.LocalAddr().String()
	var running sync.WaitGroup
	running.Go(func() { s.serveUDP(packets) })
	running.Go(func() { s.serveTCP(streams) })
	t.Cleanup(func() {
		packets.Close()
		streams.Close()
		running.Wait()
	})
	return s
}

// set gives a name its addresses, separated by spaces.
func (s *nameServer) set(name, addresses string) {
	var all []netip.Addr
	for field := range strings.FieldsSeq(addresses) {
		all = append(all, netip.MustParseAddr(field))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name+"."] = all
	delete(s.rcodes, name+".")
}

// fail makes lookups of a name fail.
func (s *nameServer) fail(name string, code dnsmessage.RCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rcodes[name+"."] = code
}

func (s *nameServer) serveUDP(packets net.PacketConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := packets.ReadFrom(buf)
		if err != nil {
			return
		}
		packets.WriteTo(s.answer(buf[:n], 1232), from)
	}
}

func (s *nameServer) serveTCP(streams net.Listener) {
	for {
		conn, err := streams.Accept()
		if err != nil {
			return
		}
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err == nil {
			query := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(conn, query); err == nil {
				reply := s.answer(query, 1<<16-1)
				conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
			}
		}
		conn.Close()
	}
}

// answer returns the reply to a query, truncated if it is longer than maximum.
func (s *nameServer) answer(query []byte, maximum int) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		s.t.Errorf("got query %x, error %v", query, err)
		return nil
	}
	q := m.Questions[0]
	m.Response, m.Authoritative, m.RecursionAvailable, m.Additionals = true, true, true, nil
	name := strings.ToLower(q.Name.String())
	s.mu.Lock()
	addresses, known := s.names[name]
	code, fails := s.rcodes[name]
	s.mu.Unlock()
	switch {
	case fails:
		m.RCode = code
	case !known:
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addresses {
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
		switch {
		case fails:
		case q.Type == dnsmessage.TypeA && a.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	reply, err := m.Pack()
	if err == nil && len(reply) > maximum {
		m.Answers, m.Truncated = nil, true
		reply, err = m.Pack()
	}
	if err != nil {
		s.t.Error(err)
	}
	return reply
}

// after is the clock of the lookups.
func (s *nameServer) after(time.Duration) <-chan time.Time {
	tick := make(chan time.Time, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, tick)
	return tick
}

// lookAgain makes n names be looked up again, and waits until that has been done.
func (s *nameServer) lookAgain(n int) {
	s.t.Helper()
	waiting := func() (all int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.waiting)
	}
	testkit.Eventually(s.t, fmt.Sprintf("%d names wait for a lookup", n), func() bool { return waiting() >= n })
	s.mu.Lock()
	due := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	for _, tick := range due {
		tick <- time.Time{}
	}
	testkit.Eventually(s.t, fmt.Sprintf("%d names were looked up", n), func() bool { return waiting() >= n })
}

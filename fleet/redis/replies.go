package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

// The largest replies of a server. The client allocates what a reply announces before it
// arrives, and what it cannot allocate ends the process.
const (
	maxBulk     = fleet.MaxText
	maxLine     = 4 << 10
	maxElements = 1 << 16 // of an array: a cluster has 16,384 slots
	maxDepth    = 16      // of arrays in arrays
)

// errReply is the error of a connection whose server sends no reply that is expected.
var errReply = errors.New("unexpected reply from Redis")

// dialer returns the function that makes connections, which end when a reply is too large.
func dialer(s settings) func(ctx context.Context, network, address string) (net.Conn, error) {
	dial := goredis.NewDialer(&goredis.Options{DialTimeout: dialTimeout, TLSConfig: s.tls})
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		checked := &checkedConn{Conn: conn}
		if system, ok := conn.(syscall.Conn); ok { // by which the client sees that the connection was closed
			return systemConn{checked, system}, nil
		}
		return checked, nil
	}
}

// checkedConn is a connection that checks the replies.
type checkedConn struct {
	net.Conn
	replies replies
}

type systemConn struct {
	*checkedConn
	syscall.Conn
}

// Read implements net.Conn.
func (c *checkedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if unexpected := c.replies.check(b[:n]); unexpected != nil {
		return 0, unexpected
	}
	return n, err
}

// replies follows a sequence of replies, in version 2 of the protocol, or in version 3, which
// the client uses for Sentinels.
type replies struct {
	line []byte // the beginning of a line
	skip int    // bytes of a text that are still to come
	open []int  // for each array that has begun, the number of elements that are still to come
}

// check returns an error if a reply that goes on or begins in b is too large.
func (r *replies) check(b []byte) error {
	for len(b) > 0 {
		if r.skip > 0 {
			n := min(r.skip, len(b))
			if b, r.skip = b[n:], r.skip-n; r.skip == 0 {
				r.ended()
			}
			continue
		}
		n := bytes.IndexByte(b, '\n') + 1
		isWhole := n > 0
		if !isWhole {
			n = len(b)
		}
		if len(r.line)+n > maxLine {
			return fmt.Errorf("%w: a line of more than %d bytes", errReply, maxLine)
		}
		r.line, b = append(r.line, b[:n]...), b[n:]
		if isWhole {
			if err := r.begin(r.line); err != nil {
				return err
			}
			r.line = r.line[:0]
		}
	}
	return nil
}

// begin reads the line that begins a reply, or an element of one.
func (r *replies) begin(line []byte) error {
	const values, texts, arrays, maps, attributes = "+-:_#,(", "$=!", "*~>", "%|", "|"
	is := func(types string) bool { return strings.IndexByte(types, line[0]) >= 0 }
	if is(values) {
		r.ended()
		return nil
	}
	if !is(texts + arrays + maps) {
		return fmt.Errorf("%w: the type %q", errReply, line[0])
	}
	n, err := strconv.Atoi(string(bytes.TrimRight(line[1:], "\r\n")))
	if err != nil || n < -1 {
		return fmt.Errorf("%w: a size that is no number", errReply)
	}
	if is(attributes) && len(r.open) > 0 {
		r.open[len(r.open)-1]++ // it comes before an element, and is none
	}
	switch {
	case n == -1 || n == 0 && !is(texts):
		r.ended()
	case is(texts) && n <= maxBulk:
		r.skip = n + len("\r\n")
	case is(arrays+maps) && n <= maxElements && len(r.open) < maxDepth:
		if is(maps) {
			n *= 2
		}
		r.open = append(r.open, n)
	default:
		return fmt.Errorf("%w: it is too large", errReply)
	}
	return nil
}

// ended ends an element, and the arrays that end with it.
func (r *replies) ended() {
	for len(r.open) > 0 {
		last := len(r.open) - 1
		if r.open[last]--; r.open[last] > 0 {
			return
		}
		r.open = r.open[:last]
	}
}

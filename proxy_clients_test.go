package caddyhtpasswd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// These clients send what no client library would send.

// clientTimeout is much longer than a request takes.
const clientTimeout = 20 * time.Second

// rawRequest is a request over HTTP/2 or HTTP/3, in its parts.
type rawRequest struct {
	fields   [][2]string
	data     []string // one frame each; nil: the header ends the request
	trailers [][2]string
	end      requestEnd
}

// requestEnd is how a request ends.
type requestEnd int

const (
	completes requestEnd = iota
	resets               // the client resets the stream
)

// get is a GET request, with what differs from the usual one.
func get(fields ...string) rawRequest { return withFields("GET", fields) }

// post is a POST request with a body.
func post(body string, fields ...string) rawRequest {
	r := withFields("POST", fields)
	r.data = []string{body}
	return r
}

// withFields returns a request with the fields, each written "name: value". A
// pseudo-header such as ":path" replaces the default one; an empty value removes it.
func withFields(method string, fields []string) rawRequest {
	pseudo := [][2]string{{":method", method}, {":scheme", "https"}, {":authority", "x.test.local"}, {":path", "/"}}
	var others [][2]string
	for _, f := range fields {
		name, value, _ := strings.Cut(strings.TrimPrefix(f, ":"), ": ")
		if !strings.HasPrefix(f, ":") {
			others = append(others, [2]string{name, value})
			continue
		}
		found := false
		for i := range pseudo {
			if pseudo[i][0] == ":"+name {
				pseudo[i][1], found = value, true
			}
		}
		if !found {
			pseudo = append(pseudo, [2]string{":" + name, value})
		}
	}
	var all [][2]string
	for _, f := range append(pseudo, others...) {
		if !strings.HasPrefix(f[0], ":") || f[1] != "" {
			all = append(all, f)
		}
	}
	return rawRequest{fields: all}
}

// withTrailers returns a request with trailers, each written "name: value".
func (r rawRequest) withTrailers(trailers ...string) rawRequest {
	for _, t := range trailers {
		name, value, _ := strings.Cut(t, ": ")
		r.trailers = append(r.trailers, [2]string{name, value})
	}
	return r
}

func (r rawRequest) thatResets() rawRequest {
	r.end = resets
	return r
}

// What a client gets instead of a status.
const (
	sawReset  = "reset"
	sawClosed = "closed"
)

// breaksOff at the end of a text says that the client sends no more.
const breaksOff = "\x00\x00"

// sendHTTP1 sends text and returns the status of the response.
func sendHTTP1(t testing.TB, address, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(clientTimeout)))
	text, isCut := strings.CutSuffix(text, breaksOff)
	_, err = io.WriteString(c, text)
	must(t, err)
	if isCut {
		must(t, c.(*net.TCPConn).CloseWrite())
	}
	method, _, _ := strings.Cut(text, " ")
	for answers := bufio.NewReader(c); ; {
		resp, err := http.ReadResponse(answers, &http.Request{Method: method})
		if err != nil {
			return sawClosed
		}
		if resp.StatusCode >= 200 {
			return fmt.Sprint(resp.StatusCode)
		}
	}
}

// sendHTTP2 sends a request by HTTP/2 without TLS.
func sendHTTP2(t testing.TB, address string, r rawRequest) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	must(t, err)
	return speakHTTP2(t, c, r)
}

// speakHTTP2 sends a request by HTTP/2 on a connection, and closes it.
func speakHTTP2(t testing.TB, c net.Conn, r rawRequest) string {
	t.Helper()
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(clientTimeout)))
	_, err := io.WriteString(c, http2.ClientPreface)
	must(t, err)
	f := http2.NewFramer(c, c)
	f.AllowIllegalWrites = true
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	must(t, f.WriteSettings())
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	encode := func(fields [][2]string) []byte {
		block.Reset()
		for _, field := range fields {
			must(t, encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}))
		}
		return block.Bytes()
	}
	last := func(what bool) bool { return what && r.end == completes }
	// The server may end the connection before all is sent.
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: encode(r.fields), EndHeaders: true, EndStream: last(r.data == nil && r.trailers == nil)})
	for i, data := range r.data {
		_ = f.WriteData(1, last(i == len(r.data)-1 && r.trailers == nil), []byte(data))
	}
	if r.trailers != nil {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: encode(r.trailers), EndHeaders: true, EndStream: last(true)})
	}
	if r.end == resets {
		_ = f.WriteRSTStream(1, http2.ErrCodeCancel)
		_ = f.WritePing(false, [8]byte{}) // the server acknowledges it after the reset
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return sawClosed
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if status := frame.PseudoValue("status"); status >= "200" {
				return status
			}
		case *http2.RSTStreamFrame:
			return sawReset
		case *http2.GoAwayFrame:
			return sawClosed
		case *http2.PingFrame:
			if frame.IsAck() {
				return sawClosed
			}
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = f.WriteSettingsAck()
			}
		}
	}
}

// Types of HTTP/3 frames and streams.
const (
	h3Data, h3Headers, h3Settings = 0x0, 0x1, 0x4
	h3ControlStream               = 0x0
)

// sendHTTP3 sends a request by HTTP/3.
func sendHTTP3(t testing.TB, address string, r rawRequest) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	c, err := quic.DialAddr(ctx, address, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{"h3"}}, &quic.Config{EnableDatagrams: true})
	must(t, err)
	defer c.CloseWithError(0, "")
	control, err := c.OpenUniStream()
	must(t, err)
	_, err = control.Write(append([]byte{h3ControlStream}, h3Frame(h3Settings, nil)...))
	must(t, err)
	s, err := c.OpenStreamSync(ctx)
	must(t, err)
	send := func(frame []byte) { _, _ = s.Write(frame) } // the server may have ended the stream
	send(h3Frame(h3Headers, h3Fields(r.fields)))
	for _, data := range r.data {
		send(h3Frame(h3Data, []byte(data)))
	}
	if r.trailers != nil {
		send(h3Frame(h3Headers, h3Fields(r.trailers)))
	}
	if r.end == resets {
		s.CancelWrite(0x10c) // H3_REQUEST_CANCELLED
	} else {
		s.Close()
	}
	must(t, s.SetReadDeadline(time.Now().Add(clientTimeout)))
	reader := bufio.NewReader(s)
	for {
		kind, err := quicvarint.Read(reader)
		if err != nil {
			return sawReset
		}
		length, err := quicvarint.Read(reader)
		if err != nil {
			return sawReset
		}
		payload := make([]byte, length)
		if _, err := io.ReadFull(reader, payload); err != nil {
			return sawReset
		}
		if status := h3Status(payload); kind == h3Headers && status >= "200" {
			return status
		}
	}
}

func h3Frame(kind uint64, payload []byte) []byte {
	return append(quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(payload))), payload...)
}

// h3Fields encodes fields with QPACK, as literals with literal names.
func h3Fields(fields [][2]string) []byte {
	block := []byte{0, 0}
	for _, f := range fields {
		block = appendPrefixed(block, 0x20, 3, len(f[0]))
		block = append(block, f[0]...)
		block = appendPrefixed(block, 0, 7, len(f[1]))
		block = append(block, f[1]...)
	}
	return block
}

// appendPrefixed appends an integer with a prefix of so many bits (RFC 7541, section 5.1).
func appendPrefixed(b []byte, first byte, bits, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, first|byte(n))
	}
	return binary.AppendUvarint(append(b, first|byte(most)), uint64(n-most))
}

// h3Status returns the status in the header of a response. quic-go writes it first, as an
// indexed field of the static table or as a literal whose name is in the table.
func h3Status(block []byte) string {
	static := map[byte]string{24: "103", 25: "200", 26: "304", 27: "404", 28: "503", 63: "100", 64: "204", 65: "206", 66: "302", 67: "400", 68: "403", 69: "421", 70: "425", 71: "500"}
	if len(block) < 3 {
		return ""
	}
	switch first := block[2]; {
	case first&0xc0 == 0xc0 && first&0x3f < 0x3f: // indexed
		return static[first&0x3f]
	case first == 0xff: // indexed, 63 and above
		return static[63+block[3]]
	case first&0xf0 == 0x50: // literal, name from the static table
		rest := block[3:]
		if first&0xf == 0xf {
			rest = rest[1:]
		}
		value := rest[1 : 1+int(rest[0]&0x7f)]
		if rest[0]&0x80 != 0 {
			text, err := hpack.HuffmanDecodeToString(value)
			if err != nil {
				return err.Error()
			}
			return text
		}
		return string(value)
	}
	return fmt.Sprintf("%x", block)
}

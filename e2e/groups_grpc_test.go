package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// text is the message of all methods of the service under test.
type text = wrapperspb.StringValue

// grpcService describes the service as generated code would.
var grpcService = grpc.ServiceDesc{
	ServiceName: "test.Echo",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Say", Handler: func(server any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := new(text)
		if err := decode(in); err != nil {
			return nil, err
		}
		return server.(*grpcServer).say(ctx, in)
	}}},
	Streams: []grpc.StreamDesc{
		{StreamName: "Count", Handler: grpcCount, ServerStreams: true},
		{StreamName: "Sum", Handler: grpcSum, ClientStreams: true},
		{StreamName: "Chat", Handler: grpcChat, ServerStreams: true, ClientStreams: true},
	},
}

type grpcServer struct {
	name      string
	cancelled chan error // gets the end of each Chat
}

// say responds with the message, and with what it has seen of the metadata.
func (s *grpcServer) say(ctx context.Context, in *text) (*text, error) {
	sent, _ := metadata.FromIncomingContext(ctx)
	deadline, hasDeadline := ctx.Deadline()
	if err := errors.Join(
		grpc.SetHeader(ctx, metadata.Pairs("x-server", s.name, "x-saw-bin", strings.Join(sent["x-some-bin"], ",")+".", "x-reply-bin", "\x00\xff")),
		grpc.SetTrailer(ctx, metadata.Pairs("x-saw", strings.Join(sent["x-some"], ","), "x-saw-deadline", fmt.Sprint(hasDeadline && time.Until(deadline) > 0), "x-saw-password", fmt.Sprint(len(sent["authorization"])))),
	); err != nil {
		return nil, err
	}
	switch in.GetValue() {
	case "fail":
		return nil, grpcstatus.Error(codes.NotFound, "no such thing: 100% é\n")
	case "wait":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return wrapperspb.String(in.GetValue()), nil
}

// grpcCount sends the digits of the message one by one, and ends with an error if the last
// one is 9.
func grpcCount(server any, stream grpc.ServerStream) error {
	in := new(text)
	if err := stream.RecvMsg(in); err != nil {
		return err
	}
	stream.SetTrailer(metadata.Pairs("x-server", server.(*grpcServer).name))
	for _, digit := range in.GetValue() {
		if err := stream.SendMsg(wrapperspb.String(string(digit))); err != nil {
			return err
		}
	}
	if strings.HasSuffix(in.GetValue(), "9") {
		return grpcstatus.Error(codes.DataLoss, "after 9")
	}
	return nil
}

// grpcSum sends all messages as one.
func grpcSum(_ any, stream grpc.ServerStream) error {
	var all strings.Builder
	for {
		in := new(text)
		switch err := stream.RecvMsg(in); {
		case errors.Is(err, io.EOF):
			return stream.SendMsg(wrapperspb.String(all.String()))
		case err != nil:
			return err
		}
		all.WriteString(in.GetValue())
	}
}

// grpcChat sends each message back at once.
func grpcChat(server any, stream grpc.ServerStream) (err error) {
	s := server.(*grpcServer)
	if err := stream.SendHeader(metadata.Pairs("x-server", s.name)); err != nil {
		return err
	}
	for {
		in := new(text)
		if err = stream.RecvMsg(in); err != nil {
			s.cancelled <- err
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := stream.SendMsg(in); err != nil {
			return err
		}
	}
}

// startGRPC runs a gRPC server, by default without TLS.
func startGRPC(t *testing.T, name string, options ...grpc.ServerOption) (address string, service *grpcServer, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	service = &grpcServer{name: name, cancelled: make(chan error, 100)}
	server := grpc.NewServer(options...)
	server.RegisterService(&grpcService, service)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String(), service, server.Stop
}

// grpcClient is a client of example.com at a port of this machine.
type grpcClient struct {
	t    *testing.T
	conn *grpc.ClientConn
}

func newGRPCClient(t *testing.T, host string, port int) grpcClient {
	t.Helper()
	conn, err := grpc.NewClient(fmt.Sprintf("passthrough:///127.0.0.1:%d", port),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, ServerName: host})),
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return grpcClient{t, conn}
}

// withLogin returns a context with a deadline, and the credentials as metadata.
func withLogin(t *testing.T, login string) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	if login == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(login)))
}

// say calls the unary method, and returns the server and the message or the status.
func (c grpcClient) say(ctx context.Context, message string, options ...grpc.CallOption) (server, result string) {
	out := new(text)
	var header metadata.MD
	err := c.conn.Invoke(ctx, "/test.Echo/Say", wrapperspb.String(message), out, append(options, grpc.Header(&header))...)
	server = strings.Join(header["x-server"], ",")
	if err != nil {
		return server, grpcstatus.Code(err).String()
	}
	return server, out.GetValue()
}

// order returns the servers that answer n calls, or the status in brackets.
func (c grpcClient) order(ctx context.Context, n int) string {
	var all strings.Builder
	for range n {
		if server, result := c.say(ctx, "x"); result == "x" {
			all.WriteString(server)
		} else {
			all.WriteString("[" + result + "]")
		}
	}
	return all.String()
}

// chat opens a bidirectional stream and sends some messages, each after the answer to the
// one before. It returns the stream and the server.
func (c grpcClient) chat(ctx context.Context, messages ...string) (stream grpc.ClientStream, server string) {
	c.t.Helper()
	stream, err := c.conn.NewStream(ctx, &grpcService.Streams[2], "/test.Echo/Chat")
	must(c.t, err)
	for _, message := range messages {
		out := new(text)
		must(c.t, stream.SendMsg(wrapperspb.String(message)))
		if err := stream.RecvMsg(out); err != nil || out.GetValue() != message {
			c.t.Fatalf("chat: got %q, %v, want %q", out.GetValue(), err, message)
		}
	}
	header, err := stream.Header()
	must(c.t, err)
	return stream, strings.Join(header["x-server"], ",")
}

// awaitOnly waits until a server answers alone. A call on a connection that is closed at
// that moment is lost, and no test can control when the end of a server is noticed.
func awaitOnly(t *testing.T, c grpcClient, ctx context.Context, server string) {
	t.Helper()
	eventually(t, server+" answers alone", func() bool { return c.order(ctx, 3) == strings.Repeat(server, 3) })
}

// check uses all kinds of methods. The site needs the login.
func (c grpcClient) check(login string) {
	t := c.t
	t.Helper()
	ctx := withLogin(t, login)

	for wrong, want := range map[string]codes.Code{"": codes.Unauthenticated, "alice:wrong": codes.Unauthenticated} {
		if _, got := c.say(withLogin(t, wrong), "x"); got != want.String() {
			t.Errorf("login %q: got %s, want %s", wrong, got, want)
		}
	}

	long := strings.Repeat("0123456789", 90_000) // nginx takes 1 MB by default
	for _, message := range []string{"x", "", long} {
		for name, options := range map[string][]grpc.CallOption{"plain": nil, "gzip": {grpc.UseCompressor(gzip.Name)}} {
			if _, got := c.say(ctx, message, options...); got != message {
				t.Errorf("unary, %s: got %d bytes, want %d", name, len(got), len(message))
			}
		}
	}
	out, header, trailer := new(text), metadata.MD{}, metadata.MD{}
	sent := metadata.AppendToOutgoingContext(ctx, "x-some", "one", "x-some", "two", "x-some-bin", "\x00\x01\xff")
	err := c.conn.Invoke(sent, "/test.Echo/Say", wrapperspb.String("fail"), out, grpc.Header(&header), grpc.Trailer(&trailer))
	if status := grpcstatus.Convert(err); status.Code() != codes.NotFound || status.Message() != "no such thing: 100% é\n" {
		t.Errorf("an error: got %v, want NotFound and the message", err)
	}
	saw := fmt.Sprintf("%q %q %q %q", metadata.Join(header, trailer)["x-saw"], header["x-saw-bin"], header["x-reply-bin"], trailer["x-saw-deadline"])
	if want := `["one,two"] ["\x00\x01\xff."] ["\x00\xff"] ["true"]`; saw != want {
		t.Errorf("metadata: got %s, want %s", saw, want)
	}

	stream, err := c.conn.NewStream(ctx, &grpcService.Streams[0], "/test.Echo/Count")
	must(t, err)
	must(t, stream.SendMsg(wrapperspb.String("123459")))
	must(t, stream.CloseSend())
	var got strings.Builder
	for err = nil; err == nil; {
		in := new(text)
		if err = stream.RecvMsg(in); err == nil {
			got.WriteString(in.GetValue())
		}
	}
	if got.String() != "123459" || grpcstatus.Code(err) != codes.DataLoss || len(stream.Trailer()["x-server"]) != 1 {
		t.Errorf("server streaming: got %q, %v and the trailer %v, want 123459, DataLoss and the name of the server", got.String(), err, stream.Trailer())
	}

	stream, err = c.conn.NewStream(ctx, &grpcService.Streams[1], "/test.Echo/Sum")
	must(t, err)
	for range 100 {
		must(t, stream.SendMsg(wrapperspb.String(long[:1000])))
	}
	must(t, stream.CloseSend())
	out = new(text)
	if err := stream.RecvMsg(out); err != nil || len(out.GetValue()) != 100_000 {
		t.Errorf("client streaming: got %d bytes, %v, want 100000", len(out.GetValue()), err)
	}

	stream, _ = c.chat(ctx, "one", "two", long, "three")
	must(t, stream.CloseSend())
	if err := stream.RecvMsg(new(text)); !errors.Is(err, io.EOF) {
		t.Errorf("bidirectional streaming: got %v at the end, want EOF", err)
	}
}

// TestGRPCGroups sends calls to groups of gRPC servers.
func TestGRPCGroups(t *testing.T) {
	parallel(t)
	a, serviceA, stopA := startGRPC(t, "a")
	b, _, _ := startGRPC(t, "b")
	s := startServer(t, "")
	s.Write("users", "alice:"+fastHash(t, "secret")+"\n")
	refused := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	load := func(t *testing.T, group string) grpcClient {
		t.Helper()
		must(t, s.Reload("{\nupstream rpc {\n"+group+"\n}\n}\nhttps://localhost:{https} {\nhtpasswd {\nfile users\n}\nproxy_pass rpc\n}\n"))
		return newGRPCClient(t, "localhost", s.HTTPS)
	}
	both := fmt.Sprintf("server h2c://%s weight=2\nserver h2c://%s\n", a, b)

	t.Run("h2c in the address", func(t *testing.T) {
		c := load(t, both)
		c.check("alice:secret")
	})
	t.Run("versions h2c", func(t *testing.T) {
		c := load(t, strings.ReplaceAll(both, "h2c://", "")+"transport http {\nversions h2c\n}")
		c.check("alice:secret")
	})
	t.Run("https in the address", func(t *testing.T) {
		lend := httptest.NewTLSServer(nil) // for its certificate
		lend.Close()
		secure, _, _ := startGRPC(t, "s", grpc.Creds(credentials.NewServerTLSFromCert(&lend.TLS.Certificates[0])))
		c := load(t, fmt.Sprintf("server https://%s\nserver https://%s\nfail_duration 1h\ntransport http {\ntls_insecure_skip_verify\n}\n", secure, refused))
		c.check("alice:secret")
		ctx, cancel := context.WithTimeout(withLogin(t, "alice:secret"), 50*time.Millisecond)
		if _, got := c.say(ctx, "wait"); got != codes.DeadlineExceeded.String() {
			t.Errorf("got %s, want DeadlineExceeded", got)
		}
		cancel()
		if got := c.order(withLogin(t, "alice:secret"), 3); got != "sss" {
			t.Errorf("after a deadline: got the order %s, want sss", got)
		}
	})
	for _, test := range []struct{ name, group, want string }{
		{"weights", both, "abaaba"},
		{"a server twice", fmt.Sprintf("server h2c://%[1]s\nserver h2c://%[2]s\nserver h2c://%[1]s\n", a, b), "abaaba"},
		{"one server refuses connections", fmt.Sprintf("server h2c://%s\nserver h2c://%s\n", refused, b), "bbbbbb"},
		{"a backup", fmt.Sprintf("server h2c://%s\nserver h2c://%s backup\n", a, b), "aaaaaa"},
		{"least_conn", fmt.Sprintf("balance least_conn\nserver h2c://%s\nserver h2c://%s\n", a, b), "ababab"},
		{"all down", fmt.Sprintf("server h2c://%s down\nserver h2c://%s down\n", a, b), strings.Repeat("[Unavailable]", 6)},
		{"no server listens", fmt.Sprintf("server h2c://%s\n", refused), strings.Repeat("[Unavailable]", 6)},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := load(t, test.group).order(withLogin(t, "alice:secret"), 6); got != test.want {
				t.Errorf("got the order %s, want %s", got, test.want)
			}
		})
	}

	t.Run("response_header_timeout", func(t *testing.T) {
		c := load(t, fmt.Sprintf("server h2c://%s\ntransport http {\nresponse_header_timeout 50ms\n}\n", a))
		if _, got := c.say(withLogin(t, "alice:secret"), "wait"); got != codes.Unavailable.String() {
			t.Errorf("got %s, want Unavailable", got)
		}
	})

	t.Run("the password stays here", func(t *testing.T) {
		trailer, out := metadata.MD{}, new(text)
		must(t, load(t, both).conn.Invoke(withLogin(t, "alice:secret"), "/test.Echo/Say", wrapperspb.String("x"), out, grpc.Trailer(&trailer)))
		if got := trailer["x-saw-password"]; len(got) != 1 || got[0] != "0" {
			t.Errorf("the server saw %v passwords, want 0", got)
		}
	})

	t.Run("calls that are cancelled blame no server", func(t *testing.T) {
		c := load(t, fmt.Sprintf("server h2c://%s\nserver h2c://%s backup\nfail_duration 1h\n", a, b))
		for range 3 {
			ctx, cancel := context.WithCancel(withLogin(t, "alice:secret"))
			_, server := c.chat(ctx, "hello")
			if server != "a" {
				t.Fatalf("got a stream to %s, want a: %s", server, s.Log())
			}
			cancel()
			if err := <-serviceA.cancelled; err == nil {
				t.Error("got no error at the server, want the end of the call")
			}
			short, stop := context.WithTimeout(withLogin(t, "alice:secret"), 50*time.Millisecond)
			if _, got := c.say(short, "wait"); got != codes.DeadlineExceeded.String() {
				t.Errorf("got %s, want DeadlineExceeded", got)
			}
			stop()
		}
		if got := c.order(withLogin(t, "alice:secret"), 5); got != "aaaaa" {
			t.Errorf("afterwards: got the order %s, want aaaaa", got)
		}
	})

	t.Run("deadlines that a client makes up blame no server", func(t *testing.T) {
		c := load(t, fmt.Sprintf("server h2c://%s\nserver h2c://%s backup\nfail_duration 1h\n", a, b))
		call := func(message string, timeouts ...string) (status string) {
			t.Helper()
			body := append([]byte{0, 0, 0, 0, byte(len(message) + 2), 10, byte(len(message))}, message...)
			r := s.Request(http.MethodPost, "/test.Echo/Say", bytes.NewReader(body))
			r.SetBasicAuth("alice", "secret")
			r.Header["Content-Type"], r.Header["Te"], r.Header["Grpc-Timeout"] = []string{"application/grpc"}, []string{"trailers"}, timeouts
			resp, err := s.Clients()["HTTP/2"].Do(r)
			must(t, err)
			defer resp.Body.Close()
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				return err.Error()
			}
			if resp.StatusCode != http.StatusOK {
				return resp.Status
			}
			return resp.Header.Get("Grpc-Status") + resp.Trailer.Get("Grpc-Status")
		}
		for range 5 {
			for _, row := range []struct {
				message  string
				timeouts []string
				want     string
			}{
				{"x", nil, "0"},
				{"x", []string{"20S"}, "0"},
				{"x", []string{"99999999H"}, "0"},
				{"wait", []string{"1n"}, "4"},
				{"wait", []string{"0n"}, "4"},
				{"wait", []string{"1000u"}, "4"},
				{"wait", []string{"20m"}, "4"},
				{"wait", []string{"20m", "20S"}, "4"},
				{"wait", []string{"20S", "20m"}, "4"},
				{"wait", []string{"x", "20m"}, "4"},
				{"x", []string{"x"}, "400 Bad Request"},
				{"x", []string{"-1S"}, "400 Bad Request"},
			} {
				if got := call(row.message, row.timeouts...); got != row.want {
					t.Errorf("timeouts %q: got %s, want %s", row.timeouts, got, row.want)
				}
			}
			if got := c.order(withLogin(t, "alice:secret"), 3); got != "aaa" {
				t.Fatalf("afterwards: got the order %s, want aaa", got)
			}
		}
	})

	t.Run("max_conns counts open streams", func(t *testing.T) {
		c := load(t, fmt.Sprintf("server h2c://%s max_conns=2\nserver h2c://%s backup\n", a, b))
		ctx := withLogin(t, "alice:secret")
		first, _ := c.chat(ctx, "hello")
		_, second := c.chat(ctx, "hello")
		if got := c.order(ctx, 4); got != "bbbb" || second != "a" {
			t.Errorf("with two streams to a and %s: got the order %s, want bbbb", second, got)
		}
		must(t, first.CloseSend())
		eventually(t, "a gets calls again", func() bool { return c.order(ctx, 1) == "a" })
	})

	t.Run("a server ends", func(t *testing.T) {
		c := load(t, both)
		ctx := withLogin(t, "alice:secret")
		stream, server := c.chat(ctx, "hello")
		stopA()
		if server == "a" {
			if err := stream.RecvMsg(new(text)); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("an open stream: got %v, want an error", err)
			}
		}
		awaitOnly(t, c, ctx, "b")
		if got := c.order(ctx, 6); got != "bbbbbb" {
			t.Errorf("got the order %s, want bbbbbb", got)
		}
		c.check("alice:secret")
	})
}

// TestDocsGRPC runs the pair of configurations in docs/from-nginx.md.
func TestDocsGRPC(t *testing.T) {
	parallel(t)
	program(t, "nginx")
	const page = "../docs/from-nginx.md"
	a, _, stopA := startGRPC(t, "a")
	b, _, _ := startGRPC(t, "b")
	// "http2 on" came with nginx 1.25.1, and older ones do not know it.
	conf := strings.NewReplacer("    http2 on;\n", "", "listen 443 ssl;", "listen 443 ssl http2;").Replace(sectionBlocks(t, page, "gRPC servers", "nginx")[0])
	_, ours, theirs := docsTwins(t, sectionBlocks(t, page, "gRPC servers", "caddyfile")[0], nginxWith(conf), "127.0.0.1:50051", a, "127.0.0.1:50052", b)
	clients := map[string]grpcClient{"Caddy": newGRPCClient(t, "example.com", ours.port), "nginx": newGRPCClient(t, "example.com", theirs.port)}
	for _, c := range clients {
		c.check(asAlice)
	}
	stopA()
	for name, c := range clients {
		awaitOnly(t, c, withLogin(t, asAlice), "b")
		if got := c.order(withLogin(t, asAlice), 4); got != "bbbb" {
			t.Errorf("%s, with one server: got the order %s, want bbbb", name, got)
		}
	}
}

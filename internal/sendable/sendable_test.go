package sendable

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// requestOf returns a GET request for "/" of localhost.
func requestOf(change func(r *http.Request)) *http.Request {
	r := &http.Request{Method: http.MethodGet, Host: "localhost", URL: &url.URL{Path: "/"}, Header: http.Header{}}
	if change != nil {
		change(r)
	}
	return r
}

func TestCheckRequest(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		change func(r *http.Request)
		want   error
	}{
		{"an ordinary request", nil, nil},
		{"an unknown method", func(r *http.Request) { r.Method = "M-SEARCH" }, nil},
		{"a method in lower case", func(r *http.Request) { r.Method = "get" }, nil},
		{"no method", func(r *http.Request) { r.Method = "" }, ErrMethod},
		{"a method with a space", func(r *http.Request) { r.Method = "GET /" }, ErrMethod},
		{"a method with a line break", func(r *http.Request) { r.Method = "GET\r\n" }, ErrMethod},
		{"a host with a port", func(r *http.Request) { r.Host = "[::1]:8080" }, nil},
		{"no host", func(r *http.Request) { r.Host = "" }, nil},
		{"a host with a space", func(r *http.Request) { r.Host = "a b" }, ErrHost},
		{"a host with a line break", func(r *http.Request) { r.Host = "a\nb" }, ErrHost},
		{"a host that is not ASCII", func(r *http.Request) { r.Host = "bücher.example" }, ErrHost},
		{"no path", func(r *http.Request) { r.URL.Path = "" }, nil},
		{"a path that is escaped when it is sent", func(r *http.Request) { r.URL.Path = "/a b\r\n\x00ü" }, nil},
		{"a path with two slashes at the beginning", func(r *http.Request) { r.URL.Path = "//evil.example/" }, nil},
		{"a relative path", func(r *http.Request) { r.URL.Path = "a" }, ErrTarget},
		{"OPTIONS of the whole server", func(r *http.Request) { r.Method, r.URL.Path = http.MethodOptions, "*" }, nil},
		{"GET of the whole server", func(r *http.Request) { r.URL.Path = "*" }, ErrTarget},
		{"OPTIONS of a relative path", func(r *http.Request) { r.Method, r.URL.Path = http.MethodOptions, "**" }, ErrTarget},
		{"a target without an authority", func(r *http.Request) { r.URL = &url.URL{Scheme: "x", Opaque: "http://host/path"} }, ErrTarget},
		{"a query", func(r *http.Request) { r.URL.RawQuery = "a=%0a&b=ü#?" }, nil},
		{"a query with a space", func(r *http.Request) { r.URL.RawQuery = "a b" }, ErrTarget},
		{"a query with a line break", func(r *http.Request) { r.URL.RawQuery = "a\r\nb" }, ErrTarget},
		{"a query with DEL", func(r *http.Request) { r.URL.RawQuery = "a\x7f" }, ErrTarget},
	} {
		if got := CheckRequest(requestOf(row.change)); !errors.Is(got, row.want) {
			t.Errorf("%s: got %v, want %v", row.name, got, row.want)
		}
	}
}

func TestCheckFields(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		header  http.Header
		maxSize int
		want    error
	}{
		{"no header", nil, 0, nil},
		{"an ordinary field", http.Header{"Accept": {"*/*"}}, 100, nil},
		{"a field without values", http.Header{"Accept": nil}, 100, nil},
		{"an empty value", http.Header{"Accept": {""}}, 100, nil},
		{"a tab, and bytes that are not ASCII", http.Header{"X": {"a\tü\xff"}}, 100, nil},
		{"no name", http.Header{"": {"x"}}, 100, ErrFieldName},
		{"a name with a space", http.Header{"X Y": {"x"}}, 100, ErrFieldName},
		{"a name with a line break", http.Header{"X\r\nY": {"x"}}, 100, ErrFieldName},
		{"a name that is a pseudo-field", http.Header{":path": {"/"}}, 100, ErrFieldName},
		{"a value with a line break", http.Header{"X": {"a", "b\nc"}}, 100, ErrFieldValue},
		{"a value with NUL", http.Header{"X": {"\x00"}}, 100, ErrFieldValue},
		{"a value with DEL", http.Header{"X": {"\x7f"}}, 100, ErrFieldValue},
		{"as long as allowed", http.Header{"X": {"1234567"}}, 10, nil},
		{"one byte longer", http.Header{"X": {"12345678"}}, 10, ErrFieldSize},
		{"a long name", http.Header{"X1234567890": nil}, 10, ErrFieldSize},
		{"values that are long together", http.Header{"X": {"1234", "1234"}}, 10, ErrFieldSize},
		{"two fields that are long together", http.Header{"X": {"1234"}, "Y": {"1234"}}, 10, nil},
	} {
		if got := CheckFields(row.header, row.maxSize); !errors.Is(got, row.want) {
			t.Errorf("%s: got %v, want %v", row.name, got, row.want)
		}
	}
	if got, want := CheckFields(http.Header{"X-Name": {"\n"}}, 100).Error(), "invalid field value of 'X-Name'"; got != want {
		t.Errorf("got error '%s', want '%s'", got, want)
	}
}

// sent sends a request with Go's HTTP/1.1 client, and returns it as the server
// receives it.
func sent(t *testing.T, r *http.Request) (*http.Request, error) {
	t.Helper()
	var seen *http.Request
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() {
				defer server.Close()
				got, err := http.ReadRequest(bufio.NewReader(server))
				if err != nil {
					return
				}
				seen = got
				_, _ = server.Write([]byte("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"))
			}()
			return client, nil
		},
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	return seen, nil
}

// FuzzSendable checks that Go's client sends accepted requests, and that the server
// receives the same method and path.
func FuzzSendable(f *testing.F) {
	f.Add("GET", "localhost", "/a b", "/a%20b", "q=1", "", "Accept", "*/*")
	f.Add("OPTIONS", "localhost:80", "*", "", "", "", "X", "a\tb")
	f.Add("get", "", "", "", "a#b?c", "", "X_Y", "ü")
	f.Add("POST", "[::1]", "//evil/x", "//evil%2fx", "", "", "x", "")
	f.Add("PUT", "a b", "/\r\n", "/%", "\x7f", "", "X Y", "\n")
	f.Add("DELETE", "a", "/", "", "", "//host/path", "Connection", "close")
	f.Fuzz(func(t *testing.T, method, host, path, rawPath, query, opaque, name, value string) {
		r := requestOf(func(r *http.Request) {
			r.Method, r.Host = method, host
			r.URL = &url.URL{Path: path, RawPath: rawPath, RawQuery: query, Opaque: opaque}
			r.Header[name] = []string{value}
		})
		if method == http.MethodConnect || CheckRequest(r) != nil || CheckFields(r.Header, 1<<20) != nil {
			return
		}
		if path == "*" && query != "" {
			return // Go's server rejects it, so no client can send it
		}
		r.URL.Scheme, r.URL.Host = "http", "server.test"
		seen, err := sent(t, r)
		if err != nil {
			t.Fatalf("got %v, want it sent", err)
		}
		if want := cmp.Or(path, "/"); seen.Method != method || seen.URL.Path != want || seen.URL.RawQuery != query {
			t.Errorf("the server sees %s %q?%q, want %s %q?%q", seen.Method, seen.URL.Path, seen.URL.RawQuery, method, want, query)
		}
		if len(seen.Header["X-Smuggled"]) > 0 && !strings.EqualFold(name, "X-Smuggled") {
			t.Errorf("the server sees another field in %v", seen.Header)
		}
	})
}

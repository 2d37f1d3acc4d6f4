package httpfield

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestIsForbiddenTrailer(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"X-Sum": false, "Grpc-Status": false, "X": false, "X-Forwarded": false,
		"Content-Length": true, "content-length": true, "CONTENT_LENGTH": true, "Content.Length": true, "Transfer_Encoding": true, "Host": true,
		"Authorization": true, "Cookie": true, "Set-Cookie": true, "Via": true, "X.Real_IP": true, "x-forwarded-for": true, "X_Forwarded_Anything": true,
		"Trailer": true, "If-Match": true, "Upgrade": true,
	} {
		if got := isForbiddenTrailer(name); got != want {
			t.Errorf("%q: got %t, want %t", name, got, want)
		}
		trailer := http.Header{name: {"x"}, "Checksum": {"y"}}
		RemoveForbiddenTrailers(trailer)
		if _, got := trailer[name]; got == want || len(trailer["Checksum"]) != 1 {
			t.Errorf("%q: got %v left, want it removed: %t", name, trailer, want)
		}
	}
	RemoveForbiddenTrailers(nil)
}

func TestFilterTrailers(t *testing.T) {
	t.Parallel()
	failing := io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(io.ErrUnexpectedEOF))
	for _, row := range []struct {
		name      string
		announced []string
		body      io.Reader
		sent      http.Header
		want      http.Header
	}{
		{"none announced", nil, strings.NewReader("abc"), http.Header{"X-User": {"root"}}, nil},
		{"one that is announced and sent", []string{"X-User", "X-Sum"}, strings.NewReader("abc"), http.Header{"X-User": {"root"}, "X-Sum": {"1"}}, http.Header{"X-Sum": {"1"}}},
		{"one that is announced and not sent", []string{"X-User"}, strings.NewReader(""), nil, http.Header{}},
		{"sent, while another one is announced", []string{"X-Sum"}, strings.NewReader("abc"), http.Header{"x_user": {"root"}, "X.USER": {"root"}, "Authorization": {"Basic x"}}, http.Header{"X-Sum": nil}},
		{"fields that must not be trailers", []string{"X-Sum", "Host", "Grpc-Status"}, strings.NewReader("abc"), http.Header{"X-Sum": {"1"}, "Grpc-Status": {"0"}, "Content-Length": {"7"}, "Transfer_Encoding": {"chunked"}, "Cookie": {"a=b"}, "If-Match": {"x"}, "X.Forwarded.For": {"127.0.0.1"}}, http.Header{"X-Sum": {"1"}, "Grpc-Status": {"0"}}},
		{"a body that breaks off", []string{"X-Sum"}, failing, http.Header{"X-User": {"root"}}, http.Header{"X-Sum": nil}},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := &http.Request{}
			if row.announced != nil {
				r.Trailer = http.Header{}
				for _, name := range row.announced {
					r.Trailer[name] = nil
				}
			}
			trailer := r.Trailer
			r.Body = io.NopCloser(&ending{row.body, func() {
				if trailer != nil {
					maps.Copy(trailer, row.sent)
				}
			}})
			FilterTrailers(r, "X-User", "Authorization")
			for name := range r.Trailer {
				if same(name, "X-User") {
					t.Errorf("still announced: %s", name)
				}
			}
			text, _ := io.ReadAll(r.Body)
			if !bytes.HasPrefix([]byte("abc"), text) {
				t.Errorf("got body %q, want the one that was sent", text)
			}
			if !maps.EqualFunc(r.Trailer, row.want, slices.Equal) {
				t.Errorf("got %v, want %v", r.Trailer, row.want)
			}
		})
	}
	r := &http.Request{Trailer: http.Header{"X-User": nil}}
	FilterTrailers(r, "X-User") // without a body there are no trailers
}

// ending is a body that calls a function when it ends or fails.
type ending struct {
	io.Reader
	end func()
}

func (r *ending) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil {
		r.end()
	}
	return n, err
}

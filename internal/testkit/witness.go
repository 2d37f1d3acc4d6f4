package testkit

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Witness is an application that records the requests that reach it.
type Witness struct {
	*httptest.Server
	mu   sync.Mutex
	seen []Witnessed
}

// Witnessed is a request as the application received it, possibly incomplete.
type Witnessed struct {
	Method, URI     string
	Header, Trailer http.Header
	Body            string
}

// NewWitness starts an application that answers "application" until the end of
// the test.
func NewWitness(t testing.TB) *Witness {
	w := new(Witness)
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // possibly incomplete
		w.mu.Lock()
		w.seen = append(w.seen, Witnessed{r.Method, r.RequestURI, r.Header.Clone(), r.Trailer.Clone(), string(body)})
		w.mu.Unlock()
		_, _ = io.WriteString(rw, "application")
	}))
	t.Cleanup(w.Close)
	return w
}

// Taken returns the requests since the last call of Taken, One or None.
func (w *Witness) Taken() []Witnessed {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

// One returns the only request since the last call of Taken, One or None.
func (w *Witness) One(t testing.TB) Witnessed {
	t.Helper()
	seen := w.Taken()
	if len(seen) != 1 {
		t.Fatalf("the application got %d requests, not one: %v", len(seen), seen)
	}
	return seen[0]
}

// None fails if there was a request since the last call of Taken, One or None.
func (w *Witness) None(t testing.TB) {
	t.Helper()
	for _, got := range w.Taken() {
		t.Errorf("the application has seen %s %s %q", got.Method, got.URI, got.Body)
	}
}

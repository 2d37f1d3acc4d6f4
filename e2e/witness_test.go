package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// witness is an application that remembers what reaches it.
type witness struct {
	*httptest.Server
	mu   sync.Mutex
	seen []witnessed
}

type witnessed struct {
	method, uri string
	header      http.Header
	body        string
}

func newWitness(t testing.TB) *witness {
	w := new(witness)
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what came of it counts
		w.mu.Lock()
		w.seen = append(w.seen, witnessed{r.Method, r.RequestURI, r.Header.Clone(), string(body)})
		w.mu.Unlock()
		_, _ = io.WriteString(rw, "application")
	}))
	t.Cleanup(w.Close)
	return w
}

// taken returns what came since it was called last.
func (w *witness) taken() []witnessed {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

// none looks that nothing came since the witness was asked last.
func (w *witness) none(t testing.TB) {
	t.Helper()
	for _, got := range w.taken() {
		t.Errorf("the application has seen %s %s %q", got.method, got.uri, got.body)
	}
}

package mirror

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

const (
	testPoll    = 5 * time.Second
	testTimeout = time.Second
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// store is a store in memory, which several remotes share.
type store struct {
	mu      sync.Mutex
	text    *Copy
	history []Copy
	loads   atomic.Int64
}

func (s *store) set(c *Copy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = c
}

func (s *store) get() *Copy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

// fault is what happens to the calls of a remote.
type fault uint8

const (
	works    fault = iota
	refuses        // fails, not executed
	lost           // executed, and the answer is lost
	lostOnce       // the same for the next change; then it works
	hangs          // not executed; returns when the context is done
	hangsRun       // executed; returns an error when the context is done
	deaf           // not executed; returns when the fault is another one, whatever the context says
	faultCount
)

var errDown = errors.New("connection refused (a test)")

// remote is the connection of one mirror to a store.
type remote struct {
	*store
	isOrdered bool

	faultMu sync.Mutex
	fault   fault
	healed  chan struct{}
}

func (r *remote) become(f fault) {
	r.faultMu.Lock()
	defer r.faultMu.Unlock()
	r.fault = f
	if r.healed != nil {
		close(r.healed)
	}
	r.healed = make(chan struct{})
}

func (r *remote) do(ctx context.Context, call func() error) error {
	r.faultMu.Lock()
	fault, healed := r.fault, r.healed
	r.faultMu.Unlock()
	run := func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		return call()
	}
	switch fault {
	case refuses:
		return errDown
	case lost, lostOnce:
		_ = run()
		if fault == lostOnce {
			r.become(works)
		}
		return errDown
	case hangs, hangsRun:
		if fault == hangsRun {
			_ = run()
		}
		<-ctx.Done()
		return ctx.Err()
	case deaf:
		<-healed
		return errDown
	}
	return run()
}

func (r *remote) Revision(ctx context.Context) (revision Revision, err error) {
	err = r.do(ctx, func() error {
		if r.text == nil {
			return fs.ErrNotExist
		}
		revision = r.text.Revision
		return nil
	})
	return revision, err
}

func (r *remote) Load(ctx context.Context) (c Copy, err error) {
	err = r.do(ctx, func() error {
		r.loads.Add(1)
		if r.text == nil {
			return fs.ErrNotExist
		}
		if r.text.Text == "forged" {
			return fmt.Errorf("%w: forged (a test)", ErrInvalid)
		}
		c = *r.text
		return nil
	})
	return c, err
}

func (r *remote) Replace(ctx context.Context, old *Copy, text string) (c Copy, err error) {
	err = r.do(ctx, func() error {
		if (old == nil) != (r.text == nil) || old != nil && old.Revision != r.text.Revision {
			return ErrConflict
		}
		var number uint64 = 1
		if old != nil {
			number = old.Version + 1
		}
		c = newCopy(number, text)
		r.text = &c
		r.history = append(r.history, c)
		return nil
	})
	return c, err
}

// newCopy returns a copy whose revision is greater than that of lower versions, and earlier
// times.
func newCopy(number uint64, text string) Copy {
	now := time.Now().UTC()
	return Copy{Text: text, Revision: Revision(fmt.Sprintf("%08d-%020d", number, now.UnixNano())), Version: number, Time: now}
}

func (r *remote) Restore(ctx context.Context, lost Revision, c Copy) (Copy, error) {
	if !r.isOrdered {
		return Copy{}, ErrCannotRestore
	}
	err := r.do(ctx, func() error {
		var found Revision
		if r.text != nil {
			found = r.text.Revision
		}
		if found != lost {
			return ErrConflict
		}
		r.text = &c
		return nil
	})
	return c, err
}

// server is a mirror with its remote and its log.
type server struct {
	*Mirror
	t      testing.TB
	remote *remote
	logger *zap.Logger
	logs   *observer.ObservedLogs
	c      Config
}

// newServer returns a server whose mirror is not created yet.
func newServer(t testing.TB, s *store) *server {
	core, logs := observer.New(zapcore.InfoLevel)
	v := &server{t: t, remote: &remote{store: s, isOrdered: true}, logger: zap.New(core), logs: logs}
	v.c = Config{
		Name: "fleet://staff", Remote: v.remote, IsOrdered: true,
		Validate: func(text string) error {
			if text == "broken" {
				return errors.New("broken")
			}
			return nil
		},
		Path: filepath.Join(t.TempDir(), "htpasswd", "fleet", "staff"), Authenticator: keys{"key"},
		Poll:   func() (time.Duration, <-chan struct{}) { return testPoll, nil },
		Logger: func() *zap.Logger { return v.logger }, Timeout: testTimeout, Advice: "caddy htpasswd fleet://staff USER",
	}
	v.remote.become(works)
	return v
}

// keys are an Authenticator. The first one is the current one.
type keys []string

func (k keys) digest(i int, data []byte) []byte {
	mac := hmac.New(sha256.New, []byte(k[i]))
	mac.Write(data)
	return mac.Sum(nil)
}

func (k keys) CopyDigest(data []byte) []byte { return k.digest(0, data) }

func (k keys) IsCopyDigest(data, digest []byte) bool {
	for i := range k {
		if hmac.Equal(k.digest(i, data), digest) {
			return true
		}
	}
	return false
}

// make creates the mirror.
func (v *server) make() {
	v.Mirror = New(v.c)
	_ = v.Refresh(v.t.Context())
}

// begin creates and starts the mirror.
func (v *server) begin() *server {
	v.make()
	v.Start()
	return v
}

// end closes the mirror.
func (v *server) end() { must(v.t, v.Close()) }

// again ends the mirror and begins with a new one, as a restart does.
func (v *server) again() {
	v.t.Helper()
	v.end()
	v.begin()
}

// pass waits until everything is done that is done by then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// serves checks the text that Fetch returns. Fetch and Version must not wait.
func (v *server) serves(what, want string) {
	v.t.Helper()
	start := time.Now()
	text, _, err := v.Fetch()
	_, _ = v.Version()
	if waited := time.Since(start); waited != 0 {
		v.t.Errorf("%s: Fetch and Version took %s, want no wait", what, waited)
	}
	if err != nil || text != want {
		v.t.Errorf("%s: got %q, error %v, want %q", what, text, err, want)
	}
}

// logged checks the messages that were logged since the last call.
func (v *server) logged(what string, want ...string) {
	v.t.Helper()
	var got []string
	for _, entry := range v.logs.TakeAll() {
		got = append(got, entry.Level.String()+" "+entry.Message)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		v.t.Errorf("%s: logged %q, want %q", what, got, want)
	}
}

// add is an edit that adds a line.
func add(line string) func(string) (string, error) {
	return func(text string) (string, error) { return text + line + "\n", nil }
}

//go:build unix

package follow

import (
	"testing"
	"time"

	"go.uber.org/zap"
)

// lookAtUnchanged returns a function that looks at a file that has not changed,
// as at each poll and when somebody waits for a look.
func lookAtUnchanged(t testing.TB) (look func()) {
	t.Helper()
	file, logger := NewFile(writeFile(t, fileA)), zap.NewNop()
	f := New(file, new(store).options(testPoll, logger))
	f.startOnce.Do(func() {}) // no goroutine
	must(t, f.Reload(logger))
	must(t, file.notices.tryRenew())
	t.Cleanup(func() { must(t, file.Close()) })
	now := time.Now().Add(time.Hour)
	look = func() { f.look(now, testPoll, logger) }
	for range 5 { // until it is not racy any more
		look()
		now = now.Add(time.Second)
	}
	return look
}

func BenchmarkLook(b *testing.B) {
	look := lookAtUnchanged(b)
	b.ReportAllocs()
	for b.Loop() {
		look()
	}
}

// TestLookAllocates holds a look at a file that has not changed to what system
// calls need: the path for stat, and a function to read notices.
func TestLookAllocates(t *testing.T) {
	if n := testing.AllocsPerRun(100, lookAtUnchanged(t)); n > 2 {
		t.Errorf("%.0f allocations, want at most 2", n)
	}
}

//go:build unix

package follow

import (
	"testing"
	"time"

	"go.uber.org/zap"
)

// lookAtUnchanged returns a function that looks at an unchanged file, as each
// poll and each Await do.
func lookAtUnchanged(t testing.TB) (look func(), file *File) {
	t.Helper()
	file = NewFile(writeFile(t, fileA))
	logger := zap.NewNop()
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
	return look, file
}

func BenchmarkLook(b *testing.B) {
	look, _ := lookAtUnchanged(b)
	b.ReportAllocs()
	for b.Loop() {
		look()
	}
}

// TestLookAllocates checks that looking at an unchanged file allocates no more
// than its system calls do.
func TestLookAllocates(t *testing.T) {
	look, file := lookAtUnchanged(t)
	got, want := testing.AllocsPerRun(100, look), testing.AllocsPerRun(100, func() {
		file.notices.lastMove()
		_, _ = file.stat(file.path)
	})
	if got != want {
		t.Errorf("%.0f allocations, want %.0f", got, want)
	}
}

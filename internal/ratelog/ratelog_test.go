package ratelog

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// counted returns how many entries were written, and how many were suppressed by the
// entries with counts.
func counted(t *testing.T, logs *observer.ObservedLogs) (written, suppressed int) {
	t.Helper()
	for _, entry := range logs.TakeAll() {
		if entry.Message != "log entries suppressed" {
			written++
			continue
		}
		n, ok := entry.ContextMap()["entries"].(int64)
		if !ok || n < 1 || entry.Level != zap.WarnLevel {
			t.Errorf("got count %v at level %s, want at least 1 at WARN", entry.ContextMap(), entry.Level)
		}
		suppressed += int(n)
	}
	return written, suppressed
}

func TestEachLineIsWrittenOrCounted(t *testing.T) {
	t.Parallel()
	const (
		perSecond, burst = 10, 20
		seconds          = 60
		goroutines       = 4
		pause            = 5 * time.Millisecond
		lines            = goroutines * int(seconds*time.Second/pause)
	)
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		logger, l := zap.New(core), New(perSecond, burst)
		var group sync.WaitGroup
		for range goroutines {
			group.Go(func() {
				for range lines / goroutines {
					l.Warn(time.Now(), logger, "refused")
					time.Sleep(pause)
				}
			})
		}
		group.Wait()
		time.Sleep(SuppressedEvery)
		synctest.Wait()
		counts := logs.FilterMessage("log entries suppressed").Len()
		written, suppressed := counted(t, logs)
		if written < perSecond*(seconds-1) || written > burst+perSecond*seconds+1 {
			t.Errorf("got %d lines written, want about %d", written, burst+perSecond*seconds)
		}
		if written+suppressed != lines {
			t.Errorf("got %d lines written and %d counted, want %d together", written, suppressed, lines)
		}
		if most := int(seconds*time.Second/SuppressedEvery) + 1; counts > most {
			t.Errorf("got %d counts, want at most %d", counts, most)
		}
	})
}

func TestCountNamesTheFirstLineLeftOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		l := New(0, 1)
		l.Error(time.Now(), zap.New(core), "first", zap.Int("status", 502))
		if got := logs.TakeAll(); len(got) != 1 || got[0].Level != zap.ErrorLevel || got[0].ContextMap()["status"] != int64(502) {
			t.Errorf("got %v, want one line with its level and fields", got)
		}
		l.Error(time.Now(), zap.New(core).Named("site"), "second")
		l.Warn(time.Now(), zap.New(core), "third")
		time.Sleep(SuppressedEvery - time.Nanosecond)
		synctest.Wait()
		if n := logs.Len(); n != 0 {
			t.Errorf("got %d lines before the count is due, want none", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		got := logs.TakeAll()
		if len(got) != 1 || got[0].LoggerName != "site" || got[0].ContextMap()["message"] != "second" || got[0].ContextMap()["entries"] != int64(2) {
			t.Errorf("got %v, want one line of the logger 'site' that counts 2 from 'second' on", got)
		}
	})
}

func TestTimeOfTheLineDecides(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	l, now := New(1, 1), time.Unix(1e9, 0)
	for range 3 {
		l.Warn(now, zap.New(core), "refused")
		now = now.Add(time.Second)
	}
	if n := logs.Len(); n != 3 {
		t.Errorf("got %d lines, want 3: one a second is allowed", n)
	}
}

func TestLinesBelowTheLevelOfTheLoggerAreNotCounted(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.ErrorLevel)
	l := New(0, 1)
	for range 10 {
		l.Warn(time.Unix(1e9, 0), zap.New(core), "never seen")
		l.Warn(time.Unix(1e9, 0), zap.New(zapcore.NewNopCore()), "never seen")
	}
	if n := l.suppressed.Load(); n != 0 {
		t.Errorf("got %d lines counted, want none", n)
	}
	l.Error(time.Unix(1e9, 0), zap.New(core), "seen")
	if n := logs.Len(); n != 1 {
		t.Errorf("got %d entries, want 1: the others do not count for the rate", n)
	}
}

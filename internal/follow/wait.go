package follow

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// LookTime is how long Await waits until the source was looked at: longer than a
// busy machine takes. On a network file system whose server is down, it can take
// forever.
const LookTime = 2 * time.Second

// Await waits until the source was looked at once more, and a change that was
// found is loaded or rejected. Call it before a decision, such as a refused
// login, is based on a version that may be outdated. It returns early when ctx is
// done.
//
// It waits for LookTime at most, or MaxSettle more while a change is pending.
// After a wait that timed out, it returns at once until a look has ended.
func (f *Follower) Await(ctx context.Context) {
	looked := f.nextLook()
	notify(f.wake)
	if f.timedOut.Load() {
		return
	}
	patience, isPatient := time.NewTimer(LookTime), false
	defer patience.Stop()
	hasLooked := false
	for {
		select {
		case <-looked:
			hasLooked = true
			if looked = f.untilSettled(); looked == nil {
				return
			}
		case <-patience.C:
			isPending := f.pending.Load()
			if hasLooked && !isPending {
				return // the change has just been settled, and the look that did so is about to end
			}
			if !isPatient && isPending {
				isPatient = true
				patience.Reset(MaxSettle)
				continue
			}
			f.timedOut.Store(true)
			return
		case <-ctx.Done():
			return
		case <-f.done:
			return
		}
	}
}

// catchUp is shared by Await and the goroutine that looks at the source. All
// callers of Await share its looks, so none blocks in a system call.
type catchUp struct {
	wake     chan struct{} // makes the goroutine look
	pending  atomic.Bool   // a change is not read yet
	timedOut atomic.Bool   // a caller of Await has timed out

	askMu sync.Mutex
	// asked is closed when the next look has ended, settled when a look has ended
	// after which no change is pending. nil: nobody waits.
	asked, settled chan struct{}
}

// nextLook returns a channel that is closed when the next look has ended. A look
// that is running does not count.
func (c *catchUp) nextLook() <-chan struct{} {
	c.askMu.Lock()
	defer c.askMu.Unlock()
	if c.asked == nil {
		c.asked = make(chan struct{})
	}
	return c.asked
}

// untilSettled returns a channel that is closed when no change is pending any
// more, or nil if none is pending. It may be called while a look is running.
func (c *catchUp) untilSettled() <-chan struct{} {
	c.askMu.Lock()
	defer c.askMu.Unlock()
	if !c.pending.Load() {
		return nil
	}
	if c.settled == nil {
		c.settled = make(chan struct{})
	}
	return c.settled
}

// begin returns the channel of those who wait for the look that begins now.
func (c *catchUp) begin() (asked chan struct{}) {
	c.askMu.Lock()
	defer c.askMu.Unlock()
	asked, c.asked = c.asked, nil
	return asked
}

// end closes the channels of those who wait for the look that has ended.
func (c *catchUp) end(asked chan struct{}) {
	c.timedOut.Store(false)
	if asked != nil {
		close(asked)
	}
	c.askMu.Lock()
	defer c.askMu.Unlock()
	if c.settled != nil && !c.pending.Load() {
		close(c.settled)
		c.settled = nil
	}
}

// notify sends a signal on a channel with a buffer of one.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // a signal is pending already
	}
}

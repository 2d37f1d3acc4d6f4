package follow

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// LookTime is how long Await waits for a look at the source: longer than a busy
// machine takes. On a network file system whose server is gone a look can take
// for ever.
const LookTime = 2 * time.Second

// Await waits until the source has been looked at once more, and a change that
// was found is loaded or refused. Call it before something such as a login is
// refused by a version that may be outdated. It returns early when ctx is done.
//
// It waits for LookTime at most, or MaxSettle more while a change is pending.
// Once that time was not enough, it does not wait at all until a look has ended.
func (f *Follower) Await(ctx context.Context) {
	looked := f.nextLook()
	notify(f.wake)
	if f.inVain.Load() {
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
				return // the change was settled at this moment: the look that did so is about to end
			}
			if !isPatient && isPending {
				isPatient = true
				patience.Reset(MaxSettle)
				continue
			}
			f.inVain.Store(true)
			return
		case <-ctx.Done():
			return
		case <-f.done:
			return
		}
	}
}

// catchUp is what Await and the goroutine that looks have in common. All who wait
// share the looks of that goroutine, and none is held up in a system call.
type catchUp struct {
	wake    chan struct{} // has the goroutine look
	pending atomic.Bool   // there is a change that is not read yet
	inVain  atomic.Bool   // somebody has waited for too long

	askMu sync.Mutex
	// asked is closed when the next look that begins is over, settled when one is
	// over after which no change is pending. nil: nobody waits.
	asked, settled chan struct{}
}

// nextLook returns a channel that is closed when the next look that begins is over.
func (c *catchUp) nextLook() <-chan struct{} {
	c.askMu.Lock()
	defer c.askMu.Unlock()
	if c.asked == nil {
		c.asked = make(chan struct{})
	}
	return c.asked
}

// untilSettled returns a channel that is closed when no change is pending any
// more, nil if none is. It may be called while a look is under way.
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

// begin takes those who wait for the look that begins now.
func (c *catchUp) begin() (asked chan struct{}) {
	c.askMu.Lock()
	defer c.askMu.Unlock()
	asked, c.asked = c.asked, nil
	return asked
}

// end tells them that it is over.
func (c *catchUp) end(asked chan struct{}) {
	c.inVain.Store(false)
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

// notify leaves a signal in a channel with room for one.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is one already
	}
}

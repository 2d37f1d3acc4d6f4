package caddyhtpasswd

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// lookTime is how long a login waits for a look at a file: longer than a busy
// machine takes. On a network file system whose server is gone it can take for
// ever.
const lookTime = 2 * time.Second

// catchUp lets logins that fail wait for a look at the file, and for a change
// that it finds. The looks are those of the goroutine that follows the file: many
// logins wait for one, and none is held up in a system call. They wait for at
// most lookTime, or maxSettle more while a change is pending. Once that was in
// vain, nobody waits until a look comes to its end.
type catchUp struct {
	wake    chan struct{} // has the goroutine look
	pending atomic.Bool   // there is a change that is not read yet
	inVain  atomic.Bool   // somebody has waited for too long

	askMu sync.Mutex
	// Closed when the next look that begins is over, and when one is over after
	// which no change is pending. nil: nobody waits.
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

// awaitCurrent waits until the file was looked at, and a change that was found
// is read, refused, or waited for in vain.
func (f *followedFile) awaitCurrent(ctx context.Context) {
	looked := f.nextLook()
	notify(f.wake)
	if f.inVain.Load() {
		return
	}
	patience, isPatient := time.NewTimer(lookTime), false
	defer patience.Stop()
	for {
		select {
		case <-looked:
			if looked = f.untilSettled(); looked == nil {
				return
			}
		case <-patience.C:
			if !isPatient && f.pending.Load() {
				isPatient = true
				patience.Reset(maxSettle)
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

package follow

import (
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// SettleTime is how long a version must have stood still before it is read,
	// so that nobody is judged by the first half of a text.
	SettleTime = 200 * time.Millisecond

	// MaxSettle is how long a version that never stands still is waited for.
	MaxSettle = 2 * time.Second

	// EmptyGrace is how long a text that was not empty may be empty before that is
	// taken seriously: most likely someone is writing it.
	EmptyGrace = 3 * time.Second
)

// A Follower keeps one source loaded: it reads the source when it has changed.
// It knows when to read and what to do when that fails. What the text means is
// the business of Options.Load. Its methods may be called at the same time.
//
// What happens when is decided by look alone, from the time it is given and
// from what it finds. The goroutine (run) only calls it: when the source says
// that it has changed, when look asked for it, at every poll, and when
// somebody waits for it (Await). These are the states that a look can find. In
// all of them the version that was loaded last is active.
//
//	state     found by                        set                    then
//	current   v == loaded, not racy           Failure = ""           a look at each poll
//	racy      v == loaded, racy               tried, retry           read again: the text can change and v stay the same
//	changing  another v                       pending, settling,     read when it has stood still for SettleTime, or after MaxSettle;
//	                                          since, first           at once if the source knows that it is complete
//	torn      v is another after reading      pending, retry         as changing
//	empty     no text, where there was some   emptySince             read again; active after EmptyGrace
//	refused   Load returns an error           refused, Failure       read when v is another
//	missing   no v, fs.ErrNotExist            pending, missing       failing when it lasts for SettleTime: many tools delete the old file first
//	failing   no v, or reading fails          Failure                tried at each poll
//	reported  loaded, not confirmed           Failure                read when v is another
//	doubted   the source doubts v             refused, Failure       read when v is another, or by Reload
//
// Await waits while pending is set: in the states changing, torn and missing.
type Follower struct {
	source  Source
	options Options

	mu         sync.Mutex
	text       string  // what was loaded last
	loaded     Version // of the text
	isRacy     bool    // loaded was so fresh that the text can change again and loaded stay the same
	refused    Version // a version that is not to be read again and again
	tried      Version // the version that was read last, not to be read again before retry
	retry      time.Time
	settling   Version   // the version that is to stand still
	since      time.Time // when settling was seen first
	first      time.Time // when the first change since the last read was seen; zero: there is none
	missing    time.Time // since when there is nothing
	emptySince time.Time // since when there is no text, where there was some
	status     Status
	published  atomic.Pointer[Status] // a copy, for readers that must not block while the source is read
	catchUp

	startOnce sync.Once
	stop      chan struct{}
	done      chan struct{}
}

// Options are what a Follower needs to know beside its source.
type Options struct {
	// Load parses a text and puts what it means in place of what the previous
	// one meant. After an error it must have changed nothing.
	Load func(text string, logger *zap.Logger) error

	// IsEmpty reports whether a text says nothing, as one that has only
	// comments. Nil means that only the text "" does.
	IsEmpty func(text string) bool

	// Settings returns the settings that are active now, and a channel that is
	// closed when others are. The channel may be nil.
	Settings func() (settings Settings, changed <-chan struct{})
}

// Settings are what can change while a source is followed.
type Settings struct {
	// Poll is the longest time until a change is read of which the source
	// gives no notice. Below 2*SettleTime it makes no difference.
	Poll time.Duration

	// Logger is for what is found while the source is followed. Reload has its own.
	Logger *zap.Logger
}

// Status is the state of a source.
type Status struct {
	LoadedAt time.Time // when the active version was loaded; zero: never
	Failure  string    // what is wrong with the source, logged once; "": nothing
	Failures int       // how often there was a new Failure
}

// New returns a Follower that has not read the source yet. Reload does.
func New(source Source, options Options) *Follower {
	if options.IsEmpty == nil {
		options.IsEmpty = func(text string) bool { return text == "" }
	}
	return &Follower{
		source: source, options: options,
		catchUp: catchUp{wake: make(chan struct{}, 1)}, stop: make(chan struct{}), done: make(chan struct{}),
	}
}

// Name returns the name of the source.
func (f *Follower) Name() string { return f.source.Name() }

// Status returns the state of the source. It does not block while the source is
// read.
func (f *Follower) Status() Status {
	if status := f.published.Load(); status != nil {
		return *status
	}
	return Status{}
}

// IsInGrace reports whether there is no text any more, and the version before
// is kept for EmptyGrace.
func (f *Follower) IsInGrace() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.emptySince.IsZero()
}

// Close ends following. It must be called once, after the last Reload. It
// returns nil.
func (f *Follower) Close() error {
	f.startOnce.Do(func() { close(f.done) }) // never started
	close(f.stop)
	<-f.done
	return nil
}

// run looks at the source whenever there may be something new, until stopped.
func (f *Follower) run() {
	defer close(f.done) // last: then nothing is left
	renewer, _ := f.source.(Renewer)
	if renewer != nil {
		defer func() { _ = renewer.Close() }() // nobody could do anything about an error
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var renewed time.Time
	for {
		settings, settingsChanged := f.options.Settings()
		select {
		case <-f.stop:
			return
		case <-f.source.Changed():
		case <-f.wake:
		case <-settingsChanged:
			settings, _ = f.options.Settings()
		case <-timer.C:
		}
		now := time.Now()
		if renewer != nil && now.Sub(renewed) >= lookInterval(settings.Poll) { // also while Await is called all the time
			f.mu.Lock()
			renewer.Renew(settings.Logger)
			f.mu.Unlock()
			renewed = now
		}
		asked := f.begin()
		next := f.look(now, settings.Poll, settings.Logger)
		f.end(asked)
		timer.Reset(next)
	}
}

// lookInterval is how long to wait for the next look if the source says
// nothing: a change found then is read within poll.
func lookInterval(poll time.Duration) time.Duration { return max(poll-SettleTime, SettleTime) }

// look compares the source with the version that is loaded, reads it if it is
// another one that stands still, and returns when to look again.
func (f *Follower) look(now time.Time, poll time.Duration, logger *zap.Logger) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	rest := lookInterval(poll)
	v, err := f.source.Version()
	isMissing := errors.Is(err, fs.ErrNotExist)
	if !isMissing {
		f.missing = time.Time{}
	} else if f.missing.IsZero() {
		f.missing = now
	}
	switch {
	case isMissing && f.status.Failure == "" && now.Sub(f.missing) < SettleTime:
		f.pending.Store(true)
		return SettleTime - now.Sub(f.missing)
	case err != nil:
		f.fail(err, logger)
		f.settle()
		f.refused = nil
		return rest
	case v == f.loaded && !f.isRacy:
		f.settle()
		f.refused, f.emptySince = nil, time.Time{}
		f.conclude(v, logger)
		return rest
	case v == f.refused:
		f.settle()
		return rest
	case v == f.tried && now.Before(f.retry) && f.retry.Sub(now) <= SettleTime:
		return f.retry.Sub(now)
	}
	if f.first.IsZero() {
		f.first = now
	}
	if v != f.settling {
		f.settling, f.since = v, now
	}
	f.pending.Store(v != f.loaded)
	want := wanted{version: v, mayBeTorn: now.Sub(f.first) >= MaxSettle}
	wait := min(SettleTime-now.Sub(f.since), MaxSettle-now.Sub(f.first))
	if wait > 0 {
		if want.isComplete = f.isComplete(v); !want.isComplete {
			return wait
		}
	}
	err = f.read(now, want, logger)
	if errors.Is(err, errChanging) && wait > 0 {
		return wait
	}
	f.tried, f.retry = v, now.Add(SettleTime)
	if errors.Is(err, errChanging) {
		return SettleTime
	}
	f.settle()
	if err != nil {
		f.fail(err, logger)
		return rest
	}
	if f.loaded != v || f.isRacy {
		return SettleTime // it changed meanwhile, or is fresh, or empty
	}
	return rest
}

// settle ends the wait for a change: there is none, or it is known what it is.
func (f *Follower) settle() {
	f.first = time.Time{}
	f.pending.Store(false)
}

// isComplete reports whether the source knows that a version is complete.
func (f *Follower) isComplete(v Version) bool {
	source, ok := f.source.(Completer)
	return ok && source.IsComplete(v)
}

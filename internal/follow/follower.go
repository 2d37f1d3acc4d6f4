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
	// SettleTime is how long a version must be unchanged before it is read, so
	// that a half-written text is not loaded.
	SettleTime = 200 * time.Millisecond

	// MaxSettle is the longest wait for a version that keeps changing. Then it is
	// read anyway.
	MaxSettle = 2 * time.Second

	// EmptyGrace is how long the previous version is kept after the text became
	// empty: most likely the text is being written.
	EmptyGrace = 3 * time.Second
)

// A Follower keeps one source loaded: it reads the source again when it has
// changed. It decides when to read, and what to do when that fails. Options.Load
// parses the text. All methods are safe for concurrent use.
//
// All decisions are made by look, from the time it is given and from what it
// finds. The goroutine (run) only calls it: when the source reports a change,
// when look asked for it, at every poll, and when Await is called. These are the
// states that look can find. In all of them the version that was loaded last is
// active.
//
//	state      found by                        set                    then
//	current    v == loaded, not racy           Failure = ""           look again at each poll
//	racy       v == loaded, racy               tried, retry           read again: the text can change while v stays the same
//	changing   v differs                       pending, settling,     read when v is unchanged for SettleTime, or after MaxSettle;
//	                                           since, first           at once if the source knows that it is complete
//	torn       v differs after reading         pending, retry         as changing
//	empty      text has become empty           emptySince             read again; active after EmptyGrace
//	rejected   Load returns an error           rejected, Failure      read when v differs
//	missing    no v, fs.ErrNotExist            pending, missing       failing after SettleTime: many tools delete the old file first
//	removed    the same after SettleTime, IsListed                    looked at at each poll, until it exists or Close
//	failing    no v, or reading fails          Failure                tried at each poll
//	reported   ValidateLoaded returns an error Failure                read when v differs
//	suspect    ValidateReplacement does        rejected, Failure      read when v differs, or by Reload
//
// Await waits while pending is set: in the states changing, torn and missing.
type Follower struct {
	source  Source
	options Options

	mu         sync.Mutex
	text       string  // loaded last
	loaded     Version // of text
	isRacy     bool    // the text can still change while its version stays loaded
	rejected   Version // not read again
	tried      Version // read last, and not read again before retry
	retry      time.Time
	settling   Version   // has to be unchanged for SettleTime before it is read
	since      time.Time // when settling was seen first
	first      time.Time // when the first change since the last read was seen; zero: none
	missing    time.Time // since when the source does not exist
	emptySince time.Time // since when the text is empty, where it was not before
	status     Status
	published  atomic.Pointer[Status] // snapshot for readers that must not block
	catchUp

	startOnce sync.Once
	stop      chan struct{}
	done      chan struct{}
}

// Options configure a Follower.
type Options struct {
	// Load parses a text and makes the result active. If it returns an error, it
	// must have changed nothing.
	Load func(text string, logger *zap.Logger) error

	// IsEmpty reports whether a text has no content, for example only comments.
	// Nil means that only the text "" is empty.
	IsEmpty func(text string) bool

	// Settings returns the active settings, and a channel that is closed when
	// they change. The channel may be nil.
	Settings func() (settings Settings, changed <-chan struct{})

	// IsListed reports whether another Follower decides what it means that the
	// source does not exist, such as that of the Pattern that the file matched.
	// Then it is no error here. Nil means false.
	IsListed func() bool

	// LogsChanges says that Load logs what has changed. Otherwise the Follower logs
	// that the source was reloaded.
	LogsChanges bool
}

// Settings can change while a source is followed.
type Settings struct {
	// Poll is the longest time until a change is read that the source does not
	// report. Values below 2*SettleTime act as 2*SettleTime.
	Poll time.Duration

	// Logger logs what happens while the source is followed. Reload has its own.
	Logger *zap.Logger
}

// Status is the state of a source.
type Status struct {
	LoadedAt time.Time // when the active version was loaded; zero: never
	Failure  string    // current error of the source, logged once; "": none
	Failures int       // number of times that Failure was set to a new error
}

// New returns a Follower that has not read the source yet. Call Reload to do so.
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

// Status returns the state of the source. It never blocks.
func (f *Follower) Status() Status {
	if status := f.published.Load(); status != nil {
		return *status
	}
	return Status{}
}

// IsInGrace reports whether the text has become empty, and the previous version
// is kept for EmptyGrace.
func (f *Follower) IsInGrace() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.emptySince.IsZero()
}

// Follow starts to follow a source that may not be readable yet. It reads the source
// at once if it has not changed for SettleTime, and otherwise later. Errors are logged
// and become the Failure. Before the first version is loaded, Load was not called.
func (f *Follower) Follow() {
	settings, _ := f.options.Settings()
	f.mu.Lock()
	if v, err := f.source.Version(); err == nil && !v.IsRacy(time.Now()) {
		f.settling, f.since = v, time.Now().Add(-SettleTime)
	}
	f.mu.Unlock()
	f.look(time.Now(), settings.Poll, settings.Logger)
	f.startOnce.Do(func() { go f.run() })
}

// Wake makes the Follower look at the source soon. It does not block.
func (f *Follower) Wake() { notify(f.wake) }

// Close stops following the source. It must be called once, after the last
// Reload. It returns nil.
func (f *Follower) Close() error {
	f.startOnce.Do(func() { close(f.done) }) // never started
	close(f.stop)
	<-f.done
	return nil
}

// run calls look whenever the source may have changed, until stopped.
func (f *Follower) run() {
	defer close(f.done) // last, when everything else has ended
	renewer, _ := f.source.(Renewer)
	if renewer != nil {
		defer func() { _ = renewer.Close() }()
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
		if renewer != nil && now.Sub(renewed) >= lookInterval(settings.Poll) { // even if Await is called all the time
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

// lookInterval returns the time until the next look if the source reports no
// change. A change that is found then is read within poll.
func lookInterval(poll time.Duration) time.Duration { return max(poll-SettleTime, SettleTime) }

// look compares the version of the source with the loaded one, reads the source
// if the version differs and is unchanged for long enough, and returns when to
// look again.
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
	case isMissing && f.options.IsListed != nil && f.options.IsListed():
		f.settle()
		f.rejected = nil
		return rest
	case err != nil:
		f.fail(err, logger)
		f.settle()
		f.rejected = nil
		return rest
	case v == f.loaded && !f.isRacy:
		f.settle()
		f.rejected, f.emptySince = nil, time.Time{}
		f.conclude(v, false, logger)
		return rest
	case v == f.rejected:
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
		return SettleTime // changed meanwhile, racy or empty
	}
	return rest
}

// settle ends the wait for a change: there is none, or it was read.
func (f *Follower) settle() {
	f.first = time.Time{}
	f.pending.Store(false)
}

// isComplete reports whether the source knows that a version is complete.
func (f *Follower) isComplete(v Version) bool {
	source, ok := f.source.(Completer)
	return ok && source.IsComplete(v)
}

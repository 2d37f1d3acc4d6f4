package rehash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// fakeFile is a file with hashes, and a Worker that replaces them.
type fakeFile struct {
	*Worker
	t        *testing.T
	file     sync.Mutex
	hashes   map[string]string
	takes    time.Duration // each hash
	checkErr error
	writeErr []error       // of the next writes
	locked   time.Duration // how long a write waits for other writers
	writes   []string      // when, and how many hashes
	made     []string      // the passwords whose hashes were made
	reports  []Report
	outcomes map[string]Outcome
	start    time.Time
	room     Room
	seen     [][]byte // the buffers of passwords
}

func newFakeFile(t *testing.T) *fakeFile {
	f := &fakeFile{t: t, hashes: make(map[string]string), takes: 50 * time.Millisecond, outcomes: make(map[string]Outcome), start: time.Now()}
	f.Worker = New(Config{
		Check: func() error { return f.checkErr },
		Make: func(ctx context.Context, cost int, password []byte) (string, error) {
			f.seen = append(f.seen, password)
			f.made = append(f.made, string(password))
			timer := time.NewTimer(f.takes)
			defer timer.Stop()
			select {
			case <-timer.C:
				return fmt.Sprintf("strong %d %s", cost, password), nil
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
		},
		Replace: f.replace,
		Report:  func(r Report) { f.reports = append(f.reports, r) },
		Room:    &f.room,
	})
	return f
}

func (f *fakeFile) replace(ctx context.Context, changes []htfile.Change) (made []bool, err error) {
	select {
	case <-time.After(f.locked):
	case <-ctx.Done():
		return nil, errors.New("locked by another process")
	}
	f.file.Lock()
	defer f.file.Unlock()
	f.writes = append(f.writes, fmt.Sprintf("%s: %d", time.Since(f.start).Round(time.Millisecond), len(changes)))
	if len(f.writeErr) > 0 {
		err, f.writeErr = f.writeErr[0], f.writeErr[1:]
		if err != nil {
			return nil, err
		}
	}
	for _, c := range changes {
		isSame := f.hashes[c.Name] == c.Old
		if made = append(made, isSame); isSame {
			f.hashes[c.Name] = c.New
		}
	}
	return made, nil
}

func (f *fakeFile) hash(user string) string {
	f.file.Lock()
	defer f.file.Unlock()
	return f.hashes[user]
}

func (f *fakeFile) edit(user, hash string) {
	f.file.Lock()
	defer f.file.Unlock()
	f.hashes[user] = hash
}

// noOutcome is the outcome of a login that has none.
const noOutcome = Outcome(255)

func (f *fakeFile) outcome(user string) Outcome {
	f.file.Lock()
	defer f.file.Unlock()
	if o, ok := f.outcomes[user]; ok {
		return o
	}
	return noOutcome
}

func (f *fakeFile) forget(user string) {
	f.file.Lock()
	defer f.file.Unlock()
	delete(f.outcomes, user)
}

// login adds a login of a user with a weak hash.
func (f *fakeFile) login(user string) bool {
	if f.hash(user) == "" {
		f.edit(user, "weak "+user)
	}
	return f.Add(Login{User: user, Hash: "weak " + user, Cost: 10, Done: func(o Outcome) {
		f.file.Lock()
		defer f.file.Unlock()
		if before, ok := f.outcomes[user]; ok && before != OutcomePostponed {
			f.t.Errorf("%s: got two outcomes, %d and %d", user, before, o)
		}
		f.outcomes[user] = o
	}}, []byte("password of "+user))
}

// sleep waits, and then until the worker waits, too.
func (f *fakeFile) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// want checks the writes, and that nothing is left behind.
func (f *fakeFile) want(writes ...string) {
	f.t.Helper()
	if !slices.Equal(f.writes, writes) {
		f.t.Errorf("got the writes %q, want %q", f.writes, writes)
	}
	f.wantEmpty()
}

// wantEmpty checks that no password waits, and that all were overwritten.
func (f *fakeFile) wantEmpty() {
	f.t.Helper()
	pending, _ := f.State()
	f.mu.Lock()
	defer f.mu.Unlock()
	if pending != 0 || len(f.waiting) != 0 || f.room.passwords.Load() != 0 {
		f.t.Errorf("got %d pending logins, %d waiting, %d passwords, want none", pending, len(f.waiting), f.room.passwords.Load())
	}
	for _, password := range f.seen {
		if len(bytes.Trim(password[:cap(password)], "\x00")) > 0 {
			f.t.Error("a password was not overwritten")
		}
	}
	if f.ended != nil {
		select {
		case <-f.ended:
		default:
			f.t.Error("the goroutine still runs")
		}
	}
}

// inBubble runs a test in fake time.
func inBubble(t *testing.T, test func(t *testing.T, f *fakeFile)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newFakeFile(t)) })
}

func TestOneLogin(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeFile) {
		f.login("alice")
		f.sleep(time.Minute)
		if got, want := f.hashes["alice"], "strong 10 password of alice"; got != want || f.outcome("alice") != OutcomeWritten {
			t.Errorf("got hash %q, outcome %d, want %q, %d", got, f.outcome("alice"), want, OutcomeWritten)
		}
		f.want("2.05s: 1") // Interval after the hash
		if len(f.reports) != 1 || f.reports[0] != (Report{Written: 1}) {
			t.Errorf("got the reports %+v, want one write", f.reports)
		}
	})
}

// TestManyLoginsAreOneWrite adds 500 logins at once: their hashes take 25 s, and are
// written together.
func TestManyLoginsAreOneWrite(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeFile) {
		for i := range 500 {
			f.login(fmt.Sprint(i))
		}
		f.sleep(time.Minute)
		f.want("25s: 500")
		if len(f.made) != 500 {
			t.Errorf("made %d hashes, want 500", len(f.made))
		}
	})
}

// TestSlowHashesAreWrittenInBetween checks MaxDelay.
func TestSlowHashesAreWrittenInBetween(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeFile) {
		f.takes = 1100 * time.Millisecond
		for i := range 70 {
			f.login(fmt.Sprint(i))
		}
		f.sleep(10 * time.Minute)
		f.want("31.1s: 28", "1m2.2s: 28", "1m17.6s: 14")
		if len(f.made) != 72 { // two were given up for the write, and made again
			t.Errorf("began %d hashes, want 72", len(f.made))
		}
	})
}

// TestWritesAreApart adds a login every 110 ms.
func TestWritesAreApart(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeFile) {
		for i := range 100 {
			f.login(fmt.Sprint(i))
			f.sleep(110 * time.Millisecond)
		}
		f.sleep(time.Minute)
		f.want("2.05s: 19", "4.14s: 19", "6.23s: 19", "8.32s: 19", "10.41s: 19", "12.5s: 5")
	})
}

// TestLargeFilesAreWrittenRarely checks the pause after a write that takes long.
func TestLargeFilesAreWrittenRarely(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeFile) {
		f.locked = time.Second
		f.login("alice")
		f.sleep(4 * time.Second)
		f.login("bob")
		f.sleep(time.Minute)
		f.want("3.05s: 1", "24.05s: 1")
	})
}

func TestConflict(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeFile) {
		f.login("alice")
		f.login("bob")
		f.edit("alice", "of the administrator")
		f.sleep(time.Minute)
		if f.hashes["alice"] != "of the administrator" || f.outcome("alice") != OutcomeConflict || f.outcome("bob") != OutcomeWritten {
			t.Errorf("got the hashes %q and the outcomes %v, want the administrator's to stay", f.hashes, f.outcomes)
		}
		f.want("2.05s: 2")
		if f.reports[0] != (Report{Written: 1, Conflicts: 1}) {
			t.Errorf("got %+v", f.reports[0])
		}
	})
}

// TestNoHashForAFileThatCannotBeWritten also checks when it is tried again.
func TestNoHashForAFileThatCannotBeWritten(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeFile) {
		f.checkErr = errors.New("read-only")
		f.login("alice")
		f.login("bob")
		synctest.Wait()
		if len(f.made) != 0 || f.outcome("alice") != OutcomePostponed || f.outcome("bob") != OutcomePostponed {
			t.Errorf("made %d hashes, outcomes %v, want none and postponed", len(f.made), f.outcomes)
		}
		f.sleep(RetryAfter - time.Second)
		if !f.IsBlocked() || f.login("alice") {
			t.Error("a login was taken during the pause")
		}
		f.sleep(2 * time.Second)
		if !f.login("alice") {
			t.Error("a login was refused after the pause")
		}
		synctest.Wait()
		f.Retry() // a new version was loaded
		f.login("alice")
		synctest.Wait()
		if _, failure := f.State(); failure != "read-only" {
			t.Errorf("got the failure %q", failure)
		}
		f.checkErr = nil
		f.Check()
		f.login("alice")
		f.sleep(time.Minute)
		if _, failure := f.State(); failure != "" || f.outcome("alice") != OutcomeWritten {
			t.Errorf("got the failure %q, outcome %d, want a write", failure, f.outcome("alice"))
		}
		isNew := 0
		for _, r := range f.reports {
			if r.IsNew {
				isNew++
			}
		}
		if isNew != 1 {
			t.Errorf("the cause was new %d times, want once", isNew)
		}
		f.wantEmpty()
	})
}

// TestWriteFails checks that a write is tried twice, and that the logins can be added
// again later.
func TestWriteFails(t *testing.T) {
	errFull := errors.New("no space left")
	t.Run("once", func(t *testing.T) {
		inBubble(t, func(t *testing.T, f *fakeFile) {
			f.writeErr = []error{errFull}
			f.login("alice")
			f.sleep(time.Minute)
			f.want("2.05s: 1", "4.05s: 1")
			if f.outcome("alice") != OutcomeWritten || len(f.made) != 1 || len(f.reports) != 1 {
				t.Errorf("got outcome %d, %d hashes, %d reports, want written, 1, 1", f.outcome("alice"), len(f.made), len(f.reports))
			}
		})
	})
	t.Run("twice", func(t *testing.T) {
		inBubble(t, func(t *testing.T, f *fakeFile) {
			f.writeErr = []error{errFull, errFull}
			f.login("alice")
			f.sleep(time.Minute)
			if _, failure := f.State(); failure != errFull.Error() || f.outcome("alice") != OutcomeFailed || !f.IsBlocked() {
				t.Errorf("got failure %q, outcome %d", failure, f.outcome("alice"))
			}
			f.sleep(RetryAfter)
			f.forget("alice")
			f.login("alice")
			f.sleep(time.Minute)
			if f.outcome("alice") != OutcomeWritten {
				t.Errorf("got outcome %d later, want written", f.outcome("alice"))
			}
			f.wantEmpty()
		})
	})
}

// TestLockedForLong checks that logins are added while another process has the lock.
func TestLockedForLong(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeFile) {
		f.locked = time.Hour
		f.login("alice")
		for i := range 30 {
			start := time.Now()
			f.login(fmt.Sprint(i))
			if time.Since(start) != 0 {
				t.Fatal("Add waited for the lock")
			}
			f.sleep(time.Second)
		}
		if f.outcome("alice") != OutcomeFailed || len(f.reports) != 1 {
			t.Errorf("got outcome %d, reports %+v, want failed and one report", f.outcome("alice"), f.reports)
		}
		f.Close()
		f.wantEmpty()
	})
}

// TestBusyServer never has time for a hash: passwords wait for MaxWait.
func TestBusyServer(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeFile) {
		f.takes = time.Hour
		f.login("alice")
		f.sleep(time.Minute)
		f.login("bob")
		f.sleep(MaxWait - time.Minute + time.Second)
		if f.outcome("alice") != OutcomePostponed {
			t.Errorf("alice waits for longer than %s", MaxWait)
		}
		f.sleep(time.Minute)
		f.want()
	})
}

func TestRoomIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeFile) {
		for i := range maxPasswords {
			if !f.login(fmt.Sprint(i)) {
				t.Fatalf("no room for login %d", i)
			}
		}
		if f.login("one more") {
			t.Error("one login more than there is room for was added")
		}
		f.sleep(time.Hour)
		if !f.login("one more") {
			t.Error("no room after all hashes were made")
		}
		f.sleep(time.Minute)
		f.wantEmpty()
		if len(f.outcomes) != maxPasswords+1 {
			t.Errorf("got %d outcomes, want %d", len(f.outcomes), maxPasswords+1)
		}
	})
}

func TestClose(t *testing.T) {
	for _, test := range []struct {
		name   string
		after  time.Duration
		locked time.Duration
		want   string // the outcomes of alice and bob
		took   time.Duration
	}{
		{"before a hash is made", 25 * time.Millisecond, 0, "33", 0},
		{"one hash is made: it is written", 75 * time.Millisecond, 0, "03", 0},
		{"both are made", 150 * time.Millisecond, 0, "00", 0},
		{"locked", 150 * time.Millisecond, time.Hour, "22", closeTimeout},
		{"during a write that waits for the lock", 3 * time.Second, time.Hour, "22", closeTimeout},
		{"after the write", 10 * time.Second, 0, "00", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fakeFile) {
				f.locked = test.locked
				f.login("alice")
				f.login("bob")
				f.sleep(test.after)
				start := time.Now()
				f.Close()
				f.Close()
				synctest.Wait()
				if took := time.Since(start); took != test.took {
					t.Errorf("took %s, want %s", took, test.took)
				}
				if got := fmt.Sprint(f.outcome("alice"), f.outcome("bob")); strings.ReplaceAll(got, " ", "") != test.want {
					t.Errorf("got the outcomes %s, want %s", got, test.want)
				}
				if f.login("carol") {
					t.Error("a login was added after Close")
				}
				f.wantEmpty()
			})
		})
	}
	t.Run("without a login", func(t *testing.T) {
		inBubble(t, func(t *testing.T, f *fakeFile) { f.Close() })
	})
}

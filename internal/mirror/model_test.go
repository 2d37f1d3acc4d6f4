package mirror

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// model checks random operations on several servers against what a Mirror promises.
type model struct {
	t       *testing.T
	random  *rand.Rand
	shared  *store
	servers []*server
	highest []Revision // that each server has served
	kept    []string   // lines of edits that succeeded
	tried   []string   // lines of all edits
	edits   int
}

// TestModel checks that, whatever the store does: a server never goes back to an older
// version, not even by a restart; an edit that has succeeded is never lost; no edit is made
// twice; and when the store works again, all servers have its version.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			m := &model{t: t, random: rand.New(rand.NewPCG(seed, 1)), shared: new(store), highest: make([]Revision, 3)} //nolint:gosec // reproducible
			for range 3 {
				m.servers = append(m.servers, newServer(t, m.shared).begin())
			}
			for range 40 {
				m.step()
			}
			m.heal()
			for _, v := range m.servers {
				v.end()
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
		if t.Failed() {
			return
		}
	}
}

func (m *model) step() {
	i := m.random.IntN(len(m.servers))
	v := m.servers[i]
	switch m.random.IntN(12) {
	case 0, 1, 2, 3:
		m.edit(v)
	case 4, 5:
		v.remote.become(fault(m.random.IntN(int(faultCount))))
	case 6:
		v.remote.become(works)
	case 7:
		v.Wake()
		synctest.Wait()
	case 8:
		synctest.Wait() // the copy is written
		v.end()
		v.remote.become(fault(m.random.IntN(int(faultCount))))
		v.begin()
	case 9:
		m.goBack()
	default:
		pass(time.Duration(m.random.Int64N(int64(2 * testPoll))))
	}
	m.check()
}

// edit adds a line that no other edit adds.
func (m *model) edit(v *server) {
	m.edits++
	line := fmt.Sprintf("line%d.", m.edits)
	m.tried = append(m.tried, line)
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Duration(m.random.Int64N(int64(3*testTimeout))))
	defer cancel()
	switch err := v.Edit(ctx, add(line)); {
	case err == nil:
		m.kept = append(m.kept, line)
	case !errors.Is(err, ErrUnavailable) && !errors.Is(err, errDown) && !errors.Is(err, ErrConflict) && ctx.Err() == nil:
		m.t.Errorf("edit: %v", err)
	}
}

// goBack makes the store lose its newest versions, while all servers can reach it: an edit
// of a server that does not know the lost version would be made to the older one.
func (m *model) goBack() {
	m.heal()
	var older *Copy
	if n := len(m.shared.history); n > 0 && m.random.IntN(3) > 0 {
		older = &m.shared.history[m.random.IntN(n)]
	}
	m.shared.set(older)
	pass(2 * testPoll)
	if got := m.shared.get(); len(m.kept) > 0 && (got == nil || got.Revision != slices.Max(m.highest)) {
		m.t.Errorf("the store has %+v, want the newest version", got)
	}
}

// heal makes all connections work, and waits.
func (m *model) heal() {
	for _, v := range m.servers {
		v.remote.become(works)
	}
	pass(2*testPoll + testTimeout)
	m.check()
	text := ""
	if stored := m.shared.get(); stored != nil {
		text = stored.Text
	}
	for i, v := range m.servers {
		v.serves(fmt.Sprintf("server %d when the store works", i), text)
		if _, err := v.Version(); err != nil {
			m.t.Errorf("server %d: %v although the store works", i, err)
		}
	}
	for _, line := range m.tried {
		n := strings.Count(text, line)
		if n > 1 || n == 0 && slices.Contains(m.kept, line) {
			m.t.Errorf("%s is there %d times", line, n)
		}
	}
}

// check checks what is true at any time.
func (m *model) check() {
	for i, v := range m.servers {
		start := time.Now()
		_, found, err := v.Fetch()
		_, _ = v.Version()
		if time.Since(start) != 0 {
			m.t.Error("Fetch or Version has waited")
		}
		if err != nil {
			if m.highest[i] != "" {
				m.t.Errorf("server %d has served a version, and has none now: %v", i, err)
			}
			continue
		}
		revision := found.(version).revision
		if revision < m.highest[i] {
			m.t.Errorf("server %d went back from %s to %s", i, m.highest[i], revision)
		}
		m.highest[i] = revision
	}
}

// FuzzParseLocal checks that no text but a copy that was written is accepted.
func FuzzParseLocal(f *testing.F) {
	c := Config{Name: "fleet://staff", Authenticator: keys{"key", "old"}}
	plain := Config{Name: "storage://staff"}
	v := Copy{Text: "ann:x\n", Revision: "1-2", Version: 1, Time: time.UnixMilli(1_790_000_000_123).UTC()}
	f.Add(c.formatLocal(&v), "text")
	f.Add(plain.formatLocal(&v), "# comment\n\n")
	f.Add("# Copy of fleet://staff. Edits are ignored. revision= version= time= digest=\n", "\n")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, copied, text string) {
		for _, c := range []Config{c, plain} {
			if got, err := c.parseLocal(copied); err == nil {
				got.IsDue = false
				if again, err := c.parseLocal(c.formatLocal(&got)); err != nil || again != got {
					t.Errorf("%+v is read as %+v, error %v", got, again, err)
				}
			} else if got != (Copy{}) {
				t.Errorf("got %+v with the error %v", got, err)
			}
			written := Copy{Text: text, Revision: "7-8", Version: 7, Time: v.Time}
			if got, err := c.parseLocal(c.formatLocal(&written)); err != nil || got != written {
				t.Errorf("got %+v, error %v, want %+v", got, err, written)
			}
		}
	})
}

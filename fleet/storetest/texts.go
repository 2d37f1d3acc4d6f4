package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

// testTexts tests how a text is written, compared, and read.
func testTexts(t *testing.T, connect func(*testing.T) fleet.Store) {
	a, b := connect(t), connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	name := "A._-" + newName()
	if _, err := a.Revision(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Revision of no text: %v, want fs.ErrNotExist", err)
	}
	if _, err := a.Load(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of no text: %v, want fs.ErrNotExist", err)
	}
	expectText := func(want fleet.Text) {
		t.Helper()
		for _, s := range []fleet.Store{a, b} {
			text, err := s.Load(ctx, name)
			must(t, err)
			if text.Revision != want.Revision || !bytes.Equal(text.Data, want.Data) {
				t.Fatalf("the text is %q %q, want %q %q", text.Revision, text.Data, want.Revision, want.Data)
			}
			revision, err := s.Revision(ctx, name)
			must(t, err)
			if revision != want.Revision {
				t.Fatalf("the revision is %q, want %q", revision, want.Revision)
			}
		}
	}
	expectConflict := func(s fleet.Store, old string) {
		t.Helper()
		if err := s.Replace(ctx, name, old, fleet.Text{Revision: "x", Data: []byte("x")}); !errors.Is(err, fleet.ErrConflict) {
			t.Fatalf("Replace of revision %q: %v, want ErrConflict", old, err)
		}
	}
	one := fleet.Text{Revision: "1-" + strings.Repeat("Ab9/=+._", 24), Data: []byte("\x00\xff\r\nalice:\t{}\x80")}
	two := fleet.Text{Revision: "2", Data: nil}
	three := fleet.Text{Revision: "1", Data: []byte("a lower revision is not the store's matter")}
	expectConflict(a, "1")
	must(t, a.Replace(ctx, name, "", one))
	expectText(one)
	expectConflict(b, "")
	expectConflict(b, "2")
	must(t, b.Replace(ctx, name, one.Revision, two))
	expectText(two)
	expectConflict(a, one.Revision)
	must(t, a.Replace(ctx, name, two.Revision, three))
	expectText(three)
	if _, err := b.Load(ctx, strings.ToLower(name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of the name in lower case: %v, want fs.ErrNotExist", err)
	}
	// The store keeps its own copy.
	three.Data[0] = 'X'
	text, err := b.Load(ctx, name)
	must(t, err)
	if text.Data[0] != 'a' {
		t.Error("the store's text changed with the caller's")
	}
}

// testLargeText tests the largest text of a fleet.
func testLargeText(t *testing.T, connect func(*testing.T) fleet.Store) {
	s := connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	text := fleet.Text{Revision: "1", Data: make([]byte, 4<<20)}
	_, _ = rand.Read(text.Data)
	name := newName()
	must(t, s.Replace(ctx, name, "", text))
	loaded, err := s.Load(ctx, name)
	must(t, err)
	if !bytes.Equal(loaded.Data, text.Data) {
		t.Error("the text is another one")
	}
	must(t, s.Replace(ctx, name, "1", fleet.Text{Revision: "2"})) // less memory
}

// testWriters tests that concurrent writers, who begin again after a conflict, lose
// nothing.
func testWriters(t *testing.T, connect func(*testing.T) fleet.Store) {
	stores := []fleet.Store{connect(t), connect(t)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const writers, times = 16, 5
	name := newName()
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			for j := range times {
				if err := appendLine(ctx, stores[i%2], name, fmt.Sprintf("%d-%d\n", i, j)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	text, err := stores[0].Load(ctx, name)
	must(t, err)
	lines := slices.Sorted(strings.Lines(string(text.Data)))
	if n := len(slices.Compact(lines)); n != writers*times || n != len(lines) {
		t.Errorf("%d of %d lines are there", n, writers*times)
	}
}

// appendLine appends a line to a text.
func appendLine(ctx context.Context, s fleet.Store, name, line string) error {
	for {
		text, err := s.Load(ctx, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		next := fleet.Text{Revision: newName(), Data: append(slices.Clone(text.Data), line...)}
		if err := s.Replace(ctx, name, text.Revision, next); !errors.Is(err, fleet.ErrConflict) {
			return err
		}
	}
}

package follow

import "time"

// A Text is a Source whose text never changes, such as a text in a configuration. A
// Follower treats it like a file that nobody edits.
type Text struct{ name, text string }

// NewText returns a Text with a name for logs and errors.
func NewText(name, text string) *Text { return &Text{name, text} }

// Name returns the name.
func (t *Text) Name() string { return t.name }

// Changed implements Source. Nothing changes.
func (*Text) Changed() <-chan struct{} { return nil }

// Version implements Source. There is one version.
func (*Text) Version() (Version, error) { return onlyVersion{}, nil }

// Fetch implements Source.
func (t *Text) Fetch() (string, Version, error) { return t.text, onlyVersion{}, nil }

// onlyVersion is the version of a text that never changes.
type onlyVersion struct{ neverRacy }

// neverRacy is a part of versions that differ whenever their texts differ.
type neverRacy struct{}

// IsRacy implements Version.
func (neverRacy) IsRacy(time.Time) bool { return false }

//go:build !unix || aix || dragonfly || solaris

// Package atomicfile replaces files that other processes are reading. On this
// system that is not possible: Open and Look return an error.
package atomicfile

import (
	"context"
	"fmt"
	"runtime"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// KeepGroup stands for the group that the system assigns to a new file.
const KeepGroup = -1

// File is never returned.
type File struct{}

// Open returns an error: owner and permissions could not be kept.
func Open(_ context.Context, path string, _ func()) (*File, error) { return Look(path) }

// Look returns the same error.
func Look(path string) (*File, error) {
	return nil, fmt.Errorf("%s: files cannot be replaced on %s, since owner and permissions could not be kept; use -n to print the line to standard output", shown.Text(path), runtime.GOOS)
}

// IsTamperProof returns true: owners are unknown.
func IsTamperProof(string) bool { return true }

// Path is never called.
func (*File) Path() string { return "" }

// Exists is never called.
func (*File) Exists() bool { return false }

// Text is never called.
func (*File) Text(int64) (string, error) { return "", nil }

// Check is never called.
func (*File) Check() error { return nil }

// Close does nothing.
func (*File) Close() error { return nil }

// Replace is never called.
func (*File) Replace(string, int) error { return nil }

// OwnerError is never returned.
type OwnerError struct {
	Path     string
	UID, GID uint32
	Advice   string
}

// Error returns "".
func (*OwnerError) Error() string { return "" }

// Unwrap returns nil.
func (*OwnerError) Unwrap() error { return nil }

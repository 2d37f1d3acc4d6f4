package caddyhtpasswd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/mirror"
)

const (
	// storageFiles is where shared files are in Caddy's storage.
	storageFiles = "htpasswd/files/"
	// storageLock is the prefix of the names of their locks.
	storageLock = "htpasswd_file_"
	// unlockTimeout is how long releasing a lock may take.
	unlockTimeout = 5 * time.Second
	// racyTime is how long after a change the next one can have the same time: some
	// storages have whole seconds only.
	racyTime = 2 * time.Second
)

// storageRemote is a file in Caddy's storage. Anyone who can write to the storage can
// change it, as they can change the certificates there.
type storageRemote struct {
	name    string
	storage func() certmagic.Storage
}

// storageConfig returns what a mirror of a file in a storage needs to know of it.
func (s *sources) storageConfig(name string, storage certmagic.Storage) mirror.Config {
	identity := storageIdentity(storage)
	return mirror.Config{Remote: &storageRemote{name, func() certmagic.Storage {
		// Each configuration has a storage of its own, which works only as long as it.
		if active, ok := s.active.get().storage.(certmagic.Storage); ok && storageIdentity(active) == identity {
			return active
		}
		return storage
	}}}
}

func (r *storageRemote) key() string { return storageFiles + r.name }

// Revision implements mirror.Remote: it consists of time and size.
func (r *storageRemote) Revision(ctx context.Context) (mirror.Revision, error) {
	info, err := r.stat(ctx)
	if err != nil {
		return "", err
	}
	if info.Modified.IsZero() { // this storage does not tell
		text, err := r.text(ctx)
		return revisionOfText(text), err
	}
	return revisionOf(info), nil
}

func revisionOf(info certmagic.KeyInfo) mirror.Revision {
	return mirror.Revision(fmt.Sprintf("%d-%d", info.Modified.UnixNano(), info.Size))
}

func revisionOfText(text string) mirror.Revision {
	sum := sha256.Sum256([]byte(text))
	return mirror.Revision(hex.EncodeToString(sum[:]))
}

// stat describes the text, and returns an error if it cannot be one.
func (r *storageRemote) stat(ctx context.Context) (certmagic.KeyInfo, error) {
	info, err := r.storage().Stat(ctx, r.key())
	switch {
	case err != nil:
		return info, err
	case info.Size > follow.MaxFileSize:
		return info, errTooLargeInStorage
	}
	return info, nil
}

var (
	errTooLargeInStorage = fmt.Errorf("%w: it is larger than %d MiB", mirror.ErrInvalid, follow.MaxFileSize>>20)
	errKeepsChanging     = errors.New("the text keeps changing while it is read")
)

// text returns the text.
func (r *storageRemote) text(ctx context.Context) (string, error) {
	text, err := r.storage().Load(ctx, r.key())
	if err == nil && len(text) > follow.MaxFileSize {
		err = errTooLargeInStorage
	}
	return string(text), err
}

// Load implements mirror.Remote. Not every storage replaces a text atomically: it must have
// been unchanged for follow.SettleTime.
func (r *storageRemote) Load(ctx context.Context) (mirror.Copy, error) {
	before, err := r.stat(ctx)
	for deadline := time.Now().Add(follow.MaxSettle); err == nil && time.Now().Before(deadline); {
		if age := time.Since(before.Modified); age >= 0 && age < follow.SettleTime {
			select {
			case <-time.After(follow.SettleTime):
			case <-ctx.Done():
				return mirror.Copy{}, ctx.Err()
			}
		}
		text, err := r.text(ctx)
		if err != nil {
			return mirror.Copy{}, err
		}
		after, err := r.stat(ctx)
		if err != nil {
			return mirror.Copy{}, err
		}
		if revisionOf(after) == revisionOf(before) {
			return copyOf(text, after), nil
		}
		before = after
	}
	if err == nil {
		err = errKeepsChanging
	}
	return mirror.Copy{}, err
}

// copyOf returns the copy of a text. The revision of a text that has just changed is none
// that Revision returns, so that the text is loaded once more.
func copyOf(text string, info certmagic.KeyInfo) mirror.Copy {
	c := mirror.Copy{Text: text, Revision: revisionOf(info), Time: info.Modified}
	if info.Modified.IsZero() {
		c.Revision = revisionOfText(text)
	} else if time.Since(info.Modified).Abs() < racyTime {
		c.Revision += "-racy"
	}
	return c
}

// Replace implements mirror.Remote. Writers that do not lock the file, such as programs
// that write to the storage directly, can make changes at the same time.
func (r *storageRemote) Replace(ctx context.Context, old *mirror.Copy, text string) (mirror.Copy, error) {
	if len(text) > follow.MaxFileSize {
		return mirror.Copy{}, fmt.Errorf("the text is larger than %d MiB", follow.MaxFileSize>>20)
	}
	storage, lock := r.storage(), storageLock+r.name
	if err := storage.Lock(ctx, lock); err != nil {
		return mirror.Copy{}, fmt.Errorf("cannot lock the file: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
		defer cancel()
		_ = storage.Unlock(ctx, lock) // a lock that is left behind expires
	}()
	found, err := storage.Load(ctx, r.key())
	switch {
	case errors.Is(err, fs.ErrNotExist) && old == nil:
	case errors.Is(err, fs.ErrNotExist), err == nil && (old == nil || string(found) != old.Text):
		return mirror.Copy{}, mirror.ErrConflict
	case err != nil:
		return mirror.Copy{}, err
	}
	if err := storage.Store(ctx, r.key(), []byte(text)); err != nil {
		return mirror.Copy{}, err
	}
	info, err := storage.Stat(ctx, r.key())
	if err != nil { // it was written; the next look finds the revision
		return mirror.Copy{Text: text, Revision: "unknown", Time: time.Now()}, nil
	}
	return copyOf(text, info), nil
}

// Restore implements mirror.Remote. A text may have been deleted on purpose.
func (*storageRemote) Restore(context.Context, mirror.Revision, mirror.Copy) (mirror.Copy, error) {
	return mirror.Copy{}, mirror.ErrCannotRestore
}

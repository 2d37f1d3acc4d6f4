package caddyhtpasswd

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htedit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/mirror"
	"github.com/seed10b5b978/caddy-htpasswd/internal/rehash"
)

// useRehash makes the store ready for a handler that replaces weak hashes, and reports
// if the file cannot be written.
func (s *userStore) useRehash(shared *shared) {
	s.rehash.handlers.Add(1)
	if s.rehash.worker.Load() == nil {
		s.rehash.worker.CompareAndSwap(nil, s.newRehashWorker(shared))
	}
	s.rehash.worker.Load().Check()
}

func (s *userStore) newRehashWorker(shared *shared) *rehash.Worker {
	return rehash.New(rehash.Config{
		Check: s.checkWritable,
		Make: func(ctx context.Context, cost int, password []byte) (string, error) {
			if !s.rehash.isUsed() {
				return "", errNotUsed
			}
			return shared.guard.makeHashIdle(ctx, cost, password)
		},
		Replace: s.replaceHashes,
		Report:  func(r rehash.Report) { s.reportRehash(r, shared.active.get().logger) },
		Room:    &shared.guard.rehash,
	})
}

var (
	// errNotAFile is the error for users that are not in a file.
	errNotAFile = errors.New("the users are in the configuration, which the server does not change")

	// errNotUsed is the error after a reload without rehash, while logins still wait.
	errNotUsed = errors.New("no handler replaces weak hashes any more")
)

func (s *userStore) checkWritable() error {
	target, ok := s.target()
	if !ok {
		return errNotAFile
	}
	return target.Check()
}

// replaceHashes writes new hashes of the same passwords, so the new entries inherit
// everything from the old ones.
func (s *userStore) replaceHashes(ctx context.Context, changes []htfile.Change) (made []bool, err error) {
	target, ok := s.target()
	if !ok {
		return nil, errNotAFile
	}
	for _, c := range changes {
		s.pending.expect(c, entry.inherit)
	}
	made, err = htedit.Replace(ctx, target, changes)
	for i, c := range changes {
		if err != nil || !made[i] {
			s.pending.forget(c)
		}
	}
	return made, err
}

// inherit passes on the cached password, the recognized clients, and with them the keys
// of all limits and the device cookies.
func (e entry) inherit(after entry) {
	if v := e.verified.Load(); v != nil {
		after.verified.CompareAndSwap(nil, v)
	}
	if clients := e.clients.Load(); clients != nil {
		after.clients.CompareAndSwap(nil, clients)
		after.recognized().devices.rehashed(e.Name, e.Hash, after.Hash)
	}
}

// close writes the hashes that were made.
func (s *userStore) close() {
	if w := s.rehash.worker.Load(); w != nil {
		w.Close()
	}
}

// reportRehash logs a write, or why the file cannot be written. It is logged once until
// that changes.
func (s *userStore) reportRehash(r rehash.Report, logger *zap.Logger) {
	file := zap.String("file", s.path)
	switch {
	case r.Err == nil && r.Conflicts > 0:
		logger.Info("weak password hashes replaced", file, zap.Int("users", r.Written), zap.Int("changed_meanwhile", r.Conflicts))
	case r.Err == nil:
		logger.Info("weak password hashes replaced", file, zap.Int("users", r.Written))
	case errors.Is(r.Err, mirror.ErrUnavailable): // the log has a line about the store
	case r.IsNew:
		logger.Warn("cannot replace weak password hashes; logins still work", file, zap.Error(r.Err), zap.String("fix", fixOf(r.Err)+", or remove rehash"))
	}
}

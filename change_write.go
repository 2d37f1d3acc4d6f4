package caddyhtpasswd

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"strconv"
	"syscall"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/hashqueue"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htedit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/mirror"
)

// writeTimeout is how long a change waits for other programs that edit the file.
const writeTimeout = 10 * time.Second

// newHashOf returns the format and the cost of a new hash for a user. bcrypt is what nginx
// and Apache read, too. Its cost is never below that of the present hash, nor below that of
// rehash. Only a user with Argon2 gets Argon2id: then no other server reads the file.
func (h *Handler) newHashOf(user lookup) (format string, cost int) {
	cost = max(minRehashCost, h.rehashCost)
	switch class := user.class(); class.Format.Name {
	case "argon2id", "argon2i":
		return "argon2id", 0
	case "bcrypt":
		present, _ := strconv.Atoi(class.Cost) // crypt.Parse has checked it
		cost = max(cost, present)
	}
	return "bcrypt", cost
}

// makeHash computes a new hash for a user in the hash queue, like the hash of a login of
// the client.
func (h *Handler) makeHash(ctx context.Context, client uint64, user lookup, password []byte) (string, error) {
	format, cost := h.newHashOf(user)
	key := attemptKey{user: user.entry.Name} // without a hash, unlike the key of any login
	_, _ = rand.Read(key.digest[:])          // never fails; no two changes share a hash
	type result struct {
		hash string
		err  error
	}
	made := make(chan result, 1) // the computation outlives the request
	_, _, err := h.guard.queue.Do(ctx, hashqueue.Task[attemptKey, verdict]{
		Client: client,
		Key:    key,
		Start: func() (func() verdict, error) {
			return func() verdict {
				start := time.Now()
				hash, err := h.guard.makeHash(format, cost, password)
				h.guard.hashTimes.WithLabelValues(format).Observe(time.Since(start).Seconds())
				made <- result{hash, err}
				return verdict{}
			}, nil
		},
	})
	switch {
	case errors.Is(err, hashqueue.ErrOverloaded):
		return "", errOverloaded
	case err != nil:
		return "", err
	}
	r := <-made
	return r.hash, r.err
}

// setPassword replaces the hash of a user whose current password has just been verified,
// and waits until the new version of the file is loaded. If the file has another hash than
// the verified one by now, nothing is changed, and the error is htedit.ErrChanged.
func (h *Handler) setPassword(ctx context.Context, client uint64, user lookup, old *digest, hash string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout) // even if the client goes away
	defer cancel()
	target, _ := user.store.target()
	change := htfile.Change{Name: user.entry.Name, Old: user.entry.Hash, New: hash}
	user.store.pending.expect(change, h.passOn(user.store, client, *old))
	err := htedit.SetPassword(ctx, target, change)
	user.store.awaitCurrent(ctx)
	if err != nil && user.store.current.Load().find([]byte(change.Name)).hasHash(hash) {
		return nil // it was replaced, but the system could not confirm that it is on the disk
	}
	if err != nil {
		user.store.pending.forget(change)
	}
	return err
}

// passOn returns what an entry with a new password inherits from the entry with the old
// one: the failed logins of the user, so that a new password is no way around the limit.
// The client that has changed the password is recognized. The old password becomes a
// recent wrong password, so that open pages and other devices of the user, which still send
// it, do not use up the limits.
func (h *Handler) passOn(store *userStore, client uint64, old digest) func(before, after entry) {
	keyer := h.guard.keyer()
	return func(before, after entry) {
		var had, has limitKeys
		name := []byte(after.Name)
		present := lookup{store: store, entry: after}
		had.set(keyer, client, &lookup{store: store, entry: before}, name)
		has.set(keyer, client, &present, name)
		h.guard.failures[scopeUser].Raise(has[scopeUser], had[scopeUser], h.guard.now(), h.guard.settings().limits[scopeUser].Window)
		h.guard.wrong.add(has[scopeUser], &old)
		h.guard.recognize(keyer, &present, &has)
	}
}

// fixOf returns what an administrator has to do if the server cannot replace a file.
func fixOf(err error) string {
	switch {
	case errors.Is(err, errNotAFile):
		return "move the users to a file"
	case errors.Is(err, mirror.ErrUnavailable):
		return "make the store work again, or connect this server to it"
	case errors.Is(err, fs.ErrPermission):
		return "let the server's user own the file, and write its directory"
	case errors.Is(err, syscall.EROFS):
		return "make the directory writable: mount it without ro, or add StateDirectory or ReadWritePaths to the systemd unit"
	case errors.Is(err, fs.ErrNotExist):
		return "restore the file; the users of its previous version can still log in"
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return "free space on the disk"
	}
	return "do what the error says"
}

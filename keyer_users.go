package caddyhtpasswd

import "github.com/seed10b5b978/caddy-htpasswd/internal/rendezvous"

// The methods of a keyer that know files are apart, because the settings have a keyer.

// source returns what distinguishes the users of a file from those of others.
func (k *keyer) source(s *userStore) uint64 {
	if k.shared != nil {
		return s.name.key.Load()
	}
	return s.key
}

// user returns the key of the user name that l was looked up with. The hash is part of the
// key, so a changed entry resets the limits.
func (k *keyer) user(l *lookup, user []byte) uint64 {
	name := rendezvous.Mix(k.source(l.store) ^ k.sum(user))
	if l.entry.exists() {
		name = rendezvous.Mix(name ^ k.sumString(l.entry.Hash))
	}
	return name
}

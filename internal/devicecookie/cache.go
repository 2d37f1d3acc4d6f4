package devicecookie

import (
	"crypto/subtle"
	"sync/atomic"
)

// CacheLen is the number of tokens in a full cache.
const CacheLen = 8

// Cache has the last valid tokens of a user, so that they need no HMAC. It belongs to one
// user, one hash, and one list of previous hashes. If any of them changes, use a new Cache:
// a cached token would still be accepted, or not be renewed. Changes of the keys, the
// maximum age and the time need no new Cache.
//
// The zero value is an empty cache. It has 144 bytes, and 96 more for each token. It is
// safe for concurrent use without locks, and must not be copied. If the same token is
// verified by several requests at once, it can be in the cache twice.
type Cache struct {
	hints [CacheLen]atomic.Uint64 // of the texts in slots, side by side; 0 for none
	slots [CacheLen]atomic.Pointer[cached]
	next  atomic.Uint32
}

// cached is a token with a valid MAC. It is immutable.
type cached struct {
	keys     *Keys
	nonce    Nonce
	issued   uint32
	outdated bool // made with the old secret, or bound to a previous hash
	text     [textLen]byte
}

// publicLen is the length of the version, nonce and time in a text. They are not secret,
// so they can be compared faster than in constant time.
const publicLen = userAt / 3 * 4

// hint returns a part of the nonce in a text, which tells most tokens apart. It is not 0 for
// a token, since its bytes are characters.
func hint(text string) uint64 {
	_ = text[11]
	return uint64(text[4]) | uint64(text[5])<<8 | uint64(text[6])<<16 | uint64(text[7])<<24 |
		uint64(text[8])<<32 | uint64(text[9])<<40 | uint64(text[10])<<48 | uint64(text[11])<<56
}

// get returns the cached token with a text, or nil.
func (c *Cache) get(k *Keys, text string) *cached {
	if c == nil || len(text) != textLen {
		return nil
	}
	hint := hint(text)
	for i := range c.hints {
		if c.hints[i].Load() != hint {
			continue
		}
		t := c.slots[i].Load() // if tokens are added at once, it can be another one than that of the hint
		if t != nil && t.keys == k && string(t.text[:publicLen]) == text[:publicLen] &&
			subtle.ConstantTimeCompare(t.text[publicLen:], []byte(text[publicLen:])) == 1 {
			return t
		}
	}
	return nil
}

// put adds a token in place of the one that was added first.
func (c *Cache) put(t *cached) {
	if c == nil {
		return
	}
	i := (c.next.Add(1) - 1) % CacheLen
	c.slots[i].Store(t)
	c.hints[i].Store(hint(string(t.text[:])))
}

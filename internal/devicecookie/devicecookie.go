// Package devicecookie creates and checks device cookies: signed cookies that show that
// a user has logged in with this browser before. A device cookie lets nobody in. It only
// decides which limits and which place in the queue a login gets.
//
// The package knows no HTTP server. It gets Cookie fields, keys and the time as arguments,
// and returns texts.
//
// # How to use it
//
//  1. Make [Keys] from the subkeys of the secret, once for each secret. Without a secret
//     that all servers share, the keys are nil: then no token is issued or accepted.
//  2. For each request, [Take] removes the cookie from the header, and returns the
//     [Candidates] in it. Do so for exempt requests, too: the cookie is for nobody else. If
//     a second handler of the same request needs the candidates, keep them: the header no
//     longer has them.
//  3. [Keys.Find] returns the token of the user who logs in. Its nonce is the key of the
//     limits.
//  4. If the login succeeds without a token, or with one that is to be renewed,
//     [Keys.Issue] returns the value of a new cookie, and [SetCookie] the Set-Cookie field.
//
// # Tokens
//
// A token has 45 bytes, which are 60 characters of base64url without padding:
//
//	version    1 byte    1
//	nonce     16 bytes   random
//	time       4 bytes   when it was issued: seconds since 1970, big-endian; encrypted
//	user       8 bytes   keyed digest of the user name; encrypted
//	MAC       16 bytes   HMAC-SHA-256 of all bytes before it, truncated
//
// The encryption is AES-256 in counter mode, with the nonce as the first counter block. So
// without the keys, a token shows its version and random bytes. Two tokens do not even
// show whether they belong to the same user.
//
// The key of the MAC is the binding: the HMAC-SHA-256 of the length of the user name (8
// bytes, big-endian), the user name, and the text of the user's hash. So a token is valid
// on every server that has the secret and the line of the user, wherever the file is. It is
// void when the line changes. The digest of the user is the HMAC-SHA-256 of the user name,
// truncated. The three keys are derived from the subkey with HKDF-SHA-256 (only expanded),
// with the labels "user", "time" and "binding".
//
// A token is valid until its age reaches the maximum. Clocks of servers differ, so it may
// be issued up to [MaxAhead] in the future. It is to be renewed when half of the maximum
// age is over, and if it was made with the old secret or is bound to a previous hash.
//
// # Cookies
//
// The value of a cookie is one to four tokens ([MaxTokens]), newest first, separated by
// periods. The tokens belong to users who share a browser, or to one user in several
// realms. [Keys.Issue] replaces the tokens of the owner, and keeps the others as they are.
// A text that is no token of this version can be one of a later version. So it is kept if it
// has [MinTextLen] to [MaxTextLen] characters of base64url.
//
// The cookie can be in a request several times. [Take] looks at no more than
// [MaxCandidates] tokens, whether they are valid or not.
//
// # Equal work
//
// Neither a cookie nor the time of an answer may tell which users exist. The digest of the
// user and the binding are therefore never cached. If a request has a token that is not in
// the [Cache] of its user, the digest is computed, for known and unknown users alike. If the
// digest matches, so are the binding and the MAC. For a user who cannot log in, set
// [Owner.Decoy] and the hash of the decoy. MACs are compared in constant time, in the cache,
// too. With two secrets and n hashes ([Owner.Hash] and [Owner.Previous]), a request costs at
// most 2 digests, 2n bindings and 8n MACs.
package devicecookie

import (
	"crypto/rand"
	"crypto/subtle"
	"time"
)

// MaxAhead is how far in the future a token may have been issued.
const MaxAhead = 5 * time.Minute

// Nonce is the random part of a token, by which its logins are counted.
type Nonce [nonceLen]byte

// Token is a valid token of a request.
type Token struct {
	// Nonce identifies the token.
	Nonce Nonce

	// Renew tells that the next successful login should issue another token.
	Renew bool
}

// Owner is a user who logs in. It says to which user and hash a token is bound.
type Owner struct {
	// User is the user name.
	User []byte

	// Hash is the text of the user's hash. New tokens are bound to it.
	Hash string

	// Previous has texts of hashes of the same password that this server has replaced.
	// Tokens that are bound to them are accepted, but are to be renewed. Issue replaces
	// them. It should be short, since a request can cost eight MACs for each.
	Previous []string

	// Decoy tells that the user cannot log in. Find does the work of a user without cached
	// tokens, and finds nothing. Issue issues nothing.
	Decoy bool
}

// Find returns the token of the owner among the candidates, and whether there is a valid
// one. If there are several, it prefers one that is not to be renewed: while servers have
// different secrets, each is content with its own token in a cookie. After that, it prefers
// one that is in the cache, and then the first.
//
// Valid tokens are stored in the cache. A token that is in the cache costs no HMAC. The
// cache belongs to the user, hash and previous hashes of the owner. nil is an empty cache
// that stores nothing. Fractions of a second of maxAge are ignored.
func (k *Keys) Find(c *Candidates, o *Owner, cache *Cache, now time.Time, maxAge time.Duration) (Token, bool) {
	if k == nil || c.n == 0 {
		return Token{}, false
	}
	if o.Decoy {
		cache = nil
	}
	s := search{now: now.Unix(), maxAge: int64(maxAge / time.Second)}
	left := uint(1)<<c.n - 1 // candidates that are not in the cache, as bits
	for i, text := range c.texts[:c.n] {
		if known := cache.get(k, text); known != nil {
			left &^= 1 << i
			s.add(known.nonce, known.issued, known.outdated)
			if s.found && !s.best.Renew {
				break
			}
		}
	}
	if left != 0 && (!s.found || s.best.Renew) {
		k.verify(&s, c, left, o, cache)
	}
	if o.Decoy {
		return Token{}, false
	}
	return s.best, s.found
}

// search is the best valid token so far.
type search struct {
	now    int64 // seconds since 1970
	maxAge int64 // seconds

	best  Token
	found bool
}

// add adds a token with a valid MAC, and reports whether its time is valid, too.
func (s *search) add(nonce Nonce, issued uint32, outdated bool) bool {
	age := s.now - int64(issued)
	if age < -int64(MaxAhead/time.Second) || age >= s.maxAge {
		return false
	}
	t := Token{Nonce: nonce, Renew: outdated || age >= s.maxAge-age}
	if !s.found || s.best.Renew && !t.Renew {
		s.best, s.found = t, true
	}
	return true
}

// verify adds the candidates whose bits are set in left, and whose MACs are valid.
func (k *Keys) verify(s *search, c *Candidates, left uint, o *Owner, cache *Cache) {
	v := newVerifier(k, o)
	for i, text := range c.texts[:c.n] {
		if left&(1<<i) == 0 {
			continue
		}
		m := v.match(text)
		if m.binding < 0 {
			continue
		}
		outdated := m.key != k.current || m.binding > 0
		if s.add(m.nonce, m.issued, outdated) {
			cache.put(&cached{k, m.nonce, m.issued, outdated, [textLen]byte([]byte(text))})
		}
	}
}

// Issue returns the value of a cookie with a new token of the owner. It is followed by the
// other candidates, byte for byte, up to [MaxTokens] altogether. These are left out:
//
//   - tokens of the owner, also if they have expired
//   - texts that cannot be tokens, and repeated ones
//   - the last ones, if there are too many: first those that have the owner's user name,
//     but are bound to another hash; then others
//
// The value is "" if the keys are nil or the owner is a decoy.
func (k *Keys) Issue(c *Candidates, o *Owner, now time.Time) string {
	if k == nil || o.Decoy {
		return ""
	}
	var nonce Nonce
	rand.Read(nonce[:]) // never fails
	return k.issue(c, o, now, nonce)
}

func (k *Keys) issue(c *Candidates, o *Owner, now time.Time, nonce Nonce) string {
	type other struct {
		text     string
		sameUser bool
	}
	var others []other
	v := newVerifier(k, o)
next:
	for _, text := range c.texts[:c.n] {
		if !isBase64URL(text) {
			continue
		}
		for i := range others {
			if others[i].text == text {
				continue next
			}
		}
		if m := v.match(text); m.binding < 0 {
			others = append(others, other{text, m.key != nil})
		}
	}
	for len(others) >= MaxTokens {
		last := len(others) - 1
		for i := last; i >= 0; i-- {
			if others[i].sameUser {
				last = i
				break
			}
		}
		others = append(others[:last], others[last+1:]...)
	}
	value := k.current.seal(o, uint32(now.Unix()), nonce) //nolint:gosec // until 2106
	for _, other := range others {
		value += separator + other.text
	}
	return value
}

// verifier compares tokens with an owner.
type verifier struct {
	keys   *Keys
	owner  *Owner
	digest [2][userLen]byte // of the user, by key
	macs   [2][][]byte      // bindings of the owner, by key; empty until needed

	token [tokenLen]byte // room for the token that is compared
	pad   [blockLen]byte
}

func newVerifier(k *Keys, o *Owner) *verifier {
	v := &verifier{keys: k, owner: o}
	for i, key := range k.all() {
		v.digest[i] = key.digest(o.User)
	}
	return v
}

// match is what a token has in common with an owner.
type match struct {
	key     *key // by which the user is the owner's; nil for none
	binding int  // 0 for Hash, 1 and more for Previous; -1 if no MAC is valid

	nonce  Nonce
	issued uint32
}

// match compares the text of a token with the owner.
func (v *verifier) match(text string) match {
	none := match{binding: -1}
	if !v.decode(text) {
		return none
	}
	for i, key := range v.keys.all() {
		issued, user := key.open(&v.token, &v.pad)
		if subtle.ConstantTimeCompare(user[:], v.digest[i][:]) != 1 {
			continue
		}
		m := match{key: key, binding: -1, nonce: Nonce(v.token[nonceAt:timeAt]), issued: issued}
		for j, binding := range v.bindings(i, key) {
			mac := sign(binding, &v.token)
			if subtle.ConstantTimeCompare(mac[:], v.token[macAt:]) == 1 && m.binding < 0 {
				m.binding = j
			}
		}
		return m
	}
	return none
}

// bindings returns the bindings of the owner with the key at a position.
func (v *verifier) bindings(i int, k *key) [][]byte {
	if v.macs[i] == nil {
		v.macs[i] = append(v.macs[i], k.bind(v.owner.User, v.owner.Hash))
		for _, hash := range v.owner.Previous {
			v.macs[i] = append(v.macs[i], k.bind(v.owner.User, hash))
		}
	}
	return v.macs[i]
}

package caddyhtpasswd

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strings"
	"sync"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

const (
	maxUserPassLen = htfile.MaxUserLen + 1 + crypt.MaxPasswordLen
	maxEncodedLen  = (maxUserPassLen*4 + 2) / 3 // in base64, without padding
)

// digest is the HMAC-SHA-256 of a password, with a key of this process. Passwords are
// stored and compared only as digests.
type digest [sha256.Size]byte

// digestKey is the key of all digests.
var digestKey = func() []byte {
	key := make([]byte, sha256.BlockSize)
	rand.Read(key) // never fails
	return key
}()

// credentials are the user name and the password that a client sent. They come from
// a pool and belong to one request. Their content is overwritten when they are
// released.
type credentials struct {
	user      []byte // part of decoded
	password  []byte // part of decoded
	digest    digest // of the password
	malformed bool   // if true, only user may be used, for the log

	used    int // of encoded
	encoded [maxEncodedLen]byte
	decoded [maxUserPassLen]byte
	mac     hash.Hash
}

var credentialsPool = sync.Pool{New: func() any {
	mac := hmac.New(sha256.New, digestKey)
	mac.Reset() // the first Reset does not overwrite what was written, the later ones do
	return &credentials{mac: mac}
}}

// parseCredentials parses the value of an Authorization header with the Basic scheme
// (RFC 7617). As in nginx and Apache, more whitespace after the scheme and base64
// without padding are accepted. Credentials are malformed if they have no colon,
// contain control characters, or have a user name over 255 bytes or a password over
// 1,024 bytes. The caller must release the credentials.
func parseCredentials(header string) *credentials {
	c := credentialsPool.Get().(*credentials)
	c.malformed = !isBasic(header) || !c.decode(header[len(basicScheme):])
	if !c.malformed {
		c.mac.Write(c.password)
		c.mac.Sum(c.digest[:0])
	}
	return c
}

const basicScheme = "Basic"

// isBasic reports whether the value of an Authorization header has the scheme
// "Basic", in upper or lower case (RFC 9110, section 11.1).
func isBasic(header string) bool {
	const n = len(basicScheme)
	return len(header) >= n && (header[:n] == basicScheme || strings.EqualFold(header[:n], basicScheme)) &&
		(len(header) == n || isHeaderSpace(header[n])) // otherwise the scheme is another one that begins with "Basic"
}

func isHeaderSpace(c byte) bool { return c == ' ' || c == '\t' }

// trimHeaderSpace returns s without leading whitespace.
func trimHeaderSpace(s string) string {
	for s != "" && isHeaderSpace(s[0]) {
		s = s[1:]
	}
	return s
}

// decode sets user and password, and reports whether they are well-formed.
func (c *credentials) decode(encoded string) bool {
	encoded = trimHeaderSpace(encoded)
	for encoded != "" && (isHeaderSpace(encoded[len(encoded)-1]) || encoded[len(encoded)-1] == '=') {
		encoded = encoded[:len(encoded)-1]
	}
	if len(encoded) > maxEncodedLen {
		return false
	}
	c.used = copy(c.encoded[:], encoded)
	n, err := base64.RawStdEncoding.Decode(c.decoded[:], c.encoded[:c.used])
	if err != nil {
		return false
	}
	user, password, found := bytes.Cut(c.decoded[:n], []byte{':'})
	if !found || len(user) > htfile.MaxUserLen || len(password) > crypt.MaxPasswordLen {
		return false
	}
	c.user, c.password = user, password
	return !htfile.HasControl(user) && !htfile.HasControl(password)
}

// clone returns a copy for a hash that may outlive the request. The caller must
// release the copy, too.
func (c *credentials) clone() *credentials {
	d := credentialsPool.Get().(*credentials)
	n := copy(d.decoded[:], c.decoded[:len(c.user)+1+len(c.password)])
	d.user, d.password = d.decoded[:len(c.user)], d.decoded[len(c.user)+1:n]
	d.digest, d.malformed, d.used = c.digest, false, c.used
	return d
}

// release overwrites the content of c and returns c to the pool.
func (c *credentials) release() {
	clear(c.encoded[:c.used])
	clear(c.decoded[:min(c.used, len(c.decoded))])
	clear(c.digest[:])
	if !c.malformed {
		c.mac.Reset() // overwrites its buffer, which contains the password
	}
	c.user, c.password, c.used = nil, nil, 0
	credentialsPool.Put(c)
}

// Package sealed encrypts and authenticates what the servers of a fleet share through a
// store that they do not trust: events, and the texts of password files.
//
// # Format
//
// Numbers are big-endian. All algorithms are fixed by the format byte.
//
//	magic     4 bytes: "HTPT" for a text, "HTPE" for an event
//	format    1 byte: 1
//	version   8 bytes: of the text; absent for an event
//	time      8 bytes: when it was sealed, in milliseconds since 1970
//	digest    16 bytes: of the text; absent for an event
//	keys      1 byte: the number of keys, 1 to 4
//	key ids   8 bytes for each key
//	wraps     60 bytes for each key, in the same order: the data key, sealed
//	data      12 bytes of nonce, the ciphertext, 16 bytes of tag
//
// All up to the key ids is the header. A new random data key of 32 bytes encrypts the data
// with AES-256-GCM. Its additional data are the purpose, the name and the header, each
// preceded by its length as 8 bytes. Each wrap is 12 bytes of random nonce, and the data
// key, encrypted with AES-256-GCM and the wrapping key; its additional data are those of
// the data, and the SHA-256 hash of the whole data. The purpose is "text" or "event". The
// name is that of the text, or empty.
//
// The inner keys are derived from the subkey that [NewKeys] gets, with HKDF-SHA-256 (RFC
// 5869) without salt. The infos are "sealed: id", "sealed: wrap", "sealed: digest" and
// "sealed: copy".
//
// # What is bound to what
//
// A server that opens something checks the wraps of all keys that it knows. Each of them
// authenticates the purpose, the name, the header and the data. So nothing of one name,
// version or time is accepted for another. And somebody who knows only the old secret,
// which may be the reason for its replacement, can read what is sealed for both secrets, and so learns
// its data key, but can change nothing for servers that know only the new one. Only
// servers that still know the old secret accept what it seals.
//
// The only bytes that a server cannot check are the wraps of keys that it does not know.
//
// # Rotation of the secret
//
// Servers get a new secret one after the other. Those that have both seal for both, and
// open what is sealed for either. [Keys.OpenText] reports a text that is not sealed for the
// current secret, so that it can be sealed again before the old secret is removed.
package sealed

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"
)

// Keys are the keys of a fleet, of the current secret and of the old one that it
// replaces. What is sealed can be opened with either, and is sealed for both, so that
// servers can change their secret one after the other. Keys are immutable, and safe for
// concurrent use.
type Keys struct{ all []*key } // the current one first

// key has what is derived from one subkey.
type key struct {
	id     [idLen]byte
	wrap   cipher.AEAD
	digest []byte // for the digests of texts
	copy   []byte // for the digests of local copies
}

// NewKeys returns the keys for subkeys of 32 bytes. old is nil if there is none.
func NewKeys(current, old []byte) *Keys {
	k := &Keys{all: []*key{newKey(current)}}
	if old != nil && !bytes.Equal(old, current) {
		k.all = append(k.all, newKey(old))
	}
	return k
}

func newKey(subkey []byte) *key {
	k := &key{
		wrap:   newGCM(derive(subkey, "wrap", keyLen)),
		digest: derive(subkey, "digest", sha256.Size),
		copy:   derive(subkey, "copy", sha256.Size),
	}
	copy(k.id[:], derive(subkey, "id", idLen))
	return k
}

func derive(subkey []byte, use string, length int) []byte {
	key, err := hkdf.Key(sha256.New, subkey, nil, "sealed: "+use, length)
	if err != nil {
		panic(err) // only for more than 8160 bytes, or an unapproved hash function
	}
	return key
}

// newGCM returns AES-256-GCM that begins each ciphertext with a random nonce.
func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err == nil {
		var gcm cipher.AEAD
		if gcm, err = cipher.NewGCMWithRandomNonce(block); err == nil {
			return gcm
		}
	}
	panic(err) // only for keys of another length
}

// Errors of OpenText and Open.
var (
	// ErrOtherSecret: sealed by a server with another secret.
	ErrOtherSecret = errors.New("sealed with another secret")
	// ErrForged: damaged, or not sealed by a server of the fleet for this purpose.
	ErrForged = errors.New("damaged or forged")
	// ErrFormat: in a format that this version does not know.
	ErrFormat = errors.New("in a format that this version of the module does not know")
)

const (
	format    = 1
	maxKeys   = 4 // more than NewKeys makes
	idLen     = 8
	keyLen    = 32
	sealLen   = 12 + 16 // what AES-GCM adds: nonce and tag
	wrapLen   = keyLen + sealLen
	magicLen  = 4
	timeLen   = 8
	maxMillis = 1e15 - 1 // 15 digits: more than 31,000 years
)

// kind is what is sealed.
type kind struct {
	magic, purpose string
	fieldsLen      int // the part of the header between the format and the number of keys
}

var (
	textKind  = kind{"HTPT", "text", 8 + timeLen + digestLen}
	eventKind = kind{"HTPE", "event", timeLen}
)

// Overhead is the maximum number of bytes that sealing adds to an event.
const Overhead = magicLen + 1 + timeLen + 1 + 2*(idLen+wrapLen) + sealLen

// seal seals a body for all keys.
func (k *Keys) seal(kind *kind, name string, fields, body []byte) []byte {
	sealed := make([]byte, 0, magicLen+1+len(fields)+1+len(k.all)*(idLen+wrapLen)+len(body)+sealLen)
	sealed = append(append(append(append(sealed, kind.magic...), format), fields...), byte(len(k.all))) //nolint:gosec // 1 or 2
	for _, key := range k.all {
		sealed = append(sealed, key.id[:]...)
	}
	bound := boundTo(kind, name, sealed)
	var dataKey [keyLen]byte
	rand.Read(dataKey[:]) // never fails
	wraps := len(sealed)
	sealed = sealed[:wraps+len(k.all)*wrapLen]
	sealed = newGCM(dataKey[:]).Seal(sealed, nil, body, bound) //nolint:gosec // it adds a random nonce
	bound = withHash(bound, sealed[wraps+len(k.all)*wrapLen:])
	for i, key := range k.all {
		key.wrap.Seal(sealed[:wraps+i*wrapLen], nil, dataKey[:], bound) //nolint:gosec // it adds a random nonce
	}
	return sealed
}

// open opens what was sealed. It returns the authenticated fields and the body, a number
// that identifies what was sealed, and whether it is sealed for the current key. The
// fields are part of sealed.
func (k *Keys) open(kind *kind, name string, sealed []byte) (fields, body []byte, id [sha256.Size]byte, isCurrent bool, err error) {
	fail := func(err error) ([]byte, []byte, [sha256.Size]byte, bool, error) {
		return nil, nil, [sha256.Size]byte{}, false, err
	}
	rest, hasMagic := bytes.CutPrefix(sealed, []byte(kind.magic))
	if !hasMagic || len(rest) == 0 {
		return fail(ErrForged)
	}
	if rest[0] != format {
		return fail(ErrFormat)
	}
	if rest = rest[1:]; len(rest) < kind.fieldsLen+1 {
		return fail(ErrForged)
	}
	fields = rest[:kind.fieldsLen]
	n := int(rest[kind.fieldsLen])
	rest = rest[kind.fieldsLen+1:]
	if n < 1 || n > maxKeys || len(rest) < n*(idLen+wrapLen)+sealLen {
		return fail(ErrForged)
	}
	ids, wraps, data := rest[:n*idLen], rest[n*idLen:n*(idLen+wrapLen)], rest[n*(idLen+wrapLen):]

	bound := boundTo(kind, name, sealed[:len(sealed)-len(wraps)-len(data)])
	dataBound := bound
	var dataKey []byte
	for i := range n {
		for j, key := range k.all {
			if !bytes.Equal(ids[i*idLen:(i+1)*idLen], key.id[:]) {
				continue
			}
			if len(bound) == len(dataBound) { // the first known key; others pay for no hash
				bound = withHash(bound, data)
				id = [sha256.Size]byte(bound[len(bound)-sha256.Size:])
			}
			found, err := key.wrap.Open(nil, nil, wraps[i*wrapLen:(i+1)*wrapLen], bound)
			if err != nil || dataKey != nil && !bytes.Equal(found, dataKey) {
				return fail(ErrForged)
			}
			dataKey, isCurrent = found, isCurrent || j == 0
		}
	}
	if dataKey == nil {
		return fail(ErrOtherSecret)
	}
	if body, err = newGCM(dataKey).Open(nil, nil, data, dataBound); err != nil {
		return fail(ErrForged)
	}
	return fields, body, id, isCurrent, nil
}

// boundTo returns the additional data of what is sealed under a name with a header.
func boundTo(kind *kind, name string, header []byte) []byte {
	var bound []byte
	for _, part := range [][]byte{[]byte(kind.purpose), []byte(name), header} {
		bound = append(binary.BigEndian.AppendUint64(bound, uint64(len(part))), part...)
	}
	return bound
}

// withHash returns the additional data of a wrap.
func withHash(bound, data []byte) []byte {
	hash := sha256.Sum256(data)
	return append(bound[:len(bound):len(bound)], hash[:]...)
}

// millis returns a time in milliseconds, within the range that formats have room for.
func millis(t time.Time) int64 { return min(max(t.UnixMilli(), 0), maxMillis) }

// fromMillis returns the time, in UTC so that equal times are equal with ==.
func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

package sealed

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// MaxText is the largest text in bytes.
const MaxText = 4 << 20

// ErrTooLarge is returned for a text that is larger than MaxText.
var ErrTooLarge = fmt.Errorf("larger than %d MiB", MaxText>>20)

const digestLen = 16

// Header is the part of a sealed text that can be read without decrypting it. It is
// authenticated only if it comes from OpenText.
type Header struct {
	Version uint64    // counts the changes of the text, from 1
	Time    time.Time // when it was sealed, in whole milliseconds and UTC
	Digest  [16]byte  // keyed digest of the text, which tells texts of one version apart
}

// Revision returns the header as a text, for fleet.Text. Of two revisions of a text, the
// newer one is greater as a string: the higher version, the later time, the greater digest.
func (h Header) Revision() string {
	return fmt.Sprintf("%020d-%015d-%x", h.Version, millis(h.Time), h.Digest)
}

// revisionLen is the length of a revision.
const revisionLen = 20 + 1 + 15 + 1 + 2*digestLen

// ErrRevision is the error of ParseRevision.
var ErrRevision = errors.New("invalid revision")

// ParseRevision parses the result of Revision, and nothing else. It is not authenticated:
// the version can be any number.
func ParseRevision(revision string) (Header, error) {
	if len(revision) != revisionLen {
		return Header{}, ErrRevision
	}
	version, err1 := strconv.ParseUint(revision[:20], 10, 64)
	ms, err2 := strconv.ParseInt(revision[21:36], 10, 64)
	digest, err3 := hex.DecodeString(revision[37:])
	if err1 != nil || err2 != nil || err3 != nil || version == 0 {
		return Header{}, ErrRevision
	}
	h := Header{Version: version, Time: fromMillis(ms), Digest: [digestLen]byte(digest)}
	if h.Revision() != revision { // other separators, signs, capitals
		return Header{}, ErrRevision
	}
	return h, nil
}

// SealText seals a text under a name for all keys. The version is at least 1. The error is
// ErrTooLarge, or nil.
func (k *Keys) SealText(name, text string, version uint64, now time.Time) (Header, []byte, error) {
	h := Header{Version: version, Time: fromMillis(millis(now))}
	h.Digest = k.all[0].textDigest(name, text, h)
	data, err := k.SealTextAs(name, text, h)
	if err != nil {
		return Header{}, nil, err
	}
	return h, data, nil
}

// SealTextAs seals a text again under a name for all keys, with the header that it has had:
// for a text that the store has lost. The header must come from OpenText or SealText.
func (k *Keys) SealTextAs(name, text string, h Header) ([]byte, error) {
	if len(text) > MaxText {
		return nil, ErrTooLarge
	}
	return k.seal(&textKind, name, h.fields(), []byte(text)), nil
}

// OpenText opens a sealed text. isCurrent reports whether servers that know only the
// current secret can open it, too. The caller compares the header with the version that it
// expects: a store can return an older text.
func (k *Keys) OpenText(name string, data []byte) (h Header, text string, isCurrent bool, err error) {
	const maxLen = magicLen + 1 + 8 + timeLen + digestLen + 1 + maxKeys*(idLen+wrapLen) + MaxText + sealLen
	if len(data) > maxLen {
		return Header{}, "", false, ErrTooLarge
	}
	fields, body, _, isCurrent, err := k.open(&textKind, name, data)
	if err != nil {
		return Header{}, "", false, err
	}
	if len(body) > MaxText {
		return Header{}, "", false, ErrTooLarge
	}
	if h, err = parseFields(fields); err != nil {
		return Header{}, "", false, err
	}
	return h, string(body), isCurrent, nil
}

// fields returns the header as it is sealed.
func (h Header) fields() []byte {
	fields := binary.BigEndian.AppendUint64(make([]byte, 0, textKind.fieldsLen), h.Version)
	fields = binary.BigEndian.AppendUint64(fields, uint64(millis(h.Time))) //nolint:gosec // not negative
	return append(fields, h.Digest[:]...)
}

func parseFields(fields []byte) (Header, error) {
	version, ms := binary.BigEndian.Uint64(fields), binary.BigEndian.Uint64(fields[8:])
	if version == 0 || ms > maxMillis {
		return Header{}, ErrForged // a server of the fleet seals no such text
	}
	return Header{version, fromMillis(int64(ms)), [digestLen]byte(fields[8+timeLen:])}, nil
}

// textDigest returns the digest of a text. It includes the name, version and time, so that
// the store does not learn which versions have the same text.
func (k *key) textDigest(name, text string, h Header) (digest [digestLen]byte) {
	mac := hmac.New(sha256.New, k.digest)
	mac.Write(boundTo(&textKind, name, h.fields()[:8+timeLen]))
	mac.Write([]byte(text))
	copy(digest[:], mac.Sum(nil))
	return digest
}

// CopyDigest returns a digest of the local copy of a text, by which a copy that was edited
// is recognized: HMAC-SHA-256 of the current secret.
func (k *Keys) CopyDigest(data []byte) []byte { return k.all[0].copyDigest(data) }

// IsCopyDigest reports whether digest is the CopyDigest of the current secret or of the old
// one.
func (k *Keys) IsCopyDigest(data, digest []byte) bool {
	for _, key := range k.all {
		if hmac.Equal(key.copyDigest(data), digest) {
			return true
		}
	}
	return false
}

func (k *key) copyDigest(data []byte) []byte {
	mac := hmac.New(sha256.New, k.copy)
	mac.Write(data)
	return mac.Sum(nil)
}

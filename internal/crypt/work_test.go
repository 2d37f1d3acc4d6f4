package crypt

import (
	"bytes"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/blowfish" //nolint:staticcheck // bcrypt is made of it
)

// tally is the work of one verification, counted and not timed.
type tally struct {
	blocks int    // compressed by the format's hash function
	mixes  int    // calls of other expensive functions
	params string // determine the rest of the work, in libraries that cannot be instrumented
}

// countingHash counts the blocks that a hash function compresses.
type countingHash struct {
	hash.Hash
	blocks  *int
	written int
}

// counting returns a constructor of hashes that count their blocks in n.
func counting(n *int, newHash func() hash.Hash) func() hash.Hash {
	return func() hash.Hash { return &countingHash{newHash(), n, 0} }
}

func (h *countingHash) Write(p []byte) (int, error) {
	before := h.written / h.BlockSize()
	h.written += len(p)
	*h.blocks += h.written/h.BlockSize() - before
	return h.Hash.Write(p)
}

func (h *countingHash) Sum(b []byte) []byte {
	*h.blocks += (h.written%h.BlockSize()+h.BlockSize()/8)/h.BlockSize() + 1
	return h.Hash.Sum(b)
}

func (h *countingHash) Reset() {
	h.written = 0
	h.Hash.Reset()
}

func newBlake2b() hash.Hash {
	h, err := blake2b.New512(nil)
	if err != nil {
		panic(err)
	}
	return h
}

// workCase creates random hashes of a format, and counts the work of a verification.
// Where the code of the format takes a hash function as a parameter, the hash
// function counts. Otherwise a second, simple implementation counts, which has to
// agree with the first.
type workCase struct {
	format *Format
	// hash returns a random hash of the format, of few lengths and low costs.
	hash func(r *rand.Rand) string
	// count also reports whether the password matches.
	count func(hash string, password []byte) (tally, bool)
}

// countedBy counts in the hash function of a format.
func countedBy(newHash func() hash.Hash, format func(func() hash.Hash) *Format) func(string, []byte) (tally, bool) {
	return func(hash string, password []byte) (t tally, ok bool) {
		ok = format(counting(&t.blocks, newHash)).verify(hash, password)
		return t, ok
	}
}

func workCases() []workCase {
	shaCrypt := func(f *Format, prefix string, digestLen, lastBits int, newHash func() hash.Hash) workCase {
		return workCase{f, func(r *rand.Rand) string {
			rounds := pick(r, "rounds=1000$", "rounds=1001$")
			if r.IntN(6) == 0 {
				rounds = pick(r, "rounds=5000$", "")
			}
			return prefix + rounds + cryptText(r, pick(r, 0, 1, 8, 15, 16)) + "$" + cryptText(r, digestLen-1) + "."
		}, countedBy(newHash, func(h func() hash.Hash) *Format { return newSHACrypt("", prefix, digestLen, lastBits, h) })}
	}
	pbkdf2 := func(f *Format, prefix string, digestLen int, newHash func() hash.Hash) workCase {
		return workCase{f, func(r *rand.Rand) string {
			salt := pick(r, 1, 8, 50, 51, 52, 64)
			if n := pick(r, "1", "2"); r.IntN(2) == 0 {
				return prefix + n + "$" + strings.ReplaceAll(base64Text(r, salt)+"$"+base64Text(r, digestLen), "+", ".")
			}
			l := pick(r, 16, digestLen, 64)
			return fmt.Sprintf("%si=%d,l=%d$%s$%s", prefix, 1+r.IntN(2), l, base64Text(r, salt), base64Text(r, l))
		}, countedBy(newHash, func(h func() hash.Hash) *Format { return newPBKDF2("", prefix, digestLen, 1<<20, h) })}
	}
	md5Crypt := func(f *Format, magic string) workCase {
		return workCase{f, func(r *rand.Rand) string {
			return magic + cryptText(r, r.IntN(md5cryptMaxSalt+1)) + "$" + cryptText(r, md5cryptDigestLen-1) + "."
		}, func(hash string, password []byte) (tally, bool) { return countedMD5Crypt(magic, hash, password) }}
	}
	argon2 := func(f *Format) workCase {
		return workCase{f, func(r *rand.Rand) string {
			return f.prefixes[0] + argon2Version + pick(r, "m=64,t=1,p=1", "m=64,t=2,p=1", "m=64,t=1,p=2") + "$" +
				base64Text(r, pick(r, 8, 16, 60, 64)) + "$" + base64Text(r, pick(r, 16, 32))
		}, func(hash string, password []byte) (tally, bool) { return countedArgon2(f, hash, password) }}
	}
	return []workCase{
		{bcryptFormat, func(r *rand.Rand) string {
			return pick(r, "$2a$", "$2b$", "$2y$") + pick(r, "04", "05") + "$" + cryptText(r, 52) + "."
		}, countedBcrypt},
		argon2(argon2idFormat),
		argon2(argon2iFormat),
		{scryptFormat, func(r *rand.Rand) string {
			if r.IntN(2) == 0 {
				return "$scrypt$" + pick(r, "ln=1,r=1,p=1", "ln=2,r=3,p=2") + "$" + base64Text(r, pick(r, 0, 8, 51, 52, 64)) + "$" + base64Text(r, 32)
			}
			return "$7$" + pick(r, "//..../....", "0/..../....") + cryptText(r, pick(r, 0, 8, 51, 52, 86)) + "$" + cryptText(r, 42) + "."
		}, countedScrypt},
		{yescryptFormat, func(r *rand.Rand) string {
			return "$y$" + pick(r, "j/.", "j0/") + "$" + strings.Repeat("z", pick(r, 0, 8, 68, 72, 84)) + "$" + cryptText(r, 42) + "."
		}, countedBy(sha256.New, newYescrypt)},
		shaCrypt(sha256cryptFormat, sha256cryptPrefix, 43, 4, sha256.New),
		shaCrypt(sha512cryptFormat, sha512cryptPrefix, 86, 2, sha512.New),
		pbkdf2(pbkdf2SHA256Format, "$pbkdf2-sha256$", sha256.Size, sha256.New),
		pbkdf2(pbkdf2SHA512Format, "$pbkdf2-sha512$", sha512.Size, sha512.New),
		pbkdf2(pbkdf2SHA1Format, "$pbkdf2$", sha1.Size, sha1.New),
		md5Crypt(apr1Format, apr1Magic),
		{ssha1Format, func(r *rand.Rand) string {
			hash := base64Text(r, sha1.Size+pick(r, 4, 5, 8, 16, 64))
			return ssha1Prefix + pick(r, hash, hash+strings.Repeat("=", -len(hash)&3))
		}, func(hash string, password []byte) (t tally, ok bool) {
			var raw [maxBase64]byte
			digest, salt, _ := decodeSSHA1(&raw, hash)
			return t, bytes.Equal(sumOf(counting(&t.blocks, sha1.New), password, salt), digest)
		}},
		md5Crypt(md5cryptFormat, md5cryptMagic),
		{sha1Format, func(r *rand.Rand) string {
			return sha1Prefix + base64Text(r, sha1.Size) + "="
		}, func(hash string, password []byte) (t tally, ok bool) {
			var raw [maxBase64]byte
			digest, _ := decodeSHA1(&raw, hash)
			return t, bytes.Equal(sumOf(counting(&t.blocks, sha1.New), password), digest)
		}},
		{plainFormat, func(r *rand.Rand) string {
			return plainPrefix + cryptText(r, pick(r, 1, 8, 55, 56, 1024))
		}, func(hash string, password []byte) (t tally, ok bool) {
			newHash := counting(&t.blocks, sha256.New)
			return t, bytes.Equal(sumOf(newHash, []byte(hash[len(plainPrefix):])), sumOf(newHash, password))
		}},
		{descryptFormat, func(r *rand.Rand) string {
			return cryptText(r, 12) + "."
		}, func(hash string, password []byte) (tally, bool) {
			// No loop and no branch depends on the salt or on the bits of the password.
			return tally{mixes: descryptRounds}, descryptFormat.verify(hash, password)
		}},
	}
}

func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// cryptText returns n random characters of the base64 of crypt(3).
func cryptText(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = cryptDigits[r.IntN(len(cryptDigits))]
	}
	return string(b)
}

// base64Text returns n random bytes in base64 without padding.
func base64Text(r *rand.Rand, n int) string {
	return base64.RawStdEncoding.EncodeToString(randomBytes(r, n))
}

// randomBytes returns n random bytes without NUL.
func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(1 + r.IntN(255))
	}
	return b
}

func sumOf(newHash func() hash.Hash, parts ...[]byte) []byte {
	h := newHash()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// TestWorkIsOfTheClass checks that all hashes of a class take the same work for
// passwords of the same length.
func TestWorkIsOfTheClass(t *testing.T) {
	cases := workCases()
	for _, f := range formats {
		i := slices.IndexFunc(cases, func(c workCase) bool { return c.format == f })
		if i < 0 {
			t.Errorf("the work of %s is not counted", f.Name)
			continue
		}
		t.Run(f.Name, func(t *testing.T) { testWork(t, cases[i]) })
	}
}

func testWork(t *testing.T, c workCase) {
	for _, v := range seeds(t) {
		if v.format != c.format.Name {
			continue
		}
		v.hash, _ = CutScheme(v.hash) // which is not hashed
		if counted, ok := c.count(v.hash, []byte(v.password)); !ok || counted == (tally{}) {
			t.Errorf("%q: the counting code counts %v and returns %v", v.hash, counted, ok)
		}
		if _, ok := c.count(v.hash, altered(v.format, v.password)); ok {
			t.Errorf("%q: the counting code accepts another password", v.hash)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	type key struct {
		class       Class
		passwordLen int
	}
	first := make(map[key]tally)
	compared := 0
	lengths := []int{1, 8, 16, 55, 56, 64, 72, 100}
	for range 150 {
		hash := c.hash(r)
		k := key{mustParse(t, hash), pick(r, lengths...)}
		if k.class.Format != c.format {
			t.Fatalf("%q is %s", hash, k.class)
		}
		got, _ := c.count(hash, randomBytes(r, k.passwordLen))
		want, ok := first[k]
		if !ok {
			first[k] = got
			continue
		}
		if compared++; got != want {
			t.Errorf("%s, password of %d bytes: %+v and %+v", k.class, k.passwordLen, want, got)
		}
	}
	if compared < 5 {
		t.Errorf("only %d pairs of one class", compared)
	}
}

// TestSaltLengthIsOfTheClass checks that pairs of hashes that differ only in a length
// or a cost are in different classes.
func TestSaltLengthIsOfTheClass(t *testing.T) {
	for _, test := range []struct{ name, one, other string }{
		{"salt of sha512crypt", "$6$saltsalt$" + digest86[:85] + ".", "$6$saltsaltsaltsalt$" + digest86[:85] + "."},
		{"salt of sha256crypt", "$5$saltsalt$" + digest43, "$5$$" + digest43},
		{"rounds of sha256crypt", "$5$saltsalt$" + digest43, "$5$rounds=5001$saltsalt$" + digest43},
		{"salt of apr1", "$apr1$saltsalt$" + digest22, "$apr1$salt$" + digest22},
		{"salt of md5crypt", "$1$saltsalt$" + digest22, "$1$$" + digest22},
		{"salt of argon2id", "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + argonDigest, "$argon2id$v=19$m=8,t=1,p=1$" + strings.Repeat("A", 86) + "$" + argonDigest},
		{"variant of argon2", "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + argonDigest, "$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + argonDigest},
		{"digest of argon2id", "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + argonDigest, "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + argonDigest[:21] + "A"},
		{"salt of scrypt", "$scrypt$ln=1,r=1,p=1$$" + argonDigest, "$scrypt$ln=1,r=1,p=1$" + strings.Repeat("A", 86) + "$" + argonDigest},
		{"salt of scrypt as crypt(3) spells it", "$7$/6..../....$" + digest43, "$7$/6..../...." + strings.Repeat("~", 86) + "$" + digest43},
		{"salt of yescrypt", "$y$j75$$" + digest43, "$y$j75$" + strings.Repeat("z", 84) + "$" + digest43},
		{"salt of pbkdf2", "$pbkdf2-sha256$1$AA$" + argonDigest, "$pbkdf2-sha256$1$" + strings.Repeat(".", 85) + "A$" + argonDigest},
		{"digest of pbkdf2", "$pbkdf2$i=1000,l=20$c2FsdA$" + strings.Repeat("A", 27), "$pbkdf2$i=1000,l=32$" + pbkdf2End},
		{"salt of ssha1", "{SSHA}" + strings.Repeat("A", 32), "{SSHA}" + strings.Repeat("A", 112)},
		{"stored password", "{PLAIN}p", "{PLAIN}" + strings.Repeat("p", 64)},
		{"cost of bcrypt", "$2y$04$" + bcrypt53, "$2y$05$" + bcrypt53},
	} {
		one, other := mustParse(t, test.one), mustParse(t, test.other)
		if one == other || one.String() == other.String() {
			t.Errorf("%s: both are of the class %s", test.name, one)
		}
	}
	for _, test := range []struct{ name, one, other string }{
		{"rounds of sha512crypt, written or not", "$6$s$" + digest86[:85] + ".", "$6$rounds=5000$s$" + digest86[:85] + "."},
		{"variants of bcrypt", "$2a$04$" + bcrypt53, "$2y$04$" + bcrypt53},
		{"salts of one length", "$1$saltsalt$" + digest22, "$1$pepper12$" + digest22},
	} {
		one, other := mustParse(t, test.one), mustParse(t, test.other)
		if one != other || one.String() != other.String() {
			t.Errorf("%s: %s and %s, though the work is the same", test.name, one, other)
		}
	}
}

// TestClassName pins a name: names never change.
func TestClassName(t *testing.T) {
	const want = `argon2id cost="m=8,t=1,p=1" salt=8 digest=32`
	if got := mustParse(t, "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$"+argonDigest).String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// countedMD5Crypt is a simple implementation of md5crypt.
func countedMD5Crypt(magic, hash string, password []byte) (t tally, ok bool) {
	salt, want, err := splitCrypt(hash[len(magic):], md5cryptMaxSalt, md5cryptDigestLen, md5cryptLastBits)
	if err != nil {
		panic(err)
	}
	newHash := counting(&t.blocks, md5.New)
	sum := sumOf(newHash, password, []byte(salt), password)
	h := newHash()
	h.Write(password)
	h.Write([]byte(magic + salt))
	h.Write(bytes.Repeat(sum, len(password)/md5.Size+1)[:len(password)])
	for n := len(password); n > 0; n >>= 1 {
		h.Write(append(password[:1:1], 0)[n&1:][:1])
	}
	sum = h.Sum(nil)
	for i := range md5cryptRounds {
		h := newHash()
		in := [2][]byte{sum, password}
		h.Write(in[i%2])
		if i%3 != 0 {
			h.Write([]byte(salt))
		}
		if i%7 != 0 {
			h.Write(password)
		}
		h.Write(in[1-i%2])
		sum = h.Sum(nil)
	}
	got := encodeMD5Crypt((*[md5.Size]byte)(sum))
	return t, string(got[:]) == want
}

// countedBcrypt counts the key expansions, which take the time of bcrypt.
func countedBcrypt(hash string, password []byte) (t tally, ok bool) {
	enc := base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").WithPadding(base64.NoPadding)
	salt, err := enc.DecodeString(hash[7:29])
	if err != nil {
		panic(err)
	}
	key := append(bytes.Clone(password), 0)
	key = key[:min(len(key), 72)]
	c, err := blowfish.NewSaltedCipher(key, salt)
	if err != nil {
		panic(err)
	}
	t.mixes++
	for range 1 << ((hash[4]-'0')*10 + hash[5] - '0') {
		blowfish.ExpandKey(key, c)
		blowfish.ExpandKey(salt, c)
		t.mixes += 2
	}
	digest := []byte("OrpheanBeholderScryDoubt")
	for i := 0; i < len(digest); i += 8 {
		for range 64 {
			c.Encrypt(digest[i:], digest[i:])
		}
	}
	return t, enc.EncodeToString(digest[:23]) == hash[29:]
}

// countedScrypt is a simple implementation of scrypt (RFC 7914), with the Salsa20 of
// yescrypt.
func countedScrypt(text string, password []byte) (t tally, ok bool) {
	var h scryptHash
	if err := h.parse(text); err != nil {
		panic(err)
	}
	newHash := counting(&t.blocks, sha256.New)
	r := int(h.r)
	b, err := pbkdf2.Key(newHash, string(password), h.salt(), 1, int(h.p)*128*r)
	if err != nil {
		panic(err)
	}
	mix := func(block []uint64) {
		x := [8]uint64(block[len(block)-8:])
		out := make([]uint64, len(block))
		for i := range 2 * r {
			xorWords(x[:], block[8*i:][:8])
			salsa20(&x, 8)
			t.mixes++
			copy(out[8*(i/2+i%2*r):], x[:])
		}
		copy(block, out)
	}
	for part := b; len(part) > 0; part = part[128*r:] {
		x := make([]uint64, 16*r)
		loadShuffled(x, part[:128*r])
		states := make([][]uint64, 1<<h.ln)
		for i := range states {
			states[i] = slices.Clone(x)
			mix(x)
		}
		for range states {
			xorWords(x, states[x[len(x)-8]&uint64(len(states)-1)])
			mix(x)
		}
		storeShuffled(part[:128*r], x)
	}
	got, err := pbkdf2.Key(newHash, string(password), b, 1, sha256.Size)
	return t, err == nil && bytes.Equal(got, h.digest())
}

// countedArgon2 counts the first digest, the only one of password and salt (RFC
// 9106, section 3.2). The parameters determine the rest.
func countedArgon2(f *Format, text string, password []byte) (t tally, ok bool) {
	var h argon2Hash
	if err := h.parse(text[len(f.prefixes[0]):]); err != nil {
		panic(err)
	}
	length := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(len(b))) }
	sumOf(counting(&t.blocks, newBlake2b), make([]byte, 24), length(password), password, length(h.salt()), h.salt(), length(nil), length(nil))
	t.params = fmt.Sprint(h.params, h.digestLen)
	return t, f.verify(text, password)
}

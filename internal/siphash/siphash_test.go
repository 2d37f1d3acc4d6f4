package siphash

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
)

// vectors are the hashes, least significant byte first, of the texts of 0 to 63 bytes
// 00, 01, 02 and so on, with the key 00 to 0f: the test vectors of the paper's reference
// implementation. Made with OpenSSL 3.0, for each text:
//
//	openssl mac -macopt hexkey:000102030405060708090a0b0c0d0e0f -macopt size:8 -in <text> SIPHASH
var vectors = [64]string{
	"310e0edd47db6f72", "fd67dc93c539f874", "5a4fa9d909806c0d", "2d7efbd796666785",
	"b7877127e09427cf", "8da699cd64557618", "cee3fe586e46c9cb", "37d1018bf50002ab",
	"6224939a79f5f593", "b0e4a90bdf82009e", "f3b9dd94c5bb5d7a", "a7ad6b22462fb3f4",
	"fbe50e86bc8f1e75", "903d84c02756ea14", "eef27a8e90ca23f7", "e545be4961ca29a1",
	"db9bc2577fcc2a3f", "9447be2cf5e99a69", "9cd38d96f0b3c14b", "bd6179a71dc96dbb",
	"98eea21af25cd6be", "c7673b2eb0cbf2d0", "883ea3e395675393", "c8ce5ccd8c030ca8",
	"94af49f6c650adb8", "eab8858ade92e1bc", "f315bb5bb835d817", "adcf6b0763612e2f",
	"a5c91da7acaa4dde", "716595876650a2a6", "28ef495c53a387ad", "42c341d8fa92d832",
	"ce7cf2722f512771", "e37859f94623f3a7", "381205bb1ab0e012", "ae97a10fd434e015",
	"b4a31508beff4d31", "81396229f0907902", "4d0cf49ee5d4dcca", "5c73336a76d8bf9a",
	"d0a704536ba93e0e", "925958fcd6420cad", "a915c29bc8067318", "952b79f3bc0aa6d4",
	"f21df2e41d4535f9", "87577519048f53a9", "10a56cf5dfcd9adb", "eb75095ccd986cd0",
	"51a9cb9ecba312e6", "96afadfc2ce666c7", "72fe52975a4364ee", "5a1645b276d592a1",
	"b274cb8ebf87870a", "6f9bb4203de7b381", "eaecb2a30b22a87f", "9924a43cc1315724",
	"bd838d3aafbf8db7", "0b1a2a3265d51aea", "135079a3231ce660", "932b2846e4d70666",
	"e1915f5cb1eca46c", "f325965ca16d629f", "575ff28e60381be5", "724506eb4c328a95",
}

func vectorKey() *Key {
	var key [KeyLen]byte
	for i := range key {
		key[i] = byte(i)
	}
	return NewKey(key)
}

func TestVectors(t *testing.T) {
	t.Parallel()
	key, text := vectorKey(), []byte{}
	for n, want := range vectors {
		if got := hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, key.Sum(text))); got != want {
			t.Errorf("%d bytes: got %s, want %s", n, got, want)
		}
		if key.SumString(string(text)) != key.Sum(text) {
			t.Errorf("%d bytes: got another hash of the string", n)
		}
		text = append(text, byte(n))
	}
	// Appendix A of the paper.
	if got := key.Sum(text[:15]); got != 0xa129ca6149be45e5 {
		t.Errorf("got %x, want the hash of the paper", got)
	}
}

func TestLength(t *testing.T) {
	t.Parallel()
	key, seen := vectorKey(), make(map[uint64]int)
	for n := range 1000 { // the length enters modulo 256
		sum := key.Sum(make([]byte, n))
		if other, isSeen := seen[sum]; isSeen {
			t.Errorf("got the same hash of %d and %d zero bytes", other, n)
		}
		seen[sum] = n
	}
}

func TestOtherKey(t *testing.T) {
	t.Parallel()
	for i := range KeyLen {
		var bytes [KeyLen]byte
		bytes[i] = 1
		if NewKey(bytes).SumString("text") == NewKey([KeyLen]byte{}).SumString("text") {
			t.Errorf("byte %d of the key is not used", i)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	key, text := vectorKey(), []byte("192.0.2.1")
	if n := testing.AllocsPerRun(100, func() {
		key.Sum(text)
		key.SumString("192.0.2.1")
	}); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func BenchmarkSumString(b *testing.B) {
	for _, row := range []struct{ name, text string }{
		{"address", "192.0.2.123"},
		{"hash", "$2y$12$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234"},
	} {
		b.Run(row.name, func(b *testing.B) {
			key := vectorKey()
			b.ReportAllocs()
			for b.Loop() {
				key.SumString(row.text)
			}
		})
	}
}

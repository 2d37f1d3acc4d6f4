package rendezvous

import (
	"fmt"
	"math"
	"runtime"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// TestScoresAreFixed pins scores: servers of all versions must agree.
func TestScoresAreFixed(t *testing.T) {
	t.Parallel()
	for i, test := range []struct {
		hash   uint64
		weight int
		mixed  uint64
		score  uint64 // math.Float64bits of it
	}{
		{0xfb40819c46aaeb0e, 1, 0xa3bfa1f0aa90af04, 0x3fdc991d2cdd2be9},
		{0xae83941251c45d83, 2, 0x52a714a0327310cf, 0x3fe216a71a49159d},
		{0x48850253d870c791, 9, 0xa8a17276b2810071, 0x3fa7bfcc524226bc},
		{0xe770dd556975cbaa, 28, 0x244f7a19746a24fd, 0x3fb1db4dc3a086ef},
		{0x76e7baffd9f8ddf4, 65, 0x71982381e5d22d83, 0x3f8999f4d7b775e6},
		{0x628909616684a118, 126, 0xa21e7d476c085536, 0x3f6db3c6f38d8b5f},
		{0x2b0d0fbf8d77a003, 217, 0x4b38449bfcd3a132, 0x3f771e3c423a20ec},
		{0xd2ee804c03490ea2, 344, 0x45cf06dc5a950426, 0x3f6ef1bd9b3b8115},
	} {
		if hash := xxhash.Sum64String(fmt.Sprint("hash", i)); hash != test.hash {
			t.Fatalf("hash %d: got %#x, want %#x", i, hash, test.hash)
		}
		if got := Mix(test.hash); got != test.mixed {
			t.Errorf("Mix(%#x): got %#x, want %#x", test.hash, got, test.mixed)
		}
		got, want := Score(test.hash, test.weight), math.Float64frombits(test.score)
		// math.Log may differ in the last bit from one architecture to another.
		if got != want && (runtime.GOARCH == "amd64" || math.Abs(got-want) > 4e-16*want) {
			t.Errorf("Score(%#x, %d): got %v, want %v", test.hash, test.weight, got, want)
		}
	}
}

// TestScoreIsPositive checks the hashes with the smallest and the largest logarithm.
func TestScoreIsPositive(t *testing.T) {
	t.Parallel()
	for i := range uint64(100_000) {
		for _, hash := range []uint64{i, ^i, i << 32} {
			for _, weight := range []int{1, 65535, math.MaxInt} {
				if got := Score(hash, weight); !(got > 0) || math.IsInf(got, 0) {
					t.Fatalf("Score(%#x, %d): got %v, want a positive number", hash, weight, got)
				}
			}
		}
	}
	if got := uniform(0); !(got > 0) {
		t.Errorf("uniform(0): got %v, want a number above 0", got)
	}
}

// Choose servers by a key. If a server is removed, only its keys move.
func ExampleScore() {
	servers := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}
	choose := func(key string, servers []string) (chosen string) {
		least := math.Inf(1)
		for _, server := range servers {
			if score := Score(xxhash.Sum64String(key)^xxhash.Sum64String(server), 1); score < least {
				least, chosen = score, server
			}
		}
		return chosen
	}
	for _, key := range []string{"/a", "/b", "/c", "/d"} {
		fmt.Println(key, choose(key, servers), choose(key, servers[1:]))
	}
	// Output:
	// /a 10.0.0.1 10.0.0.2
	// /b 10.0.0.1 10.0.0.3
	// /c 10.0.0.2 10.0.0.2
	// /d 10.0.0.3 10.0.0.3
}

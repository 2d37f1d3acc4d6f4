package rendezvous

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// candidatesOf returns one candidate for each weight, with its position as index.
func candidatesOf(weights []int) []Candidate {
	candidates := make([]Candidate, len(weights))
	for i, w := range weights {
		key := xxhash.Sum64String(fmt.Sprintf("f cost=%q salt=0 digest=0", fmt.Sprint(i)))
		candidates[i] = Candidate{Key: key, Weight: w, Index: uint32(i)}
	}
	return candidates
}

// weightsOf returns n weights, each of them a function of its position.
func weightsOf(n int, weight func(i int) int) []int {
	weights := make([]int, n)
	for i := range weights {
		weights[i] = weight(i)
	}
	return weights
}

func oneToFive(i int) int        { return 1 + i%5 }
func steeplyFewer(i int) int     { return 1 + 1000/(1+i) }
func always(w int) func(int) int { return func(int) int { return w } }

// numberOf returns a hash of a name, with a fixed key.
func numberOf(name string) uint64 {
	mac := hmac.New(sha256.New, []byte("fixed key"))
	mac.Write([]byte(name))
	return binary.BigEndian.Uint64(mac.Sum(nil))
}

// TestChoicesAreFixed pins choices among the candidates of tables: servers of all
// versions must agree. Candidates are classes of hashes with the cost as name, tables
// are files named source0, source1 and so on, and numbers are those of the user names
// name0 to name9999. The digest is FNV-1a of the 10,000 choices, one per line. A choice
// is 1000 times the table, plus the index.
func TestChoicesAreFixed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sizes  []int // of the tables
		name   string
		weight func(i int) int
		first  []uint32
		digest uint64
	}{
		{[]int{1}, "weights 1 to 5 in turn", oneToFive, []uint32{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0xe6b32d1e5bcc6ea5},
		{[]int{1}, "steeply falling weights", steeplyFewer, []uint32{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0xe6b32d1e5bcc6ea5},
		{[]int{3}, "weights 1 to 5 in turn", oneToFive, []uint32{0, 1, 1, 1, 1, 2, 1, 0, 0, 2, 2, 0}, 0x377350d958d7a49e},
		{[]int{3}, "steeply falling weights", steeplyFewer, []uint32{0, 1, 1, 1, 1, 2, 1, 0, 0, 2, 0, 0}, 0x22999bbce84100bd},
		{[]int{64}, "weights 1 to 5 in turn", oneToFive, []uint32{5, 3, 21, 44, 59, 2, 47, 48, 44, 52, 8, 21}, 0x3f7321291dccd72},
		{[]int{64}, "steeply falling weights", steeplyFewer, []uint32{5, 3, 21, 9, 4, 2, 1, 0, 0, 52, 0, 0}, 0xfae09a7ecd40bd8b},
		{[]int{65}, "weights 1 to 5 in turn", oneToFive, []uint32{20, 3, 21, 44, 59, 2, 47, 48, 44, 52, 8, 21}, 0xbc49401abc763db3},
		{[]int{65}, "steeply falling weights", steeplyFewer, []uint32{5, 3, 21, 9, 4, 2, 1, 0, 0, 52, 0, 0}, 0xa36c0c9b85d6ac63},
		{[]int{1000}, "weights 1 to 5 in turn", oneToFive, []uint32{386, 24, 654, 328, 559, 86, 337, 679, 239, 103, 749, 479}, 0x5d3355c58361c590},
		{[]int{1000}, "steeply falling weights", steeplyFewer, []uint32{386, 212, 76, 574, 377, 2, 1, 0, 239, 52, 90, 0}, 0x5b7de59a9c1844b2},
		{[]int{0, 3, 100, 1}, "weights 1 to 5 in turn", oneToFive, []uint32{2049, 2008, 2023, 2096, 2049, 2036, 2089, 2097, 2039, 2052, 2060, 2063}, 0xf25af106feba6900},
		{[]int{0, 3, 100, 1}, "steeply falling weights", steeplyFewer, []uint32{3000, 2008, 2023, 2001, 1000, 1000, 2000, 1002, 2035, 1000, 2089, 2000}, 0x4cc42a2d223f5c46},
	} {
		t.Run(fmt.Sprintf("tables of %v with %s", test.sizes, test.name), func(t *testing.T) {
			t.Parallel()
			var tables []Table
			for _, size := range test.sizes {
				tables = append(tables, NewTable(candidatesOf(weightsOf(size, test.weight))))
			}
			digest := fnv.New64a()
			var first []uint32
			for i := range 10_000 {
				number := numberOf(fmt.Sprint("name", i))
				best, winner := Choice{Score: math.Inf(1)}, 0
				for j := range tables {
					salt := xxhash.Sum64String(fmt.Sprint("source", j))
					if choice := tables[j].Choose(number, salt); choice.Score < best.Score {
						best, winner = choice, j
					}
				}
				choice := uint32(1000*winner) + best.Index()
				fmt.Fprintln(digest, choice)
				if len(first) < len(test.first) {
					first = append(first, choice)
				}
			}
			if !slices.Equal(first, test.first) {
				t.Errorf("the first choices: got %v, want %v", first, test.first)
			}
			if got := digest.Sum64(); got != test.digest {
				t.Errorf("digest of all choices: got %#x, want %#x", got, test.digest)
			}
		})
	}
}

// choicesOf returns the chosen indexes for the given number of numbers.
func choicesOf(table Table, numbers int) []uint32 {
	random := rand.New(rand.NewPCG(1, 2))
	all := make([]uint32, numbers)
	for i := range all {
		choice := table.Choose(random.Uint64(), 0)
		all[i] = choice.Index()
	}
	return all
}

// TestCandidatesGetTheirShares checks that common and rare candidates are chosen in
// proportion to their weights. The input is fixed.
func TestCandidatesGetTheirShares(t *testing.T) {
	t.Parallel()
	const numbers = 40_000
	for _, test := range []struct {
		name    string
		weights []int
	}{
		{"two of the same weight", []int{1, 1}},
		{"weights far apart", []int{70, 20, 9, 1}},
		{"as many as have scores of their own", weightsOf(MaxCommon, oneToFive)},
		{"one more than have scores of their own", weightsOf(MaxCommon+1, oneToFive)},
		{"all are rare", weightsOf(10*MaxCommon, always(1))},
		{"a few have most of the weight", weightsOf(10*MaxCommon, steeplyFewer)},
		{"the common ones weigh as much as the rare ones", weightsOf(11*MaxCommon, func(i int) int {
			if i < MaxCommon {
				return 10
			}
			return 1
		})},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, total := make([]float64, len(test.weights)), 0
			for _, index := range choicesOf(NewTable(candidatesOf(test.weights)), numbers) {
				got[index]++
			}
			for _, w := range test.weights {
				total += w
			}
			var statistic float64 // Pearson's
			for i, w := range test.weights {
				want := numbers * float64(w) / float64(total)
				statistic += (got[i] - want) * (got[i] - want) / want
			}
			freedom := float64(len(test.weights) - 1)
			if limit := freedom + 6*math.Sqrt(2*freedom) + 10; statistic > limit {
				t.Errorf("Pearson's statistic: got %.0f, want at most %.0f", statistic, limit)
			}
		})
	}
}

// TestFewNumbersMove compares the choices in two tables.
func TestFewNumbersMove(t *testing.T) {
	t.Parallel()
	const numbers = 10_000
	backwards := func(candidates []Candidate) []Candidate {
		slices.Reverse(candidates)
		return candidates
	}
	many := weightsOf(9*MaxCommon, func(i int) int { return 1 + i%3 })
	for _, test := range []struct {
		name     string
		old, new []Candidate
		most     int // numbers that move
	}{
		{"the same candidates in another order", candidatesOf([]int{60, 30, 10}), backwards(candidatesOf([]int{60, 30, 10})), 0},
		{"many candidates in another order", candidatesOf(many), backwards(candidatesOf(many)), 0},
		{"a weight grows by a hundredth of all", candidatesOf([]int{60, 30, 10}), candidatesOf([]int{60, 30, 11}), numbers * 3 / 100},
		{"one more candidate", candidatesOf([]int{60, 30, 10}), candidatesOf([]int{60, 30, 10, 1}), numbers * 3 / 100},
		{"one more of many candidates", candidatesOf(many), candidatesOf(append(slices.Clone(many), 1)), numbers * 3 / 100},
		{"one candidate more than have scores of their own", candidatesOf(weightsOf(MaxCommon, always(1))),
			candidatesOf(weightsOf(MaxCommon+1, always(1))), numbers * 5 / 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			moved, before := 0, choicesOf(NewTable(test.old), numbers)
			for i, index := range choicesOf(NewTable(test.new), numbers) {
				if index != before[i] {
					moved++
				}
			}
			if moved > test.most || test.most > 0 && moved == 0 {
				t.Errorf("got %d numbers that move, want at most %d, and some unless that is 0", moved, test.most)
			}
		})
	}
}

// TestNoCandidates checks that the choice of an empty table loses against every other
// choice.
func TestNoCandidates(t *testing.T) {
	t.Parallel()
	for _, table := range []Table{{}, NewTable(nil)} {
		if choice := table.Choose(1, 2); !math.IsInf(choice.Score, 1) {
			t.Errorf("got score %v, want +Inf", choice.Score)
		}
	}
}

// TestChooseAllocatesNothing checks tables with common and with rare candidates.
func TestChooseAllocatesNothing(t *testing.T) {
	table := NewTable(candidatesOf(weightsOf(10*MaxCommon, always(1))))
	number := uint64(0)
	if got := testing.AllocsPerRun(100, func() {
		number = Mix(number + 1)
		choice := table.Choose(number, 0)
		choice.Index()
	}); got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}

// Give each name one of two prizes, of which one is three times as likely.
func ExampleTable() {
	prizes := []string{"pen", "mug"}
	table := NewTable([]Candidate{
		{Key: xxhash.Sum64String("pen"), Weight: 3, Index: 0},
		{Key: xxhash.Sum64String("mug"), Weight: 1, Index: 1},
	})
	for _, name := range []string{"alice", "bob", "carol", "dave"} {
		choice := table.Choose(xxhash.Sum64String(name), 0)
		fmt.Println(name, prizes[choice.Index()])
	}
	// Output:
	// alice pen
	// bob pen
	// carol mug
	// dave pen
}

func BenchmarkChoose(b *testing.B) {
	for _, n := range []int{1, 4, 256, 10_000} {
		b.Run(fmt.Sprint("candidates=", n), func(b *testing.B) {
			table := NewTable(candidatesOf(weightsOf(n, always(1))))
			number := uint64(0)
			for b.Loop() {
				number = Mix(number + 1)
				choice := table.Choose(number, 0)
				choice.Index()
			}
		})
	}
}

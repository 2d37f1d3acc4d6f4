package passwordpolicy

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// MinUnpredictable is the minimum number of unpredictable characters in a password.
// What does not follow from other characters counts as it is. These parts count less:
//
//   - one of about 700 words of which common passwords consist (words.txt), also with
//     changed case or with signs that look like letters: 2 characters
//   - another of the 20,000 most common passwords (common.txt), likewise: 3 characters
//   - a part of the user name: 1 character
//   - the repetition of an earlier part, or of the last character: 1 character
//   - a sequence of the alphabet, of digits or of neighboring keys, in either
//     direction: 2 characters
//   - two such sequences that alternate, as in "a1b2c3": 3 characters
//   - four or more digits: half a character each, and a half
//
// The way to read the password that has the fewest characters counts. Other readings
// are the password without its most frequent separator, such as spaces, which then
// counts once (from 12 characters on); and the password with each repeated character
// written once.
const MinUnpredictable = 8

// Costs of parts, in half characters.
const (
	costChar        = 2
	costWord        = 4
	costCommon      = 6
	costName        = 2
	costRepetition  = 2
	costSequence    = 4
	costAlternating = 6
	costDigits      = 1

	minWord        = 3
	minRepetition  = 3
	minSequence    = 4
	minAlternating = 6
	minDigits      = 4
	minSeparated   = 12 // a sign that occurs twice in a short random password is no separator

	minCost = MinUnpredictable * costChar
)

// judge returns ReasonNone, ReasonUserName or ReasonPredictable.
func judge(text []rune, names [][]rune) Reason {
	switch least := cost(text, names); {
	case least >= minCost:
		return ReasonNone
	case least < cost(text, nil):
		return ReasonUserName
	}
	return ReasonPredictable
}

// cost returns the number of unpredictable characters in text, in half characters.
func cost(text []rune, names [][]rune) int {
	least := min(
		costOf(text, names),
		costOf(slices.Compact(lower(text)), names)+costRepetition,
	)
	if len(text) >= minSeparated {
		least = min(least, costOf(withoutSeparator(text), names)+costChar)
	}
	return least
}

// costOf finds the cheapest way to divide text into parts, from its end.
func costOf(text []rune, names [][]rune) int {
	folded, plain := lower(text), fold(text)
	repeated, next, afterNext := repetitions(folded), related(folded, 1), related(folded, 2)
	costs := make([]int, len(text)+1) // of the text from there on
	for i := len(text) - 1; i >= 0; i-- {
		costs[i] = costs[i+1] + costChar
		part := func(length, cost int) { costs[i] = min(costs[i], costs[i+length]+cost) }
		parts := func(shortest, longest int, cost func(n int) int) {
			for n := shortest; n <= longest; n++ {
				part(n, cost(n))
			}
		}
		repetition := func(int) int { return costRepetition }
		parts(minRepetition, repeated[i], repetition)
		if i > 0 {
			parts(1, run(folded[i:], folded[i-1]), repetition)
		}
		parts(minSequence, sequence(next[min(i, len(next)):]), func(int) int { return costSequence })
		parts(minAlternating, alternating(afterNext[min(i, len(afterNext)):]), func(int) int { return costAlternating })
		parts(minDigits, digits(text[i:]), func(n int) int { return (n + 1) * costDigits })
		if len(text)-i >= minWord {
			for _, word := range commonWords()[[minWord]rune(plain[i:])] {
				if hasPrefix(plain[i:], word.text) {
					part(len(word.text), word.cost)
				}
			}
		}
		for _, name := range names {
			if hasPrefix(plain[i:], name) {
				part(len(name), costName)
			}
		}
	}
	return costs[0]
}

// repetitions returns, for each position, the length of the longest part from there
// on that also begins earlier. The two may overlap.
func repetitions(text []rune) []int {
	longest := make([]int, len(text))
	common := make([]int, len(text)+1) // how long the parts from j and from i on agree
	for i := len(text) - 1; i > 0; i-- {
		for j := range i { // common[j+1] is still that of j+1 and i+1
			if text[i] != text[j] {
				common[j] = 0
				continue
			}
			common[j] = common[j+1] + 1
			longest[i] = max(longest[i], common[j])
		}
	}
	return longest
}

// run returns how often text begins with c.
func run(text []rune, c rune) int {
	n := slices.IndexFunc(text, func(other rune) bool { return other != c })
	if n < 0 {
		return len(text)
	}
	return n
}

// related returns the relations of each character to the one that is step places
// behind it.
func related(text []rune, step int) []relation {
	known := relations()
	var all []relation
	for i := range len(text) - step {
		r := known[pair{text[i], text[i+step]}]
		if step > 1 && text[i] == text[i+step] {
			r |= relationEqual
		}
		all = append(all, r)
	}
	return all
}

// sequence returns the length of the sequence at the beginning of a text, of which
// next are the relations of neighbors.
func sequence(next []relation) int {
	all := ^relation(0)
	n := slices.IndexFunc(next, func(r relation) bool {
		all &= r
		return all == 0
	})
	if n < 0 {
		n = len(next)
	}
	return n + 1
}

// alternating returns the length of two sequences at the beginning of a text, of which
// one has the characters at even places. Either can repeat a character. afterNext are
// the relations of each character to the next but one.
func alternating(afterNext []relation) int {
	all := [2]relation{^relation(0), ^relation(0)}
	for n, r := range afterNext {
		if all[n%2] &= r; all[n%2] == 0 {
			return n + 2
		}
	}
	return len(afterNext) + 2
}

// digits returns the number of digits at the beginning of text.
func digits(text []rune) int {
	n := slices.IndexFunc(text, func(c rune) bool { return c < '0' || c > '9' })
	if n < 0 {
		return len(text)
	}
	return n
}

// withoutSeparator returns text without the most frequent character that is neither a
// letter nor a digit.
func withoutSeparator(text []rune) []rune {
	count := make(map[rune]int)
	most := rune(-1)
	for _, c := range text {
		if unicode.IsLetter(c) || unicode.IsDigit(c) {
			continue
		}
		if count[c]++; count[c] > count[most] {
			most = c
		}
	}
	return slices.DeleteFunc(slices.Clone(text), func(c rune) bool { return c == most })
}

// lower returns text in lower case, with as many characters.
func lower(text []rune) []rune {
	folded := make([]rune, len(text))
	for i, c := range text {
		folded[i] = unicode.ToLower(c)
	}
	return folded
}

// fold is like lower, and replaces signs that look like letters.
func fold(text []rune) []rune {
	folded := lower(text)
	for i, c := range folded {
		if letter, ok := lookalikes[c]; ok {
			folded[i] = letter
		}
	}
	return folded
}

// lookalikes maps several characters to one. Words are mapped, too.
var lookalikes = map[rune]rune{
	'@': 'a', '4': 'a', '3': 'e', '1': 'i', '!': 'i', 'l': 'i', '|': 'i', '0': 'o', '5': 's', '$': 's', '7': 't', '+': 't', '8': 'b',
}

func hasPrefix(text, word []rune) bool {
	return len(text) >= len(word) && slices.Equal(text[:len(word)], word)
}

// nameWords returns the user name and its parts, each also reversed.
func nameWords(user string) [][]rune {
	var words [][]rune
	add := func(part string) {
		if word := fold([]rune(part)); len(word) >= minWord {
			reversed := slices.Clone(word)
			slices.Reverse(reversed)
			words = append(words, word, reversed)
		}
	}
	const maxUser = 255 // bytes, as in htpasswd files
	user = user[:min(len(user), maxUser)]
	add(user)
	isSeparator := func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }
	if strings.ContainsFunc(user, isSeparator) {
		for part := range strings.FieldsFuncSeq(user, isSeparator) {
			add(part)
		}
	}
	return words
}

var (
	//go:embed words.txt
	wordsText string
	//go:embed common.txt
	commonText string
)

// word is a word of one of the lists, as by fold.
type word struct {
	text []rune
	cost int
}

// commonWords returns the words of the lists by their first characters.
var commonWords = sync.OnceValue(func() map[[minWord]rune][]word {
	words := make(map[[minWord]rune][]word)
	for _, list := range []struct {
		text string
		cost int
	}{{wordsText, costWord}, {commonText, costCommon}} {
		for line := range strings.Lines(list.text) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			for text := range strings.FieldsSeq(line) {
				folded := fold([]rune(text))
				first := [minWord]rune(folded)
				words[first] = append(words[first], word{folded, list.cost})
			}
		}
	}
	return words
})

// sequences are lines in which a character leads to the next one, or to the one before.
var sequences = []string{
	"abcdefghijklmnopqrstuvwxyz",
	"acegikmoqsuwy", "bdfhjlnprtvxz", "13579", "24680",
	"01234567890",
	// Rows of keys: English, German, French and Russian.
	"qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./",
	"qwertzuiopü+", "asdfghjklöä#", "<yxcvbnm,.-",
	"azertyuiop^$", "qsdfghjklmù*", "<wxcvbn,;:!",
	"йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю",
	"!@#$%^&*()_+", "!\"§$%&/()=?",
	// Columns of keys, down and up, and of the numeric pad.
	"1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/", "zaq1xsw2cde3vfr4bgt5nhy6mju7,ki8.lo9/;p0",
	"qazwsxedcrfvtgbyhnujmikolp", "1qay2wsx3edc", "1q2w3e4r5t6y7u8i9o0p", "q1w2e3r4t5y6u7i8o9p0",
	"qweasdzxc", "741852963", "147258369",
}

// relation is a set of lines in sequences, with a direction. pair is two characters.
type (
	relation uint64
	pair     [2]rune
)

// relationEqual is the relation of a character to itself.
const relationEqual relation = 1 << 63

// relations returns, for each two neighbors in sequences, the lines that have them.
var relations = sync.OnceValue(func() map[pair]relation {
	known := make(map[pair]relation)
	for i, line := range sequences {
		chars := []rune(line)
		for j := range len(chars) - 1 {
			known[pair{chars[j], chars[j+1]}] |= 1 << (2 * i)
			known[pair{chars[j+1], chars[j]}] |= 1 << (2*i + 1)
		}
	}
	return known
})

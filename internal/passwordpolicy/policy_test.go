package passwordpolicy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var defaultPolicy = Policy{MinLength: DefaultMinLength}

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		user, password string
		want           Reason
	}{
		// Phrases and random passwords are accepted, whatever they consist of.
		{"alice", "my dog ate the blue homework", ReasonNone},
		{"alice", "four random dictionary words", ReasonNone},
		{"alice", "mydogatethebluehomework", ReasonNone},
		{"alice", "kD8!vq2Lz#m9WpX", ReasonNone},
		{"alice", "kd8vq2lzm9wpxth", ReasonNone},
		{"alice", "gXw4tRnz8hKcQ2mVpEy7", ReasonNone},
		{"alice", "3f1c9a7e0b5d8264", ReasonNone},
		{"alice", "8304716295503817", ReasonNone},
		{"alice", "the password of alice is hard to find", ReasonNone},
		{"alice", "purple monkey dishwasher lamp", ReasonNone},
		{"alice", "grün wie die Wiese im Mai", ReasonNone},
		{"alice", "пять зелёных лошадей", ReasonNone},
		{"alice", "七転び八起き、毎日少しずつ進む。", ReasonNone},
		{"alice", "🐎🔋📎✅🎲🌧🧲🪣🫖🧊🦀🌵🪕🧦🛶", ReasonNone},
		{"alice", "Tr0ub4dor&3 zebra quilt", ReasonNone},
		{"alice", "midnight elephant scorpion", ReasonNone}, // three common words
		{"alice", "MidnightElephantScorpion", ReasonNone},
		{"alice", "midnight elephant", ReasonPredictable},
		{"", "wholly new phrase here", ReasonNone},
		{"alice", strings.Repeat("xq", 4) + "vbw9tz hk plm", ReasonNone},
		{"alice", " leading and trailing spaces ", ReasonNone},

		{"alice", "", ReasonTooShort},
		{"alice", "kD8!vq2Lz#m9Wp", ReasonTooShort},
		{"alice", "päßwörtérnüvxz", ReasonTooShort}, // 14 characters, 20 bytes
		{"alice", "päßwörtérnüvxzq", ReasonNone},
		{"alice", "ab", ReasonTooShort},

		{"alice", strings.Repeat("many words ", 6) + "123456", ReasonNone},
		{"alice", strings.Repeat("many words ", 6) + "1234567", ReasonTooLong},
		{"alice", strings.Repeat("\xff", 73), ReasonTooLong},
		{"alice", strings.Repeat("x", 1<<20), ReasonTooLong},

		{"alice", "my dog ate the \tblue homework", ReasonControl},
		{"alice", "my dog ate the\nblue homework", ReasonControl},
		{"alice", "my dog ate the\x00blue homework", ReasonControl},
		{"alice", "my dog ate the blue homework\x7f", ReasonControl},
		{"alice", "my dog ate the \u0085blue homework", ReasonControl},
		{"alice", "\x01", ReasonControl}, // more useful than ReasonTooShort

		{"alice", "gr\xfcn wie die Wiese im Mai", ReasonEncoding},
		{"alice", "gr\ufffdn wie die Wiese im Mai", ReasonEncoding},
		{"alice", "my dog ate the blue home\xe2\x82", ReasonEncoding},
		{"alice", "my dog ate \xed\xa0\x80 the homework", ReasonEncoding}, // a surrogate

		{"alice", "gru\u0308n wie die Wiese im Mai", ReasonNotComposed},
		{"alice", "gr\u00fcn wie die Wiese im Mai", ReasonNone},
		{"alice", "vie\u0302\u0323t nam que huong toi", ReasonNotComposed}, // the marks in another order
		{"alice", "u\u0308", ReasonNotComposed},

		{"alice.cooper1948", "alice.cooper1948", ReasonUserName},
		{"alice.cooper1948", "ALICE.Cooper1948", ReasonUserName},
		{"alice.cooper1948", "8491repooc.ecila", ReasonUserName},
		{"alice.cooper1948", "alicecooper1948alicecooper", ReasonUserName},
		{"alice.cooper", "alice.cooper2026!", ReasonUserName},
		{"alice.cooper", "@1ice.c00per 123", ReasonUserName},
		{"alice@example.com", "alice@example.com", ReasonUserName},
		{"alice@example.com", "example.com/alice1", ReasonUserName},
		{"bernadette", "bernadette12345", ReasonUserName},
		{"bernadette", "ettedanreb-bernadette", ReasonUserName},
		{"bernadette", "b-e-r-n-a-d-e-t-t-e", ReasonUserName},
		{"bernadette", "my cat is called bernadette", ReasonNone},
		{"bob", "bobbobbobbobbob", ReasonUserName},
		{"al", "alalalalalalalal", ReasonPredictable},

		{"alice", "passwordpassword", ReasonPredictable},
		{"alice", "Password123456789", ReasonPredictable},
		{"alice", "P@ssw0rdP@ssw0rd", ReasonPredictable},
		{"alice", "p-a-s-s-w-o-r-d", ReasonPredictable},
		{"alice", "password password password", ReasonPredictable},
		{"alice", "iloveyouiloveyou", ReasonPredictable},
		{"alice", "iloveyou forever 2024", ReasonPredictable},
		{"alice", "letmeinletmeinletmein", ReasonPredictable},
		{"alice", "admin123admin123admin123", ReasonPredictable},
		{"alice", "Summer2024!Summer2024!", ReasonPredictable},
		{"alice", "welcome caddy 2026", ReasonPredictable},
		{"alice", "correct horse battery staple", ReasonPredictable},
		{"alice", "CorrectHorseBatteryStaple", ReasonPredictable},
		{"alice", "correct-horse-battery-staple1!", ReasonPredictable},
		{"alice", "may the force be with you", ReasonPredictable},
		{"alice", "aaaaaaaaaaaaaaaaaaaa", ReasonPredictable},
		{"alice", strings.Repeat("a", 72), ReasonPredictable},
		{"alice", "aaaaabbbbbcccccddddd", ReasonPredictable},
		{"alice", "11111111111111112222", ReasonPredictable},
		{"alice", "abababababababab", ReasonPredictable},
		{"alice", "abcabcabcabcabcabc", ReasonPredictable},
		{"alice", strings.Repeat("12/3", 18), ReasonPredictable},
		{"alice", strings.Repeat("ü", 36), ReasonPredictable},
		{"alice", "a1b2c3d4e5f6g7h8", ReasonPredictable},
		{"alice", "a.b.c.d.e.f.g.h", ReasonPredictable},
		{"alice", "123456789012345", ReasonPredictable},
		{"alice", "012345678909876543210", ReasonPredictable},
		{"alice", "199019911992199319941995", ReasonNone}, // 6 years are 12 characters
		{"alice", "830471629550381", ReasonNone},
		{"alice", "19800412 19800412", ReasonPredictable},
		{"alice", "2024-01-01 2024-01-01", ReasonPredictable},
		{"alice", "abcdefghijklmnopqrst", ReasonPredictable},
		{"alice", "zyxwvutsrqponmlk", ReasonPredictable},
		{"alice", "qwertyuiopasdfgh", ReasonPredictable},
		{"alice", "qwertyuiopasdfghjklzxcvbnm", ReasonPredictable},
		{"alice", "QWERTZUIOPÜasdfghjklöä", ReasonPredictable},
		{"alice", "azertyuiopqsdfghjklm", ReasonPredictable},
		{"alice", "йцукенгшщзхъфыва", ReasonPredictable},
		{"alice", "1qaz2wsx3edc4rfv", ReasonPredictable},
		{"alice", "zaq12wsxzaq12wsx", ReasonPredictable},
		{"alice", "1q2w3e4r5t6y7u8i", ReasonPredictable},
		{"alice", "!@#$%^&*()_+!@#$%^&*()_+", ReasonPredictable},
		{"alice", "               ", ReasonPredictable},
	} {
		if got := defaultPolicy.Check(test.user, test.password); got != test.want {
			t.Errorf("user %s, password %.80q: got '%s', want '%s' (cost %d, %d without the name)", test.user, test.password, got, test.want,
				cost([]rune(test.password[:min(len(test.password), MaxBytes)]), nameWords(test.user)), cost([]rune(test.password[:min(len(test.password), MaxBytes)]), nil))
		}
	}
}

func TestMinLengthCountsCharacters(t *testing.T) {
	const random = "xqvdwtzhkplm gnrüñ騎馬"
	text := []rune(random)
	for minLength := LowestMinLength; minLength <= len(text); minLength++ {
		p := Policy{MinLength: minLength}
		if got := p.Check("alice", string(text[:minLength])); got != ReasonNone {
			t.Errorf("%d characters of %d: got '%s'", minLength, minLength, got)
		}
		if got := p.Check("alice", string(text[:minLength-1])); got != ReasonTooShort {
			t.Errorf("%d characters of %d: got '%s'", minLength-1, minLength, got)
		}
	}
}

// TestShortestMinLength checks common passwords that the lowest minimum would let in.
func TestShortestMinLength(t *testing.T) {
	p := Policy{MinLength: LowestMinLength}
	for password := range strings.FieldsSeq(`password password1 Password1! 12345678 123456789 1234567890 qwertyuiop qwerty123
		iloveyou sunshine princess football baseball superman trustno1 starwars whatever computer michelle jennifer
		1q2w3e4r 1qaz2wsx zaq12wsx asdfghjkl abcd1234 abc12345 aaaaaaaa 11111111 88888888 12341234 letmein1 welcome1
		Welcome123 admin123 Admin@123 P@ssw0rd P@55w0rd! passw0rd Summer2024 Winter2025! september Sommer2026 liverpool1
		changeme1 changeme123 dragon12 monkey123 qazwsxedc a1b2c3d4 19870512 147258369 asdf1234 qwer1234 test1234
		pokemon1 jordan23 michael1 charlie1 mustang1 iloveyou2 fuckyou1 abcdefgh 87654321 midnight scorpion1 Elephant2024
		e1ephant! ScorpionMidnight`) {
		if got := p.Check("alice", password); got != ReasonPredictable {
			t.Errorf("%s: got '%s'", password, got)
		}
	}
	for password := range strings.FieldsSeq("xqvdwtzh kD8!vq2L x7k2m9q4 Zr4#pWq9 hkplmgnr") {
		if got := p.Check("alice", password); got != ReasonNone {
			t.Errorf("%s: got '%s'", password, got)
		}
	}
}

func TestCheckMinLength(t *testing.T) {
	for n := range 100 {
		if err := CheckMinLength(n); (err == nil) != (n >= 8 && n <= 64) {
			t.Errorf("%d: %v", n, err)
		}
	}
	if err := CheckMinLength(7); err == nil || err.Error() != "the minimum length of passwords must be between 8 and 64, got 7" {
		t.Error(err)
	}
	if CheckMinLength(DefaultMinLength) != nil || CheckMinLength(-1) == nil {
		t.Error("the default must be allowed, and -1 must not")
	}
}

func TestEveryReasonHasTexts(t *testing.T) {
	texts := make(map[string]bool)
	for _, r := range Reasons {
		problem, advice := defaultPolicy.Problem(r), defaultPolicy.Advice(r)
		if r == ReasonNone || problem == "" || advice == "" || texts[problem] {
			t.Errorf("'%s': problem '%s', advice '%s'", r, problem, advice)
		}
		texts[problem] = true
		if words := len(strings.Fields(problem + advice)); words > 35 {
			t.Errorf("'%s': %d words", r, words)
		}
	}
	if defaultPolicy.Problem(ReasonNone)+defaultPolicy.Advice(ReasonNone) != "" {
		t.Error("an accepted password has a text")
	}
	if got := (Policy{MinLength: 9}).Problem(ReasonTooShort); !strings.Contains(got, "fewer than 9 characters") {
		t.Error(got)
	}
}

func TestWordsAreUsable(t *testing.T) {
	count := make(map[int]int)
	for _, words := range commonWords() {
		for _, word := range words {
			count[word.cost]++
			if got := costOf(word.text, nil); got > word.cost {
				t.Errorf("word %s costs %d", string(word.text), got)
			}
		}
	}
	if count[costWord] < 600 || count[costCommon] < 13000 {
		t.Errorf("words by cost: %v", count)
	}
	if len(sequences) > 31 {
		t.Errorf("%d sequences do not fit into a relation", len(sequences))
	}
}

// TestRandomPasswordsAreAccepted checks that hardly any random password, and no longer
// one, is taken for a predictable one. With 8 characters, one short word is too much.
func TestRandomPasswordsAreAccepted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for length, most := range map[int]int{8: 150, 15: 0, 20: 0} { // of 10,000
		refused := 0
		for range 10_000 {
			password := make([]byte, length)
			for i := range password {
				password[i] = '!' + byte(r.IntN('~'-'!'+1))
			}
			if (Policy{MinLength: length}).Check("alice", string(password)) != ReasonNone {
				refused++
			}
		}
		if refused > most {
			t.Errorf("%d random passwords of %d characters are refused, at most %d expected", refused, length, most)
		}
	}
}

// TestCostIsTheLeast pins the costs of short texts.
func TestCostIsTheLeast(t *testing.T) {
	for text, want := range map[string]int{
		"":               0,
		"x":              2,
		"xx":             4,
		"xxx":            4,
		"xxxx":           4,
		"xqxq":           8,
		"xqvxqv":         8,
		"xqvXQVxqv":      8,
		"abcd":           4,
		"dcba":           4,
		"789012":         4,
		"wxyz":           4,
		"yzab":           8,
		"b2c3d4":         6,
		"a1b2c3":         4, // a word of the list
		"1739":           5,
		"173926":         7,
		"17392684":       9,
		"monkey":         4,
		"M0NKEY":         4,
		"monkeymonkey":   6,
		"monkeyzmonkey":  8,
		"m o n k e y":    22,
		"m o n k e y s":  8, // from 12 characters on, the spaces count once
		"m_o n k e y s":  18,
		"mmoonnkkeeyy":   6,
		"3qbdqqb3":       16,
		"xq password 17": 14,
	} {
		if got := cost([]rune(text), nil); got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
}

// TestCostOfRandomTexts compares costs with those of a search through all divisions
// of short texts, whose parts are found in the simplest way.
func TestCostOfRandomTexts(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	names := nameWords("bob.xqv")
	for range 3000 {
		text := make([]rune, r.IntN(10))
		for i := range text {
			text[i] = []rune("abcdbob123468xqvüqwer")[r.IntN(21)]
		}
		if got, want := costOf(text, names), slowCost(text, 0, names); got != want {
			t.Errorf("%s: got %d, want %d", string(text), got, want)
		}
	}
}

// slowCost is the cost of text from a position on.
func slowCost(text []rune, from int, names [][]rune) int {
	if from == len(text) {
		return 0
	}
	least := len(text) * costChar
	for to := from + 1; to <= len(text); to++ {
		part := string(text[from:to])
		n := to - from
		cost := n * costChar
		if folded := fold([]rune(part)); n >= minWord {
			for _, word := range commonWords()[[minWord]rune(folded)] {
				if slices.Equal(word.text, folded) {
					cost = min(cost, word.cost)
				}
			}
		}
		for _, name := range names {
			if string(name) == string(fold([]rune(part))) {
				cost = min(cost, costName)
			}
		}
		before := strings.Index(string(text), part) // the first one; it can overlap this one
		isRun := from > 0 && strings.Trim(part, string(text[from-1])) == ""
		if before < len(string(text[:from])) && n >= minRepetition || isRun {
			cost = min(cost, costRepetition)
		}
		if n >= minSequence && inSequence(part) {
			cost = min(cost, costSequence)
		}
		if n >= minAlternating && inSequence(everySecond(part, 0)) && inSequence(everySecond(part, 1)) {
			cost = min(cost, costAlternating)
		}
		if n >= minDigits && strings.Trim(part, "0123456789") == "" {
			cost = min(cost, (n+1)*costDigits)
		}
		least = min(least, cost+slowCost(text, to, names))
	}
	return least
}

// inSequence reports whether text is a part of a sequence, in either direction, or one
// character repeated. The repetition costs less anyway, if it is not every second one.
func inSequence(text string) bool {
	if strings.Trim(text, text[:1]) == "" {
		return true
	}
	reversed := []rune(text)
	slices.Reverse(reversed)
	return slices.ContainsFunc(sequences, func(line string) bool {
		return strings.Contains(line, text) || strings.Contains(line, string(reversed))
	})
}

func everySecond(text string, first int) string {
	var every []rune
	for i, c := range []rune(text) {
		if i%2 == first {
			every = append(every, c)
		}
	}
	return string(every)
}

// FuzzCheck checks that no bytes make the package panic, and properties of passwords.
func FuzzCheck(f *testing.F) {
	for _, password := range []string{"", "my dog ate the blue homework", "passwordpassword", "gr\xfcn", "u\u0308", "1q2w3e4r5t6y7u8i", "b-e-r-n-a-d-e-t-t-e", strings.Repeat("4", 72), "🐎🔋📎✅🎲🌧🧲🪣🫖🧊🦀🌵🪕🧦🛶", "\u0130\u0131\u1e9e\u01c5"} {
		f.Add("alice@example.com", password, 15)
		f.Add("\xff\u0308-.@", password, 8)
	}
	f.Fuzz(func(t *testing.T, user, password string, minLength int) {
		p := Policy{MinLength: minLength}
		r := p.Check(user, password)
		if r != ReasonNone && !slices.Contains(Reasons, r) {
			t.Fatalf("unknown reason '%s'", r)
		}
		if again := p.Check(user, password); again != r {
			t.Errorf("got '%s', then '%s'", r, again)
		}
		if r != ReasonNone {
			return
		}
		if n := utf8.RuneCountInString(password); n < minLength || n > MaxBytes || n < MinUnpredictable {
			t.Errorf("%d characters are accepted", n)
		}
		if password == user && len(user) >= minWord {
			t.Error("the user name is accepted")
		}
		if got := p.Check(password, password); got == ReasonNone {
			t.Error("the user name is accepted for another user")
		}
		// An accepted password, if its separators count already, stays one with a character in front that is none of a
		// repetition, word or sequence.
		if longer := "\u4e00" + password; utf8.RuneCountInString(password) >= minSeparated && len(longer) <= MaxBytes && !strings.Contains(password, "\u4e00") && p.Check(user, longer) == ReasonPredictable {
			t.Error("a longer password is predictable")
		}
	})
}

// BenchmarkCheck has the inputs on which estimators are slow, at the maximum length.
func BenchmarkCheck(b *testing.B) {
	lookalikes := strings.Repeat("4@8({[</369&#!1/|0$5+7%2/", 3)[:MaxBytes]
	keys := strings.Repeat(" .,?!'-/_:;+()@$\"#&*<>=[]\\~%^{}|1234567890", 2)[:MaxBytes]
	user := strings.Repeat("abc-", 63) // each part is a word, and once more reversed
	for name, password := range map[string]string{
		"phrase":     "my dog ate the blue homework",
		"equal":      strings.Repeat("4", MaxBytes),
		"pairs":      strings.Repeat("ab", MaxBytes/2),
		"names":      strings.Repeat("abc-", MaxBytes/4),
		"lookalikes": lookalikes,
		"keys":       keys,
		"sequence":   strings.Repeat("1q2w3e4r5t6y7u8i9o", 4),
		"too long":   strings.Repeat("4", 1<<20),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				defaultPolicy.Check(user, password)
			}
		})
	}
}

func ExamplePolicy_Check() {
	p := Policy{MinLength: DefaultMinLength}
	for _, password := range []string{"secret", "passwordpassword", "my dog ate the blue homework"} {
		if r := p.Check("alice", password); r != ReasonNone {
			fmt.Printf("%s: %s\n", r, p.Advice(r))
		} else {
			fmt.Println("accepted")
		}
	}
	// Output:
	// too_short: use more, for example several random words
	// predictable: use a password that nobody else would choose, for example several random words
	// accepted
}

// Package passwordpolicy judges new passwords: whether they are long enough, can be
// typed again at the prompt of a browser, and are not easy to guess. It does no I/O.
//
//	p := passwordpolicy.Policy{MinLength: passwordpolicy.DefaultMinLength}
//	if r := p.Check("alice", password); r != passwordpolicy.ReasonNone {
//		fmt.Printf("%s; %s\n", p.Problem(r), p.Advice(r))
//	}
//
// The rules follow NIST SP 800-63B-4 (3.1.1.2): a minimum length of 15 characters for a
// password that stands alone, at least 8 otherwise; no rules about kinds of characters;
// refusal of common passwords, and of those that derive from the user name. They judge
// the password as a whole: one that contains a common word is accepted, if the rest of
// it is enough.
//
// Instead of NIST's normalization, a password that is not in Unicode's form NFC is
// refused. Servers compare the bytes that a browser sends, so a normalized password
// would not match what is typed later.
//
// The rule against passwords that are easy to guess is small on purpose: see
// [MinUnpredictable]. The estimators for Go were compared in November 2026, and none
// is both maintained and right about long passwords. ccojocar/zxcvbn-go 1.0.4 (2025)
// takes 1.3 s for some passwords of 72 bytes, and gives "abab..." its best score.
// trustelem/zxcvbn 1.0.1 takes 0.2 s; its last release is of 2019.
// wagslane/go-password-validator 0.3.0 (2021) counts only characters: for it,
// "passwordpassword" has 75 bits.
//
// It promises:
//
//   - Work and memory are bounded: a password of more than MaxBytes is refused before
//     anything else. See BenchmarkCheck.
//   - No text of the package contains any part of a password or user name.
package passwordpolicy

import (
	"fmt"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	// DefaultMinLength is the minimum number of characters of NIST SP 800-63B-4 for a
	// password without a second factor.
	DefaultMinLength = 15
	// LowestMinLength is the lowest minimum that can be configured, which NIST allows
	// with a second factor.
	LowestMinLength = 8
	// HighestMinLength is the highest minimum that can be configured. NIST asks that
	// 64 characters are accepted.
	HighestMinLength = 64
	// MaxBytes is the maximum length in bytes: bcrypt ignores the bytes after it.
	MaxBytes = 72
)

// Policy is the set of rules for new passwords.
type Policy struct {
	// MinLength is the minimum number of characters (Unicode code points).
	MinLength int
}

// CheckMinLength returns an error if n cannot be the minimum length of a policy.
func CheckMinLength(n int) error {
	if n < LowestMinLength || n > HighestMinLength {
		return fmt.Errorf("the minimum length of passwords must be between %d and %d, got %d", LowestMinLength, HighestMinLength, n)
	}
	return nil
}

// Reason is the reason why a password is refused. It can be a label or an id.
type Reason string

const (
	// ReasonNone means that the password is accepted.
	ReasonNone Reason = ""
	// ReasonTooShort is for fewer than MinLength characters.
	ReasonTooShort Reason = "too_short"
	// ReasonTooLong is for more than MaxBytes bytes.
	ReasonTooLong Reason = "too_long"
	// ReasonControl is for control characters, which no browser can send.
	ReasonControl Reason = "control_character"
	// ReasonEncoding is for bytes that are not UTF-8, or that were none before they
	// were converted (U+FFFD).
	ReasonEncoding Reason = "encoding"
	// ReasonNotComposed is for text that is not in Unicode's form NFC.
	ReasonNotComposed Reason = "not_composed"
	// ReasonUserName is for a password that derives from the user name.
	ReasonUserName Reason = "user_name"
	// ReasonPredictable is for a password that is easy to guess: see MinUnpredictable.
	ReasonPredictable Reason = "predictable"
)

// Reasons are all reasons of a refusal, in the order in which Check looks for them.
var Reasons = []Reason{
	ReasonTooLong, ReasonEncoding, ReasonControl, ReasonNotComposed, ReasonTooShort, ReasonUserName, ReasonPredictable,
}

// Check returns the first reason to refuse a new password of a user, or ReasonNone.
func (p Policy) Check(user, password string) Reason {
	switch {
	case len(password) > MaxBytes:
		return ReasonTooLong
	case !utf8.ValidString(password):
		return ReasonEncoding
	}
	text := []rune(password)
	for _, c := range text {
		switch {
		case c == utf8.RuneError:
			return ReasonEncoding
		case unicode.IsControl(c):
			return ReasonControl
		}
	}
	switch {
	case !norm.NFC.IsNormalString(password):
		return ReasonNotComposed
	case len(text) < p.MinLength:
		return ReasonTooShort
	}
	return judge(text, nameWords(user))
}

// Problem returns what is wrong with a password that Check refuses, as a clause. It
// fits in front of Advice, with a semicolon between them.
func (p Policy) Problem(r Reason) string {
	switch r {
	case ReasonTooShort:
		return fmt.Sprintf("the password has fewer than %d characters", p.MinLength)
	case ReasonTooLong:
		return fmt.Sprintf("the password has more than %d bytes", MaxBytes)
	case ReasonControl:
		return "the password contains a control character, which browsers cannot send"
	case ReasonEncoding:
		return "the password is not encoded in UTF-8"
	case ReasonNotComposed:
		return "the password contains an accent as a separate character, which other devices may encode differently"
	case ReasonUserName:
		return "the password is derived from the user name"
	case ReasonPredictable:
		return "the password is easy to guess: it consists of common passwords, repetitions, or sequences of characters or keys"
	case ReasonNone:
	}
	return ""
}

// Advice returns what to do about a password that Check refuses, as a clause.
func (p Policy) Advice(r Reason) string {
	switch r {
	case ReasonTooShort:
		return "use more, for example several random words"
	case ReasonTooLong:
		return fmt.Sprintf("use at most %d letters, digits and signs; letters with accents count as 2 or more", MaxBytes)
	case ReasonControl:
		return "use no tabs, line breaks and other control characters"
	case ReasonEncoding, ReasonNotComposed:
		return "use letters without accents, or type the password instead of pasting it"
	case ReasonUserName, ReasonPredictable:
		return "use a password that nobody else would choose, for example several random words"
	case ReasonNone:
	}
	return ""
}

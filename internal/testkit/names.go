package testkit

// HarmfulNames are user names that control a terminal, or are not shown as they are,
// with their escaped form.
var HarmfulNames = map[string]string{
	"a\u0085b":            `"a\u0085b"`,            // next line
	"a\u009b31mb":         `"a\u009b31mb"`,         // begins a control sequence, as ESC [
	"a\u0090b":            `"a\u0090b"`,            // begins a control string
	"a\u202eb":            `"a\u202eb"`,            // right to left
	"a\u202ab":            `"a\u202ab"`,            // embedded
	"a\u2066b\u2069":      `"a\u2066b\u2069"`,      // isolated
	"a\u200e\u200fb":      `"a\u200e\u200fb"`,      // marks of a direction
	"a\u061cb":            `"a\u061cb"`,            // one more
	"a\u200bb":            `"a\u200bb"`,            // no width
	"a\u2028b":            `"a\u2028b"`,            // line separator
	"a\u00a0b":            `"a\u00a0b"`,            // looks like a space
	"\U000e0041b":         `"\U000e0041b"`,         // a tag, in two UTF-16 units
	"a\xffb":              `"a\xffb"`,              // not UTF-8
	"a\xc2":               `"a\xc2"`,               // half a character
	"a\x9b31mb":           `"a\x9b31mb"`,           // the same in ISO 8859-1
	`"a\u202eb"`:          `"\"a\\u202eb\""`,       // looks like the escaped form of another name
	"a\u202eb\u202c\\\"c": `"a\u202eb\u202c\\\"c"`, // and others
}

package laxjson_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
)

func Example() {
	config := json.RawMessage(`{"handler":"file_server","hide":["\u002eht*"],"root":1}`)
	config = laxjson.Unescape(config)
	fmt.Println(string(laxjson.Field(config, "hide")))
	fmt.Printf("%q\n", laxjson.Strings(laxjson.Field(config, "hide")))
	fmt.Printf("%q\n", laxjson.String(laxjson.Field(config, "root")))
	fmt.Println(string(laxjson.Without(config, "hide")))
	// Output:
	// [".ht*"]
	// [".ht*"]
	// ""
	// {"handler":"file_server","root":1}
}

// oddTexts are all kinds of JSON, and invalid JSON.
var oddTexts = []string{``, `null`, `true`, `1`, `"a"`, `[]`, `["a",1]`, `["a"]`, `{}`, `{"a":"b"}`, `{`, `{"a"`, `["a"`, `"\u`, `\u`}

func TestUnexpectedReadsAsAbsent(t *testing.T) {
	t.Parallel()
	for _, text := range oddTexts {
		raw := json.RawMessage(text)
		if got, want := laxjson.String(raw), map[string]string{`"a"`: "a"}[text]; got != want {
			t.Errorf("String(%s): got %q, want %q", text, got, want)
		}
		if got, want := laxjson.Strings(raw), map[string][]string{`["a"]`: {"a"}}[text]; !slices.Equal(got, want) {
			t.Errorf("Strings(%s): got %q, want %q", text, got, want)
		}
		if got, want := string(laxjson.Field(raw, "a")), map[string]string{`{"a":"b"}`: `"b"`}[text]; got != want {
			t.Errorf("Field(%s): got %s, want %s", text, got, want)
		}
		if got, want := laxjson.IsEmptyObject(raw), text == `{}` || text == `null`; got != want {
			t.Errorf("IsEmptyObject(%s): got %t, want %t", text, got, want)
		}
	}
}

func TestFieldsAreSetAndRemovedInObjectsOnly(t *testing.T) {
	t.Parallel()
	for _, text := range oddTexts {
		with, without := text, text
		switch text {
		case `{}`:
			with = `{"b":1}`
		case `{"a":"b"}`:
			with, without = `{"a":"b","b":1}`, `{}`
		}
		if got := string(laxjson.With(json.RawMessage(text), "b", json.RawMessage(`1`))); got != with {
			t.Errorf("With(%s): got %s, want %s", text, got, with)
		}
		if got := string(laxjson.Without(json.RawMessage(text), "a")); got != without {
			t.Errorf("Without(%s): got %s, want %s", text, got, without)
		}
	}
}

func TestUnescape(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"a":"\u007bb\u002ec}"}`:    `{"a":"{b.c}"}`,
		`{"\u0061":"\\u007b"}`:       `{"a":"\\u007b"}`, // a backslash, not an escape
		`{"a":"\u003cb\u003e"}`:      `{"a":"\u003cb\u003e"}`,
		`{"a":"\u003C\u0001\u002e"}`: `{"a":"\u003c\u0001."}`,
		`{"a":"\u003c\u000a"}`:       `{"a":"\u003c\u000a"}`,
		`{"a":"\u003c\u007b"}`:       `{"a":"\u003c{"}`,
		`{ "a" : "no escapes in" }`:  `{ "a" : "no escapes in" }`,
		`"\u`:                        `"\u`,
	} {
		if got := string(laxjson.Unescape(json.RawMessage(text))); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// panicking and failing are values that cannot be encoded as JSON.
type (
	panicking struct{}
	failing   struct{}
)

func (panicking) MarshalJSON() ([]byte, error) { panic("on purpose") }
func (failing) MarshalJSON() ([]byte, error)   { return nil, errors.New("on purpose") }

func TestEncodeSurvivesForeignTypes(t *testing.T) {
	t.Parallel()
	for _, v := range []any{panicking{}, failing{}, func() {}, []any{panicking{}}} {
		if got := laxjson.Encode(v); got != nil {
			t.Errorf("%T: got %s, want none", v, got)
		}
	}
	if got := string(laxjson.Encode([]int{1})); got != `[1]` {
		t.Errorf("got %s, want [1]", got)
	}
}

// FuzzUnescape checks that no letters and braces stay escaped.
func FuzzUnescape(f *testing.F) {
	f.Add(`{"\u0061":"\\u007b\u007B\u003c\u0000"}`)
	f.Fuzz(func(t *testing.T, text string) {
		got := laxjson.Unescape(json.RawMessage(text))
		var before, after any
		if json.Unmarshal([]byte(text), &before) != nil {
			return
		}
		if err := json.Unmarshal(got, &after); err != nil || !reflect.DeepEqual(before, after) {
			t.Fatalf("%s: got %s, which is not the same: %v", text, got, err)
		}
		if strings.Contains(strings.ReplaceAll(strings.ToLower(string(got)), `\\`, ""), `\u007b`) {
			t.Errorf("%s: got %s, want no escaped brace", text, got)
		}
	})
}

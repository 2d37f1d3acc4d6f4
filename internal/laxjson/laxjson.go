// Package laxjson reads parts of JSON that is not validated yet.
//
// No function returns an error: unexpected JSON is treated as absent. This suits a
// program that inspects the configuration of another program, which validates the
// configuration itself and reports errors.
//
// No function changes its input, and no input makes a function panic. Results may
// share memory with the input.
package laxjson

import (
	"bytes"
	"encoding/json"
	"strings"
)

// String returns the value of a JSON string, or "" for anything else.
func String(text json.RawMessage) (value string) {
	_ = json.Unmarshal(text, &value)
	return value
}

// Strings returns the values of a JSON list of strings, or nil for anything else.
func Strings(text json.RawMessage) (list []string) {
	if json.Unmarshal(text, &list) != nil {
		return nil
	}
	return list
}

// Fields returns the fields of a JSON object, or nil for anything else.
func Fields(text json.RawMessage) (fields map[string]json.RawMessage) {
	if json.Unmarshal(text, &fields) != nil {
		return nil
	}
	return fields
}

// Field returns a field of a JSON object, or nil if there is none.
func Field(object json.RawMessage, name string) json.RawMessage {
	return Fields(object)[name]
}

// IsEmptyObject reports whether the text is `{}` or `null`.
func IsEmptyObject(text json.RawMessage) bool {
	var fields map[string]json.RawMessage
	return json.Unmarshal(text, &fields) == nil && len(fields) == 0
}

// With returns a JSON object with one field set. It returns anything else unchanged.
func With(object json.RawMessage, name string, value json.RawMessage) json.RawMessage {
	fields := Fields(object)
	if fields == nil {
		return object
	}
	fields[name] = value
	return Encode(fields)
}

// Without returns a JSON object without one field. It returns anything else
// unchanged.
func Without(object json.RawMessage, name string) json.RawMessage {
	fields := Fields(object)
	if fields == nil {
		return object
	}
	delete(fields, name)
	return Encode(fields)
}

// Encode returns v as JSON, or nil if that fails. It recovers from a MarshalJSON method
// that panics, since v may be of a type of another module.
func Encode(v any) (text json.RawMessage) {
	defer func() {
		if recover() != nil {
			text = nil
		}
	}()
	text, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return text
}

// Unescape returns equivalent JSON without needless escapes, so that a search in the
// text finds all letters and braces. Only characters that [json.Marshal] escapes stay
// escaped. It returns text without needless escapes unchanged, so calling it again for
// parts of the result is cheap.
func Unescape(text json.RawMessage) json.RawMessage {
	if !hasNeedlessEscape(text) {
		return text
	}
	var v any
	if json.Unmarshal(text, &v) != nil {
		return text
	}
	return Encode(v)
}

// hasNeedlessEscape reports whether there may be an escape in the text that
// [json.Marshal] would not write.
func hasNeedlessEscape(text []byte) bool {
	for {
		_, rest, found := bytes.Cut(text, []byte(`\u`))
		if !found {
			return false
		}
		switch code := string(rest[:min(4, len(rest))]); code {
		case "003c", "003e", "0026", "2028", "2029":
		default:
			if !strings.HasPrefix(code, "000") && !strings.HasPrefix(code, "001") { // control characters
				return true
			}
		}
		text = rest
	}
}

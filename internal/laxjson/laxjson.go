// Package laxjson reads parts of JSON that was not validated yet.
//
// No function returns an error: what is not as expected reads as absent. That
// suits a program that looks through the configuration of another program, which
// validates it itself and says what is wrong.
//
// No function changes the text that it is given, and no text makes one panic.
// Results may share memory with the text.
package laxjson

import (
	"bytes"
	"encoding/json"
	"strings"
)

// String returns a JSON string, "" for anything else.
func String(text json.RawMessage) (value string) {
	_ = json.Unmarshal(text, &value)
	return value
}

// Strings returns a JSON list of strings, nil for anything else.
func Strings(text json.RawMessage) (list []string) {
	if json.Unmarshal(text, &list) != nil {
		return nil
	}
	return list
}

// Fields returns the fields of a JSON object, nil for anything else.
func Fields(text json.RawMessage) (fields map[string]json.RawMessage) {
	if json.Unmarshal(text, &fields) != nil {
		return nil
	}
	return fields
}

// Field returns the field of a JSON object, nil if there is none.
func Field(object json.RawMessage, name string) json.RawMessage {
	return Fields(object)[name]
}

// IsEmptyObject reports whether the text is `{}` or `null`.
func IsEmptyObject(text json.RawMessage) bool {
	var fields map[string]json.RawMessage
	return json.Unmarshal(text, &fields) == nil && len(fields) == 0
}

// With returns a JSON object with one field set. What is not an object is
// returned as it is.
func With(object json.RawMessage, name string, value json.RawMessage) json.RawMessage {
	fields := Fields(object)
	if fields == nil {
		return object
	}
	fields[name] = value
	return Encode(fields)
}

// Without returns a JSON object without one field. What is not an object is
// returned as it is.
func Without(object json.RawMessage, name string) json.RawMessage {
	fields := Fields(object)
	if fields == nil {
		return object
	}
	delete(fields, name)
	return Encode(fields)
}

// Encode returns v as JSON, nil if that fails. A MarshalJSON method that panics
// is a failure, too: v may be of a type that somebody else wrote.
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

// Unescape returns the same JSON with letters and braces written as themselves,
// so that a search for them in the text finds them all. Only characters that
// [json.Marshal] escapes stay escaped. Text without other escapes is returned as
// it is, so it costs little to unescape the parts of what was unescaped.
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

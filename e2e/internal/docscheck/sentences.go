package docscheck

import (
	"slices"
	"strings"
	"unicode"
)

// abbreviations end with a full stop that does not end a sentence.
var abbreviations = []string{"e.g.", "i.e.", "cf.", "vs.", "approx.", "no.", "a.m.", "p.m."}

// addSentences splits the text of a block into sentences, and returns the text.
func (p *Page) addSentences(chars []char, prose bool) string {
	var all, sentence []string
	start, words := 0, 0
	end := func() {
		if words > 0 {
			p.Sentences = append(p.Sentences, Sentence{lineAt(string(p.source), start), strings.Join(sentence, " "), words, prose})
		}
		sentence, words = nil, 0
	}
	isSpace := func(c char) bool { return !c.code && unicode.IsSpace(c.r) }
	for i := 0; i < len(chars); {
		if isSpace(chars[i]) {
			i++
			continue
		}
		from := i
		for i < len(chars) && !isSpace(chars[i]) {
			i++
		}
		word := chars[from:i]
		if len(sentence) == 0 {
			start = word[0].at
		}
		text := textOf(word)
		sentence, all = append(sentence, text), append(all, text)
		if slices.ContainsFunc(word, func(c char) bool { return c.code || unicode.IsLetter(c.r) || unicode.IsDigit(c.r) }) {
			words++
		}
		if endsSentence(word) {
			end()
		}
	}
	end()
	return strings.Join(all, " ")
}

func textOf(word []char) string {
	var text strings.Builder
	for _, c := range word {
		text.WriteRune(c.r)
	}
	return text.String()
}

// endsSentence reports whether a word ends a sentence: with '.', '!' or '?', which
// closing quotes or brackets may follow.
func endsSentence(word []char) bool {
	for len(word) > 0 && !word[len(word)-1].code && strings.ContainsRune(`)]}'"’”*_`, word[len(word)-1].r) {
		word = word[:len(word)-1]
	}
	if len(word) == 0 || word[len(word)-1].code || !strings.ContainsRune(".!?", word[len(word)-1].r) {
		return false
	}
	text := strings.TrimLeft(strings.ToLower(textOf(word)), `([{'"‘“*_`)
	return !slices.Contains(abbreviations, text)
}

package htfile

import "strings"

// SetUser returns text with the given hash in all lines of a user, or in a new
// line at the end if there is none. found is the number of lines the user had. All
// of them get the hash, since programs differ in which line wins. Comments after
// the hash, and everything else, are kept byte for byte.
//
// The name must pass CheckName. The hash must not contain a colon, a line end or
// surrounding whitespace. To verify the result, parse it.
func SetUser(text, name, hash string) (edited string, found int) {
	return edit(text, name, hash, false)
}

// RemoveUser returns text without the lines of a user, and the number of these
// lines. The name must pass CheckName.
func RemoveUser(text, name string) (edited string, found int) {
	return edit(text, name, "", true)
}

// edit is SetUser, or RemoveUser if remove is true.
func edit(text, name, hash string, remove bool) (edited string, found int) {
	var b strings.Builder
	b.Grow(len(text) + len(name) + len(hash) + 3)
	mark, rest := cutMark(text)
	b.WriteString(mark)
	lineEnd := "\n"
	for line := range strings.Lines(rest) {
		if b.Len() == len(mark) && strings.HasSuffix(line, "\r\n") {
			lineEnd = "\r\n"
		}
		content := lineContent(strings.TrimSuffix(line, "\n"))
		user, _, problem := splitLine(content)
		if content == "" || user != name {
			b.WriteString(line)
			continue
		}
		found++
		if remove {
			continue
		}
		b.WriteString(name + ":" + hash)
		if fields := strings.SplitN(content, ":", 3); len(fields) == 3 && problem == "" && len(name)+len(hash)+len(fields[2])+2 <= MaxLineLen {
			b.WriteString(":" + fields[2])
		}
		b.WriteString(line[len(strings.TrimRight(line, "\r\n")):])
	}
	if found == 0 && !remove {
		if b.Len() > len(mark) && !strings.HasSuffix(rest, "\n") {
			b.WriteString(lineEnd)
		}
		b.WriteString(name + ":" + hash + lineEnd)
	}
	return b.String(), found
}

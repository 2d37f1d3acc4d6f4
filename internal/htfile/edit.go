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

// Change is a new hash for a user.
type Change struct {
	Name string
	Old  string // the hash that is replaced, as in User.Hash
	New  string
}

// ReplaceHashes returns text with the new hashes of users whose first line, which wins,
// has the old hash. made reports for each change whether it was made. Further lines of
// such a user get the new hash only if they have the old one. If there is more than one
// change for a user, only the first one is made. Comments after the hash, and everything
// else, are kept byte for byte.
//
// The names and the new hashes must be as for SetUser.
func ReplaceHashes(text string, changes []Change) (edited string, made []bool) {
	made = make([]bool, len(changes))
	byName := make(map[string]int, len(changes))
	for i := range changes {
		if _, ok := byName[changes[i].Name]; !ok {
			byName[changes[i].Name] = i
		}
	}
	seen := make(map[string]bool, len(changes))
	edited, _ = rewrite(text, func(user, old string) (hash string, action action) {
		i, ok := byName[user]
		if !ok {
			return "", keepLine
		}
		isSame := old == changes[i].Old
		if !seen[user] {
			seen[user], made[i] = true, isSame
		}
		if !made[i] || !isSame {
			return "", keepLine
		}
		return changes[i].New, setHash
	})
	return edited, made
}

// edit is SetUser, or RemoveUser if remove is true.
func edit(text, name, hash string, remove bool) (edited string, found int) {
	edited, lineEnd := rewrite(text, func(user, _ string) (string, action) {
		switch {
		case user != name:
			return "", keepLine
		case remove:
			found++
			return "", removeLine
		}
		found++
		return hash, setHash
	})
	if found > 0 || remove {
		return edited, found
	}
	if _, rest := cutMark(edited); rest != "" && !strings.HasSuffix(rest, "\n") {
		edited += lineEnd
	}
	return edited + name + ":" + hash + lineEnd, 0
}

// action is what rewrite does with a line.
type action uint8

const (
	keepLine action = iota
	removeLine
	setHash
)

// rewrite returns text with the lines that change asks for, and the line end of its first
// line. change is called for each line that has content, with the user and the hash as
// splitLine returns them.
func rewrite(text string, change func(user, hash string) (string, action)) (edited, lineEnd string) {
	var b strings.Builder
	b.Grow(len(text) + 64)
	mark, rest := cutMark(text)
	b.WriteString(mark)
	lineEnd = "\n"
	isFirst := true
	for line := range strings.Lines(rest) {
		if isFirst && strings.HasSuffix(line, "\r\n") {
			lineEnd = "\r\n"
		}
		isFirst = false
		content := lineContent(strings.TrimSuffix(line, "\n"))
		hash, action := "", keepLine
		user, old, problem := splitLine(content)
		if content != "" {
			hash, action = change(user, old)
		}
		switch action {
		case keepLine:
			b.WriteString(line)
		case setHash:
			b.WriteString(user + ":" + hash)
			if fields := strings.SplitN(content, ":", 3); len(fields) == 3 && problem == "" && len(user)+len(hash)+len(fields[2])+2 <= MaxLineLen {
				b.WriteString(":" + fields[2])
			}
			b.WriteString(line[len(strings.TrimRight(line, "\r\n")):])
		case removeLine:
		}
	}
	return b.String(), lineEnd
}

// Package htfile parses and edits the text of htpasswd files, and parses Apache's
// group files. It does no I/O and no logging.
//
// [Parse] parses the text of an htpasswd file into [Users]:
//
//	alice:$2y$10$...          a user with a hash of a format of package crypt
//	bob:$apr1$...:staff       text after a second colon is a comment
//	carol:!                   a locked user
//	# staff                   a comment; lines of whitespace are ignored, too
//
// It promises:
//
//   - The first line of a user wins. Later lines are duplicates and are ignored.
//   - An invalid line never falls back to a later one: its user is in the table
//     with [StateInvalid], and cannot log in.
//   - A file that has lines other than comments, but no valid one, is an error:
//     most likely it is not an htpasswd file.
//   - [Findings] and errors never contain a hash, or a name that could be one.
//
// [Users] and [Groups] are immutable and safe for concurrent use. Their strings are
// parts of the text, which stays in memory with them.
//
// [SetUser] and [RemoveUser] edit the text of an htpasswd file, and keep everything
// else in it byte for byte.
package htfile

const (
	// MaxUserLen is the maximum length of a user name in bytes, as in Apache's
	// htpasswd.
	MaxUserLen = 255

	// MaxLineLen is the maximum length of a line in bytes, without its line end.
	// The longest known hash has about 200.
	MaxLineLen = 8 << 10

	// MaxFindings is the maximum number of invalid lines, and of duplicates, that
	// are listed. The rest is only counted.
	MaxFindings = 10

	// Whitespace contains the characters that are ignored around lines and hashes.
	// Within a name they are part of it.
	Whitespace = " \t\r\v\f"
)

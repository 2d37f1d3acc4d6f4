// Package htfile reads and edits the text of htpasswd files, and reads that of
// Apache's group files. It opens no file, looks at no clock and logs nothing:
// text comes in, tables and texts go out.
//
// [Parse] turns the text of an htpasswd file into [Users]:
//
//	alice:$2y$10$...          a user with a hash of a format that package crypt knows
//	bob:$apr1$...:staff       text behind a second colon is a comment
//	carol:!                   a locked account
//	# nobody                  a comment; lines of whitespace mean nothing either
//
// What holds for every table:
//
//   - The first line of a user decides. Later ones are duplicates and change
//     nothing.
//   - An invalid line never falls back to a later one: the user it names is in
//     the table, with [StateInvalid], and cannot log in.
//   - A file that has lines, but no valid one, is an error: most likely it is
//     no htpasswd file.
//   - Nothing that is said about a file ([Findings], errors) holds a hash, or a
//     name that could be one.
//
// A table is never changed after it was made, so any number of goroutines can
// read it. Its strings are parts of the text, which stays in memory with it.
//
// [SetUser] and [RemoveUser] edit the text and keep everything else in it, byte
// for byte.
package htfile

const (
	// MaxUserLen is how many bytes a user name can have, as for Apache's htpasswd.
	MaxUserLen = 255

	// MaxLineLen is how many bytes a line can have without its line end; the
	// longest known hash has about 200.
	MaxLineLen = 8 << 10

	// MaxFindings is how many invalid lines, and how many duplicates, are noted
	// one by one; the rest is only counted.
	MaxFindings = 10

	// Whitespace are the characters around lines and hashes that mean nothing.
	// Within a name they are part of it.
	Whitespace = " \t\r\v\f"
)

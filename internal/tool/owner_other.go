//go:build !unix

package tool

// ownerOf returns "": there is no owner and group as on Unix.
func ownerOf(string) (owner, group string) { return "", "" }

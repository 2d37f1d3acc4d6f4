//go:build !unix

package follow

// OwnerOf returns "": there are no owner and group as on Unix.
func OwnerOf(string) (owner, group string) { return "", "" }

package testkit

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// ManyUsersPassword is the password of every user of ManyUsers.
const ManyUsersPassword = "correct horse"

// ManyUsers returns the text of a password file of n users, user0000000 and so on, with
// alternating hashes of cheap bcrypt and {SHA}. The user in the middle has bcrypt.
func ManyUsers(t testing.TB, n int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(ManyUsersPassword), bcrypt.MinCost)
	Must(t, err)
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "user%07d:", i)
		if i%2 == 0 {
			text.Write(hash)
		} else {
			text.WriteString("{SHA}Va5aHlRIv6pZ8fU0d5eZqV5sKhM=")
		}
		text.WriteByte('\n')
	}
	return text.String()
}

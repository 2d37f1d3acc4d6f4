package keyring_test

import (
	"bytes"
	"fmt"

	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

// Two servers of a fleet have the same keys as soon as they have the same secret.
func Example() {
	var process1, process2 keyring.Fallback
	server1, server2 := keyring.NewRing(&process1), keyring.NewRing(&process2)
	agree := func() bool { return bytes.Equal(server1.Keys().Decoys, server2.Keys().Decoys) }
	fmt.Println("without a secret:", agree())

	secret := keyring.NewSecret()
	server1.Set(keyring.NewKeys(secret, ""))
	server2.Set(keyring.NewKeys(secret, ""))
	fmt.Println("with one:", agree())
	fmt.Println(secret)
	// Output:
	// without a secret: false
	// with one: true
	// (secret)
}

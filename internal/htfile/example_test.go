package htfile_test

import (
	"fmt"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

func Example() {
	users, err := htfile.Parse("# staff\nalice:{SHA}AMr9EmGC6KnnwBuy8N/QBJa+ck8=\nbob:!\ncarol:{SHA}short\n")
	if err != nil {
		fmt.Println(err)
		return
	}
	alice := users.Find("alice")
	fmt.Println("alice can log in:", alice.State == htfile.StateUsable)
	fmt.Println("format of her hash:", users.Classes[alice.Class].Format.Name)
	fmt.Println("bob is locked:", users.Find("bob").State == htfile.StateLocked)
	for _, invalid := range users.Invalid {
		fmt.Printf("line %d: %s\n", invalid.Line, invalid.Reason)
	}
	// Output:
	// alice can log in: true
	// format of her hash: sha1
	// bob is locked: true
	// line 4: sha1: not the base64 of a 20-byte digest
}

func ExampleSetUser() {
	text := "# staff\nalice:!:the first\n"
	text, found := htfile.SetUser(text, "alice", "{SHA}AMr9EmGC6KnnwBuy8N/QBJa+ck8=")
	fmt.Print(found, "\n", text)
	// Output:
	// 1
	// # staff
	// alice:{SHA}AMr9EmGC6KnnwBuy8N/QBJa+ck8=:the first
}

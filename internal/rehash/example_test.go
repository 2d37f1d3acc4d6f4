package rehash_test

import (
	"context"
	"fmt"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/rehash"
)

func Example() {
	text := "alice:weak\n" // the file
	done := make(chan rehash.Outcome)
	worker := rehash.New(rehash.Config{
		Check: func() error { return nil },
		Make: func(_ context.Context, cost int, _ []byte) (string, error) {
			return fmt.Sprintf("strong, cost %d", cost), nil
		},
		Replace: func(_ context.Context, changes []htfile.Change) (made []bool, err error) {
			text, made = htfile.ReplaceHashes(text, changes)
			return made, nil
		},
		Report: func(r rehash.Report) { fmt.Println("written:", r.Written) },
		Room:   new(rehash.Room),
	})
	worker.Add(rehash.Login{
		User: "alice", Hash: "weak", Cost: 10,
		Done: func(o rehash.Outcome) { go func() { done <- o }() },
	}, []byte("the password, which has just been verified"))
	fmt.Println("written:", <-done == rehash.OutcomeWritten)
	worker.Close()
	fmt.Print(text)
	// Unordered output:
	// written: 1
	// written: true
	// alice:strong, cost 10
}

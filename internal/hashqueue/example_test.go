package hashqueue_test

import (
	"context"
	"fmt"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/hashqueue"
)

func Example() {
	queue := hashqueue.New[string, int](hashqueue.Config{
		Workers:   func() int { return 2 },
		MaxWait:   10 * time.Second,
		IsDemoted: func(uint64) bool { return false },
	})
	length, shared, err := queue.Do(context.Background(), hashqueue.Task[string, int]{
		Client: 1,
		Key:    "the same text",
		Start: func() (func() int, error) {
			// Called with the queue locked; may return an error to refuse the task.
			return func() int { return len("the same text") }, nil // runs without the lock
		},
	})
	fmt.Println(length, shared, err)
	// Output: 13 false <nil>
}

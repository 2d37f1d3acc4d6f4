package follow_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
)

// A new version of a followed file is loaded. After an error the previous version
// stays active.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "greeting")
	write := func(text string) { // atomically, by a rename
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			panic(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			panic(err)
		}
	}
	write("hello")

	f := follow.New(follow.NewFile(path), follow.Options{
		Load: func(text string, _ *zap.Logger) error {
			fmt.Println("loaded:", text)
			return nil
		},
		Settings: func() (follow.Settings, <-chan struct{}) {
			return follow.Settings{Poll: 5 * time.Second, Logger: zap.NewNop()}, nil // nil: they never change
		},
	})
	defer f.Close()
	if err := f.Reload(zap.NewNop()); err != nil {
		panic(err)
	}

	write("good day")
	f.Await(context.Background()) // without it, the change is found a moment later

	os.Remove(path)
	f.Await(context.Background())
	fmt.Println("failures:", f.Status().Failures)
	// Output:
	// loaded: hello
	// loaded: good day
	// failures: 1
}

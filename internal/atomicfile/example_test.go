//go:build unix && !aix && !dragonfly && !solaris

package atomicfile_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/seed10b5b978/caddy-htpasswd/internal/atomicfile"
)

// Add lines to a file. Between Open and Close no other writer changes it.
func Example() {
	dir, err := os.MkdirTemp("", "atomicfile")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "hosts")
	for _, line := range []string{"one\n", "two\n"} {
		if err := addLine(path, line); err != nil {
			log.Fatal(err)
		}
	}
	text, _ := os.ReadFile(path)
	fmt.Printf("%s", text)
	// Output:
	// one
	// two
}

func addLine(path, line string) error {
	file, err := atomicfile.Open(context.Background(), path, func() { log.Print("waiting for other writers") })
	if err != nil {
		return err
	}
	defer file.Close()
	text, err := file.Text(1 << 20)
	if err != nil {
		return err
	}
	return file.Replace(text+line, atomicfile.KeepGroup)
}

package httpfield_test

import (
	"fmt"
	"net/http"

	"github.com/seed10b5b978/caddy-htpasswd/internal/httpfield"
)

// Remove a field in all spellings before setting it.
func ExampleRemove() {
	header := http.Header{
		"Accept":     {"text/html"},
		"X_user":     {"root"}, // CGI turns it into HTTP_X_USER
		"Connection": {"close, X-User"},
	}
	httpfield.Remove(header, "X-User")
	header["X-User"] = []string{"alice"}
	fmt.Println(header)
	// Output: map[Accept:[text/html] X-User:[alice]]
}

func ExampleBasicChallenge() {
	fmt.Println(httpfield.BasicChallenge(`Bob's "private" files`))
	// Output: Basic realm="Bob's \"private\" files", charset="UTF-8"
}

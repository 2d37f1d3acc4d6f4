package sendable_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/seed10b5b978/caddy-htpasswd/internal/sendable"
)

// A field that contains a part of the request can be invalid. Respond with 400 instead
// of blaming the server.
func Example() {
	r := httptest.NewRequest(http.MethodGet, "/?name=a%0ab", nil)
	r.Header.Set("X-Name", r.FormValue("name"))
	status := http.StatusOK
	err := errors.Join(sendable.CheckRequest(r), sendable.CheckFields(r.Header, 65000))
	switch {
	case errors.Is(err, sendable.ErrFieldSize):
		status = http.StatusRequestHeaderFieldsTooLarge
	case err != nil:
		status = http.StatusBadRequest
	}
	fmt.Println(status, err)
	// Output: 400 invalid field value of 'X-Name'
}

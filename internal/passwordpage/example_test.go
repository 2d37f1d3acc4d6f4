package passwordpage_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/passwordpage"
)

// A handler whose page never changes anything.
func Example() {
	handler := func(w http.ResponseWriter, r *http.Request) {
		page := passwordpage.Page{User: "alice", MinLength: 15, MaxBytes: 72}
		if r.Method != http.MethodPost {
			_ = page.Write(w, r, http.StatusOK)
			return
		}
		form, err := passwordpage.ReadForm(w, r, passwordpage.Origin{Scheme: "https", Host: r.Host})
		switch {
		case err != nil:
			page.Problem = err.Error()
			_ = page.Write(w, r, passwordpage.StatusOf(err))
		case form.New != form.Again:
			page.AgainProblem = "This is not the same as the new password."
			_ = page.Write(w, r, http.StatusUnprocessableEntity)
		}
	}
	r := httptest.NewRequest("POST", "https://example.com/account/password", strings.NewReader("current_password=a&new_password=b&new_password_again=c"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://example.com")
	w := httptest.NewRecorder()
	handler(w, r)
	fmt.Println(w.Code)
	// Output: 422
}

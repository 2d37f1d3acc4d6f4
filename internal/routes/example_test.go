package routes_test

import (
	"encoding/json"
	"fmt"

	"github.com/seed10b5b978/caddy-htpasswd/internal/routes"
)

func Example() {
	var list []routes.Route
	err := json.Unmarshal([]byte(`[
		{"match": [{"path": ["/open/*"]}], "handle": [{"handler": "static_response"}]},
		{"handle": [
			{"handler": "vars", "root": "/home/{http.auth.user.id}"},
			{"handler": "htpasswd", "files": ["users"]},
			{"handler": "file_server"}
		]}
	]`), &list)
	if err != nil {
		fmt.Println(err)
		return
	}
	report := routes.Walk([]routes.Server{{Name: "srv0", Routes: list}})
	for _, login := range report.Logins {
		fmt.Println("protected on", login.Server, "except", login.Except)
	}
	for _, use := range report.EarlyUses {
		fmt.Println(use.Placeholder, "in", use.Directive, "never names a user:", use.Verdict == routes.UseNeverNamesUser)
	}
	// Output:
	// protected on srv0 except [path /open/*]
	// {http.auth.user.id} in root never names a user: true
}

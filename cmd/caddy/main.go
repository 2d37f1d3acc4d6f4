// Command caddy is Caddy with its standard modules and caddy-htpasswd.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/seed10b5b978/caddy-htpasswd"
)

func main() {
	caddycmd.Main()
}

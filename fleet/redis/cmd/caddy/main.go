// Command caddy is Caddy with its standard modules, caddy-htpasswd, and its store for
// fleets in Redis.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/seed10b5b978/caddy-htpasswd"
	_ "github.com/seed10b5b978/caddy-htpasswd/fleet/redis"
)

func main() {
	caddycmd.Main()
}

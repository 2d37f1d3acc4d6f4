module github.com/seed10b5b978/caddy-htpasswd/e2e

go 1.26.0

require github.com/seed10b5b978/caddy-htpasswd v0.0.0

replace github.com/seed10b5b978/caddy-htpasswd => ../

module github.com/seed10b5b978/caddy-htpasswd/e2e

go 1.26.0

require github.com/seed10b5b978/caddy-htpasswd v0.0.0

require (
	github.com/go-crypt/x v0.4.16 // indirect
	golang.org/x/crypto v0.57.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
)

replace github.com/seed10b5b978/caddy-htpasswd => ../

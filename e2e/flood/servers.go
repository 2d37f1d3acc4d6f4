//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/e2e/internal/benchkit"
)

const (
	password = "correct horse"
	cost     = 10
)

// prepare writes the password file and the certificate, and builds Caddy.
func prepare(dir string) error {
	users := []string{"person", "victim"}
	for i := range firstUsers {
		users = append(users, firstUser(i))
	}
	text, err := userLines(users)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "users"), []byte(text), 0o644); err != nil { //nolint:gosec // nginx reads it as another user
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // nginx reads it as another user
		return err
	}
	if err := benchkit.WriteCertificate(dir); err != nil {
		return err
	}
	if *caddy != "" {
		return nil
	}
	*caddy = filepath.Join(dir, "caddy")
	return benchkit.BuildCaddy("..", *caddy)
}

// htpasswdSite returns a Caddyfile with a setting in the global option.
func htpasswdSite(setting string) func(dir string, port int) string {
	return func(dir string, port int) string {
		return caddySite(dir, port, "htpasswd {\n"+setting+"\n}\n", "htpasswd /private {\nfile "+dir+"/users\n}")
	}
}

func basicAuthSite(dir string, port int) string {
	users, err := os.ReadFile(filepath.Join(dir, "users")) //nolint:gosec // a file of this program
	if err != nil {
		panic(err)
	}
	return caddySite(dir, port, "", "basic_auth /private {\n"+strings.ReplaceAll(string(users), ":", " ")+"}")
}

func caddySite(dir string, port int, global, auth string) string {
	return fmt.Sprintf(`{
	admin off
	persist_config off
	storage file_system %s/storage
	log {
		level ERROR
	}
	servers {
		protocols h1
		trusted_proxies static 127.0.0.2
		trusted_proxies_strict
	}
	%s
}
https://localhost:%d {
	tls %[1]s/cert.pem %[1]s/key.pem
	%[4]s
	respond ok
}
`, dir, global, port, auth)
}

func startCaddy(caddyfile func(dir string, port int) string) func(dir string) (*benchkit.Server, error) {
	return func(dir string) (*benchkit.Server, error) {
		port, err := benchkit.FreePort()
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, "Caddyfile")
		if err := os.WriteFile(path, []byte(caddyfile(dir, port)), 0o600); err != nil {
			return nil, err
		}
		return benchkit.Start(context.Background(), exec.Command(*caddy, "run", "--config", path, "--adapter", "caddyfile"), "https", port) //nolint:gosec // a program of this benchmark
	}
}

func startNginx(dir string) (*benchkit.Server, error) {
	port, err := benchkit.FreePort()
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`daemon off;
worker_processes auto;
error_log /dev/null crit;
pid %s/nginx.pid;
events { worker_connections 1024; }
http {
	access_log off;
	keepalive_requests 100000000;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server {
		listen 127.0.0.1:%d ssl;
		ssl_certificate %[1]s/cert.pem;
		ssl_certificate_key %[1]s/key.pem;
		location /open { return 200 ok; }
		location /private {
			auth_basic Restricted;
			auth_basic_user_file %[1]s/users;
			try_files /ok =404;
		}
		root %[1]s;
	}
}
`, dir, port)
	if err := os.WriteFile(filepath.Join(dir, "ok"), []byte("ok"), 0o644); err != nil { //nolint:gosec // nginx reads it as another user
		return nil, err
	}
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	return benchkit.Start(context.Background(), exec.Command(benchkit.LookUp("nginx"), "-c", path, "-p", dir), "https", port) //nolint:gosec // a program of this benchmark
}

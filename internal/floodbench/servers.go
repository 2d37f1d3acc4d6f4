package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	password = "correct horse"
	cost     = 10
)

// server is a server that runs.
type server struct {
	cmd *exec.Cmd
	url string
}

// prepare writes the password file and the certificate, and builds Caddy.
func prepare(dir string) error {
	var users strings.Builder
	for _, user := range []string{"person", "victim"} {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
		if err != nil {
			return err
		}
		fmt.Fprintf(&users, "%s:%s\n", user, hash)
	}
	if err := os.WriteFile(filepath.Join(dir, "users"), []byte(users.String()), 0o644); err != nil { //nolint:gosec // nginx reads it as another user
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the same
		return err
	}
	if err := writeCertificate(dir); err != nil {
		return err
	}
	if *caddy != "" {
		return nil
	}
	*caddy = filepath.Join(dir, "caddy")
	build := exec.Command("go", "build", "-o", *caddy, "./cmd/caddy") //nolint:gosec // its own folder
	build.Stderr = os.Stderr
	return build.Run()
}

func writeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"localhost"},
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: certificate}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// htpasswdSite is a Caddyfile with a setting in the global option.
func htpasswdSite(setting string) func(dir string, port int) string {
	return func(dir string, port int) string {
		return caddySite(dir, port, "htpasswd {\n"+setting+"\n}\n", "htpasswd /private {\nfile "+dir+"/users\n}")
	}
}

func basicAuthSite(dir string, port int) string {
	users, err := os.ReadFile(filepath.Join(dir, "users")) //nolint:gosec // our own
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

func startCaddy(caddyfile func(dir string, port int) string) func(dir string) (*server, error) {
	return func(dir string) (*server, error) {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, "Caddyfile")
		if err := os.WriteFile(path, []byte(caddyfile(dir, port)), 0o600); err != nil {
			return nil, err
		}
		return start(port, exec.Command(*caddy, "run", "--config", path, "--adapter", "caddyfile")) //nolint:gosec // ours
	}
}

func startNginx(dir string) (*server, error) {
	port, err := freePort()
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
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		nginx = "/usr/sbin/nginx"
	}
	return start(port, exec.Command(nginx, "-c", path, "-p", dir)) //nolint:gosec // the system's
}

// start starts a server and waits until it answers.
func start(port int, cmd *exec.Cmd) (*server, error) {
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd, fmt.Sprintf("https://127.0.0.1:%d", port)}
	for range 200 {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}) //nolint:gosec // of this machine
		if err == nil {
			return s, conn.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.stop()
	return nil, errors.New("does not answer")
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
}

// memory returns how many bytes of the server are resident.
func (s *server) memory() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kb, _ := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
	return kb << 10
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

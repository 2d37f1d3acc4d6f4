//go:build unix

// Package benchkit is shared by the benchmarks with real servers.
package benchkit

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// WriteCertificate writes a self-signed certificate for localhost, valid for a
// day, into a directory: cert.pem, key.pem, and both.pem with one after the other.
func WriteCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	for name, text := range map[string][]byte{"cert.pem": certificate, "key.pem": secret, "both.pem": slices.Concat(certificate, secret)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// BuildCaddy builds Caddy with the plugin from the project's directory.
func BuildCaddy(project, path string) error {
	build := exec.Command("go", "build", "-o", path, "./cmd/caddy") //nolint:gosec // this repository
	build.Dir, build.Stderr = project, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building caddy: %w", err)
	}
	return nil
}

// Server is a server in a separate process.
type Server struct {
	cmd *exec.Cmd
	// URL is the address of the server.
	URL string
}

// Start starts a server that listens at a port of 127.0.0.1, and waits, at
// most a minute and not when ctx is over, until it does.
func Start(ctx context.Context, cmd *exec.Cmd, scheme string, port int) (*Server, error) {
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // lighttpd ends all of its group
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &Server{cmd, fmt.Sprintf("%s://127.0.0.1:%d", scheme, port)}
	for range 6000 {
		if ctx.Err() != nil {
			break
		}
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return s, conn.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Stop()
	return nil, cmp.Or(ctx.Err(), fmt.Errorf("%s does not listen at port %d within a minute", filepath.Base(cmd.Path), port))
}

// Stop ends the server.
func (s *Server) Stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
}

// Memory returns how many bytes of the server are resident.
func (s *Server) Memory() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kb, _ := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
	return kb << 10
}

// CPU returns the processor time that the server and the processes that it has
// started, and that have not ended, have used so far. It is exact to 0.01 s.
func (s *Server) CPU() (sum time.Duration) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path) //nolint:gosec // a file of the kernel
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ") // after the name, which can contain spaces
		fields := strings.Fields(rest)
		if len(fields) < 13 || fields[2] != strconv.Itoa(s.cmd.Process.Pid) { // the process group
			continue
		}
		user, _ := strconv.ParseInt(fields[11], 10, 64)
		system, _ := strconv.ParseInt(fields[12], 10, 64)
		sum += time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
	}
	return sum
}

// FreePort returns a port that nobody listens on.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// LookUp returns the path of a program, which may be in /usr/sbin. If there is no
// such program, it returns the name.
func LookUp(name string) string {
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(path); err == nil {
			return path
		}
	}
	return name
}

package testkit

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
)

// recordingCaddy treats a Caddyfile as JSON, and records the loaded configuration.
type recordingCaddy struct{ loaded []string }

func (*recordingCaddy) Adapt(_ *Server, caddyfile string) ([]byte, error) {
	return []byte(caddyfile), nil
}

func (c *recordingCaddy) Load(_ *Server, config []byte) error {
	c.loaded = append(c.loaded, string(config))
	return nil
}

// TestServerSettings checks what a server adds to a configuration.
func TestServerSettings(t *testing.T) {
	t.Parallel()
	const off = `{"client":{"off":true},"login":{"off":true},"user":{"off":true}}`
	for _, row := range []struct {
		name     string
		options  ServerOptions
		config   string
		throttle string // in JSON
		admin    string // {admin} stands for the port
	}{
		{"limits are off in a configuration that sets none", ServerOptions{}, `{"apps":{}}`, off, `{"config":{"persist":false},"disabled":true}`},
		{"limits of the configuration stay", ServerOptions{}, `{"apps":{"htpasswd":{"throttle":{"login":{"failures":3}}}}}`, `{"login":{"failures":3}}`, `{"config":{"persist":false},"disabled":true}`},
		{"default limits", ServerOptions{DefaultLimits: true}, `{"apps":{"htpasswd":{}}}`, `null`, `{"config":{"persist":false},"disabled":true}`},
		{"the admin API listens", ServerOptions{Admin: true}, `{"apps":{}}`, off, `{"config":{"persist":false},"listen":"localhost:{admin}"}`},
		{"the admin API listens where the configuration says", ServerOptions{}, `{"admin":{"listen":"localhost:{admin}"},"apps":{}}`, off, `{"config":{"persist":false},"listen":"localhost:{admin}"}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := new(recordingCaddy)
			s := NewServer(t, c, row.options)
			Must(t, s.Reload(row.config))
			var got struct {
				Admin   json.RawMessage
				Storage struct{ Root string }
				Apps    struct {
					Htpasswd struct{ Throttle json.RawMessage }
				}
			}
			Must(t, json.Unmarshal([]byte(c.loaded[0]), &got))
			throttle := string(got.Apps.Htpasswd.Throttle)
			if throttle == "" {
				throttle = "null"
			}
			if throttle != row.throttle {
				t.Errorf("limits: got %s, want %s", throttle, row.throttle)
			}
			if want := s.Fill(row.admin); string(got.Admin) != want {
				t.Errorf("admin API: got %s, want %s", got.Admin, want)
			}
			if want := filepath.Join(s.Dir, "storage"); got.Storage.Root != want {
				t.Errorf("storage: got %s, want %s", got.Storage.Root, want)
			}
		})
	}
}

// TestServerFill checks the placeholders for the server's directory and ports.
func TestServerFill(t *testing.T) {
	t.Parallel()
	s := NewServer(t, new(recordingCaddy), ServerOptions{Dir: "/somewhere"})
	want := fmt.Sprintf("/somewhere/x %d %d %d {other}", s.HTTPS, s.HTTP, s.Admin)
	if got := s.Fill("{dir}/x {https} {http} {admin} {other}"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestProcessEnds runs a program to its end.
func TestProcessEnds(t *testing.T) {
	t.Parallel()
	p := Start(t, t.TempDir(), nil, "sh", "-c", "echo said; exit 3")
	Eventually(t, "the program has ended", p.Ended)
	if got := p.ExitCode(); got != 3 {
		t.Errorf("got exit code %d, want 3", got)
	}
	if got := p.Said(); got != "said\n" {
		t.Errorf("got %q, want what the program said", got)
	}
}

package caddyhtpasswd

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestCanary checks that neither a password nor its hash is written anywhere.
func TestCanary(t *testing.T) {
	const password = "canary-PaSSw0rd-7f3a"
	const hash = "$2y$04$Mo1mims8ECyupLmpCqtd/ejufvSwEGYP3DBry1e6ELHoaGIy33Awm"
	app := testkit.NewWitness(t)
	dead := httptest.NewServer(nil)
	dead.Close()
	caddyfile := `{
	servers {
		LOGCREDENTIALS
	}
}
https://localhost:{https} {
	tls internal
	log
	log_append login {http.vars.htpasswd.login}
	log_append login2 htpasswd.login
	log_append sent {http.request.header.Authorization}
	handle_errors 401 403 500 502 {
		respond "{err.message}|{err}|{http.error}|{http.vars.htpasswd.login}|{http.request.header.Authorization}|{http.auth.user.id}|{http.request.header}"
	}
	handle /panic {
		htpasswd {
			file {dir}/users
		}
		test_panic
	}
	handle /dead {
		htpasswd {
			file {dir}/users
		}
		reverse_proxy ` + dead.Listener.Addr().String() + `
	}
	handle /vars {
		htpasswd {
			file {dir}/users
		}
		vars again {http.vars.htpasswd.login}
		templates {
			mime text/plain
		}
		respond "{http.vars.htpasswd.login}|{http.vars.again}|{{placeholder ` + "`http.vars.htpasswd.login`" + `}}|{{.Req.Header}}"
	}
	@login vars {http.vars.htpasswd.login} *
	@cel expression ` + "`{http.vars.htpasswd.login} != ''`" + `
	handle /match {
		route {
			htpasswd {
				file {dir}/users
			}
			respond @login "matched"
			respond @cel "matched"
			respond none
		}
	}
	handle /bob {
		htpasswd {
			file {dir}/users
			require user bob
		}
		respond ok
	}
	handle /public {
		htpasswd {
			file {dir}/users
			exempt /public
		}
		reverse_proxy {app}
	}
	handle {
		htpasswd {
			file {dir}/users
		}
		reverse_proxy {app}
	}
}
http://localhost:{http} {
	htpasswd {
		file {dir}/users
	}
	respond ok
}`
	for _, option := range []string{"", "log_credentials"} {
		t.Run(option, func(t *testing.T) {
			s := startSite(t, app, map[string]string{"users": aliceCanary + bob}, strings.Replace(caddyfile, "LOGCREDENTIALS", option, 1))
			good := basic("alice", password)
			encoded := good[len("Basic "):]
			var answers []string
			add := func(a answer) {
				answers = append(answers, fmt.Sprintf("%+v", a))
			}
			for _, path := range []string{"/", "/dead", "/vars", "/match", "/bob", "/public"} {
				for _, value := range []string{
					good, good[:len(good)-6], "Basic " + strings.TrimRight(encoded, "="), basic("alice", password+"x"), basic("nobody", password),
					basic("alice", password+"\x00"), "Basic !" + encoded, good + ", " + good,
				} {
					add(s.send(path, authorization(value)))
				}
				add(s.send(path, authorization(good, good)))
			}
			add(s.plain("/", authorization(good)))
			for _, value := range []string{good, basic("alice", "wrong")} {
				r := s.request("GET", "/panic", nil)
				r.Header.Set("Authorization", value)
				if resp, err := s.client.Do(r); err == nil {
					text, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					add(answer{resp.StatusCode, resp.Header, string(text)})
				}
			}
			s.write("users", aliceCanary+bob+"alice:"+hash+"\nlong:"+hash+strings.Repeat("x", 9000)+"\nnone:"+hash[:20]+"\n:"+hash+"\n"+hash+"\n")
			eventually(t, "the file is read", func() bool { return strings.Contains(s.log(), "invalid line skipped") })
			s.write("users", hash+"\n")
			eventually(t, "the broken file is refused", func() bool { return strings.Contains(s.log(), "cannot load file") })

			if a := s.get("/vars", "alice", password); a.status != 200 || !strings.HasPrefix(a.body, "|||map[") {
				t.Errorf("got %+v, want status 200 and nothing of the login in the body", a)
			}
			text := s.log()
			for what, secret := range map[string]string{"password": password, "hash": hash, "salt and hash": hash[7:40], "part of the password": "PaSSw0rd"} {
				for line := range strings.Lines(text) {
					if strings.Contains(line, secret) {
						t.Errorf("the log: got a line with the %s, want none: %s", what, line)
					}
				}
				for _, a := range answers {
					if strings.Contains(a, secret) {
						t.Errorf("the answers: got one with the %s, want none: %s", what, a)
					}
				}
			}
			for _, a := range answers {
				if strings.Contains(a, encoded[:12]) {
					t.Errorf("the answers: got one with the encoded credentials, want none: %s", a)
				}
			}
			for line := range strings.Lines(text) {
				if !strings.Contains(line, encoded[:12]) {
					continue
				}
				// The administrator has configured Caddy to log the whole request. Nothing else logs it.
				_, rest, _ := strings.Cut(line, `"Authorization":[`)
				rest, _, _ = strings.Cut(rest, "]")
				asked := option == "log_credentials" && strings.Contains(line, `"logger":"http.log.`)
				if !asked || strings.Count(line, encoded[:12]) != strings.Count(rest, encoded[:12]) {
					t.Errorf("the log: got a line with the encoded credentials, want none: %s", line)
				}
			}
			if !strings.Contains(text, `"logger":"http.log.access`) || !strings.Contains(text, "panic serving") || !strings.Contains(text, "handled request") {
				t.Error("got no line of the access log, of a panic or of a request, want all of them: the test shows nothing")
			}
		})
	}
}

// panicking is a handler that panics.
type panicking struct{}

func (panicking) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_panic", New: func() caddy.Module { return new(panicking) }}
}

func (panicking) ServeHTTP(http.ResponseWriter, *http.Request, caddyhttp.Handler) error {
	panic("on purpose")
}

func init() {
	caddy.RegisterModule(panicking{})
	httpcaddyfile.RegisterHandlerDirective("test_panic", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return panicking{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_panic", httpcaddyfile.Before, "respond")
}

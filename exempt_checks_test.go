package caddyhtpasswd

import (
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/matchers"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

func TestExemptEverything(t *testing.T) {
	s := checkedServer(t)
	for _, test := range append([]testkit.MatcherCase{
		{Name: "name of the site", Set: `{"host":["localhost"]}`, Reach: matchers.ReachChosen},
		{Name: "name of the site and another", Set: `{"host":["other.example","localhost"]}`, Reach: matchers.ReachChosen},
		{Name: "name of the site with a path", Set: `{"host":["localhost"],"path":["/x"]}`, Reach: matchers.ReachLimited},
	}, testkit.MatcherCases...) {
		t.Run(test.Name, func(t *testing.T) {
			config, err := s.adapt(tlsSite("htpasswd {\nfile {dir}/users\nexempt /replaced\n}"))
			must(t, err)
			config = []byte(strings.Replace(string(config), `{"path":["/replaced"]}`, test.Set, 1))
			switch v := validatedJSON(t, s, config); test.Reach {
			case matchers.ReachEverything:
				v.wantRefusal(t, "exempt", "every request", "exempt /public/*")
			case matchers.ReachChosen:
				v.wantWarning(t, "exempt may match every request", `"matcher"`)
			case matchers.ReachLimited:
				v.wantNothing(t)
			}
		})
	}
}

// TestExemptInCaddyfile has exemptions that the Caddyfile parser refuses.
func TestExemptInCaddyfile(t *testing.T) {
	t.Parallel()
	for _, exempt := range []string{"protocol https", "path_regexp .*", "path_regexp any ^/", "expression true", "not path", "remote_ip 0.0.0.0/0 ::/0", "path /x *"} {
		_, err := adapted("https://localhost {\nhtpasswd {\nfile a\nexempt " + exempt + "\n}\n}\n")
		if err == nil || !strings.Contains(err.Error(), "exempt") {
			t.Errorf("exempt %s: got %v, want an error", exempt, err)
		}
	}
}

// TestExemptHostOfOneSite has lines that two sites import.
func TestExemptHostOfOneSite(t *testing.T) {
	s := checkedServer(t)
	const login = "htpasswd {\nfile {dir}/users\nexempt host localhost\n}\n"
	validated(t, s, tlsSite(login)+"https://127.0.0.1:{https} {\n"+login+"}\n").wantWarning(t, "exempt may match every request", `"hosts":["localhost"]`)
}

// TestExemptEncrypted exempts requests over TLS. Without allow_http, no other request can
// log in.
func TestExemptEncrypted(t *testing.T) {
	s := checkedServer(t)
	for _, exempt := range []string{"protocol https", "not protocol http"} {
		validated(t, s, tlsSite("htpasswd {\nfile {dir}/users\nexempt "+exempt+"\n}")).wantRefusal(t, "every request")
		validated(t, s, tlsSite("htpasswd {\nfile {dir}/users\nexempt "+exempt+"\nallow_http\n}")).wantWarning(t, "exempt may match every request")
	}
}

// TestExemptSecretNotLogged has matchers whose values are secrets.
func TestExemptSecretNotLogged(t *testing.T) {
	s := checkedServer(t)
	v := validated(t, s, tlsSite("@token {\nheader X-Token opensesame\nquery token=opensesame\nexpression `{header.X-Token} == \"opensesame\"`\nheader_regexp X-Token opensesame\n}\nhtpasswd {\nfile {dir}/users\nexempt @token\n}"))
	v.wantWarning(t, "exempt may match every request")
	for _, line := range v.lines { // Caddy logs whole configurations at level DEBUG
		if strings.Contains(line.String(), "opensesame") {
			t.Errorf("got a log line with the secret of the matcher, want none: %s", line)
		}
	}
}

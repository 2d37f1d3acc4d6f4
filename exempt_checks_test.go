package caddyhtpasswd

import (
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/matchers"
)

func TestExemptEverything(t *testing.T) {
	s := checkedServer(t)
	for _, test := range []struct {
		name, matcher string
		want          matchers.Reach
	}{
		{"encrypted requests", `{"protocol":"https"}`, matchers.ReachEverything},
		{"requests that are not encrypted", `{"protocol":"http"}`, matchers.ReachChosen},
		{"all versions of HTTP", `{"protocol":"http/1.0+"}`, matchers.ReachEverything},
		{"one version of HTTP", `{"protocol":"http/2"}`, matchers.ReachChosen},
		{"gRPC", `{"protocol":"grpc"}`, matchers.ReachChosen},
		{"regular expression of anything", `{"path_regexp":{"pattern":".*"}}`, matchers.ReachEverything},
		{"regular expression of a slash", `{"path_regexp":{"pattern":"^/"}}`, matchers.ReachEverything},
		{"regular expression from begin to end", `{"path_regexp":{"pattern":"^/(.*)$"}}`, matchers.ReachEverything},
		{"regular expression of one character", `{"path_regexp":{"pattern":"."}}`, matchers.ReachEverything},
		{"regular expression of several", `{"path_regexp":{"pattern":"^.+$"}}`, matchers.ReachEverything},
		{"empty regular expression", `{"path_regexp":{"pattern":""}}`, matchers.ReachEverything},
		{"regular expression with a choice of nothing", `{"path_regexp":{"pattern":"^(/x|)"}}`, matchers.ReachEverything},
		{"regular expression of the home page", `{"path_regexp":{"pattern":"^/$"}}`, matchers.ReachLimited},
		{"regular expression of a directory", `{"path_regexp":{"pattern":"^/public/"}}`, matchers.ReachLimited},
		{"regular expression of files", `{"path_regexp":{"pattern":"\\.(css|js)$"}}`, matchers.ReachLimited},
		{"regular expression of one name and all below", `{"path_regexp":{"pattern":"^/public(/.*)?$"}}`, matchers.ReachLimited},
		{"expression that is true", `{"expression":"true"}`, matchers.ReachEverything},
		{"expression that is true, as an object", `{"expression":{"expr":"(true)","name":"x"}}`, matchers.ReachEverything},
		{"expression about a header", `{"expression":"{http.request.header.X} == 'y'"}`, matchers.ReachChosen},
		{"expression about a path", `{"expression":"path('/public/*')"}`, matchers.ReachLimited},
		{"expression about a method", `{"expression":"{http.request.method} == 'GET'"}`, matchers.ReachLimited},
		{"expression about a certificate", `{"expression":"{http.request.tls.client.subject} != null"}`, matchers.ReachLimited},
		{"not nothing", `{"not":[]}`, matchers.ReachEverything},
		{"not a path", `{"not":[{"path":["/admin/*"]}]}`, matchers.ReachLimited},
		{"not a header", `{"not":[{"header":{"X":["y"]}}]}`, matchers.ReachChosen},
		{"not a path with a header", `{"not":[{"header":{"X":["y"]},"path":["/admin/*"]}]}`, matchers.ReachChosen},
		{"neither a path nor a header", `{"not":[{"header":{"X":["y"]}},{"path":["/admin/*"]}]}`, matchers.ReachLimited},
		{"not a path of an empty list", `{"not":[{"path":[]}]}`, matchers.ReachEverything},
		{"not unencrypted", `{"not":[{"protocol":"http"}]}`, matchers.ReachEverything},
		{"not not everything", `{"not":[{"not":[{"path":["/*"]}]}]}`, matchers.ReachLimited},
		{"every path", `{"path":["/x","*"]}`, matchers.ReachEverything},
		{"every path, twice", `{"path":["**"]}`, matchers.ReachEverything},
		{"every path with a method", `{"path":["/*"],"method":["GET"]}`, matchers.ReachLimited},
		{"every path with a header", `{"path":["/*"],"header":{"X":["y"]}}`, matchers.ReachChosen},
		{"path with a header", `{"path":["/x/*"],"header":{"X":["y"]}}`, matchers.ReachLimited},
		{"path", `{"path":["/public/*"]}`, matchers.ReachLimited},
		{"methods", `{"method":["GET","HEAD"]}`, matchers.ReachLimited},
		{"header", `{"header":{"X":["y"]}}`, matchers.ReachChosen},
		{"no header in particular", `{"header":{}}`, matchers.ReachEverything},
		{"no expression for a header", `{"header_regexp":{}}`, matchers.ReachEverything},
		{"query", `{"query":{"token":["x"]}}`, matchers.ReachChosen},
		{"all addresses", `{"remote_ip":{"ranges":["0.0.0.0/0","::/0"]}}`, matchers.ReachEverything},
		{"all addresses of clients", `{"client_ip":{"ranges":["::/0","0.0.0.0/0"]}}`, matchers.ReachEverything},
		{"all addresses of IPv4", `{"remote_ip":{"ranges":["0.0.0.0/0"]}}`, matchers.ReachChosen},
		{"addresses", `{"remote_ip":{"ranges":["192.0.2.0/24"]}}`, matchers.ReachLimited},
		{"name of the site", `{"host":["localhost"]}`, matchers.ReachChosen},
		{"name of the site and another", `{"host":["other.example","localhost"]}`, matchers.ReachChosen},
		{"name of the site with a path", `{"host":["localhost"],"path":["/x"]}`, matchers.ReachLimited},
		{"another name", `{"host":["other.example"]}`, matchers.ReachLimited},
		{"variable", `{"vars":{"x":["y"]}}`, matchers.ReachChosen},
		{"existing file", `{"file":{}}`, matchers.ReachChosen},
		{"nothing", `{}`, matchers.ReachEverything},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, err := s.adapt(tlsSite("htpasswd {\nfile {dir}/users\nexempt /replaced\n}"))
			must(t, err)
			config = []byte(strings.Replace(string(config), `{"path":["/replaced"]}`, test.matcher, 1))
			switch v := validatedJSON(t, s, config); test.want {
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

// TestExemptInCaddyfile has those that are found where they stand.
func TestExemptInCaddyfile(t *testing.T) {
	t.Parallel()
	for _, exempt := range []string{"protocol https", "path_regexp .*", "path_regexp any ^/", "expression true", "not path", "remote_ip 0.0.0.0/0 ::/0", "path /x *"} {
		_, err := adapted("https://localhost {\nhtpasswd {\nfile a\nexempt " + exempt + "\n}\n}\n")
		if err == nil || !strings.Contains(err.Error(), "exempt") {
			t.Errorf("exempt %s: got %v, want an error", exempt, err)
		}
	}
}

// TestExemptHostOfOneSite has lines that two sites have in common.
func TestExemptHostOfOneSite(t *testing.T) {
	s := checkedServer(t)
	const login = "htpasswd {\nfile {dir}/users\nexempt host localhost\n}\n"
	validated(t, s, tlsSite(login)+"https://127.0.0.1:{https} {\n"+login+"}\n").wantWarning(t, "exempt may match every request", `"hosts":["localhost"]`)
}

// TestExemptEncrypted has exemptions for the requests that come by TLS. Without
// allow_http nobody else can log in.
func TestExemptEncrypted(t *testing.T) {
	s := checkedServer(t)
	for _, exempt := range []string{"protocol https", "not protocol http"} {
		validated(t, s, tlsSite("htpasswd {\nfile {dir}/users\nexempt "+exempt+"\n}")).wantRefusal(t, "every request")
		validated(t, s, tlsSite("htpasswd {\nfile {dir}/users\nexempt "+exempt+"\nallow_http\n}")).wantWarning(t, "exempt may match every request")
	}
}

// TestExemptSecretNotLogged has matchers whose values are as good as a password.
func TestExemptSecretNotLogged(t *testing.T) {
	s := checkedServer(t)
	v := validated(t, s, tlsSite("@token {\nheader X-Token opensesame\nquery token=opensesame\nexpression `{header.X-Token} == \"opensesame\"`\nheader_regexp X-Token opensesame\n}\nhtpasswd {\nfile {dir}/users\nexempt @token\n}"))
	v.wantWarning(t, "exempt may match every request")
	for _, line := range v.lines { // Caddy logs whole configurations at the level DEBUG
		if strings.Contains(line.String(), "opensesame") {
			t.Errorf("got a log line with the secret of the matcher, want none: %s", line)
		}
	}
}

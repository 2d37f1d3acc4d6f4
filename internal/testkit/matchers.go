package testkit

import "github.com/seed10b5b978/caddy-htpasswd/internal/matchers"

// MatcherCase is a matcher set as JSON, and its reach where a login needs TLS.
type MatcherCase struct {
	Name, Set string
	Reach     matchers.Reach
}

// MatcherCases are sets of Caddy's matchers.
var MatcherCases = []MatcherCase{
	{"only encrypted requests can log in", `{"protocol":"https"}`, matchers.ReachEverything},
	{"a client can choose unencrypted requests", `{"protocol":"http"}`, matchers.ReachChosen},
	{"all versions of HTTP", `{"protocol":"http/1.0+"}`, matchers.ReachEverything},
	{"one version of HTTP", `{"protocol":"http/2"}`, matchers.ReachChosen},
	{"gRPC", `{"protocol":"grpc"}`, matchers.ReachChosen},
	{"regular expression of anything", `{"path_regexp":{"pattern":".*"}}`, matchers.ReachEverything},
	{"regular expression of a slash", `{"path_regexp":{"pattern":"^/"}}`, matchers.ReachEverything},
	{"regular expression from beginning to end", `{"path_regexp":{"pattern":"^/(.*)$"}}`, matchers.ReachEverything},
	{"regular expression of one character", `{"path_regexp":{"pattern":"."}}`, matchers.ReachEverything},
	{"regular expression of one or more characters", `{"path_regexp":{"pattern":"^.+$"}}`, matchers.ReachEverything},
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
	{"names of hosts limit", `{"host":["other.example"]}`, matchers.ReachLimited},
	{"variable", `{"vars":{"x":["y"]}}`, matchers.ReachChosen},
	{"existing file", `{"file":{}}`, matchers.ReachChosen},
	{"nothing", `{}`, matchers.ReachEverything},
}

package caddyhtpasswd

import (
	"runtime"
	"testing"
)

func TestGroupNameInOtherDirectives(t *testing.T) {
	s := checkedServer(t)
	const group = "{\nupstream app {\nserver localhost:9\n}\nupstream other {\nserver localhost:9\n}\n}\n"
	for _, test := range []struct {
		name, body, upstream string
	}{
		{"reverse_proxy", "reverse_proxy app", "app:80"},
		{"reverse_proxy, as a URL", "reverse_proxy http://app", "app:80"},
		{"reverse_proxy, among others", "reverse_proxy localhost:9 {\nto app\n}", "app:80"},
		{"reverse_proxy beside a proxy_pass", "proxy_pass app\nreverse_proxy /x other", "other:80"},
		{"forward_auth", "forward_auth app {\nuri /auth\n}", "app:80"},
		{"php_fastcgi", "php_fastcgi app", "app:80"},
		{"in a handle", "handle /x/* {\nreverse_proxy app\n}", "app:80"},
		{"in what follows an answer", "reverse_proxy localhost:9 {\n@no status 404\nhandle_response @no {\nreverse_proxy app\n}\n}", "app:80"},
		{"in an error route", "handle_errors {\nreverse_proxy app\n}", "app:80"},
		{"twice in a site", "reverse_proxy /a app\nreverse_proxy /b app", "app:80"},
		{"proxy_pass", "proxy_pass app", ""},
		{"port of its own", "reverse_proxy app:8080", ""},
		{"longer name", "reverse_proxy app.example", ""},
		{"address", "reverse_proxy localhost:9", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := validated(t, s, group+"http://localhost:{http} {\n"+test.body+"\n}\n")
			if test.upstream != "" {
				v.wantWarning(t, "upstream is a host name here", "proxy_pass", `"upstream":"`+test.upstream+`"`)
			} else {
				v.wantNothing(t)
			}
		})
	}
	t.Run("group with a server of its name", func(t *testing.T) {
		validated(t, s, "{\nupstream app {\nserver app\n}\n}\nhttp://localhost:{http} {\nproxy_pass app\n}\n").wantNothing(t)
	})
	t.Run("in a named route", func(t *testing.T) {
		validated(t, s, group+"&(p) {\nreverse_proxy app\n}\nhttp://localhost:{http} {\ninvoke p\n}\n").wantWarning(t, "app:80")
	})
	t.Run("groups alone", func(t *testing.T) {
		validated(t, s, group+"http://localhost:{http} {\nrespond ok\n}\n").wantNothing(t)
	})
}

// TestGroupDefinitionsAreForgotten adapts many Caddyfiles. The definitions that directives
// need must not stay in memory.
func TestGroupDefinitionsAreForgotten(t *testing.T) {
	count := func() (n int) {
		definedGroups.Range(func(any, any) bool { n++; return true })
		return n
	}
	for range 100 {
		_, err := adapted("{\nupstream a {\nserver localhost:9\n}\nupstream b {\nserver localhost:9\n}\n}\n:80 {\nproxy_pass a\nproxy_pass /b b\n}\n")
		must(t, err)
	}
	eventually(t, "the definitions are gone", func() bool {
		runtime.GC()
		return count() == 0
	})
}

package caddyhtpasswd

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/routes"
)

func TestServedPasswordFileWarning(t *testing.T) {
	s := checkedServer(t)
	must(t, os.MkdirAll(filepath.Join(s.dir, "site", "private"), 0o755))
	must(t, os.Mkdir(filepath.Join(s.dir, "conf"), 0o755))
	s.write("site/.htpasswd", "alice:"+shaSecret1+"\n")
	s.write("site/private/.htpasswd", "alice:"+shaSecret1+"\n")
	s.write("site/.htgroups", "staff: alice\n")
	s.write("conf/users", "alice:"+shaSecret1+"\n")
	login := func(file string) string { return "htpasswd {\nfile {dir}/" + file + "\n}\n" }
	for _, test := range []struct {
		name, config, want string
	}{
		{"in the root", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "file_server"), "site/.htpasswd"},
		{"below the root", tlsSite("root {dir}/site\n" + login("site/private/.htpasswd") + "file_server"), "site/private/.htpasswd"},
		{"group file in the root", tlsSite("root {dir}/site\nhtpasswd {\nfile {dir}/conf/users\ngroup_file {dir}/site/.htgroups\n}\nfile_server"), "site/.htgroups"},
		{"root of the file server", tlsSite(login("site/.htpasswd") + "file_server {\nroot {dir}/site\n}"), "site/.htpasswd"},
		{"file server in another handle", tlsSite("root {dir}/site\nhandle /x/* {\n" + login("site/.htpasswd") + "}\nhandle {\nfile_server\n}"), "site/.htpasswd"},
		{"file server before", tlsSite("route {\nhandle_path /x/* {\nfile_server {\nroot {dir}/site\n}\n}\n" + login("site/.htpasswd") + "}"), "site/.htpasswd"},
		{"file server for other paths", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "file_server /static/*"), ""},
		{"file server for other files", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "@a path /a /b/.htpasswd\nfile_server @a"), ""},
		{"file server for paths that lead to it", tlsSite("root {dir}/site\n" + login("site/private/.htpasswd") + "file_server /Private/*"), "site/private/.htpasswd"},
		{"file server after paths that are rewritten and answered", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "route {\nhandle_path /x/* {\nrespond x\n}\nroute /y/* {\nfile_server\n}\n}"), ""},
		{"file server for a pattern", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "@a path *.txt */.ht*\nfile_server @a"), "site/.htpasswd"},
		{"file server for paths that are rewritten", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "handle /x/* {\nuri strip_prefix /x\nfile_server\n}"), "site/.htpasswd"},
		{"file server for paths that were rewritten before", tlsSite("route {\n" + login("site/.htpasswd") + "route /x/* {\nuri strip_prefix /x\nfile_server {\nroot {dir}/site\n}\n}\n}"), "site/.htpasswd"},
		{"root for some paths", tlsSite("root {dir}/conf\nroot /x/* {dir}/site\n" + login("site/.htpasswd") + "file_server"), "site/.htpasswd"},
		{"another site", tlsSite("root {dir}/site\nfile_server") + "https://127.0.0.1:{https} {\n" + login("site/.htpasswd") + "}\n", "site/.htpasswd"},
		{"file server in a named route", "&(files) {\nfile_server\n}\n" + tlsSite("root {dir}/site\n"+login("site/.htpasswd")+"invoke files"), "site/.htpasswd"},
		{"two sites, one hides it", tlsSite("root {dir}/site\n"+login("site/.htpasswd")+"file_server {\nhide .ht*\n}") + "https://127.0.0.1:{https} {\nroot {dir}/site\nfile_server\n}\n", "site/.htpasswd"},
		{"one of the files of a pattern", tlsSite("root {dir}/site\nhtpasswd {\nfile {dir}/site/private/.h*\n}\nfile_server"), "site/private/.h*"},
		{"the files of a pattern, hidden", tlsSite("root {dir}/site\nhtpasswd {\nfile {dir}/site/private/.h*\n}\nfile_server {\nhide .h*\n}"), ""},
		{"the files of a pattern beside the root", tlsSite("root {dir}/site\nhtpasswd {\nfile {dir}/conf/*\n}\nfile_server"), ""},
		{"a text of users", tlsSite("root {dir}/site\nhtpasswd {\nusers alice:" + shaSecret1 + "\n}\nfile_server"), ""},
		{"hidden by its name", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "file_server {\nhide .htpasswd\n}"), ""},
		{"hidden by a pattern", tlsSite("root {dir}/site\n" + login("site/private/.htpasswd") + "file_server {\nhide .ht*\n}"), ""},
		{"hidden with its directory", tlsSite("root {dir}/site\n" + login("site/private/.htpasswd") + "file_server {\nhide {dir}/site/private\n}"), ""},
		{"beside the root", tlsSite("root {dir}/site\n" + login("conf/users") + "file_server"), ""},
		{"no file server", tlsSite("root {dir}/site\n" + login("site/.htpasswd") + "respond ok"), ""},
		{"root with a placeholder", tlsSite("root {dir}/{host}\n" + login("site/.htpasswd") + "file_server"), ""},
		{"pages for errors", tlsSite(login("site/.htpasswd") + "handle_errors {\nfile_server\n}"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := validated(t, s, test.config)
			if test.want != "" {
				v.wantWarning(t, "below the root of a file_server", "hide", `"file":"`+filepath.Join(s.dir, test.want)+`"`)
			} else {
				v.wantNothing(t)
			}
		})
	}
}

// TestHiddenAsCaddyHides requests files that the check takes for hidden, or not, from
// Caddy.
func TestHiddenAsCaddyHides(t *testing.T) {
	s := checkedServer(t)
	must(t, os.MkdirAll(filepath.Join(s.dir, "site", "private"), 0o755))
	for _, file := range []string{".htpasswd", "users.txt", "private/.htpasswd", "private/users"} {
		s.write("site/"+file, "text")
	}
	for _, hide := range []string{".htpasswd", ".ht*", "*.txt", "private", "{dir}/site/private", "{dir}/site/*.txt", "{dir}/site/priv", "{dir}/site/private/", "[", "*"} {
		hide = strings.ReplaceAll(hide, "{dir}", s.dir)
		must(t, s.reload(tlsSite("root {dir}/site\nfile_server {\nhide "+hide+"\n}")))
		for _, file := range []string{".htpasswd", "users.txt", "private/.htpasswd", "private/users"} {
			isServed := s.get("/"+file, "", "").status == http.StatusOK
			files := routes.ServedFiles{Hide: absoluteHide([]string{hide})}
			root := filepath.Join(s.dir, "site")
			if got := files.MayServe(root, filepath.Join(root, file)); got != isServed {
				t.Errorf("hide %s: %s: got may be served %t, but Caddy serves it: %t", hide, file, got, isServed)
			}
		}
	}
}

package routes

import "testing"

func TestMayServe(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		files ServedFiles
		want  bool
	}{
		{"nothing hidden", ServedFiles{}, true},
		{"hidden by its name", ServedFiles{Hide: []string{"other", ".htpasswd"}}, false},
		{"hidden by a pattern", ServedFiles{Hide: []string{".ht*"}}, false},
		{"hidden by the name of its directory", ServedFiles{Hide: []string{"private"}}, false},
		{"hidden by its path", ServedFiles{Hide: []string{"/site/private/.htpasswd"}}, false},
		{"hidden by a pattern of its path", ServedFiles{Hide: []string{"/site/*/.htpasswd"}}, false},
		{"hidden with its directory", ServedFiles{Hide: []string{"/site/private"}}, false},
		{"another directory hidden that begins like it", ServedFiles{Hide: []string{"/site/priv"}}, true},
		{"an invalid pattern hides nothing", ServedFiles{Hide: []string{"[", "/["}}, true},
		{"its path", ServedFiles{Paths: []string{"/private/.htpasswd"}}, true},
		{"its path in other letters", ServedFiles{Paths: []string{"/PRIVATE/.htpasswd"}}, true},
		{"a beginning of its path", ServedFiles{Paths: []string{"/x", "/private/*"}}, true},
		{"a pattern that may match", ServedFiles{Paths: []string{"*/.ht*"}}, true},
		{"a placeholder that may match", ServedFiles{Paths: []string{"/{x}"}}, true},
		{"other paths", ServedFiles{Paths: []string{"/static/*", "/private"}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := test.files.MayServe("/site", "/site/private/.htpasswd"); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}

package e2e

import "testing"

// TestHarness tests the server that all other tests use.
func TestHarness(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	htpasswdIn(t, dir, "-cbC4", "users", "ann", "secret")
	s := startIn(t, dir, "", "https://localhost:{https} {\nhtpasswd {\nfile {dir}/users\n}\nrespond ok\n}")
	for _, test := range []struct {
		user, password string
		status         int
	}{{"", "", 401}, {"ann", "wrong", 401}, {"ann", "secret", 200}} {
		if a := s.get("/", test.user, test.password); a.Status != test.status {
			t.Errorf("%q, %q: %d", test.user, test.password, a.Status)
		}
	}
	if err := s.reload("", "https://localhost:{https} {\nrespond open\n}"); err != nil {
		t.Fatal(err)
	}
	if a := s.get("/", "", ""); a.Body != "open" {
		t.Errorf("after a reload: %d %q", a.Status, a.Body)
	}
	s.kill()
	s.run()
	if a := s.get("/", "", ""); a.Status != 200 {
		t.Errorf("after kill -9: %d", a.Status)
	}
}

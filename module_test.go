package caddyhtpasswd

import "testing"

func TestSmoke(t *testing.T) {
	s := startServer(t, "")
	s.write(".htpasswd", "alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n") // htpasswd -bns alice secret
	if err := s.reload(`
https://localhost:{https} {
	tls internal
	htpasswd {
		file {dir}/.htpasswd
	}
	respond "{http.auth.user.id}"
}`); err != nil {
		t.Fatal(err)
	}
	if a := s.get("/", "alice", "secret"); a.status != 200 || a.body != "alice" {
		t.Errorf("%+v", a)
	}
	if a := s.get("/", "alice", "secres"); a.status != 401 {
		t.Errorf("%+v", a)
	}
}

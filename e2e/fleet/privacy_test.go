package fleet

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRedisLearnsNoNameAddressPasswordOrHash uses everything that servers share, and
// looks for canaries in all keys, values, commands, and in the file that Redis writes.
func TestRedisLearnsNoNameAddressPasswordOrHash(t *testing.T) {
	parallel(t)
	r := startRedis(t)
	end := r.monitor()
	file := usersFile(t, 4, 0, "canary-of-a-file")
	nodes := startFleet(t, 2, settings{
		store: store(r.address()), secret: secret, limits: limits,
		sources: "\t\tfile fleet://staff " + file + "\n\t\trequire group crew\n\t\tgroup_file fleet://groups",
	})
	canaries := []string{
		"canary-of-a-file", "canary-of-the-fleet", "canary-unknown", "canary-group", "canary-wrong", password,
		"198.51.100.77", "2001:db8:77", secret,
	}
	const client = "198.51.100.77"
	if out, code := nodes[0].fleetTool("-bC5", "fleet://staff", "canary-of-the-fleet", password); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	groups := filepath.Join(t.TempDir(), "groups")
	must(t, os.WriteFile(groups, []byte("crew: canary-of-the-fleet canary-of-a-file canary-group\n"), 0o600))
	if out, code := nodes[0].fleetTool("--import", "fleet://groups", groups); code != 0 {
		t.Logf("importing groups: %d: %s", code, out) // otherwise only the answers differ
	}
	for _, n := range nodes {
		eventually(t, "the user can log in at "+n.name, func() bool {
			s := n.login(client, "canary-of-the-fleet", password).status
			return s == http.StatusOK || s == http.StatusForbidden
		})
		n.login(client, "canary-of-a-file", password)
		for i := range 2 * limit {
			n.login(client, "canary-unknown", fmt.Sprintf("canary-wrong %d", i))
			n.login("2001:db8:77::1", "canary-of-the-fleet", fmt.Sprintf("canary-wrong %d", i))
		}
	}
	if counts := r.counts("login"); len(counts) == 0 {
		t.Error("Redis has no counts, so this test shows nothing")
	}
	for _, path := range []string{"/htpasswd/throttle/canary-of-the-fleet", "/htpasswd/throttle/" + client} {
		nodes[1].adminRequest(http.MethodDelete, path, "")
	}
	for i, n := range nodes { // counted again, to be in the dump
		n.login(client, "canary-unknown", fmt.Sprintf("canary-wrong again %d", i))
	}
	for _, text := range strings.Fields(strings.NewReplacer(":", " ", "\n", " ").Replace(readAll(t, filepath.Dir(file), nodes[0].dir))) {
		if strings.HasPrefix(text, "$2") && len(text) > 50 {
			canaries = append(canaries, text, text[29:])
		}
	}
	if len(canaries) < 12 {
		t.Errorf("only %d canaries: the local copy has no hash", len(canaries))
	}

	where := map[string]string{}
	for _, key := range r.keys() {
		where["key "+key] = key + " " + r.dump(key)
	}
	r.do("SAVE")
	rdb, err := os.ReadFile(filepath.Join(r.dir, "dump.rdb"))
	must(t, err)
	where["RDB file"] = string(rdb)
	where["commands"] = end()
	if !strings.Contains(strings.ToLower(where["commands"]), `"publish"`) || !strings.Contains(strings.ToLower(where["commands"]), `"evalsha"`) {
		t.Errorf("the commands have no event or no count, so this test shows nothing:\n%s", where["commands"])
	}
	for name, text := range where {
		for _, c := range canaries {
			for _, form := range []string{c, hex.EncodeToString([]byte(c)), base64.StdEncoding.EncodeToString([]byte(c)), strings.TrimRight(base64.URLEncoding.EncodeToString([]byte(c)), "=")} {
				if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
					t.Errorf("%s has %q, or it encoded", name, c)
				}
			}
		}
	}
}

// readAll returns the content of all files of directories.
func readAll(t *testing.T, dirs ...string) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range dirs {
		must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || d.Name() == "log" || strings.HasPrefix(d.Name(), "output") {
				return err
			}
			text, err := os.ReadFile(path)
			b.Write(text)
			b.WriteByte('\n')
			return err
		}))
	}
	return b.String()
}

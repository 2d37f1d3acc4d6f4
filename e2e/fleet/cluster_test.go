package fleet

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// startCluster starts a Redis Cluster of n masters.
func startCluster(t testing.TB, n int) []*redis {
	t.Helper()
	var all []*redis
	const slotCount = 16384
	// By default it would be 10,000 above the other port, where the system assigns ports.
	buses := testkit.FreePorts(t, n)
	for i := range n {
		r := startRedis(t, "cluster-enabled yes", fmt.Sprint("cluster-port ", buses[i]), "cluster-config-file nodes.conf", "cluster-node-timeout 2000", "cluster-require-full-coverage no")
		r.do("ACL", "SETUSER", "caddy", "+cluster|slots")
		r.do("CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(i*slotCount/n), fmt.Sprint((i+1)*slotCount/n-1))
		all = append(all, r)
	}
	for i, r := range all[1:] {
		all[0].do("CLUSTER", "MEET", "127.0.0.1", fmt.Sprint(r.port), fmt.Sprint(buses[i+1]))
	}
	eventually(t, "the cluster is complete", func() bool {
		for _, r := range all {
			if info := fmt.Sprint(r.do("CLUSTER", "INFO")); !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r", n)) || !strings.Contains(info, "cluster_slots_ok:16384") {
				return false
			}
		}
		return true
	})
	return all
}

// TestClusterOfThreeNodes shares counts and users through a Redis Cluster. One of its
// nodes hangs for a while.
func TestClusterOfThreeNodes(t *testing.T) {
	if os.Getenv("HTPASSWD_SOAK") == "" {
		t.Skip("runs with 'make soak'")
	}
	parallel(t)
	cluster := startCluster(t, 3)
	var addresses []string
	for _, r := range cluster {
		addresses = append(addresses, r.address())
	}
	nodes := startFleet(t, 3, settings{
		store: store(strings.Join(addresses, " ")), secret: secret, limits: limits, hashes: slots,
		sources: "\t\tfile fleet://staff " + usersFile(t, 4, users),
	})
	add := func(user string) {
		t.Helper()
		eventually(t, "the tool adds "+user, func() bool {
			out, code := nodes[0].fleetTool("-bC5", "fleet://staff", user, password)
			if code != 0 {
				t.Logf("%d: %s", code, out)
			}
			return code == 0
		})
		t.Logf("%s can log in after %s", user, awaitLogin(t, nodes, user, password).Round(time.Millisecond))
	}
	add("alice")
	tr := startTraffic(t, nodes)
	tr.awaitSharing(t)
	for _, r := range cluster {
		r.process.Signal(syscall.SIGSTOP)
		time.Sleep(3 * time.Second) // how long the fault lasts
		r.process.Signal(syscall.SIGCONT)
		tr.checkRecovery(t, marks(nodes))
		tr.check(t)
	}
	add("bob")
	tr.end()
	tr.check(t)
	tr.checkCounts(t, cluster...)
}

package redis

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestSentinel runs the conformance suite through Sentinel, and then fails over, with a
// master that is killed.
func TestSentinel(t *testing.T) {
	t.Parallel()
	user := "user caddy on >right " + permissions
	master := testkit.StartRedis(t, user, "repl-diskless-sync-delay 0")
	replica := testkit.StartRedis(t, user, fmt.Sprintf("replicaof 127.0.0.1 %d", master.Port))
	testkit.Eventually(t, "the replica is in sync", func() bool {
		return strings.Contains(replica.Command("info", "replication"), "master_link_status:up")
	})
	// One Sentinel: two may vote for themselves, and try again after twice the timeout.
	sentinel := testkit.StartSentinel(t, fmt.Sprintf("sentinel monitor main 127.0.0.1 %d 1", master.Port),
		"sentinel down-after-milliseconds main 1000", "sentinel failover-timeout main 3000",
		"user watcher on >watching "+sentinelPermissions)
	testkit.Eventually(t, "the Sentinel knows the replica", func() bool {
		return strings.Contains(sentinel.Command("sentinel", "master", "main"), "num-slaves\n1")
	})
	nobody := fmt.Sprintf("127.0.0.1:%d", testkit.FreePorts(t, 1)[0]) // a Sentinel that is down
	e := Engine{Addresses: []string{nobody, sentinel.Address()}, Sentinel: "main", SentinelUsername: "watcher", SentinelPassword: "watching", Username: "caddy", Password: "right"}
	conforms(t, e)
	expectNoViolation(t, master)
	expectNoViolation(t, sentinel)

	s := open(t, e)
	defer s.Close()
	var connected atomic.Int32
	events := make(chan string, 100)
	go s.Subscribe(t.Context(), fleet.Subscriber{
		Event: func(event []byte) { events <- string(event) }, Connected: func() { connected.Add(1) }, Disconnected: func(error) {},
	})
	testkit.Eventually(t, "the subscription is made", func() bool { return connected.Load() == 1 })
	testkit.Must(t, adds(t, s, 5*time.Second))
	master.Kill()
	begin := time.Now()
	testkit.Eventually(t, "the new master counts", func() bool { return adds(t, s, 500*time.Millisecond) == nil })
	worksAfter := time.Since(begin)
	testkit.Eventually(t, "the subscription is made again", func() bool { return connected.Load() == 2 })
	testkit.Must(t, s.Publish(t.Context(), []byte("hello")))
	if event := <-events; event != "hello" {
		t.Errorf("event %q arrived", event)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the store works again %s after the master was killed, want at most 10 s", took)
	} else {
		t.Logf("works again after %s, with events after %s", worksAfter, took)
	}
}

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
	master := testkit.StartRedis(t, user)
	replica := testkit.StartRedis(t, user, fmt.Sprintf("replicaof 127.0.0.1 %d", master.Port), "repl-diskless-sync-delay 0")
	testkit.Eventually(t, "the replica is in sync", func() bool {
		return strings.Contains(replica.Command("info", "replication"), "master_link_status:up")
	})
	var sentinels []string
	var processes []*testkit.Redis
	for range 2 {
		s := testkit.StartSentinel(t, fmt.Sprintf("sentinel monitor main 127.0.0.1 %d 1", master.Port),
			"sentinel down-after-milliseconds main 1000", "sentinel failover-timeout main 5000",
			"user watcher on >watching "+sentinelPermissions)
		sentinels = append(sentinels, s.Address())
		processes = append(processes, s)
	}
	for _, s := range processes {
		testkit.Eventually(t, "the Sentinels know the replica and each other", func() bool {
			text := s.Command("sentinel", "master", "main")
			return strings.Contains(text, "num-slaves\n1") && strings.Contains(text, "num-other-sentinels\n1")
		})
	}
	e := Engine{Addresses: sentinels, Sentinel: "main", SentinelUsername: "watcher", SentinelPassword: "watching", Username: "caddy", Password: "right"}
	conforms(t, e)
	expectNoViolation(t, master)
	for _, s := range processes {
		expectNoViolation(t, s)
	}

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

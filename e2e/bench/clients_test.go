//go:build unix

package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// BenchmarkProxyPassClients compares requests per second through proxy_pass and through
// a reverse_proxy without any settings, to the same server, for several numbers of clients
// that each keep a connection: alternating rounds of both, and the median of the ratios.
// It also reports how many connections each of them opens to the server for a request, and
// the ratio of the processor time for a request, of reverse_proxy to proxy_pass. That of
// clients and server is included. It changes less than the rates if the machine is busy.
func BenchmarkProxyPassClients(b *testing.B) {
	for _, clients := range []int{16, 64, 256} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) { benchmarkClients(b, clients) })
	}
}

// applicationTime is how long the server takes for a response, as an application does.
// Without it, few requests are at the server at the same time.
const applicationTime = 2 * time.Millisecond

func benchmarkClients(b *testing.B, clients int) {
	var opened atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(applicationTime)
		_, _ = io.WriteString(w, "ok")
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	b.Cleanup(server.Close)
	ports := testkit.FreePorts(b, 2)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(fmt.Appendf(nil, `{
		admin off
		persist_config off
		storage file_system %s
		log {
			output discard
		}
		upstream web {
			server %s
		}
	}
	http://127.0.0.1:%d {
		proxy_pass web
	}
	http://127.0.0.1:%d {
		reverse_proxy %[2]s
	}`, b.TempDir(), server.URL, ports[0], ports[1]), map[string]any{"filename": "Caddyfile"})
	testkit.Must(b, err)
	testkit.Must(b, caddy.Load(config, true))
	b.Cleanup(func() { _ = caddy.Stop() })

	loads := [2]*load{newLoad(b, ports[0], clients), newLoad(b, ports[1], clients)}
	for b.Loop() {
		var ratios, processor, ours []float64
		var samples [2]sample
		for i := range 22 {
			with, without := measure(b, loads[0], &opened), measure(b, loads[1], &opened)
			if i == 0 {
				continue // the first connections
			}
			ratios = append(ratios, with.rate()/without.rate())
			processor = append(processor, without.perRequest()/with.perRequest())
			ours = append(ours, with.rate())
			samples[0].add(with)
			samples[1].add(without)
		}
		for _, values := range [][]float64{ratios, processor, ours} {
			slices.Sort(values)
		}
		b.ReportMetric(ours[10], "requests/s")
		b.ReportMetric(ratios[10], "ratio")
		b.ReportMetric(ratios[5], "ratio-25%")
		b.ReportMetric(ratios[15], "ratio-75%")
		b.ReportMetric(processor[10], "cpu-ratio")
		b.ReportMetric(processor[5], "cpu-ratio-25%")
		b.ReportMetric(processor[15], "cpu-ratio-75%")
		b.ReportMetric(samples[0].opened/samples[0].requests, "connections/request")
		b.ReportMetric(samples[1].opened/samples[1].requests, "connections/request-reverse_proxy")
	}
}

// sample is the result of a load.
type sample struct {
	requests, opened float64
	took, processor  time.Duration
}

func (s sample) rate() float64       { return s.requests / s.took.Seconds() }
func (s sample) perRequest() float64 { return s.processor.Seconds() / s.requests }

func (s *sample) add(other sample) {
	s.requests += other.requests
	s.opened += other.opened
}

// measure runs a load. opened counts the connections to the server.
func measure(b *testing.B, l *load, opened *atomic.Int64) sample {
	b.Helper()
	connections, processor := opened.Load(), processorTime(b)
	n, took := l.run(b, 300*time.Millisecond)
	return sample{float64(n), float64(opened.Load() - connections), took, processorTime(b) - processor}
}

// processorTime returns the processor time of this process.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	testkit.Must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// load is a number of clients, each with a connection to the same port. They do as little
// as possible, because they share the processor with what is measured.
type load struct {
	connections []net.Conn
	readers     []*bufio.Reader
}

func newLoad(b *testing.B, port, clients int) *load {
	b.Helper()
	l := &load{}
	for range clients {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		testkit.Must(b, err)
		b.Cleanup(func() { c.Close() })
		l.connections, l.readers = append(l.connections, c), append(l.readers, bufio.NewReader(c))
	}
	return l
}

// run sends requests for a time, and returns their number.
func (l *load) run(b *testing.B, length time.Duration) (n int64, took time.Duration) {
	var total atomic.Int64
	var group sync.WaitGroup
	start := time.Now()
	for i, c := range l.connections {
		group.Go(func() {
			for time.Since(start) < length {
				if err := exchange(c, l.readers[i]); err != nil {
					b.Error(err)
					return
				}
				total.Add(1)
			}
		})
	}
	group.Wait()
	return total.Load(), time.Since(start)
}

// exchange sends a request and reads its response.
func exchange(c net.Conn, r *bufio.Reader) error {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(text) != "ok") {
		err = fmt.Errorf("got status %d and %q, want 200 and \"ok\"", resp.StatusCode, text)
	}
	return err
}

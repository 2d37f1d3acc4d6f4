package resolve

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var errLookup = errors.New("server misbehaving")

// answer is what a lookup finds.
type answer struct {
	addresses []netip.Addr
	err       error
}

// addresses parses addresses separated by spaces.
func addresses(text string) []netip.Addr {
	var all []netip.Addr
	for field := range strings.FieldsSeq(text) {
		all = append(all, netip.MustParseAddr(field))
	}
	return all
}

// clock lets a test decide when the next lookup happens, and what it finds.
type clock struct {
	*Name
	t       *testing.T
	answers chan answer
	ticks   chan time.Time
	delays  chan time.Duration
	reports chan Report
	changes int
}

// follow follows a name whose first lookup finds a.
func follow(t *testing.T, a answer) (*clock, Report) {
	t.Helper()
	c := &clock{t: t, answers: make(chan answer, 1), ticks: make(chan time.Time), delays: make(chan time.Duration, 1), reports: make(chan Report, 1)}
	c.answers <- a
	c.Name = Follow(Settings{
		Networks: []string{"ip"},
		Lookup: func(ctx context.Context, _ string) ([]netip.Addr, error) {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("got a lookup without a deadline, want one")
			}
			select {
			case a := <-c.answers:
				return a.addresses, a.err
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
		Changed: func() { c.changes++ },
		Report:  func(r Report) { c.reports <- r },
		After: func(d time.Duration) <-chan time.Time {
			c.delays <- d
			return c.ticks
		},
		Random: func() float64 { return 0.5 },
	})
	t.Cleanup(c.Close)
	report := <-c.reports
	<-c.Looked()
	return c, report
}

// next makes the next lookup, and returns its report and the delay before it.
func (c *clock) next(a answer) (Report, time.Duration) {
	c.t.Helper()
	delay := <-c.delays
	c.answers <- a
	c.ticks <- time.Time{}
	return <-c.reports, delay
}

// want compares the current addresses.
func (c *clock) want(text string) {
	c.t.Helper()
	if got := c.Addresses(); !slices.Equal(got, addresses(text)) {
		c.t.Errorf("got addresses %v, want %s", got, text)
	}
}

func TestAddressesFollowTheLookups(t *testing.T) {
	c, report := follow(t, answer{addresses: addresses("10.0.0.2 10.0.0.1 10.0.0.2")})
	c.want("10.0.0.1 10.0.0.2")
	if want := (Report{Found: 2, Used: 2, Changed: true}); report != want {
		t.Errorf("first lookup: got %+v, want %+v", report, want)
	}
	for _, step := range []struct {
		name   string
		answer answer
		want   string
		report Report
	}{
		{"another order", answer{addresses: addresses("10.0.0.2 10.0.0.1")}, "10.0.0.1 10.0.0.2", Report{Found: 2, Used: 2}},
		{"one added", answer{addresses: addresses("10.0.0.2 10.0.0.1 2001:db8::1")}, "10.0.0.1 10.0.0.2 2001:db8::1", Report{Found: 3, Used: 3, Changed: true}},
		{"one removed", answer{addresses: addresses("10.0.0.2 2001:db8::1")}, "10.0.0.2 2001:db8::1", Report{Found: 2, Used: 2, Changed: true}},
		{"an error", answer{err: errLookup}, "10.0.0.2 2001:db8::1", Report{Err: errLookup, Failures: 1, Used: 2}},
		{"nothing", answer{}, "10.0.0.2 2001:db8::1", Report{Err: ErrNoAddress, Failures: 2, Used: 2}},
		{"no usable address", answer{addresses: []netip.Addr{{}, netip.IPv4Unspecified(), netip.IPv6Unspecified()}}, "10.0.0.2 2001:db8::1", Report{Err: ErrNoAddress, Failures: 3, Used: 2}},
		{"addresses and an error", answer{addresses: addresses("10.0.0.9"), err: errLookup}, "10.0.0.9", Report{Failures: 3, Found: 1, Used: 1, Changed: true}},
		{"mapped", answer{addresses: addresses("::ffff:10.0.0.9")}, "10.0.0.9", Report{Found: 1, Used: 1}},
	} {
		changes := c.changes
		report, _ := c.next(step.answer)
		c.want(step.want)
		if err := c.Err(); err != step.report.Err { //nolint:errorlint // the same error
			t.Errorf("%s: got error %v, want %v", step.name, err, step.report.Err)
		}
		if report != step.report {
			t.Errorf("%s: got %+v, want %+v", step.name, report, step.report)
		}
		<-c.delays // the lookup has ended
		c.delays <- 0
		if called := c.changes > changes; called != step.report.Changed {
			t.Errorf("%s: got Changed called %v, want %v", step.name, called, step.report.Changed)
		}
	}
}

func TestNoMoreThanMaxAddresses(t *testing.T) {
	var all []netip.Addr
	for i := range 200 {
		all = append(all, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	want := slices.Clone(all[:MaxAddresses])
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	c, report := follow(t, answer{addresses: all})
	if got := c.Addresses(); !slices.Equal(got, want) {
		t.Errorf("got %v, want the first %d", got, MaxAddresses)
	}
	if report.Found != 200 || report.Used != MaxAddresses {
		t.Errorf("got %+v, want 200 found and %d used", report, MaxAddresses)
	}
}

func TestDelaysBetweenLookups(t *testing.T) {
	c, _ := follow(t, answer{err: errLookup})
	for i, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
		if _, delay := c.next(answer{err: errLookup}); delay != want*time.Second {
			t.Errorf("after failure %d: got %s, want %ds", i+1, delay, want)
		}
	}
	_, _ = c.next(answer{addresses: addresses("10.0.0.1")})
	if _, delay := c.next(answer{err: errLookup}); delay != Period {
		t.Errorf("after a success: got %s, want %s", delay, Period)
	}
	if _, delay := c.next(answer{}); delay != time.Second {
		t.Errorf("after the first failure: got %s, want 1s", delay)
	}
}

func TestLookupsAreSpread(t *testing.T) {
	for _, tt := range []struct {
		random float64
		want   time.Duration
	}{{0, 9 * time.Second}, {0.5, 10 * time.Second}, {0.999, 10998 * time.Millisecond}} {
		n := &Name{settings: Settings{Random: func() float64 { return tt.random }}}
		if got := n.spread(10 * time.Second); got != tt.want {
			t.Errorf("random number %v: got %s, want %s", tt.random, got, tt.want)
		}
	}
}

func TestCloseEndsALookup(t *testing.T) {
	started := make(chan struct{})
	n := Follow(Settings{
		Networks: []string{"ip4"},
		Lookup: func(ctx context.Context, _ string) ([]netip.Addr, error) {
			close(started)
			<-ctx.Done()
			return nil, ctx.Err()
		},
		Report: func(r Report) { t.Errorf("got report %+v, want none after Close", r) },
	})
	<-started
	n.Close()
	<-n.Looked()
	if got, err := n.Addresses(), n.Err(); got != nil || err != nil {
		t.Errorf("got %v, %v, want none", got, err)
	}
}

// TestNetworksFailOnTheirOwn checks that a failure for IPv6 neither removes the IPv6
// addresses nor hides news about IPv4.
func TestNetworksFailOnTheirOwn(t *testing.T) {
	notFound := &net.DNSError{Err: "no such host", IsNotFound: true}
	unsuitable := &net.AddrError{Err: "no suitable address found"}
	var four, six answer
	n := &Name{settings: Settings{
		Networks: []string{"ip4", "ip6"},
		Random:   func() float64 { return 0.5 },
		Lookup: func(_ context.Context, network string) ([]netip.Addr, error) {
			if network == "ip6" {
				return six.addresses, six.err
			}
			return four.addresses, four.err
		},
	}, parts: make([][]netip.Addr, 2)}
	for _, step := range []struct {
		name      string
		four, six answer
		want      string
	}{
		{"IPv4 fails at first", answer{err: errLookup}, answer{addresses: addresses("::1")}, "::1"},
		{"both", answer{addresses: addresses("10.0.0.1")}, answer{addresses: addresses("::1")}, "10.0.0.1 ::1"},
		{"IPv6 fails", answer{addresses: addresses("10.0.0.2")}, answer{err: errLookup}, "10.0.0.2 ::1"},
		{"IPv6 fails again", answer{addresses: addresses("10.0.0.3")}, answer{err: errLookup}, "10.0.0.3 ::1"},
		{"no IPv6 any more", answer{addresses: addresses("10.0.0.3")}, answer{err: notFound}, "10.0.0.3"},
		{"IPv6 again", answer{addresses: addresses("10.0.0.3")}, answer{addresses: addresses("::2")}, "10.0.0.3 ::2"},
		{"IPv4 only in the hosts file", answer{addresses: addresses("10.0.0.3")}, answer{err: unsuitable}, "10.0.0.3"},
		{"neither", answer{err: notFound}, answer{err: notFound}, "10.0.0.3"},
		{"both fail", answer{err: notFound}, answer{err: errLookup}, "10.0.0.3"},
		{"only IPv6", answer{}, answer{addresses: addresses("::2")}, "::2"},
	} {
		four, six = step.four, step.six
		n.look(t.Context())
		if got := n.Addresses(); !slices.Equal(got, addresses(step.want)) {
			t.Errorf("%s: got %v, want %s", step.name, got, step.want)
		}
	}
}

func TestErrorThatSaysMore(t *testing.T) {
	notFound := &net.DNSError{Err: "no such host", IsNotFound: true}
	var report Report
	n := &Name{settings: Settings{
		Networks: []string{"ip4", "ip6"},
		Random:   func() float64 { return 0.5 },
		Report:   func(r Report) { report = r },
		Lookup: func(_ context.Context, network string) ([]netip.Addr, error) {
			if network == "ip4" {
				return nil, notFound
			}
			return nil, errLookup
		},
	}, parts: make([][]netip.Addr, 2)}
	if n.look(t.Context()); report.Err != errLookup { //nolint:errorlint // the same error
		t.Errorf("got error %v, want %v", report.Err, errLookup)
	}
}

// TestModel compares the addresses after random answers with those of a simple model.
func TestModel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	c, _ := follow(t, answer{err: errLookup})
	want := map[netip.Addr]bool{}
	for step := range 500 {
		var a answer
		if random.IntN(4) == 0 {
			a.err = errLookup
		} else {
			for range random.IntN(6) {
				a.addresses = append(a.addresses, netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(5))}))
			}
		}
		if len(a.addresses) > 0 {
			clear(want)
			for _, address := range a.addresses {
				want[address] = true
			}
		}
		c.next(a)
		got := c.Addresses()
		if len(got) != len(want) || !slices.IsSortedFunc(got, netip.Addr.Compare) {
			t.Fatalf("step %d: got %v, want %v", step, got, want)
		}
		for _, address := range got {
			if !want[address] {
				t.Fatalf("step %d: got %v, want %v", step, got, want)
			}
		}
	}
}

func BenchmarkAddresses(b *testing.B) {
	done := make(chan struct{})
	n := Follow(Settings{
		Lookup: func(context.Context, string) ([]netip.Addr, error) { return addresses("10.0.0.1 10.0.0.2"), nil },
		After:  func(time.Duration) <-chan time.Time { close(done); return nil },
	})
	defer n.Close()
	<-done
	b.ReportAllocs()
	for b.Loop() {
		if len(n.Addresses()) != 2 {
			b.Fatal("got other addresses")
		}
	}
}

// Example follows a name of the hosts file or of a name server.
func Example() {
	n := Follow(Settings{Networks: []string{"ip4"}, Lookup: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.1")}, nil // net.Resolver.LookupNetIP
	}})
	defer n.Close()
	<-n.Looked()
	fmt.Println(n.Addresses())
	// Output: [192.0.2.1 192.0.2.2]
}

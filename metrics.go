package caddyhtpasswd

import (
	"errors"
	"strconv"
	"sync/atomic"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// statistics are what a guard counts for the metrics. They only grow.
type statistics struct {
	results [resultCount]atomic.Uint64

	limitsExceeded [scopeCount]atomic.Uint64

	// Comparisons with cached passwords: those that let somebody in, and the
	// others, which only tests want to know.
	hits, misses atomic.Uint64

	hashTimes *prometheus.HistogramVec // hash computations, by format
}

func newStatistics() statistics {
	return statistics{hashTimes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: metricNamespace,
		Subsystem: metricSubsystem,
		Name:      "hash_duration_seconds",
		Help:      "Time that the computation of one password hash took.",
		Buckets:   []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
	}, []string{"format"})}
}

const (
	metricNamespace = "caddy"
	metricSubsystem = "htpasswd"
)

// metric is the description of one that is read when it is asked for.
type metric struct {
	*prometheus.Desc
	kind prometheus.ValueType
}

func newMetric(kind prometheus.ValueType, name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(prometheus.BuildFQName(metricNamespace, metricSubsystem, name), help, labels, nil), kind}
}

var (
	requestsMetric = newMetric(prometheus.CounterValue, "requests_total", "Decisions on requests, by what became of them; of two htpasswd on one request each counts.", "result")
	hitsMetric     = newMetric(prometheus.CounterValue, "verified_hits_total", "Log-ins that needed no hash, since the password is the one verified before.")
	exceededMetric = newMetric(prometheus.CounterValue, "budgets_used_up_total", "How often a budget of failed log-ins was used up.", "budget")
	slotsMetric    = newMetric(prometheus.GaugeValue, "hash_slots", "How many password hashes may be computed at a time.")
	busyMetric     = newMetric(prometheus.GaugeValue, "hash_slots_in_use", "How many password hashes are being computed.")
	waitingMetric  = newMetric(prometheus.GaugeValue, "hash_slots_waiting", "How many log-ins wait for their turn to be computed.")

	usersMetric    = newMetric(prometheus.GaugeValue, "file_users", "Users in the password file who can log in.", "file")
	weakMetric     = newMetric(prometheus.GaugeValue, "file_weak_hashes", "Users in the password file whose hash is quickly undone.", "file")
	badLinesMetric = newMetric(prometheus.GaugeValue, "file_bad_lines", "Lines of the file that are skipped, since something is wrong with them.", "file", "kind")
	loadedMetric   = newMetric(prometheus.GaugeValue, "file_last_load_success_timestamp_seconds", "When the version of the file that is in force was loaded.", "file", "kind")
	goodMetric     = newMetric(prometheus.GaugeValue, "file_last_load_successful", "Whether the file is good at the moment; if not, the version before is in force.", "file", "kind")
	failuresMetric = newMetric(prometheus.CounterValue, "file_load_failures_total", "How often the file became one that can't be used, or so for another reason.", "file", "kind")
)

// collector reads the metrics. It is the same one for all configurations, so
// that reloads don't begin anew.
type collector struct{}

// register adds the metrics to the registry of a configuration.
func register(registry *prometheus.Registry) error {
	err := registry.Register(collector{})
	if _, twice := errors.AsType[prometheus.AlreadyRegisteredError](err); twice {
		return nil
	}
	return err
}

// Describe implements prometheus.Collector.
func (collector) Describe(descs chan<- *prometheus.Desc) {
	for _, m := range []metric{
		requestsMetric, hitsMetric, exceededMetric, slotsMetric, busyMetric, waitingMetric,
		usersMetric, weakMetric, badLinesMetric, loadedMetric, goodMetric, failuresMetric,
	} {
		descs <- m.Desc
	}
	sharedGuard.hashTimes.Describe(descs)
}

// Collect implements prometheus.Collector.
func (collector) Collect(metrics chan<- prometheus.Metric) {
	g := sharedGuard
	send := func(m metric, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(m.Desc, m.kind, value, labels...)
	}
	for result, name := range resultLabels {
		send(requestsMetric, float64(g.results[result].Load()), name)
	}
	send(hitsMetric, float64(g.hits.Load()))
	for s, name := range scopeNames {
		send(exceededMetric, float64(g.limitsExceeded[s].Load()), name)
	}
	busy, waiting := g.queue.State()
	send(slotsMetric, float64(g.settings().maxHashes))
	send(busyMetric, float64(busy))
	send(waitingMetric, float64(waiting))
	g.hashTimes.Collect(metrics)

	for _, f := range filesInUse() {
		path := labelValue(f.Name())
		if f.store != nil {
			users, weak := f.users.file.Count()
			send(usersMetric, float64(users), path)
			send(weakMetric, float64(weak), path)
		}
		send(badLinesMetric, float64(f.findings().InvalidCount), path, f.kind())
		send(loadedMetric, float64(f.status.LoadedAt.UnixMilli())/1e3, path, f.kind())
		good := 1.0
		if f.status.Failure != "" {
			good = 0
		}
		send(goodMetric, good, path, f.kind())
		send(failuresMetric, float64(f.status.Failures), path, f.kind())
	}
}

// labelValue returns a path as it is, or written in ASCII where it is not the
// UTF-8 that labels must be.
func labelValue(path string) string {
	if !utf8.ValidString(path) {
		return strconv.QuoteToASCII(path)
	}
	return path
}

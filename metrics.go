package caddyhtpasswd

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
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

// metrics collects the metrics. They are the same ones for all configurations,
// so that reloads do not reset them.
type metrics struct {
	guard *guard
	files func() []fileInUse
}

// register adds the metrics to the registry of a configuration.
func (m *metrics) register(registry *prometheus.Registry) error {
	err := registry.Register(m)
	if _, twice := errors.AsType[prometheus.AlreadyRegisteredError](err); twice {
		return nil
	}
	return err
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, metric := range []metric{
		requestsMetric, hitsMetric, exceededMetric, slotsMetric, busyMetric, waitingMetric,
		usersMetric, weakMetric, badLinesMetric, loadedMetric, goodMetric, failuresMetric,
	} {
		descs <- metric.Desc
	}
	m.guard.hashTimes.Describe(descs)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(collected chan<- prometheus.Metric) {
	g := m.guard
	send := func(m metric, value float64, labels ...string) {
		collected <- prometheus.MustNewConstMetric(m.Desc, m.kind, value, labels...)
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
	g.hashTimes.Collect(collected)

	for _, f := range m.files() {
		path := shown.Label(f.Name())
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

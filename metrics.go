package caddyhtpasswd

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

var (
	requestsMetric       = newMetric(prometheus.CounterValue, "requests_total", "Number of requests by result. A request counts once for each htpasswd handler that it reaches.", "result")
	cacheHitsMetric      = newMetric(prometheus.CounterValue, "password_cache_hits_total", "Number of logins that needed no hash because the password was cached.")
	limitsExceededMetric = newMetric(prometheus.CounterValue, "limits_exceeded_total", "Number of times that a limit on failed logins was exceeded.", "limit")
	recognizedMetric     = newMetric(prometheus.CounterValue, "device_logins_total", "Number of logins at sites with device_cookie, by how the client was recognized.", "recognized_by")
	tokensIssuedMetric   = newMetric(prometheus.CounterValue, "device_cookies_issued_total", "Number of tokens issued in device cookies.")
	rehashesMetric       = newMetric(prometheus.CounterValue, "rehashes_total", "Number of weak password hashes considered by rehash after a login, by result.", "result")
	workersMetric        = newMetric(prometheus.GaugeValue, "hash_workers", "Maximum number of password hashes computed at the same time.")
	changesMetric        = newMetric(prometheus.CounterValue, "password_changes_total", "Number of forms sent by the page for changing a password, by result.", "result")
	busyWorkersMetric    = newMetric(prometheus.GaugeValue, "hash_workers_busy", "Number of password hashes being computed.")
	queueLengthMetric    = newMetric(prometheus.GaugeValue, "hash_queue_length", "Number of logins waiting for a hash to be computed.")

	usersMetric         = newMetric(prometheus.GaugeValue, "file_users", "Number of users in the password file who can log in.", "file")
	weakHashesMetric    = newMetric(prometheus.GaugeValue, "file_weak_hashes", "Number of users in the password file whose hash is weak.", "file")
	invalidLinesMetric  = newMetric(prometheus.GaugeValue, "file_invalid_lines", "Number of invalid lines in the file.", "file", "kind")
	lastLoadMetric      = newMetric(prometheus.GaugeValue, "file_last_load_success_timestamp_seconds", "Unix time at which the active version of the file was loaded.", "file", "kind")
	loadSuccessMetric   = newMetric(prometheus.GaugeValue, "file_last_load_successful", "Whether the last attempt to load the file succeeded. If it is 0, the previous version is active.", "file", "kind")
	loadFailuresMetric  = newMetric(prometheus.CounterValue, "file_load_failures_total", "Number of failed loads of the file. Repeated failures for the same reason count once.", "file", "kind")
	rehashSuccessMetric = newMetric(prometheus.GaugeValue, "file_last_rehash_successful", "Whether weak hashes in the password file can be replaced, as found by the last attempt or check. Only for files with rehash.", "file")
)

// metrics collects the metrics. All configurations share them, so a reload does
// not reset them.
type metrics struct {
	guard *guard
	files func() []fileInUse
	fleet fleetMetrics
}

func newMetrics(g *guard, files func() []fileInUse, active *activeSettings) *metrics {
	return &metrics{g, files, newFleetMetrics(active)}
}

// register adds the metrics to the registry of a configuration.
func (m *metrics) register(registry *prometheus.Registry) error {
	err := registry.Register(m)
	if _, isRegistered := errors.AsType[prometheus.AlreadyRegisteredError](err); isRegistered {
		return nil
	}
	return err
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, metric := range []metric{
		requestsMetric, cacheHitsMetric, limitsExceededMetric, changesMetric, workersMetric, busyWorkersMetric, queueLengthMetric,
		usersMetric, weakHashesMetric, invalidLinesMetric, lastLoadMetric, loadSuccessMetric, loadFailuresMetric,
		rehashesMetric, rehashSuccessMetric, recognizedMetric, tokensIssuedMetric,
	} {
		descs <- metric.Desc
	}
	m.guard.hashTimes.Describe(descs)
	m.fleet.Describe(descs)
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
	send(cacheHitsMetric, float64(g.cacheHits.Load()))
	for s, name := range scopeNames {
		send(limitsExceededMetric, float64(g.limitsExceeded[s].Load()), name)
	}
	send(limitsExceededMetric, float64(g.deviceLimitsExceeded.Load()), "device")
	for by, name := range recognitionLabels {
		send(recognizedMetric, float64(g.recognized[by].Load()), name)
	}
	send(tokensIssuedMetric, float64(g.tokensIssued.Load()))
	for result, name := range rehashResultLabels {
		send(rehashesMetric, float64(g.rehashes[result].Load()), name)
	}
	for result, name := range changeLabels {
		send(changesMetric, float64(g.changes[result].Load()), name)
	}
	busy, waiting := g.queue.State()
	send(workersMetric, float64(g.settings().maxHashes))
	send(busyWorkersMetric, float64(busy))
	send(queueLengthMetric, float64(waiting))
	g.hashTimes.Collect(collected)
	m.fleet.Collect(collected)

	for _, f := range m.files() {
		path := shown.Label(f.Name())
		collectShared(&f, send)
		if f.store != nil {
			users, weak := f.users.file.Count()
			send(usersMetric, float64(users), path)
			send(weakHashesMetric, float64(weak), path)
			if _, failure, isUsed := f.store.rehash.state(); isUsed {
				send(rehashSuccessMetric, oneIf(failure == ""), path)
			}
		}
		if f.list == nil {
			send(invalidLinesMetric, float64(f.findings().InvalidCount), path, f.kind())
		}
		loaded := 0.0 // a new file that cannot be loaded
		if at := f.status.LoadedAt; !at.IsZero() {
			loaded = float64(at.UnixMilli()) / 1e3
		}
		send(lastLoadMetric, loaded, path, f.kind())
		send(loadSuccessMetric, oneIf(f.status.Failure == ""), path, f.kind())
		send(loadFailuresMetric, float64(f.status.Failures), path, f.kind())
	}
}

package caddyhtpasswd

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The metrics of a fleet exist only while the server belongs to one: an alert for a store
// that is down must not fire where there is none.
var (
	fleetUpMetric     = newMetric(prometheus.GaugeValue, "fleet_up", "Whether the store of the fleet works.")
	fleetCallsMetric  = newMetric(prometheus.CounterValue, "fleet_calls_total", "Number of calls of the store by result. Skipped calls were not made, because the store was down.", "result")
	fleetUnsentMetric = newMetric(prometheus.GaugeValue, "fleet_unsent", "Number of failed logins that the store will be told of when it works again.")

	fleetFileVersionMetric = newMetric(prometheus.GaugeValue, "fleet_file_version", "Version of the file in the fleet that is active on this server.", "file", "kind")
	fleetFileAgeMetric     = newMetric(prometheus.GaugeValue, "fleet_file_age_seconds", "Time since the store last confirmed that the version of the file on this server is the newest, in seconds.", "file", "kind")
)

// fleetMetrics collects the metrics of a fleet.
type fleetMetrics struct {
	active    *activeSettings
	durations prometheus.Histogram // of calls
}

func newFleetMetrics(active *activeSettings) fleetMetrics {
	return fleetMetrics{active, prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: metricNamespace,
		Subsystem: metricSubsystem,
		Name:      "fleet_call_duration_seconds",
		Help:      "Duration of one call of the store, in seconds.",
		Buckets:   []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
	})}
}

// Describe implements prometheus.Collector.
func (m *fleetMetrics) Describe(descs chan<- *prometheus.Desc) {
	for _, metric := range []metric{fleetUpMetric, fleetCallsMetric, fleetUnsentMetric, fleetFileVersionMetric, fleetFileAgeMetric} {
		descs <- metric.Desc
	}
	m.durations.Describe(descs)
}

// Collect implements prometheus.Collector.
func (m *fleetMetrics) Collect(collected chan<- prometheus.Metric) {
	f := m.active.activeFleet()
	if f == nil {
		return
	}
	send := func(m metric, value float64, labels ...string) {
		collected <- prometheus.MustNewConstMetric(m.Desc, m.kind, value, labels...)
	}
	s := f.client.Status()
	send(fleetUpMetric, oneIf(s.Connected))
	send(fleetCallsMetric, float64(s.OK), "ok")
	send(fleetCallsMetric, float64(s.Failed), "failed")
	send(fleetCallsMetric, float64(s.Skipped), "skipped")
	send(fleetUnsentMetric, float64(s.Unsent))
	m.durations.Collect(collected)
}

// collectShared collects the metrics of a file that is in a fleet.
func collectShared(f *fileInUse, send func(m metric, value float64, labels ...string)) {
	if f.mirror == nil {
		return
	}
	s := f.mirror.Status()
	if s.Version != 0 { // otherwise it was never written, or is in a storage
		send(fleetFileVersionMetric, float64(s.Version), f.Name(), f.kind())
	}
	if !s.CheckedAt.IsZero() {
		send(fleetFileAgeMetric, time.Since(s.CheckedAt).Seconds(), f.Name(), f.kind())
	}
}

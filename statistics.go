package caddyhtpasswd

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	metricNamespace = "caddy"
	metricSubsystem = "htpasswd"
)

// statistics are the counters of a guard that become metrics.
type statistics struct {
	results [resultCount]atomic.Uint64
	changes [changeResultCount]atomic.Uint64 // of passwords

	limitsExceeded [scopeCount]atomic.Uint64

	deviceLimitsExceeded atomic.Uint64
	recognized           [recognitionCount]atomic.Uint64 // logins of handlers with device cookies
	tokensIssued         atomic.Uint64

	rehashes [rehashResultCount]atomic.Uint64

	// Comparisons with cached passwords. Only tests read misses.
	cacheHits, cacheMisses atomic.Uint64

	hashTimes *prometheus.HistogramVec // by format
}

func newStatistics() statistics {
	return statistics{hashTimes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: metricNamespace,
		Subsystem: metricSubsystem,
		Name:      "hash_duration_seconds",
		Help:      "Time taken to compute one password hash, in seconds.",
		Buckets:   []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
	}, []string{"format"})}
}

// metric describes a metric whose value is read at each scrape.
type metric struct {
	*prometheus.Desc
	kind prometheus.ValueType
}

func newMetric(kind prometheus.ValueType, name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(prometheus.BuildFQName(metricNamespace, metricSubsystem, name), help, labels, nil), kind}
}

// oneIf returns 1 for true and 0 for false.
func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

package caddyhtpasswd

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	metricNamespace = "caddy"
	metricSubsystem = "htpasswd"
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

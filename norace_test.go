//go:build !race

package caddyhtpasswd

// underRace is explained in race_test.go.
const underRace = false

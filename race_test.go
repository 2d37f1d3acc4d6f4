//go:build race

package caddyhtpasswd

// underRace says that the tests run with the race detector, which makes
// everything several times as slow. Some tests repeat less then what it would
// find at once; 'make test' runs all of them without it, too.
const underRace = true

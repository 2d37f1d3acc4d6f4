//go:build race

package crypt

// underRace reports whether the tests run with the race detector. It makes hashes
// several times as expensive, and has nothing to find in them, so some tests compute
// fewer hashes. 'make test' runs all of them without the race detector, too.
const underRace = true

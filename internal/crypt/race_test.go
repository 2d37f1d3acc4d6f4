//go:build race

package crypt

// underRace says that the tests run with the race detector. It makes hashes
// several times as expensive, and has nothing to find within one. Some tests
// compute fewer hashes then; 'make test' runs all of them without it, too.
const underRace = true

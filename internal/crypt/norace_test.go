//go:build !race

package crypt

const underRace = false

package main

// targets are all packages that a login depends on, the quick ones first.
var targets = []target{ratelimitTarget, hashqueueTarget, hashqueueRaces, loginTarget}

package main

// targets are the packages of a login, those with quick tests first.
var targets = []target{ratelimitTarget, hashqueueTarget, hashqueueRaces, rehashWorkerTarget, loginTarget, rehashTarget, pageTarget, changeTarget}

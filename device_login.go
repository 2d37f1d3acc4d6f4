package caddyhtpasswd

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/devicecookie"
)

// A login with a valid token of its user is a device attempt, unless the limits of the
// token are exceeded. These are its rules:
//
//   - Failed logins are counted by the nonce of the token, with the numbers of the limits
//     login and user, and nowhere else. No limit of the client or the user applies.
//   - It has an open guess from beginning to end, with or without a hash. So exactly as
//     many passwords are compared or hashed as the limits of the token allow, also if many
//     are sent at once.
//   - When the limits of the token would be exceeded, the login is one without a cookie.
//
// The lookup and the search for the token come first, for every user name.

// findDevice looks for a valid token of the attempt's user among those that the client
// sent. For a user who cannot log in, it does the work of one who can.
func (h *Handler) findDevice(a *attempt) {
	sent := a.from.devices
	if sent.candidates.Len() == 0 {
		return
	}
	keys := h.guard.deviceSigners()
	if keys == nil {
		return
	}
	var owner *devicecookie.Owner
	var cache *devicecookie.Cache
	if m := a.lookup.deviceMemory(); m != nil {
		owner, cache = &m.owner, &m.cache
	} else {
		owner = &devicecookie.Owner{User: a.credentials.user, Hash: a.lookup.hashOr(&a.work), Decoy: !a.lookup.isUsable()}
	}
	token, isValid := keys.Find(&sent.candidates, owner, cache, h.guard.now(), h.device.maxAge)
	if isValid {
		a.device = &sent.token
		a.device.isDue, a.device.isUsed = token.Renew, false
		a.device.key = a.keyer.device(&token.Nonce)
	}
}

// deviceMemory returns the memory of a user who has logged in before, or nil.
func (l *lookup) deviceMemory() *deviceMemory {
	if clients := l.entry.recognized(); clients != nil && l.isUsable() {
		return clients.devices.get(l.entry.Name, l.entry.Hash)
	}
	return nil
}

// hashOr returns the hash of a usable entry, or that of the decoy.
func (l *lookup) hashOr(decoy *lookup) string {
	switch {
	case l.isUsable():
		return l.entry.Hash
	case decoy.entry.exists():
		return decoy.entry.Hash
	}
	return "" // nobody can log in
}

// deviceSigners returns the keys of tokens, or nil if no secret is available that
// outlives the process.
func (g *guard) deviceSigners() *devicecookie.Keys {
	return g.devices.signers(g.settings().keys.Keys())
}

// limitsDevices reports whether the number of a limit applies to a token: login and
// user. As for recognized clients, client takes the place of login if that is off.
func (s scope) limitsDevices(isLoginOff bool) bool { return s != scopeClient || isLoginOff }

// waitDevice returns for how long the limits of a token are exceeded, or 0. guesses is
// the number of other open guesses.
func (g *guard) waitDevice(key uint64, guesses int) (wait time.Duration) {
	settings := g.settings()
	for s := range scopeCount {
		limit := settings.limits[s]
		if limit.Max == 0 || !s.limitsDevices(settings.limits[scopeLogin].Max == 0) {
			continue
		}
		if g.failures[s].Peek(key)+guesses >= limit.Max {
			longer := g.failures[s].Wait(key, g.now(), limit, guesses)
			wait = max(wait, longer)
		}
	}
	return wait
}

// countDevice counts a failed login with a token, and returns the scopes whose limits it
// has exceeded.
func (g *guard) countDevice(key uint64) (exceeded []scope) {
	settings := g.settings()
	var counted [scopeCount]uint64
	for s := range scopeCount {
		limit := settings.limits[s]
		if !s.limitsDevices(settings.limits[scopeLogin].Max == 0) {
			continue
		}
		counted[s] = key
		if n := g.failures[s].Add(key, g.now(), limit.Window); n == limit.Max {
			exceeded = append(exceeded, s)
		}
	}
	if settings.fleet != nil {
		exceeded = settings.fleet.share(settings, &counted, exceeded)
	}
	g.deviceLimitsExceeded.Add(uint64(len(exceeded)))
	return exceeded
}

// isByDevice reports whether the attempt is a device attempt.
func (a *attempt) isByDevice() bool { return a.device != nil && a.device.isUsed }

// openDeviceGuess makes an attempt with a token a device attempt, if the limits of the
// token are not exceeded even if all other open guesses are wrong.
func (h *Handler) openDeviceGuess(a *attempt) bool {
	a.guess = h.guard.devices.guess(a.device.key)
	otherGuesses := int(a.guess.Add(1)) - 1
	if h.guard.waitDevice(a.device.key, otherGuesses) > 0 {
		a.closeGuess()
		return false
	}
	a.device.isUsed = true
	return true
}

// failDevice counts and logs a failed device attempt.
func (h *Handler) failDevice(a *attempt) {
	exceeded := h.guard.countDevice(a.device.key)
	v := verdict{result: a.lookup.failure()}
	h.logFailure(a.from, a.credentials.user, v)
	for _, s := range exceeded {
		h.guard.noteDeviceExceeded(s, a)
		l := h.guard.settings().limits[s]
		h.logRefusal(exceededLines, a.from, a.credentials.user, "login rate limit of a device cookie exceeded; ignoring the cookie until the window ends",
			zap.Stringer("limit", s), zap.Int("failures", l.Max), zap.String("window", l.Window.String()))
	}
}

// noteDeviceExceeded notes the user of a token whose limit was just exceeded. The token
// itself is not shown.
func (g *guard) noteDeviceExceeded(s scope, a *attempt) {
	note := exceededNote{key: a.device.key, user: string(a.credentials.user), file: a.lookup.store.path, deviceOf: a.keys[scopeUser]}
	g.exceeded[s].add(note, func(key uint64) bool { return g.exceededFor(s, key) > 0 })
}

// passDevice records whether the login should issue a token, and recognizes a client
// that has passed without a hash.
func (h *Handler) passDevice(a *attempt) {
	sent := a.from.devices
	if a.isByDevice() && a.client() < 0 {
		h.guard.recognize(a.keyer, &a.lookup, &a.keys)
	}
	sent.due = nil
	if a.device != nil && !a.device.isDue || h.guard.deviceSigners() == nil {
		return
	}
	if m := a.lookup.deviceMemory(); m != nil {
		sent.due = &m.owner
	} else { // the file was swapped in the meantime
		sent.due = &newDeviceMemory(a.lookup.entry.Name, a.lookup.entry.Hash).owner
	}
}

// countRecognized counts a login of a handler with device cookies.
func (h *Handler) countRecognized(a *attempt) {
	by := recognizedByNothing
	switch {
	case a.isByDevice():
		by = recognizedByCookie
	case a.client() >= 0:
		by = recognizedByAddress
	}
	h.guard.recognized[by].Add(1)
}

// place returns the client and the network by which an attempt takes turns in the hash
// queue. Device attempts take turns by user: the number of cookies does not matter.
func (g *guard) place(a *attempt) (client, network uint64) {
	if a.isByDevice() {
		return a.keys[scopeUser], a.keys[scopeUser]
	}
	return a.keys[scopeClient], g.network(a.from.ip)
}

// network returns the key of the network of a client: an IPv4 /24 or an IPv6 /48. Only this
// server uses it.
func (g *guard) network(ip string) uint64 {
	if isIPv4(ip) {
		return maphash.String(g.seed, ip[:strings.LastIndexByte(ip, '.')+1])
	}
	address, err := netip.ParseAddr(ip)
	switch {
	case err != nil:
		return noClient
	case address.Is4In6():
		return g.network(address.Unmap().String())
	}
	bytes := address.As16()
	return maphash.Bytes(g.seed, bytes[:6])
}

// provisionDevice sets the defaults of device_cookie.
func (h *Handler) provisionDevice() {
	h.device = h.DeviceCookie.settings()
	if name := h.device.name; name != "" && !devicecookie.IsHostPrefixed(name) {
		h.logger.Warn("name of the device cookie without the prefix __Host-; other hosts of the domain can set such a cookie",
			zap.String("name", name), zap.String("fix", "remove the name, or begin it with __Host-"))
	}
}

package balance

// place is where a member is: the tier, and its index in the tier.
type place struct{ tier, member int32 }

// ChooseSticky is like [Group.Choose], but prefers the servers at the indexes wanted,
// in this order: those that the session of the request is stuck to. The method of the
// group chooses only if none of them can take the request.
//
// A wanted backup server is preferred to other backup servers only. A wanted server
// that drains is preferred like any other. Requests that a wanted server gets do not
// count as its turn of round robin.
//
// session is the index of the server to which the session belongs from now on. It is
// chosen, or a wanted server that could not take the request only because it is full:
// later requests can go there again.
func (g *Group) ChooseSticky(r Request, wanted []int) (chosen, session int) {
	for again := false; ; again = true {
		session = -1
		for i := range g.tiers {
			found, full := g.find(&r, i, wanted)
			if session < 0 {
				session = full
			}
			if found < 0 {
				if in := g.tiers[i].choose(r); in >= 0 {
					found = g.tiers[i].members[in].index
					if g.slowStart > 0 {
						g.observe(&r, g.tiers[i+1:])
					}
				}
			} else if g.slowStart > 0 {
				g.observe(&r, g.tiers)
			}
			switch {
			case found < 0:
			case session < 0:
				return found, found
			default:
				return found, session
			}
		}
		if again || r.Tried == nil || g.eachOnce {
			return -1, -1
		}
		r.Tried.clear() // try all servers again
	}
}

// find returns the index of the first wanted server of a tier that can take the
// request, and of the first one that is only full, or -1.
func (g *Group) find(r *Request, tier int, wanted []int) (found, full int) {
	full = -1
	for _, index := range wanted {
		p := g.places[index]
		if int(p.tier) != tier {
			continue
		}
		m := &g.tiers[tier].members[p.member]
		if m.down && !m.drain || r.Tried.has(m.address) {
			continue
		}
		server := r.Servers[index]
		if server.Available() {
			return index, full
		}
		if full < 0 && server.Healthy() {
			full = index
		}
	}
	return -1, full
}

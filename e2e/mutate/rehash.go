package main

// rehashTarget is the replacement of weak hashes in the root package.
var rehashTarget = target{
	dir: ".", stages: []string{"^TestRehash"},
	mutations: []mutation{
		{old: "h.rehashIfWeak(&a.lookup, c)\n", new: "", fault: "a login with a cached password replaces no hash"},
		{old: "h.rehashIfWeak(&now, a.credentials)\n", new: "", fault: "the first login replaces no hash",
			equivalent: "the next login, with the cached password, does; with the cache off, every login is a first one"},
		{old: "if h.rehashCost != 0 {\n\t\th.rehashWeak(l, c)\n\t}", new: "h.rehashCost = max(h.rehashCost, 12)\n\th.rehashWeak(l, c)", fault: "sites without rehash replace hashes"},
		{old: "if l.needsRehash(h.rehashCost) {", new: "if true {", fault: "strong hashes are replaced"},
		{old: "!clients.rehash.take(g.now())", new: "false", fault: "each request makes a hash"},
		{old: "case len(password) > maxRehashLen:", new: "case len(password) > maxRehashLen-1:", fault: "72 bytes are too long"},
		{old: "case len(password) > maxRehashLen:", new: "case len(password) > maxRehashLen+1:", fault: "73 bytes are not too long"},
		{old: "return len(password) <= 8", new: "return len(password) <= 9", fault: "a DES password of 9 bytes is replaced"},
		{old: "if c > 0x7f {", new: "if false {", fault: "a DES password that is not ASCII is replaced"},
		{old: "s.pending.expect(c, entry.inherit)", new: "_ = c", fault: "nothing cached outlives a new hash"},
		{old: "after.verified.CompareAndSwap(nil, v)", new: "_ = v", fault: "the cached password does not outlive a new hash"},
		{old: "after.clients.CompareAndSwap(nil, clients)\n\t\tafter.recognized()", new: "after.clients.CompareAndSwap(nil, new(recognizedClients))\n\t\tafter.recognized()", fault: "recognized clients and limits do not outlive a new hash"},
		{old: "if before.hasHash(c.Old) && after.hasHash(c.New) {", new: "if before.exists() && after.exists() {", fault: "the password of an administrator inherits from the old one"},
		{old: "s.rehash.handlers.Add(-1)", new: "_ = s", fault: "a handler that is gone still replaces hashes"},
		{old: "if w := s.rehash.worker.Load(); w != nil {\n\t\tw.Close()", new: "if w := s.rehash.worker.Load(); w == nil {\n\t\tw.Close()", fault: "a file that nobody uses is still written"},
	},
}

// rehashWorkerTarget is the worker of one file.
var rehashWorkerTarget = target{
	dir: "internal/rehash", stages: []string{"."},
	mutations: []mutation{
		{old: "due := b.first.Add(Interval)", new: "due := b.first", fault: "each hash is written at once"},
		{old: "due = b.first.Add(MaxDelay)", new: "due = b.first.Add(100 * MaxDelay)", fault: "hashes wait as long as logins come"},
		{old: "if due.Before(b.rested) {\n\t\treturn b.rested\n\t}", new: "", fault: "there is no pause after a write"},
		{old: "if err := w.config.Check(); err != nil {\n\t\t\tw.block", new: "if err := w.config.Check(); false {\n\t\t\tw.block", fault: "hashes are made for a file that cannot be written"},
		{old: "case w.ctx.Err() != nil || !b.isRetry:", new: "case w.ctx.Err() != nil:", fault: "a write is tried once"},
		{old: "clear(l.password[:cap(l.password)])", new: "", fault: "passwords are not overwritten"},
		{old: "w.config.Room.passwords.Add(-1)", new: "", fault: "there is room for 4,096 passwords in all"},
		{old: "> maxPasswords {", new: "> 2*maxPasswords {", fault: "twice as many passwords wait"},
		{old: "if w.IsBlocked() {\n\t\treturn false\n\t}", new: "", fault: "logins are added during the pause"},
		{old: "isNew := w.failure != err.Error()", new: "isNew := true", fault: "a cause is logged again and again"},
		{old: "if err := w.replace(ctx, b); err != nil {\n\t\tw.fail(b, err)\n\t}", new: "_ = ctx", fault: "hashes that were made are lost at the end"},
		{old: "end := l.since.Add(MaxWait)", new: "end := l.since.Add(100 * MaxWait)", fault: "passwords wait for hours"},
		{old: "if ended != nil {\n\t\t<-ended\n\t}", new: "_ = ended", fault: "Close does not wait"},
	},
}

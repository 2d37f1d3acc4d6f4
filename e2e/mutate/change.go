package main

// pageTarget is the page of change_password without Caddy.
var pageTarget = target{
	dir:    "internal/passwordpage",
	stages: []string{"."},
	mutations: []mutation{
		{old: "case len(sites) > 1 || len(origins) > 1:", new: "case len(origins) > 1:", fault: "Sec-Fetch-Site may be there twice"},
		{old: "case len(sites) > 1 || len(origins) > 1:", new: "case len(sites) > 1:", fault: "Origin may be there twice"},
		{old: "case len(sites)+len(origins) == 0:\n\t\treturn errNoOrigin\n", new: "", fault: "neither Origin nor Sec-Fetch-Site is needed"},
		{old: `sites[0] != "same-origin":`, new: `sites[0] == "cross-site":`, fault: "same-site and none are accepted"},
		{old: "case len(origins) == 0:\n\t\treturn nil\n\t}\n\tsent", new: "case len(sites) == 1:\n\t\treturn nil\n\t}\n\tsent", fault: "Origin is ignored if there is Sec-Fetch-Site"},
		{old: "!ok || !isKnown || sent != want", new: "ok && isKnown && sent != want", fault: "null is the origin of a request without a valid host"},
		{old: "u.Host != o.Host || u.Hostname", new: "u.Hostname", fault: "the host may have a user, a path or a zone"},
		{old: `port == "" || port == defaultPort`, new: `port == "" && defaultPort != ""`, fault: "default ports are not removed"},
		{old: "isBracketed != (err == nil && address.Is6())", new: "false", fault: "names in brackets are addresses", equivalent: "package net/url refuses them, too"},
		{old: "name, port := strings.ToLower(u.Hostname()), u.Port()", new: "name, port := u.Hostname(), u.Port()", fault: "the case of the host counts"},
		{old: "if err := CheckOrigin(r.Header, own); err != nil {", new: "if err := CheckOrigin(r.Header, own); false && err != nil {", fault: "any site may send the form"},
		{old: "len(types) != 1 || len(encodings) > 0", new: "len(types) == 0 || len(encodings) > 0", fault: "the type may be there twice"},
		{old: "len(types) != 1 || len(encodings) > 0", new: "len(types) != 1", fault: "the form may be encoded"},
		{old: `kind == "application/x-www-form-urlencoded" && `, new: `kind != "" && `, fault: "forms of any type are read"},
		{old: `(!hasCharset || strings.EqualFold(charset, "utf-8"))`, new: `(!hasCharset || charset != "")`, fault: "forms of any charset are read"},
		{old: "if r.ContentLength > MaxBody {", new: "if false {", fault: "a form that is too long is read before it is refused"},
		{old: "http.MaxBytesReader(w, r.Body, MaxBody)", new: "r.Body", fault: "a form may have any length"},
		{old: "len(values[name]) != 1", new: "len(values[name]) == 0", fault: "a field may be there twice"},
		{old: "len(values[name]) != 1", new: "len(values[name]) > 1", fault: "a field may be missing"},
		{old: "err != nil || len(values[FieldUser]) > 1", new: "err != nil && false || len(values[FieldUser]) > 1", fault: "a form that cannot be parsed is accepted in parts"},
		{old: "c.User = ShownUser(p.User)", new: "c.User = \"\"", fault: "the page does not name the user"},
		{old: "(d+time.Second-1)/time.Second", new: "d/time.Second", fault: "times are rounded down"},
	},
}

// changeTarget is how the handler uses the page.
var changeTarget = target{
	dir:    ".",
	stages: []string{"^TestChangePassword|^TestUnreachedPasswordPage"},
	mutations: []mutation{
		{old: "c != nil && r.URL.Path == c.Path", new: "c != nil && strings.HasPrefix(r.URL.Path, c.Path)", fault: "the page answers for the paths below it"},
		{old: "if decided == resultPassed && h.ChangePassword.isFor(r) {", new: "if h.ChangePassword.isFor(r) {", fault: "exempt requests reach the page"},
		{old: "form.User != passwordpage.ShownUser(p.user)", new: "false", fault: "the form may be for another user"},
		{old: "reason != passwordpolicy.ReasonNone {", new: "false {", fault: "every new password is accepted"},
		{old: "form.New != form.Again {", new: "false {", fault: "the new password need not be typed twice"},
		{old: "v.result != resultPassed || v.user != any(p.user)", new: "false", fault: "the current password is not needed"},
		{old: "case errors.Is(err, htedit.ErrChanged):\n\t\t\tverified", new: "case false:\n\t\t\tverified", fault: "a change at the same time is taken for a file that cannot be written"},
		{old: "for range 2 { // a new hash", new: "for range 1 { // a new hash", fault: "another hash of the same password is a conflict"},
		{old: "h.guard.wrong.add(has[scopeUser], &old)\n", new: "", fault: "the old password counts as a guess after the change"},
		{old: "h.guard.recognize(keyer, &present, &has)\n", new: "", fault: "the client that has changed the password is not recognized"},
		{old: "h.guard.failures[scopeUser].Raise(", new: "_ = func(_, _ uint64, _ time.Time, _ time.Duration) {}; func(_, _ uint64, _ time.Time, _ time.Duration) {}(", fault: "a change resets the limit of the user"},
		{old: "user.store.pending.expect(change, h.passOn(user.store, client, *old))\n", new: "_ = h.passOn(user.store, client, *old)\n", fault: "nothing is passed on to the new line"},
		{old: "cost = max(cost, present)", new: "_ = present", fault: "the cost of a hash falls"},
		{old: "cost = max(minRehashCost, h.rehashCost)", new: "cost = minRehashCost", fault: "the cost of rehash is ignored"},
		{old: "case \"argon2id\", \"argon2i\":\n\t\treturn", new: "case \"argon2i\":\n\t\treturn", fault: "Argon2id becomes bcrypt"},
		{old: "if isEncrypted(r) {\n\t\town", new: "if r.TLS != nil {\n\t\town", fault: "the scheme of a trusted proxy is ignored"},
		{old: "len(values) > 0 && isFromTrustedProxy(r) {\n\t\tfirst", new: "len(values) > 0 {\n\t\tfirst", fault: "any client chooses the host"},
		{old: "p.logger.Info(\"password changed\"", new: "p.logger.Debug(\"password changed\"", fault: "a change is not logged at INFO"},
		{old: "p.guard.awaitRefusal(p.r.Context())\n\t\t\t}\n\t\t\treturn changeWrongPassword", new: "}\n\t\t\treturn changeWrongPassword", fault: "cheap refusals of the page are not paced", equivalent: "pacing shows only under a flood, which the tests of logins have"},
	},
}

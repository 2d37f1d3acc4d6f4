package caddyhtpasswd

// Source is where users come from: exactly one of its settings.
type Source struct {
	// The path of an htpasswd file, as in `files`, or a pattern for several paths.
	File string `json:"file,omitempty"`

	// The text of an htpasswd file, or one global placeholder that stands for it, such
	// as `{env.HTPASSWD}`. This module shows it nowhere. A literal text is part of the
	// configuration, which Caddy's admin API and its debug log show.
	Users string `json:"users,omitempty"`
}

// sourceNames returns the names of the sources for messages, without any text of users.
func sourceNames(list []Source) []string {
	names := make([]string, 0, len(list))
	for _, s := range list {
		if s.File != "" {
			names = append(names, s.File)
		} else {
			names = append(names, placeholderOr(s.Users, textLabel))
		}
	}
	return names
}

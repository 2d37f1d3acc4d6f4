package caddyhtpasswd

import (
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/routes"
)

// checkEarlyUses returns an error for the first placeholder that never contains a
// user name where it is used.
func checkEarlyUses(uses []routes.EarlyUse) error {
	for i := range uses {
		if uses[i].Verdict == routes.UseNeverNamesUser {
			return errEarlyUse(&uses[i])
		}
	}
	return nil
}

// warnOfEarlyUse warns about a use that may be intended.
func warnOfEarlyUse(logger *zap.Logger, use *routes.EarlyUse) {
	message, fix := "placeholder may be used before a user is verified", "use it after htpasswd in a route block"
	if use.Verdict == routes.UseOnOpenPage {
		message, fix = "placeholder is empty here; no user has logged in", "use it after htpasswd, or ignore this if the page needs no password"
	}
	logger.Warn(message, append(placeFields(&use.Login),
		zap.String("placeholder", use.Placeholder), zap.String("used_in", usedIn(use)), zap.String("fix", fix))...)
}

func errEarlyUse(use *routes.EarlyUse) error {
	site := ""
	if len(use.Login.Hosts) > 0 {
		site = " (site " + strings.Join(use.Login.Hosts, " ") + ")"
	}
	return fmt.Errorf("'%s' is used in %s before 'htpasswd' has verified a user, and is always empty there%s: %s", use.Placeholder, usedIn(use), site, remedyOf(use))
}

// usedIn returns the directive or matcher that uses a placeholder.
func usedIn(use *routes.EarlyUse) string {
	if use.Matcher != "" {
		return "the matcher '" + use.Matcher + "'"
	}
	return "'" + use.Directive + "'"
}

// remedyOf returns what to write instead.
func remedyOf(use *routes.EarlyUse) string {
	switch use.Directive {
	case "root":
		return "write 'root' after 'htpasswd' in a 'route' block, where directives run in the order they are written, or inside the block of 'file_server'"
	case "header":
		return "write 'header >Field', which sets the field when the response is written"
	case "htpasswd":
		return "use it in directives after 'htpasswd', not in its own block"
	}
	return "write it after 'htpasswd' in a 'route' block, where directives run in the order they are written"
}

package tool

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/seed10b5b978/caddy-htpasswd/internal/fileapi"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// positive parses a decimal number above zero, as Apache's htpasswd does.
func positive(n *int) func(string) error {
	return func(text string) (err error) {
		if *n, err = strconv.Atoi(text); err == nil && *n <= 0 {
			err = strconv.ErrRange
		}
		return err
	}
}

const usageHint = "help: caddy htpasswd --help"

// describeFlagError describes an error in the flags. It does not repeat the flag: a
// password in the wrong place looks like one.
func describeFlagError(err error) string {
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		if e.GetFlag().NoOptDefVal != "" {
			return fmt.Sprintf("--%s takes no value", e.GetFlag().Name)
		}
		return fmt.Sprintf("--%s needs a whole number above 0", e.GetFlag().Name)
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return fmt.Sprintf("--%s needs a value", e.GetFlag().Name)
	}
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok && e.GetSpecifiedShortnames() != "" {
		c, _ := utf8.DecodeRuneInString(e.GetSpecifiedShortnames())
		return fmt.Sprintf("unknown flag -%s; write flags before the file, and a password that begins with - after the user", shown.Text(string(c)))
	}
	return "unknown flag; write flags before the file, and a password that begins with - after the user"
}

// checkUsage returns an error for flags that contradict each other, and for too
// many or too few arguments.
func (t *tool) checkUsage(args []string) error {
	misuse := func(format string, a ...any) error {
		return failed(ExitUsage, format+"\n"+usageHint, a...)
	}
	modes := 0
	for _, mode := range []bool{t.create, t.print, t.verify, t.remove, t.check, t.list, t.exports, t.imports} {
		if mode {
			modes++
		}
	}
	if t.create && t.imports { // replaces a text that has lines
		modes--
	}
	wantArgs, what := 2, "<file> <user>"
	generate := t.checkGenerate()
	switch {
	case generate != "":
		return misuse("%s", generate)
	case modes > 1:
		return misuse("only one of -c, -n, -v, -D, --check, --list, --export and --import can be used at a time")
	case t.batch && t.stdin:
		return misuse("use -b (password on the command line) or -i (from standard input), not both")
	case t.json && !t.check:
		return misuse("--json requires --check")
	case (t.exports || t.imports) && (t.batch || t.stdin):
		return misuse("--export and --import need no password; leave out -b and -i")
	case !t.print && slices.ContainsFunc(t.filesOf(args), isOtherURL):
		return misuse("unknown kind of URL; expected a path, fleet://<name> or storage://<name>, in lower case")
	case t.address != "" && !slices.ContainsFunc(args, isURL):
		return misuse("--address is only for fleet:// and storage:// files")
	case !isAddress(t.address):
		return misuse("--address: expected host:port, such as localhost:2019, or unix//path, found '%s'", shown.Text(t.address))
	case t.check && len(args) > 0:
		return nil
	case t.exports:
		wantArgs, what = 1, "<source>, such as fleet://staff"
	case t.imports:
		wantArgs, what = 2, "<source> <file>, such as fleet://staff /etc/caddy/.htpasswd"
	case t.check || t.list:
		wantArgs, what = 1, "<file>"
	case t.print && t.batch:
		wantArgs, what = 2, "<user> <password>"
	case t.print:
		wantArgs, what = 1, "<user>"
	case t.remove && t.batch && len(args) == 3: // Apache's htpasswd ignores the password, too
		return nil
	case t.batch && !t.remove:
		wantArgs, what = 3, "<file> <user> <password>"
	}
	switch {
	case len(args) < wantArgs:
		return misuse("missing argument; expected %s", what)
	case len(args) > wantArgs && t.generate:
		return misuse("too many arguments; expected %s; --generate creates the password, so leave it out", what)
	case len(args) > wantArgs && !t.batch && !t.check && !t.list && !t.remove && !t.exports && !t.imports:
		return misuse("too many arguments; expected %s; write flags before them, and use -b for a password on the command line", what)
	case len(args) > wantArgs:
		return misuse("too many arguments; expected %s", what)
	case !t.check && !t.list && !t.print && args[0] == "":
		return misuse("the path of the file is empty")
	}
	return nil
}

// isAddress reports whether an address of the admin API has a port, or a path. The default is "".
func isAddress(address string) bool {
	return address == "" || !strings.Contains(address, "://") && strings.ContainsAny(address, ":/")
}

// filesOf returns the arguments that are files.
func (t *tool) filesOf(args []string) []string {
	if t.check || t.imports {
		return args
	}
	return args[:min(len(args), 1)]
}

// isOtherURL reports whether an argument is a URL that is none of a file.
func isOtherURL(arg string) bool { return fileapi.IsURL(arg) && !isURL(arg) }

// isURL reports whether an argument is meant as the URL of a file that is not on disk.
func isURL(arg string) bool {
	_, isSource, _ := fileapi.ParseURL(arg)
	return isSource
}

// checkUserName returns an error for a name that a server would parse differently.
func checkUserName(name string) error {
	switch err := htfile.CheckName(name); {
	case errors.Is(err, htfile.ErrNameTooLong):
		return failed(ExitTooLong, "%s", err)
	case err != nil:
		return failed(ExitIllegal, "%s", err)
	}
	return nil
}

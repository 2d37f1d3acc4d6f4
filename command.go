package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:      "htpasswd",
		Usage:     "[flags] <file> <user> [<password>]",
		Short:     "Makes, changes and checks htpasswd files",
		Long:      toolHelp,
		CobraFunc: setUpTool,
	})
}

const toolHelp = `
Adds a user to an htpasswd file, or gives one that is in it a new password,
which is asked for twice. A server that uses the file lets them in at once; it
needs no reload.

The flags are those of Apache's htpasswd, before the file. The hash is bcrypt
of cost 10 unless a flag says otherwise. The file is replaced whole: a server
never reads half of it, and its mode, owner, comments and order stay.

  caddy htpasswd [-ci] [-B2m5dsp | --argon2id] [-C <cost>] [-r <rounds>] <file> <user>
  caddy htpasswd -b[c] [...] <file> <user> <password>
  caddy htpasswd -n[i] [...] <user>
  caddy htpasswd -nb   [...] <user> <password>
  caddy htpasswd -v[i] <file> <user>
  caddy htpasswd -vb   <file> <user> <password>
  caddy htpasswd -D    <file> <user>
  caddy htpasswd --check [--json] <file>...
  caddy htpasswd --list <file>

Exit codes: 0 done; 1 the file can't be read or written; 2 wrong usage; 3 the
password is wrong, or was typed differently; 4 interrupted; 5 user name or
password too long; 6 user name or password with characters that can't be, or no
such user; 7 not an htpasswd file, or one that a server would refuse.
`

const toolExamples = `  make a file:               caddy htpasswd -c /etc/caddy/.htpasswd alice
  one more user:             caddy htpasswd /etc/caddy/.htpasswd bob
  in a script:               caddy htpasswd -i /etc/caddy/.htpasswd bob < password.txt
  print the line only:       caddy htpasswd -n bob
  is this the password?      caddy htpasswd -v /etc/caddy/.htpasswd bob
  remove somebody:           caddy htpasswd -D /etc/caddy/.htpasswd bob
  what a server makes of it: caddy htpasswd --check /etc/caddy/.htpasswd`

// Exit codes, which are those of Apache's htpasswd.
const (
	exitFile        = 1
	exitUsage       = 2
	exitWrong       = 3
	exitInterrupted = 4
	exitTooLong     = 5
	exitIllegal     = 6
	exitNotAFile    = 7
)

// toolError is a message for who called the tool, with an exit code.
type toolError struct {
	code int
	text string
}

func (e *toolError) Error() string { return e.text }

func failed(code int, format string, args ...any) error {
	return &toolError{code, fmt.Sprintf(format, args...)}
}

// passwordTool is one run of "caddy htpasswd".
type passwordTool struct {
	create, print, batch, stdin, verify, remove, check, list, json bool

	format       string // name of the hash format
	cost, rounds int    // 0: the format's usual ones

	in       io.Reader
	out, err io.Writer
}

// setUpTool makes the cobra command. Flags must stand in front: behind the
// first argument, a password that begins with "-" is none.
func setUpTool(cmd *cobra.Command) {
	t := &passwordTool{format: hashFlags[0].format}
	cmd.Example = toolExamples
	cmd.SilenceErrors = true // each is one line of our own
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	flags.SortFlags = false
	flags.BoolVarP(&t.create, "create", "c", false, "make a new file; one that is there is emptied")
	flags.BoolVarP(&t.print, "print", "n", false, "write the line to standard output, change no file")
	flags.BoolVarP(&t.batch, "batch", "b", false, "take the password from the command line, where others on the machine can see it")
	flags.BoolVarP(&t.stdin, "stdin", "i", false, "read the password from standard input, as from a pipe")
	for _, f := range hashFlags {
		flags.BoolFuncP(f.long, f.short, f.usage, func(string) error {
			t.format = f.format
			return nil
		})
	}
	flags.FuncP("cost", "C", "bcrypt: each step of `n` doubles the time, 4 to 14 (default 10)", positive(&t.cost))
	flags.FuncP("rounds", "r", "SHA-256 and SHA-512: `n` rounds, 1000 to 1000000 (default 5000)", positive(&t.rounds))
	flags.BoolVarP(&t.remove, "delete", "D", false, "remove the user")
	flags.BoolVarP(&t.verify, "verify", "v", false, "check whether a password is the user's, change nothing")
	flags.BoolVar(&t.check, "check", false, "say what a server would make of the files")
	flags.BoolVar(&t.json, "json", false, "the same as JSON")
	flags.BoolVar(&t.list, "list", false, "write the names of the users who can log in, one on a line")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return t.end(cmd, failed(exitUsage, "%s\n%s", describeFlagError(err), usageHint))
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t.in, t.out, t.err = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
		defer stop()
		return t.end(cmd, t.run(ctx, args))
	}
}

// positive reads a decimal number above zero, as of Apache's htpasswd.
func positive(n *int) func(string) error {
	return func(text string) (err error) {
		if *n, err = strconv.Atoi(text); err == nil && *n <= 0 {
			err = strconv.ErrRange
		}
		return err
	}
}

const usageHint = "help: caddy htpasswd --help"

// describeFlagError says what is wrong with the flags. It does not repeat
// what was written: a password that stands in the wrong place looks like flags.
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
		return fmt.Sprintf("there is no flag -%s; flags go before the file, and what begins with - behind the user", shown.Text(string(c)))
	}
	return "there is no such flag; flags go before the file, and what begins with - behind the user"
}

// end reports an error and turns it into one that Caddy exits with.
func (t *passwordTool) end(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	t.err = cmd.ErrOrStderr()
	t.say("caddy htpasswd: %s", err)
	e, ok := errors.AsType[*toolError](err)
	if !ok || e.code == exitFile {
		return err // which means 1
	}
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return e.code, nil })(cmd, nil)
}

// say tells who called the tool something. Paths and names in it are printable
// each: as a part of the whole, a line end in one would begin another line.
func (t *passwordTool) say(format string, args ...any) {
	_, _ = io.WriteString(t.err, shown.Escape(fmt.Sprintf(format+"\n", args...))) // there is nobody else to tell
}

// write writes what was asked for to standard output.
func (t *passwordTool) write(text string) error {
	if _, err := io.WriteString(t.out, text); err != nil {
		return failed(exitFile, "standard output: %s", err)
	}
	return nil
}

// run does what the flags say.
func (t *passwordTool) run(ctx context.Context, args []string) error {
	if err := t.checkUsage(args); err != nil {
		return err
	}
	if t.check {
		return t.runCheck(args)
	}
	if t.list {
		return t.runList(args[0])
	}
	var path string
	if !t.print {
		path, args = args[0], args[1:]
	}
	name := args[0]
	if err := checkUserName(name); err != nil {
		return err
	}
	switch {
	case t.verify:
		return t.runVerify(ctx, path, name, args[1:])
	case t.remove:
		return t.runRemove(ctx, path, name)
	case t.print:
		return t.runPrint(ctx, name, args[1:])
	default:
		return t.runSet(ctx, path, name, args[1:])
	}
}

// checkUsage refuses flags that contradict each other, and too many or too few arguments.
func (t *passwordTool) checkUsage(args []string) error {
	misuse := func(format string, a ...any) error {
		return failed(exitUsage, format+"\n"+usageHint, a...)
	}
	modes := 0
	for _, mode := range []bool{t.create, t.print, t.verify, t.remove, t.check, t.list} {
		if mode {
			modes++
		}
	}
	wantArgs, what := 2, "<file> <user>"
	switch {
	case modes > 1:
		return misuse("only one of -c, -n, -v, -D, --check and --list can be used at a time")
	case t.batch && t.stdin:
		return misuse("-b and -i can't be used together: the password comes from one place")
	case t.json && !t.check:
		return misuse("--json goes with --check")
	case t.check && len(args) > 0:
		return nil
	case t.check || t.list:
		wantArgs, what = 1, "<file>"
	case t.print && t.batch:
		wantArgs, what = 2, "<user> <password>"
	case t.print:
		wantArgs, what = 1, "<user>"
	case t.remove && t.batch && len(args) == 3: // as of Apache's; the password means nothing
		return nil
	case t.batch && !t.remove:
		wantArgs, what = 3, "<file> <user> <password>"
	}
	switch {
	case len(args) < wantArgs:
		return misuse("missing argument: %s", what)
	case len(args) > wantArgs && !t.batch && !t.check && !t.list && !t.remove:
		return misuse("more than %s; flags go before it, and a password on the command line needs -b", what)
	case len(args) > wantArgs:
		return misuse("more than %s", what)
	case !t.check && !t.list && !t.print && args[0] == "":
		return misuse("the name of the file is empty")
	}
	return nil
}

// checkUserName refuses names that a server would not read as they are written.
func checkUserName(name string) error {
	switch err := htfile.CheckName(name); {
	case errors.Is(err, htfile.ErrNameTooLong):
		return failed(exitTooLong, "%s", err)
	case err != nil:
		return failed(exitIllegal, "%s", err)
	}
	return nil
}

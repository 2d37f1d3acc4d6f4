// Package tool implements the command "caddy htpasswd": it adds, changes and
// removes users of an htpasswd file, verifies passwords, and checks files as a
// server would read them.
//
// [SetUp] turns a cobra command into the tool. Package htfile parses and edits the
// text of a file, and package atomicfile replaces files that others are reading.
// This package has the flags, the passwords from terminals, pipes and arguments,
// the messages and the exit codes.
//
// It promises, for all flags:
//
//   - No message shows a password or a hash, nor an unknown flag or argument,
//     which could be a password. Only --generate prints a password, once, and not
//     before the file has it. Only -n and --export print hashes.
//   - A password never leaves the tool: a running Caddy gets the hash.
//   - No name of a file or user controls the terminal or adds a line to a message
//     (see package shown).
//   - A file is replaced atomically or not at all, and only by a version that a
//     server parses as intended.
//   - A signal while a password is typed or hashed, or while other processes
//     change files in the directory, ends the tool. The file is unchanged, and
//     the terminal is restored.
package tool

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed10b5b978/caddy-htpasswd/internal/fileapi"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// Help is the long help text of the command.
const Help = `
Adds a user to an htpasswd file, or changes the password of a user. It asks for
the password twice. A server that uses the file accepts it at once, without a
reload.

The flags are those of Apache's htpasswd, and stand before the file. The default
hash is bcrypt with cost 10. The file is replaced atomically: a server never
reads a half-written file. Mode, owner, comments and order are kept.

  caddy htpasswd [-c] [-i | --generate] [-B2m5dsp | --argon2id] [-C <cost>] [-r <rounds>] <file> <user>
  caddy htpasswd -b[c] [...] <file> <user> <password>
  caddy htpasswd -n [-i | --generate] [...] <user>
  caddy htpasswd -nb   [...] <user> <password>
  caddy htpasswd -v[i] <file> <user>
  caddy htpasswd -vb   <file> <user> <password>
  caddy htpasswd -D    <file> <user>
  caddy htpasswd --check [--json] <file>...
  caddy htpasswd --list <file>
  caddy htpasswd --export <source>
  caddy htpasswd --import [-c] <source> <file>

A file that several servers share, fleet://<name> or storage://<name>, can stand
in place of <file>. The command then asks the running Caddy, by its admin API:
the hash is made here, and Caddy writes it. -c is not needed to create it.

Exit codes: 0 success; 1 the file cannot be read or written; 2 wrong usage;
3 wrong password, or the two passwords differ; 4 interrupted; 5 user name or
password too long; 6 invalid user name or password, or no such user; 7 not an
htpasswd file, or a server would refuse it.
`

const examples = `  create a file:       caddy htpasswd -c /etc/caddy/.htpasswd alice
  add a user:          caddy htpasswd /etc/caddy/.htpasswd bob
  in a script:         caddy htpasswd -i /etc/caddy/.htpasswd bob < password.txt
  print the line only: caddy htpasswd -n bob
  random password:     caddy htpasswd --generate /etc/caddy/.htpasswd bob
  verify a password:   caddy htpasswd -v /etc/caddy/.htpasswd bob
  remove a user:       caddy htpasswd -D /etc/caddy/.htpasswd bob
  check a file:        caddy htpasswd --check /etc/caddy/.htpasswd
  on all servers:      caddy htpasswd fleet://staff bob`

// tool is one run of "caddy htpasswd".
type tool struct {
	create, print, batch, stdin, generate, verify, remove, check, list, json bool

	exports, imports bool
	address          string // of the admin API; "": Caddy's default

	format       string // name of the hash format
	cost, rounds int    // 0: the format's default

	in       io.Reader
	out, err io.Writer

	admin        AdminAPI
	adminTimeout time.Duration
	files        []remoteFile // as the running Caddy has listed them
}

// SetUp turns cmd into the tool. The tool prints an error to standard error itself,
// and then calls exit with the exit code and the error. SetUp passes the result of
// exit on to cobra. It should make the program exit with the code. For files that are not
// on disk, the tool asks admin.
//
// Flags must stand before the first argument: a password that begins with "-" is
// not a flag.
func SetUp(cmd *cobra.Command, admin AdminAPI, exit func(code ExitCode, err error) error) {
	t := &tool{format: hashFlags[0].format, admin: admin, adminTimeout: adminTimeout}
	end := func(cmd *cobra.Command, err error) error {
		if err == nil {
			return nil
		}
		t.err = cmd.ErrOrStderr()
		t.say("caddy htpasswd: %s", err)
		return exit(codeOf(err), err)
	}
	cmd.Example = examples
	cmd.SilenceErrors = true // end prints them
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	flags.SortFlags = false
	flags.BoolVarP(&t.create, "create", "c", false, "create a new file, or overwrite an existing one")
	flags.BoolVarP(&t.print, "print", "n", false, "print the line to standard output; change no file")
	flags.BoolVarP(&t.batch, "batch", "b", false, "take the password from the command line, where other users of the machine can see it")
	flags.BoolVarP(&t.stdin, "stdin", "i", false, "read the password from standard input, for example from a pipe")
	flags.BoolVar(&t.generate, "generate", false, "create a random password, and print it on the last line of standard output; with -n, of standard error")
	for _, f := range hashFlags {
		flags.BoolFuncP(f.long, f.short, f.usage, func(string) error {
			t.format = f.format
			return nil
		})
	}
	flags.FuncP("cost", "C", "bcrypt: cost `n`, 4 to 14; each step doubles the time (default 10)", positive(&t.cost))
	flags.FuncP("rounds", "r", "SHA-256 and SHA-512: `n` rounds, 1000 to 1000000 (default 5000)", positive(&t.rounds))
	flags.BoolVarP(&t.remove, "delete", "D", false, "remove the user")
	flags.BoolVarP(&t.verify, "verify", "v", false, "verify the user's password; change nothing")
	flags.BoolVar(&t.check, "check", false, "check files as a server would read them")
	flags.BoolVar(&t.json, "json", false, "print the report of --check as JSON")
	flags.BoolVar(&t.list, "list", false, "list the users who can log in, one per line")
	flags.BoolVar(&t.exports, "export", false, "print the text of a fleet:// or storage:// file, with its hashes")
	flags.BoolVar(&t.imports, "import", false, "replace the text of a fleet:// or storage:// file by that of a file; with -c, even if it has users")
	flags.StringVar(&t.address, "address", "", "`address` of Caddy's admin API, for fleet:// and storage:// files (default localhost:2019, or CADDY_ADMIN)")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return end(cmd, failed(ExitUsage, "%s\n%s", describeFlagError(err), usageHint))
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t.in, t.out, t.err = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
		defer stop()
		return end(cmd, t.run(ctx, args))
	}
}

// say prints a message to standard error. The caller escapes paths and names: a
// line end in one of them would add a line to the message.
func (t *tool) say(format string, args ...any) {
	_, _ = io.WriteString(t.err, shown.Escape(fmt.Sprintf(format+"\n", args...)))
}

// write writes the result to standard output.
func (t *tool) write(text string) error {
	if _, err := io.WriteString(t.out, text); err != nil {
		return failed(ExitFile, "standard output: %s", err)
	}
	return nil
}

// run runs the operation that the flags select.
func (t *tool) run(ctx context.Context, args []string) error {
	if err := t.checkUsage(args); err != nil {
		return err
	}
	if t.check {
		return t.runCheck(ctx, args)
	}
	if t.list {
		return t.runList(ctx, args[0])
	}
	if t.exports {
		return t.runExport(ctx, args[0])
	}
	if t.imports {
		return t.runImport(ctx, args[0], args[1])
	}
	var path string
	if !t.print {
		path, args = args[0], args[1:]
	}
	name := args[0]
	if err := checkUserName(name); err != nil {
		return err
	}
	source, isSource, err := fileapi.ParseURL(path)
	switch {
	case err != nil:
		return failed(ExitUsage, "%s\n%s", err, usageHint)
	case t.verify:
		return t.runVerify(ctx, path, name, args[1:])
	case t.remove && isSource:
		return t.removeRemote(ctx, source, name)
	case t.remove:
		return t.runRemove(ctx, path, name)
	case t.print:
		return t.runPrint(ctx, name, args[1:])
	case isSource:
		return t.setRemote(ctx, source, name, args[1:])
	default:
		return t.runSet(ctx, path, name, args[1:])
	}
}

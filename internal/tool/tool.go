// Package tool is the command line tool "caddy htpasswd": it adds, changes and
// removes users of an htpasswd file, verifies passwords, and says what a server
// would make of a file.
//
// [SetUp] makes a command of cobra the tool. What a text means, and how it is
// edited, is in package htfile; how a file is replaced while others read it, in
// package atomicfile. This package is between them and a person: flags,
// passwords from terminals, pipes and arguments, messages and exit codes.
//
// What holds whatever the flags say:
//
//   - No message shows a password or a hash, nor a flag or argument that was not
//     understood, which could be one.
//   - No name of a file or user drives the terminal or adds a line to a message
//     (package shown).
//   - A file is replaced whole or not at all, and only by one that a server
//     reads as it is meant.
//   - A signal while a password is typed or hashed, or while others change files
//     in the directory, ends the tool with the file and the terminal as before.
package tool

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// Help is the help of the command.
const Help = `
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

const examples = `  make a file:               caddy htpasswd -c /etc/caddy/.htpasswd alice
  one more user:             caddy htpasswd /etc/caddy/.htpasswd bob
  in a script:               caddy htpasswd -i /etc/caddy/.htpasswd bob < password.txt
  print the line only:       caddy htpasswd -n bob
  is this the password?      caddy htpasswd -v /etc/caddy/.htpasswd bob
  remove somebody:           caddy htpasswd -D /etc/caddy/.htpasswd bob
  what a server makes of it: caddy htpasswd --check /etc/caddy/.htpasswd`

// tool is one run of "caddy htpasswd".
type tool struct {
	create, print, batch, stdin, verify, remove, check, list, json bool

	format       string // name of the hash format
	cost, rounds int    // 0: the format's usual ones

	in       io.Reader
	out, err io.Writer
}

// SetUp makes cmd the tool. An error that it ends with was written to standard
// error already. Then exit is called with the exit code and the error: what it
// returns is returned to cobra, and should make the program exit with the code.
//
// Flags must stand in front: behind the first argument, a password that begins
// with "-" is none.
func SetUp(cmd *cobra.Command, exit func(code ExitCode, err error) error) {
	t := &tool{format: hashFlags[0].format}
	end := func(cmd *cobra.Command, err error) error {
		if err == nil {
			return nil
		}
		t.err = cmd.ErrOrStderr()
		t.say("caddy htpasswd: %s", err)
		return exit(codeOf(err), err)
	}
	cmd.Example = examples
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
		return end(cmd, failed(ExitUsage, "%s\n%s", describeFlagError(err), usageHint))
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t.in, t.out, t.err = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
		defer stop()
		return end(cmd, t.run(ctx, args))
	}
}

// say writes a message to standard error. The caller makes each path and name in
// it printable: a line end in one would begin another line of the message.
func (t *tool) say(format string, args ...any) {
	_, _ = io.WriteString(t.err, shown.Escape(fmt.Sprintf(format+"\n", args...))) // there is nobody else to tell
}

// write writes what was asked for to standard output.
func (t *tool) write(text string) error {
	if _, err := io.WriteString(t.out, text); err != nil {
		return failed(ExitFile, "standard output: %s", err)
	}
	return nil
}

// run does what the flags say.
func (t *tool) run(ctx context.Context, args []string) error {
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

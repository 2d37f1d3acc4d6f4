package tool

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/passwordpolicy"
)

// hashFlag is a flag that selects the hash format. The last one wins.
type hashFlag struct {
	long, short string
	format      string // its name in crypt
	usage       string
}

var hashFlags = []hashFlag{
	{"bcrypt", "B", "bcrypt", "hash with bcrypt (default)"},
	{"argon2id", "", "argon2id", "hash with Argon2id (64 MiB, 3 passes); not supported by nginx and Apache"},
	{"sha512", "5", "sha512crypt", "hash with SHA-512 crypt"},
	{"sha256", "2", "sha256crypt", "hash with SHA-256 crypt"},
	{"md5", "m", "apr1", "hash with apr1, Apache's variant of MD5 crypt"},
	{"crypt", "d", "descrypt", "hash with DES crypt, which uses only the first 8 bytes; weak"},
	{"sha", "s", "sha1", "hash with unsalted SHA-1, {SHA}; weak"},
	{"plain", "p", "plain", "store the password itself, {PLAIN}; weak"},
}

var errInterrupted = failed(ExitInterrupted, "interrupted; nothing was changed")

// newHash asks for a password of a user, or generates one, and hashes it.
func (t *tool) newHash(ctx context.Context, name string, args []string) (hash string, password []byte, err error) {
	cost, err := t.hashCost()
	if err != nil {
		return "", nil, err
	}
	if password, err = t.password(ctx, args); err != nil {
		return "", nil, err
	}
	if err := t.checkPassword(password); err != nil {
		return "", nil, err
	}
	plain := password // the results change while the function still runs after an interruption
	hash, err = interruptible(ctx, func() (string, error) { return crypt.Make(t.format, cost, plain) })
	switch {
	case errors.Is(err, crypt.ErrPasswordTooLong):
		return "", nil, failed(ExitTooLong, "%s", err)
	case errors.Is(err, errInterrupted):
		return "", nil, err
	case err != nil:
		return "", nil, failed(ExitIllegal, "%s", err)
	}
	return hash, password, t.warn(hash, name, password)
}

// hashCost returns the cost of -C or -r for the format, or 0 for its default.
func (t *tool) hashCost() (int, error) {
	cost, other := 0, t.cost != 0 || t.rounds != 0
	switch t.format {
	case "bcrypt":
		cost, other = t.cost, t.rounds != 0
	case "sha256crypt", "sha512crypt":
		cost, other = t.rounds, t.cost != 0
	}
	if other {
		t.say("Warning: -C applies to bcrypt, -r to SHA-256 and SHA-512; ignored for %s", t.format)
	}
	if err := crypt.CheckCost(t.format, cost); err != nil {
		return 0, failed(ExitUsage, "%s", err)
	}
	return cost, nil
}

// checkPassword returns an error for a password that no client could log in with.
func (t *tool) checkPassword(password []byte) error {
	switch {
	case len(password) > crypt.MaxPasswordLen:
		return failed(ExitTooLong, "the password is longer than %d bytes, the most that a server accepts", crypt.MaxPasswordLen)
	case htfile.HasControl(password):
		return failed(ExitIllegal, "the password contains a control character, such as a line break; clients cannot send it")
	case t.format == "plain" && (strings.Contains(string(password), ":") || strings.Trim(string(password), htfile.Whitespace) != string(password)):
		return failed(ExitIllegal, "a plain-text password must not contain ':' or start or end with whitespace")
	}
	return nil
}

// warn prints warnings about a requested hash and password of a user.
func (t *tool) warn(hash, name string, password []byte) error {
	class, err := crypt.Parse(hash)
	if err != nil {
		return failed(ExitIllegal, "%s", err)
	}
	t.warnOfPassword(name, string(password))
	if class.Format.Weak {
		t.say("Warning: %s is weak; anyone who has the file can quickly find the password; use bcrypt, the default", class.Format.Name)
	}
	if t.format == "descrypt" && len(password) > 8 {
		t.say("Warning: only the first 8 bytes of the password are used")
	}
	return nil
}

// warnOfPassword warns of a password that the page of change_password refuses by
// default, unless it was generated. A long one is as good as any if the format
// of the hash uses all of it.
func (t *tool) warnOfPassword(name, password string) {
	policy := passwordpolicy.Policy{MinLength: passwordpolicy.DefaultMinLength}
	reason := policy.Check(name, password)
	switch {
	case password == "":
		t.say("Warning: the password is empty; anyone who knows the user name can log in")
	case t.generate, reason == passwordpolicy.ReasonNone, reason == passwordpolicy.ReasonTooLong:
	default:
		t.say("Warning: %s; %s, or use --generate", policy.Problem(reason), policy.Advice(reason))
	}
}

// password returns the password from the source that the flags select.
func (t *tool) password(ctx context.Context, args []string) ([]byte, error) {
	switch {
	case t.generate:
		return generatePassword(), nil
	case t.batch:
		return []byte(args[0]), nil
	case t.stdin:
		return t.pipedPassword(ctx)
	}
	terminal, err := t.openTerminal()
	if err != nil {
		return nil, err
	}
	defer terminal.close()
	if t.verify {
		return terminal.ask(ctx, "Enter password: ")
	}
	return terminal.askTwice(ctx)
}

// pipedPassword reads standard input to its end, and removes one line end.
func (t *tool) pipedPassword(ctx context.Context) ([]byte, error) {
	const most = crypt.MaxPasswordLen + len("\r\n") + 1
	text, err := interruptible(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(t.in, int64(most))) })
	if errors.Is(err, errInterrupted) {
		return nil, err
	}
	if err != nil {
		return nil, failed(ExitFile, "reading the password from standard input: %s", err)
	}
	if len(text) == 0 { // most likely the program that writes it has failed
		return nil, failed(ExitUsage, "no password on standard input (for an empty password, send an empty line)")
	}
	password := strings.TrimSuffix(string(text), "\n")
	return []byte(strings.TrimSuffix(password, "\r")), nil
}

// interruptible returns the result of f, or errInterrupted as soon as ctx ends.
// Then f keeps running in the background.
func interruptible[T any](ctx context.Context, f func() (T, error)) (value T, err error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return value, errInterrupted
	}
}

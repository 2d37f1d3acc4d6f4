package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

// maxCalls is the number of calls at the same time, those included whose callers have
// not waited for the end.
const maxCalls = 64

// store implements fleet.Store.
type store struct {
	servers servers
	prefix  string // of all keys, with the version of the format
	calls   chan struct{}
}

func newStore(s settings) *store {
	return &store{servers: connect(s), prefix: s.prefix + ":1:", calls: make(chan struct{}, maxCalls)}
}

// do runs a call, and returns as soon as ctx is done: the client itself heeds deadlines,
// but not always and not a cancellation.
func do[T any](ctx context.Context, s *store, call func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	select {
	case s.calls <- struct{}{}:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	results := make(chan result, 1)
	go func() {
		defer func() { <-s.calls }()
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		var r result
		defer func() {
			if p := recover(); p != nil { // of the client, which reads what the server sends
				r.err = fmt.Errorf("the client of Redis panicked: %v", p)
			}
			results <- r
		}()
		r.value, r.err = call(limited)
	}()
	select {
	case r := <-results:
		if e, ok := errors.AsType[net.Error](r.err); ok && e.Timeout() {
			r.err = fmt.Errorf("no answer from Redis: %w", r.err)
		}
		return r.value, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("no answer from Redis: %w", ctx.Err())
	}
}

// command is a command with one key.
type command struct {
	key    string
	script *script // nil for a plain command
	args   []any   // of the script, or the whole command
	whole  bool    // send the text of the script
	asking string  // the address of a server that has the key only if asked so
	reply  *goredis.Cmd
}

// arguments returns the command as it is sent.
func (c *command) arguments() []any {
	if c.script == nil {
		return c.args
	}
	if c.whole {
		return append([]any{"eval", c.script.text, 1, c.key}, c.args...)
	}
	return append([]any{"evalsha", c.script.hash, 1, c.key}, c.args...)
}

// maxTries is how often a command is sent that was not executed: to a server that does
// not have the slot, to the one that is about to have it, and with the script.
const maxTries = 4

// run sends commands, all for the same server in one pipeline, and returns the first
// error. It sends only those again that were certainly not executed.
func (s *store) run(ctx context.Context, commands []*command) error {
	for try := 1; ; try++ {
		s.send(ctx, commands)
		var again []*command
		var failed error
		moved := false
		for _, c := range commands {
			err := c.reply.Err()
			if err == nil || errors.Is(err, goredis.Nil) {
				continue
			}
			c.asking = ""
			switch {
			case goredis.HasErrorPrefix(err, "NOSCRIPT") && c.script != nil && !c.whole:
				c.whole = true
			case goredis.HasErrorPrefix(err, "MOVED "):
				moved = true
			case goredis.HasErrorPrefix(err, "ASK "):
				c.asking = err.Error()[strings.LastIndexByte(err.Error(), ' ')+1:]
			default:
				if failed == nil {
					failed = err
				}
				continue
			}
			if again = append(again, c); try == maxTries && failed == nil {
				failed = err
			}
		}
		if failed != nil || len(again) == 0 {
			return failed
		}
		if moved {
			s.servers.refresh(ctx)
		}
		commands = again
	}
}

// send sends each command once, and waits for the replies. Those that are not sent have
// an error too.
func (s *store) send(ctx context.Context, commands []*command) {
	groups := make(map[*goredis.Client][]*command)
	for _, c := range commands {
		c.reply = goredis.NewCmd(ctx, c.arguments()...)
		client, err := s.clientFor(ctx, c)
		if err != nil {
			c.reply.SetErr(err)
			continue
		}
		groups[client] = append(groups[client], c)
	}
	var all sync.WaitGroup
	for client, group := range groups {
		all.Go(func() { sendTo(ctx, client, group) })
	}
	all.Wait()
}

// sendTo sends commands in one pipeline.
func sendTo(ctx context.Context, client *goredis.Client, commands []*command) {
	pipeline := client.Pipeline()
	for _, c := range commands {
		if c.asking != "" {
			_ = pipeline.Process(ctx, goredis.NewCmd(ctx, "asking"))
		}
		_ = pipeline.Process(ctx, c.reply)
	}
	_, err := pipeline.Exec(ctx)
	for _, c := range commands {
		// Each command has its error, but not if there was no connection.
		if c.reply.Err() == nil && c.reply.Val() == nil {
			if err == nil {
				err = errors.New("no answer from Redis")
			}
			c.reply.SetErr(err)
		}
	}
}

func (s *store) clientFor(ctx context.Context, c *command) (*goredis.Client, error) {
	if c.asking != "" {
		if client := s.servers.at(ctx, c.asking); client != nil {
			return client, nil
		}
	}
	return s.servers.forKey(ctx, c.key)
}

// ping is a script that writes, so that it fails when counters cannot be written.
var ping = newScript(`
redis.call('HSET', KEYS[1], 'ping', '')
redis.call('PEXPIRE', KEYS[1], 60000)
return 1
`)

// Ping implements fleet.Store. All servers of a cluster must answer, and the one that
// has the key must be able to write.
func (s *store) Ping(ctx context.Context) error {
	_, err := do(ctx, s, func(ctx context.Context) (struct{}, error) {
		if _, isCluster := s.servers.(cluster); isCluster {
			err := s.servers.all(ctx, func(ctx context.Context, client *goredis.Client) error { return client.Ping(ctx).Err() })
			if err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, s.run(ctx, []*command{{key: s.prefix + "ping", script: ping}})
	})
	return err
}

// Close implements fleet.Store.
func (s *store) Close() error { return s.servers.Close() }

// script is a script in Lua for one key.
type script struct{ text, hash string }

func newScript(text string) *script { return &script{text, goredis.NewScript(text).Hash()} }

var _ fleet.Store = (*store)(nil)

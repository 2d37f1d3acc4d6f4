package redis

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

// buckets is the number of hashes of a set of counters.
const buckets = 16_384

// maxBatch is the number of commands that are sent at once. Other clients of Redis wait
// while it executes one command, not while it executes a batch.
const maxBatch = 512

// addText is the script that adds failed logins to a counter.
//
//go:embed add.lua
var addText string

var add = newScript(addText)

// bucket returns the key of a hash of counters.
func (s *store) bucket(set fleet.Set, n uint64) string {
	key := make([]byte, 0, 64)
	key = append(append(key, s.prefix...), set.Name...)
	key = strconv.AppendInt(append(key, ':'), set.Window.Milliseconds(), 10)
	return string(strconv.AppendUint(append(key, ':'), n, 10))
}

// keyOf returns the key of the hash that has a counter.
func (s *store) keyOf(c fleet.Counter) string { return s.bucket(c.Set, c.Key%buckets) }

// field returns the field of a counter in its hash.
func field(c fleet.Counter) string {
	return string(binary.BigEndian.AppendUint64(nil, c.Key))
}

// Add implements fleet.Store.
func (s *store) Add(ctx context.Context, additions []fleet.Addition) ([]fleet.Count, error) {
	if len(additions) == 0 {
		return nil, ctx.Err()
	}
	commands := make([]*command, len(additions))
	for i, a := range additions {
		commands[i] = &command{
			key: s.keyOf(a.Counter), script: add,
			args: []any{field(a.Counter), a.Window.Milliseconds(), max(a.N, 0), max(a.Age, 0).Milliseconds()},
		}
	}
	return do(ctx, s, func(ctx context.Context) ([]fleet.Count, error) {
		if err := s.run(ctx, commands); err != nil {
			return nil, err
		}
		counts := make([]fleet.Count, len(commands))
		for i, c := range commands {
			numbers, err := c.reply.Int64Slice()
			if err != nil || len(numbers) != 2 {
				return nil, errors.New("unexpected answer from Redis: expected a count and a time")
			}
			counts[i] = fleet.Count{N: int(numbers[0]), Left: time.Duration(numbers[1]) * time.Millisecond}
		}
		return counts, nil
	})
}

// Remove implements fleet.Store.
func (s *store) Remove(ctx context.Context, counters []fleet.Counter) error {
	commands := make([]*command, len(counters))
	for i, c := range counters {
		key := s.keyOf(c)
		commands[i] = &command{key: key, args: []any{"hdel", key, field(c)}}
	}
	return s.runAll(ctx, commands)
}

// RemoveAll implements fleet.Store. It deletes all keys that there can be: commands that
// list keys look at all of a database, and many managed services forbid them.
func (s *store) RemoveAll(ctx context.Context, sets []fleet.Set) error {
	_, isCluster := s.servers.(cluster)
	var commands []*command
	for _, set := range sets {
		for n := uint64(0); n < buckets; {
			c := &command{key: s.bucket(set, n), args: []any{"del"}}
			for range maxBatch {
				c.args = append(c.args, s.bucket(set, n))
				n++
				if isCluster || n == buckets { // a command of a cluster can have keys of one slot only
					break
				}
			}
			commands = append(commands, c)
		}
	}
	return s.runAll(ctx, commands)
}

// runAll runs commands in batches.
func (s *store) runAll(ctx context.Context, commands []*command) error {
	_, err := do(ctx, s, func(ctx context.Context) (struct{}, error) {
		for len(commands) > 0 {
			batch := commands[:min(maxBatch, len(commands))]
			commands = commands[len(batch):]
			if err := s.run(ctx, batch); err != nil {
				return struct{}{}, fmt.Errorf("removing counters: %w", err)
			}
		}
		return struct{}{}, nil
	})
	return err
}

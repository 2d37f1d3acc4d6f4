package redis

import (
	"context"
	"errors"
	"io/fs"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

// replace is a script that sets a text if its revision is ARGV[1], which is empty for no
// text.
var replace = newScript(`
if (redis.call('HGET', KEYS[1], 'revision') or '') ~= ARGV[1] then
	return 0
end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'data', ARGV[3])
return 1
`)

// text returns the key of a text.
func (s *store) text(name string) string { return s.prefix + "file:" + name }

// Revision implements fleet.Store.
func (s *store) Revision(ctx context.Context, name string) (string, error) {
	key := s.text(name)
	return do(ctx, s, func(ctx context.Context) (string, error) {
		if err := s.checkSizes(ctx, key, sizes{"revision": fleet.MaxRevision}); err != nil {
			return "", err
		}
		c := &command{key: key, args: []any{"hget", key, "revision"}}
		if err := s.run(ctx, []*command{c}); err != nil {
			return "", err
		}
		revision, err := c.reply.Text()
		if errors.Is(err, goredis.Nil) {
			return "", fs.ErrNotExist
		}
		return revision, err
	})
}

// Load implements fleet.Store.
func (s *store) Load(ctx context.Context, name string) (fleet.Text, error) {
	key := s.text(name)
	return do(ctx, s, func(ctx context.Context) (fleet.Text, error) {
		if err := s.checkSizes(ctx, key, sizes{"revision": fleet.MaxRevision, "data": fleet.MaxText}); err != nil {
			return fleet.Text{}, err
		}
		c := &command{key: key, args: []any{"hmget", key, "revision", "data"}}
		if err := s.run(ctx, []*command{c}); err != nil {
			return fleet.Text{}, err
		}
		values, err := c.reply.Slice()
		if err != nil || len(values) != 2 {
			return fleet.Text{}, errors.New("unexpected answer from Redis: expected a revision and a text")
		}
		revision, isText := values[0].(string)
		if !isText {
			return fleet.Text{}, fs.ErrNotExist
		}
		data, _ := values[1].(string) // without a value, the text is damaged, and Replace needs its revision
		return fleet.Text{Revision: revision, Data: []byte(data)}, nil
	})
}

// sizes are the largest sizes of fields in bytes.
type sizes map[string]int64

// checkSizes returns fleet.ErrTooLarge if a field is larger than servers write it. The client
// would read all of it into memory.
func (s *store) checkSizes(ctx context.Context, key string, most sizes) error {
	var commands []*command
	for field := range most {
		commands = append(commands, &command{key: key, args: []any{"hstrlen", key, field}})
	}
	if err := s.run(ctx, commands); err != nil {
		return err
	}
	for _, c := range commands {
		if size, err := c.reply.Int64(); err != nil || size > most[c.args[2].(string)] {
			return errors.Join(fleet.ErrTooLarge, err)
		}
	}
	return nil
}

// Replace implements fleet.Store.
func (s *store) Replace(ctx context.Context, name, old string, next fleet.Text) error {
	c := &command{key: s.text(name), script: replace, args: []any{old, next.Revision, next.Data}}
	_, err := do(ctx, s, func(ctx context.Context) (struct{}, error) {
		if err := s.run(ctx, []*command{c}); err != nil {
			return struct{}{}, err
		}
		if done, err := c.reply.Int(); err != nil || done != 1 {
			return struct{}{}, errors.Join(fleet.ErrConflict, err)
		}
		return struct{}{}, nil
	})
	return err
}

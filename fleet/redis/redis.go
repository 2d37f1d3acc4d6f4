// Package redis lets several servers with caddy-htpasswd share their state in Redis or
// Valkey: a single server, one behind Sentinel, or a cluster. It is a Go module of its
// own, so that caddy-htpasswd does not depend on a client for Redis.
//
// # Permissions
//
// The user in Redis needs no more than this (with the default prefix):
//
//	user caddy on >PASSWORD resetchannels ~htpasswd:* &htpasswd:* -@all +hello +ping +select +evalsha +eval +time +hget +hset +hdel +hlen +hgetall +hmget +hstrlen +pexpire +del +publish +subscribe +cluster|slots +asking
//
// +select is only for a database other than 0, and +cluster|slots and +asking are only
// for a cluster. For Sentinel, the user of the Sentinels needs:
//
//	-@all +hello +ping +sentinel|get-master-addr-by-name +sentinel|sentinels +subscribe &*
//
// # Data in Redis
//
// Redis holds no user name, address, password or hash. Names of keys and channels begin
// with the prefix and the version of the format:
//
//	htpasswd:1:login:60000:77    a hash of at most 8 counters of failed logins
//	htpasswd:1:file:staff        a hash with the fields revision and data
//	htpasswd:1:ping              a hash that tests whether Redis can be written to
//	htpasswd:1:events            a channel
//
// The name of a hash of counters consists of the limit, its window in milliseconds, and
// the remainder of the counter's key divided by 16,384. The name of a field is the 8
// bytes of the key, and its value consists of the begin of the window, in milliseconds
// since 1970, and the count. So the memory for counters is bounded: about 6 MB for each
// limit and window. These keys expire with their window, the files do not: Redis must
// not evict them (maxmemory-policy noeviction, or one of those that begin with
// volatile).
//
// # Faults
//
// A command is sent once. Connections are made when they are needed, and after a failure
// at the next call. A command that a server of a cluster has not executed, because it
// does not have the slot, is sent to the one that has it. A script that a server does
// not know is sent whole.
package redis

import (
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

func init() {
	caddy.RegisterModule(Engine{})
}

// Engine connects to Redis or Valkey, version 5 or later; a user with a name needs
// version 6. Redis learns no user name, address, password or hash.
//
// `addresses`, and all user names and passwords, may be or contain global placeholders
// such as `{env.NAME}` and `{file./path}`.
type Engine struct {
	// Addresses of servers: `host:port`, or `unix//path` for a Unix socket. One
	// address is a single server. With `sentinel` these are the Sentinels. Several
	// addresses without `sentinel` are servers of one cluster; it need not be all.
	Addresses []string `json:"addresses,omitempty"`

	// Whether the address is a server of a cluster. Default: true for several
	// addresses without `sentinel`.
	Cluster bool `json:"cluster,omitempty"`

	// Name of the master that the Sentinels watch. With it, `addresses` are those of
	// the Sentinels.
	Sentinel string `json:"sentinel,omitempty"`

	// User name for the Sentinels. Default: none.
	SentinelUsername string `json:"sentinel_username,omitempty"`

	// Password for the Sentinels. Default: none.
	SentinelPassword string `json:"sentinel_password,omitempty"`

	// Number of the database, from 0. A cluster has only database 0. Default: 0.
	Database int `json:"database,omitempty"`

	// User name (ACL). Default: Redis' default user.
	Username string `json:"username,omitempty"`

	// Password. Default: none.
	Password string `json:"password,omitempty"`

	// TLS encrypts connections to Redis, and to Sentinels. Default: no TLS.
	TLS *TLS `json:"tls,omitempty"`

	// Prefix of all keys and of the channel in Redis: 1 to 64 letters, digits and
	// `.`, `_`, `-`, `:`, `/`. Servers with different prefixes share nothing.
	// Default: `htpasswd`.
	Prefix string `json:"prefix,omitempty"`

	resolved settings
}

// TLS is how connections are encrypted. Certificates are always verified.
type TLS struct {
	// Path of a file with the certificates (PEM) of the authorities that sign the
	// servers' certificates. It is read when the configuration is loaded. Default:
	// the authorities that the system trusts.
	CA string `json:"ca,omitempty"`

	// Path of the client's certificate and its chain (PEM). It is read for each
	// connection, so that it can be renewed. Default: none.
	ClientCertificate string `json:"client_certificate,omitempty"`

	// Path of the key (PEM) of the client's certificate, which is read with it.
	ClientKey string `json:"client_key,omitempty"`

	// Name in the servers' certificates. Default: the host of the address.
	ServerName string `json:"server_name,omitempty"`
}

// CaddyModule returns the module's information.
func (Engine) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "htpasswd.fleets.redis",
		New: func() caddy.Module { return new(Engine) },
	}
}

// Provision replaces placeholders and reads the files of TLS. It does not connect.
func (e *Engine) Provision(caddy.Context) error {
	s, err := e.resolve()
	if err != nil {
		return err
	}
	e.resolved = s
	return nil
}

// Validate checks which settings go together.
func (e *Engine) Validate() error {
	switch s := e.resolved; {
	case len(s.addresses) == 0:
		return errors.New("addresses: expected at least one host:port, found none")
	case s.sentinel != "" && e.Cluster:
		return errors.New("sentinel and cluster: expected one of them, found both")
	case s.sentinel == "" && (s.sentinelUsername != "" || s.sentinelPassword != ""):
		return errors.New("sentinel_username and sentinel_password: expected sentinel too, found none")
	case s.sentinelUsername != "" && s.sentinelPassword == "":
		return errors.New("sentinel_username: expected sentinel_password too, found none")
	case s.username != "" && s.password == "":
		return errors.New("username: expected a password too, found none")
	case s.database < 0:
		return fmt.Errorf("database: expected a number from 0, found %d", s.database)
	case s.database != 0 && s.cluster:
		return fmt.Errorf("database: expected 0, the only one of a cluster, found %d", s.database)
	case (s.cluster || s.sentinel != "") && s.hasSocket():
		return errors.New("addresses: expected host:port of a cluster or of Sentinels, found a Unix socket")
	}
	return nil
}

// Open returns the store. It does not connect.
func (e *Engine) Open() (fleet.Store, error) {
	return newStore(e.resolved), nil
}

// Interface guards.
var (
	_ caddy.Provisioner     = (*Engine)(nil)
	_ caddy.Validator       = (*Engine)(nil)
	_ caddyfile.Unmarshaler = (*Engine)(nil)
	_ fleet.Engine          = (*Engine)(nil)
)

package caddyhtpasswd

import (
	"encoding/json"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// idleConnsPerServer is how many idle connections to a server a group keeps. Caddy keeps
// 32. With more requests at a time than that, it closes connections after the response,
// and opens new ones for the next requests.
const idleConnsPerServer = 256

// applyIdleDefault makes h keep more idle connections than Caddy does, unless the lines
// have a transport. For https and h2c, the transport of h keeps its other settings.
func applyIdleDefault(h *reverseproxy.Handler, lines []caddyfile.Segment) error {
	if _, hasTransport := lastOf("transport", lines); hasTransport {
		return nil
	}
	transport := map[string]json.RawMessage{"protocol": json.RawMessage(`"http"`)}
	if h.TransportRaw != nil {
		if err := json.Unmarshal(h.TransportRaw, &transport); err != nil {
			return fmt.Errorf("transport: %w", err)
		}
	}
	transport["keep_alive"] = caddyconfig.JSON(reverseproxy.KeepAlive{MaxIdleConnsPerHost: idleConnsPerServer}, nil)
	h.TransportRaw = caddyconfig.JSON(transport, nil)
	return nil
}

package caddyhtpasswd

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/sendable"
)

// checkConnect refuses CONNECT, except for a WebSocket over HTTP/2 or HTTP/3, which
// reverse_proxy turns into a WebSocket over HTTP/1.1. The body of any other CONNECT would
// be sent without framing, as if it were further requests.
func (p *ProxyPass) checkConnect(r *http.Request) error {
	switch protocol := connectProtocol(r); {
	case protocol == "":
		return caddyhttp.Error(http.StatusMethodNotAllowed, errConnect)
	case protocol != "websocket" || !p.canWebSocket:
		return caddyhttp.Error(http.StatusNotImplemented, errProtocol)
	}
	if err := checkRequest(r); err != nil {
		return err
	}
	for name, values := range r.Header {
		if name == ":protocol" {
			continue
		}
		if err := sendable.CheckFields(http.Header{name: values}, p.maxFieldSize); err != nil {
			return badRequest(err)
		}
	}
	return nil
}

// withoutUpgrade returns the request without its Upgrade header, unless the transport
// supports the upgrade. HTTP/2 and HTTP/3 have no such header, and any server may ignore
// it (RFC 9110, section 7.8).
func (p *ProxyPass) withoutUpgrade(r *http.Request) *http.Request {
	if p.canWebSocket && strings.EqualFold(r.Header.Get(headerUpgrade), "websocket") {
		return r
	}
	out := r.WithContext(r.Context())
	out.Header = r.Header.Clone()
	delete(out.Header, headerUpgrade)
	return out
}

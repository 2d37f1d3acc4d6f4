package passwordpage

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Origin is the origin of a site (RFC 6454): what a browser must be showing to send a form
// to it.
type Origin struct {
	Scheme string // "http" or "https"
	Host   string // as in the Host field, with the port if the browser sends it
}

// String returns the origin as browsers write it, except for case and default ports.
func (o Origin) String() string { return o.Scheme + "://" + o.Host }

// ErrOtherOrigin is wrapped by the errors of CheckOrigin.
var ErrOtherOrigin = errors.New("the form was not sent by a page of this site")

// The reasons why CheckOrigin refuses a request. None of them quotes what a client sent.
var (
	errNoOrigin    = originError("the request has neither Origin nor Sec-Fetch-Site, which every browser sends")
	errOrigin      = originError("the Origin field is not the origin of this site")
	errSite        = originError("the Sec-Fetch-Site field is not same-origin")
	errManyOrigins = originError("the request has the Origin or the Sec-Fetch-Site field more than once")
)

type originError string

func (e originError) Error() string { return string(e) }
func (originError) Unwrap() error   { return ErrOtherOrigin }

// CheckOrigin returns an error unless a page of the origin own has sent the request, as far
// as the browser says:
//
//   - Sec-Fetch-Site, if there is one, must be "same-origin". Browsers send it to
//     encrypted sites and to localhost.
//   - Origin, if there is one, must be own. Browsers send it with every POST.
//   - One of them must be there, and none of them twice.
//
// The standard library's http.CrossOriginProtection also accepts a request with neither of
// them, which is meant for programs. Only a browser has a form.
func CheckOrigin(header http.Header, own Origin) error {
	sites, origins := header["Sec-Fetch-Site"], header["Origin"]
	switch {
	case len(sites) > 1 || len(origins) > 1:
		return errManyOrigins
	case len(sites)+len(origins) == 0:
		return errNoOrigin
	case len(sites) == 1 && sites[0] != "same-origin":
		return errSite
	case len(origins) == 0:
		return nil
	}
	sent, ok := parseOrigin(origins[0])
	if want, isKnown := own.normalized(); !ok || !isKnown || sent != want {
		return errOrigin
	}
	return nil
}

// parseOrigin parses the value of an Origin field, which has only a scheme and a host.
func parseOrigin(text string) (Origin, bool) {
	scheme, host, ok := strings.Cut(text, "://")
	if !ok {
		return Origin{}, false // also "null"
	}
	return Origin{scheme, host}.normalized()
}

// defaultPorts are the ports that browsers leave out.
var defaultPorts = map[string]string{"http": "80", "https": "443"}

// normalized returns the origin in lower case, without the default port of its scheme.
func (o Origin) normalized() (Origin, bool) {
	scheme := strings.ToLower(o.Scheme)
	defaultPort, isWeb := defaultPorts[scheme]
	u, err := url.Parse("http://" + o.Host)
	if !isWeb || err != nil || u.Host != o.Host || u.Hostname() == "" { // u.Host differs if there is a user, a path or an escape
		return Origin{}, false
	}
	name, port := strings.ToLower(u.Hostname()), u.Port()
	isBracketed := strings.HasPrefix(o.Host, "[")
	address, err := netip.ParseAddr(name)
	if isBracketed != (err == nil && address.Is6()) {
		return Origin{}, false
	}
	if isBracketed {
		name = "[" + address.String() + "]"
	}
	if port == "" || port == defaultPort {
		return Origin{scheme, name}, true
	}
	return Origin{scheme, name + ":" + port}, true
}

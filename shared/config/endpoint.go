package config

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/google/uuid"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// endpointSpace is the name space of the ids that are made of a service and an address (RFC 9562 section 5.5).
var endpointSpace = uuid.MustParse("5b5aa0e2-93b2-4a4c-8d2f-6f8a4f6a1c55")

// EndpointID returns the id of an endpoint of a service: the one that it was given, or else one that is made of the
// service's id and the endpoint's address, and stays the same as long as these do.
func EndpointID(service string, e *configv1.Endpoint) string {
	if e.GetId() != "" {
		return e.GetId()
	}
	return madeID(service, e)
}

func madeID(service string, e *configv1.Endpoint) string {
	return uuid.NewSHA1(endpointSpace, []byte(service+" "+EndpointKey(e))).String()
}

var endpointID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// fillEndpoints drops what is read-only, and ids that the endpoints have anyway, and keeps those that were given
// before. before may be nil.
func fillEndpoints(m, before *configv1.Service) {
	given, kept := map[string]bool{}, map[string]string{}
	for _, e := range before.GetEndpoints() {
		if e.GetId() != "" {
			kept[EndpointKey(e)] = e.GetId()
		}
	}
	for _, e := range m.GetEndpoints() {
		if e == nil {
			continue
		}
		e.Healthy = nil
		if e.GetId() != "" && e.GetId() == madeID(m.GetId(), e) && kept[EndpointKey(e)] == "" {
			e.Id = ""
		}
		given[e.GetId()] = true
	}
	for _, e := range m.GetEndpoints() {
		if id := kept[EndpointKey(e)]; e != nil && e.GetId() == "" && !given[id] {
			e.Id = id
		}
	}
}

// UnixPath returns the path of a host such as "unix:/run/app.sock", and whether it is one.
func UnixPath(host string) (string, bool) { return strings.CutPrefix(host, "unix:") }

// EndpointKey returns "host:port", or "unix:/path", which is what tells the endpoints of a service apart.
func EndpointKey(e *configv1.Endpoint) string {
	host := e.GetHost()
	if _, isUnix := UnixPath(host); isUnix {
		return host
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.FormatUint(uint64(e.GetPort()), 10)
}

func (c *checker) endpoint(field string, e *configv1.Endpoint) {
	if path, isUnix := UnixPath(e.GetHost()); isUnix {
		if !validUnixPath(path) {
			c.fail(field+".host", e.GetHost(), `has to be "unix:" and an absolute path of up to %d bytes`, maxUnixPath)
		}
		if e.GetPort() != 0 {
			c.fail(field+".port", strconv.FormatUint(uint64(e.GetPort()), 10), "has to be absent: a Unix socket has no port")
		}
	} else {
		if !ValidHost(e.GetHost()) {
			c.fail(field+".host", e.GetHost(), `has to be an IP address or a DNS name, without scheme and port, or "unix:/path"`)
		}
		c.number(field+".port", e.GetPort(), 1, 65535)
	}
	c.number(field+".weight", Weight(e), 0, maxWeight)
	if len(e.GetLabels()) > maxLabels {
		c.fail(field+".labels", "", "has %d entries; %d are allowed", len(e.GetLabels()), maxLabels)
	}
}

// maxUnixPath is the longest path that a socket's address has room for on Linux, without its final NUL.
const maxUnixPath = 107

func validUnixPath(path string) bool {
	return strings.HasPrefix(path, "/") && len(path) <= maxUnixPath &&
		!strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f })
}

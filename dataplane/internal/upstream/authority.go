package upstream

import (
	"net"
	"strconv"
)

// authorities are what an endpoint is called in a Host field (RFC 9110 section 7.2): the port is left out where it is
// the scheme's.
type authorities struct{ plain, secure string }

func authoritiesOf(e *Endpoint) authorities {
	if e.network == "unix" {
		return authorities{"localhost", "localhost"}
	}
	host := net.JoinHostPort(e.Host, "")
	host = host[:len(host)-1] // an IPv6 address keeps its brackets
	whole := net.JoinHostPort(e.Host, strconv.FormatUint(uint64(e.Port), 10))
	a := authorities{whole, whole}
	switch e.Port {
	case 80:
		a.plain = host
	case 443:
		a.secure = host
	}
	return a
}

// Authority returns the endpoint's own host for a Host field, with its port where that is not the protocol's;
// "localhost" for a Unix socket.
func (e *Endpoint) Authority() string {
	if e.settings.Load().transport.tls != nil {
		return e.authorities.secure
	}
	return e.authorities.plain
}

package cli

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// DefaultPort is where the admin API is served over gRPC when nothing else is said, RESTPort where it is served over
// REST.
const (
	DefaultPort = "9090"
	RESTPort    = "9080"
)

// ServerAddress completes the address of the admin API over gRPC: HOST:PORT, or HOST alone, which may be an IPv6
// address, for the default port. What begins with a scheme of gRPC's own names (dns:///, unix:) stays as it is.
func ServerAddress(server string) (string, error) {
	wrong := func(why string) (string, error) {
		return "", &UsageError{fmt.Sprintf("server %q: %s: has to be HOST or HOST:PORT of the admin API over gRPC, such "+
			"as 127.0.0.1:%s", server, why, DefaultPort)}
	}
	for _, scheme := range []string{"dns:", "unix:", "unix-abstract:", "passthrough:", "ipv4:", "ipv6:"} {
		if strings.HasPrefix(server, scheme) {
			return server, nil
		}
	}
	if scheme, _, ok := strings.Cut(server, "://"); ok {
		if scheme == "http" || scheme == "https" {
			return wrong("is a URL, as for REST")
		}
		return wrong("is a URL")
	}
	if strings.ContainsAny(server, "/?#@ \t") {
		return wrong("has what no host name has")
	}
	if ip := strings.TrimSuffix(strings.TrimPrefix(server, "["), "]"); net.ParseIP(ip) != nil {
		return net.JoinHostPort(ip, DefaultPort), nil
	}
	host, port, err := net.SplitHostPort(server)
	switch {
	case err != nil && !strings.Contains(server, ":"):
		host, port = server, DefaultPort
	case err != nil:
		return wrong("has too many colons, or brackets in the wrong place")
	case port == "":
		port = DefaultPort
	}
	if host == "" {
		return wrong("names no host")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return wrong(fmt.Sprintf("the port %q is none", port))
	}
	return net.JoinHostPort(host, port), nil
}

// otherServer says what answers at an address where gRPC is not spoken, or another service than the admin API: a
// server has several ports. It is "" when the message of an error does not tell.
func otherServer(message string) string {
	switch {
	case strings.Contains(message, "HTTP/1.1 header"), strings.Contains(message, "reading server preface"),
		strings.Contains(message, "unexpected HTTP status code"),
		strings.Contains(message, "malformed header: missing HTTP content-type"),
		strings.Contains(message, "unexpected content-type"):
		return fmt.Sprintf("what answers there speaks HTTP but not gRPC, as the control plane does on the port for REST "+
			"(--http-addr, %s by default): "+
			"--server or GATEWAYCTL_SERVER takes the port for gRPC (--grpc-addr, %s by default)", RESTPort, DefaultPort)
	case strings.Contains(message, "unknown service gateway.admin."):
		return fmt.Sprintf("what answers there speaks gRPC but has no admin API, as the control plane's port for nodes "+
			"(--stream-addr, 9095 by default): "+
			"--server or GATEWAYCTL_SERVER takes the port of the admin API (--grpc-addr, %s by default)", DefaultPort)
	}
	return ""
}

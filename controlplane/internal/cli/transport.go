package cli

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// TLSModes are the values of --tls.
var TLSModes = []string{"auto", "on", "off"}

// transport returns how a server is spoken to. By itself TLS is spoken with all servers but those of this machine: a
// token is not to be read on the way.
func (set Settings) transport(server string) (credentials.TransportCredentials, error) {
	switch set.TLS {
	case "", "auto":
		if set.CACert == "" && !set.Insecure && isLocal(server) {
			return insecure.NewCredentials(), nil
		}
	case "on":
	case "off":
		if set.CACert != "" || set.Insecure {
			return nil, &UsageError{"--tls off: goes with neither --ca-cert nor --insecure"}
		}
		return insecure.NewCredentials(), nil
	default:
		return nil, &UsageError{fmt.Sprintf("--tls %q: has to be %s", set.TLS, strings.Join(TLSModes, ", "))}
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: set.Insecure} //nolint:gosec // only where a user says so
	if set.CACert != "" {
		text, err := os.ReadFile(set.CACert)
		if err != nil {
			return nil, &UsageError{"--ca-cert: " + err.Error()}
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, &UsageError{fmt.Sprintf("--ca-cert: %s has no PEM certificate", set.CACert)}
		}
	}
	return credentials.NewTLS(config), nil
}

// isLocal reports whether a completed address is of this machine.
func isLocal(server string) bool {
	for _, scheme := range []string{"unix:", "unix-abstract:"} {
		if strings.HasPrefix(server, scheme) {
			return true
		}
	}
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"

	"gateway.internal/shared/identity"
)

// checkTLS refuses to send tokens in the clear to other machines, unless that is said.
func (o *options) checkTLS() error {
	if (o.tlsCert == "") != (o.tlsKey == "") {
		return errors.New("--tls-cert and --tls-key go together")
	}
	if o.tlsCert != "" {
		if o.plaintext {
			return errors.New("--plaintext and --tls-cert: one of them")
		}
		return nil
	}
	if o.plaintext {
		return nil
	}
	for _, one := range [][2]string{{"--http-addr", o.httpAddr}, {"--grpc-addr", o.grpcAddr}} {
		if !isLoopback(one[1]) {
			return fmt.Errorf("%s %s: other machines can reach it, and tokens would be sent there in the clear: give "+
				"--tls-cert "+
				"and --tls-key, or --plaintext where something else encrypts", one[0], one[1])
		}
	}
	return nil
}

// isLoopback reports whether only this machine can reach an address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true // listening says what is wrong
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// secure returns how REST is served, and the listener of gRPC, with TLS where there is a certificate.
func (o *options) secure(rest *http.Server, restListener, grpcListener net.Listener, log *slog.Logger) (
	serve func() error, forGRPC net.Listener, err error) {
	if o.tlsCert == "" {
		if !isLoopback(o.httpAddr) || !isLoopback(o.grpcAddr) {
			log.Warn("the admin API is served without TLS at addresses that other machines can reach: something else has to " +
				"encrypt, or tokens can be read on the way")
		}
		return func() error { return rest.Serve(restListener) }, grpcListener, nil
	}
	files, err := identity.NewReloader(identity.Files{Certificate: o.tlsCert, Key: o.tlsKey}, log)
	if err != nil {
		return nil, nil, fmt.Errorf("--tls-cert: %w", err)
	}
	rest.TLSConfig = files.Server("h2", "http/1.1")
	// gRPC speaks TLS at its listener, since it also serves REST in memory.
	grpcListener = tls.NewListener(grpcListener, files.Server("h2"))
	return func() error { return rest.ServeTLS(restListener, "", "") }, grpcListener, nil
}

package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/socket"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// Definition is a service as the configuration has it, with the certificate that its tls names, or nil.
type Definition struct {
	Service     *configv1.Service
	Certificate *configv1.Certificate
}

// transport is what is spoken to a service's endpoints, and how that is secured. It is made when a snapshot is compiled
// and immutable; connections that were opened with another one are not used for new requests.
type transport struct {
	http2 mode
	tls   *tls.Config // nil: none. ServerName is empty where each endpoint has its own.
	// strict refuses responses with faults that could be read in spite of them.
	strict bool

	protocol    string
	settings    *configv1.ServiceTLS
	certificate *configv1.Certificate
}

// mode is whether HTTP/2 is spoken.
type mode uint8

const (
	never     mode = iota
	whenAsked      // by ALPN, where the endpoint chooses it
	always
)

// resumableSessions is how many TLS sessions a service keeps to resume, one for each endpoint, or for all with one
// server_name.
const resumableSessions = 256

// newTransport makes the transport of a service, which is old where nothing about it changed: sessions are resumed
// then.
func newTransport(d Definition, old *transport) (*transport, error) {
	t := &transport{protocol: d.Service.GetProtocol(), strict: d.Service.GetHttp().GetStrict(), settings: d.Service.GetTls(), certificate: d.Certificate}
	if old != nil && old.protocol == t.protocol && old.strict == t.strict && proto.Equal(old.settings, t.settings) &&
		old.certificate.GetCertPem() == t.certificate.GetCertPem() && old.certificate.GetKeyPem() == t.certificate.GetKeyPem() {
		return old, nil
	}
	switch {
	case t.protocol == "h2c" || t.protocol == "grpc" || t.protocol == "grpcs":
		t.http2 = always
	case t.settings.GetHttp2():
		t.http2 = whenAsked
	}
	if !config.UsesTLS(t.protocol) {
		return t, nil
	}
	c := &tls.Config{
		ServerName: t.settings.GetServerName(), MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: t.settings.GetInsecureSkipVerify(), //nolint:gosec // only where the settings say so
		ClientSessionCache: tls.NewLRUClientSessionCache(resumableSessions), NextProtos: []string{"http/1.1"},
	}
	if t.settings.GetMinVersion() == "1.3" {
		c.MinVersion = tls.VersionTLS13
	}
	switch t.http2 {
	case always:
		c.NextProtos = []string{"h2"}
	case whenAsked:
		c.NextProtos = []string{"h2", "http/1.1"}
	}
	if list := t.settings.GetCaPem(); list != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(list)) {
			return nil, fmt.Errorf("tls.ca_pem has no certificate")
		}
	}
	switch id := t.settings.GetCertificateId(); {
	case id != "" && t.certificate == nil:
		return nil, fmt.Errorf("tls.certificate_id: there is no certificate %s", id)
	case id != "":
		own, err := tls.X509KeyPair([]byte(t.certificate.GetCertPem()), []byte(t.certificate.GetKeyPem()))
		if err != nil {
			return nil, fmt.Errorf("tls.certificate_id: %w", err)
		}
		c.Certificates = []tls.Certificate{own}
	}
	t.tls = c
	return t, nil
}

// forHost returns the TLS settings for an endpoint.
func (t *transport) forHost(host string) *tls.Config {
	if t.tls == nil || t.tls.ServerName != "" {
		return t.tls
	}
	c := t.tls.Clone() // the session cache stays shared
	c.ServerName = host
	return c
}

// errTLS is a handshake that failed. What it says to clients carries nothing of the endpoint's.
type errTLS struct {
	answer *fault.Error
	cause  error
}

func (e *errTLS) Error() string { return e.answer.Reason + ": " + e.cause.Error() }

func (e *errTLS) Unwrap() []error { return []error{e.answer, e.cause} }

// secure does the handshake on a new connection, which it closes where that fails.
func secure(ctx context.Context, nc net.Conn, c *tls.Config, http2 mode) (*tls.Conn, error) {
	conn := tls.Client(socket.NewTransport(nc), c)
	err := conn.HandshakeContext(ctx)
	if err == nil && http2 == always && conn.ConnectionState().NegotiatedProtocol != "h2" {
		err = errNoHTTP2
	}
	if err == nil {
		return conn, nil
	}
	_ = nc.Close()
	return nil, handshakeError(err)
}

// choseHTTP2 reports whether an endpoint has chosen HTTP/2 by ALPN.
func choseHTTP2(nc net.Conn) bool {
	conn, ok := nc.(*tls.Conn)
	return ok && conn.ConnectionState().NegotiatedProtocol == "h2"
}

// ErrHandshakeTimeout is of a TLS handshake that was not over when the time to open a connection was.
var ErrHandshakeTimeout = fmt.Errorf("TLS handshake: %w", os.ErrDeadlineExceeded)

var errNoHTTP2 = errors.New("the endpoint did not choose h2 by ALPN")

// handshakeError tells what a certificate or a setting is to blame for from what may happen to any connection.
func handshakeError(err error) error {
	reason := "a TLS connection to the service can't be agreed on"
	var unverified *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return ErrHandshakeTimeout
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("TLS handshake: %w", err)
	case errors.As(err, &unverified):
		reason = "the service's certificate is not valid for it"
	case errors.Is(err, errNoHTTP2):
		reason = "the service does not speak HTTP/2"
	}
	return &errTLS{&fault.Error{Code: fault.UpstreamTLS, Reason: reason}, err}
}

package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"gateway.internal/dataplane/internal/upstream/balance"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

func check1(t *testing.T, target Target) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Limit)
	defer cancel()
	return newProbe()(ctx, target)
}

func TestChecksOverTLSAndHTTP2(t *testing.T) {
	tlsServer := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Proto", r.Proto) }))
	tlsServer.EnableHTTP2 = true
	tlsServer.StartTLS()
	defer tlsServer.Close()
	trusted := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}
	trusted.RootCAs.AddCert(tlsServer.Certificate())

	serve := func(options ...grpc.ServerOption) (string, *health.Server) {
		s, h := grpc.NewServer(options...), health.NewServer()
		healthv1.RegisterHealthServer(s, h)
		h.SetServingStatus("off", healthv1.HealthCheckResponse_NOT_SERVING)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = s.Serve(ln) }()
		t.Cleanup(s.Stop)
		return ln.Addr().String(), h
	}
	plain, _ := serve()
	secured, _ := serve(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: tlsServer.TLS.Certificates})))
	h2 := trusted.Clone()
	h2.NextProtos = []string{"h2"}

	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	unix := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = unix.Serve(ln) }()
	defer unix.Close()

	for _, c := range []struct {
		what, address string
		check         config.HealthCheck
		tls           *tls.Config
		http2         bool
		want          string // part of the error; empty: healthy
	}{
		{"https", tlsServer.Listener.Addr().String(), config.HealthCheck{Type: "http", Path: "/"}, trusted, false, ""},
		{"https, untrusted", tlsServer.Listener.Addr().String(), config.HealthCheck{Type: "http", Path: "/"}, &tls.Config{ServerName: "127.0.0.1"}, false, "unknown authority"},
		{"a TLS handshake", tlsServer.Listener.Addr().String(), config.HealthCheck{Type: "tcp"}, trusted, false, ""},
		{"a TLS handshake that fails", tlsServer.Listener.Addr().String(), config.HealthCheck{Type: "tcp"}, &tls.Config{ServerName: "127.0.0.1"}, false, "unknown authority"},
		{"http/2 over TLS", tlsServer.Listener.Addr().String(), config.HealthCheck{Type: "http", Path: "/"}, h2, true, ""},
		{"grpc", plain, config.HealthCheck{Type: "grpc"}, nil, true, ""},
		{"grpc over TLS", secured, config.HealthCheck{Type: "grpc"}, h2, true, ""},
		{"grpc of a service that is off", plain, config.HealthCheck{Type: "grpc", GRPCService: "off"}, nil, true, "not_serving"},
		{"grpc of a service that is unknown", plain, config.HealthCheck{Type: "grpc", GRPCService: "nobody"}, nil, true, "gRPC status 5"},
		{"grpc of a web server", tlsServer.Listener.Addr().String(), config.HealthCheck{Type: "grpc"}, h2, true, "no grpc-status"},
	} {
		target := at(t, c.address, c.check)
		target.TLS, target.HTTP2 = c.tls, c.http2
		if err := check1(t, target); (err == nil) != (c.want == "") || !strings.Contains(errorText(err), c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	target := Target{Host: "unix:" + path, State: &balance.State{}, Check: config.HealthCheck{Type: "http", Path: "/"}}
	if err := check1(t, target); errorText(err) != "status 404" {
		t.Errorf("over a Unix socket: %v", err)
	}
}

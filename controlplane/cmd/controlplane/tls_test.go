package main

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"gateway.internal/shared/certtest"
)

// TestTokensAreNotSentInTheClear: what other machines can reach has TLS, or its operator has said otherwise.
func TestTokensAreNotSentInTheClear(t *testing.T) {
	for _, c := range []struct {
		name string
		o    options
		want string
	}{
		{"this machine", options{httpAddr: "127.0.0.1:1", grpcAddr: "[::1]:1"}, ""},
		{"its name", options{httpAddr: "localhost:1", grpcAddr: "localhost:1"}, ""},
		{"all addresses", options{httpAddr: ":9080", grpcAddr: "127.0.0.1:1"}, "--http-addr :9080"},
		{"all addresses, said", options{httpAddr: "127.0.0.1:1", grpcAddr: "0.0.0.0:9090"}, "--grpc-addr 0.0.0.0:9090"},
		{"a name", options{httpAddr: "127.0.0.1:1", grpcAddr: "gateway.internal:9090"}, "--grpc-addr gateway.internal:9090"},
		{"meant so", options{httpAddr: ":9080", grpcAddr: ":9090", plaintext: true}, ""},
		{"with TLS", options{httpAddr: ":9080", grpcAddr: ":9090", tlsCert: "a", tlsKey: "b"}, ""},
		{"half of it", options{httpAddr: "127.0.0.1:1", grpcAddr: "127.0.0.1:1", tlsCert: "a"}, "go together"},
		{"both", options{httpAddr: ":1", grpcAddr: ":1", tlsCert: "a", tlsKey: "b", plaintext: true}, "one of them"},
	} {
		err := c.o.checkTLS()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestAdminOverTLS: REST and gRPC are served with the certificate, each by what ALPN agrees on.
func TestAdminOverTLS(t *testing.T) {
	dir := t.TempDir()
	o := options{httpAddr: "127.0.0.1:0", grpcAddr: "127.0.0.1:0", tlsCert: filepath.Join(dir, "c"),
		tlsKey: filepath.Join(dir, "k")}
	listeners, err := listen(o.httpAddr, o.grpcAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer listeners[0].Close()
	defer listeners[1].Close()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	})}
	log := slog.New(slog.DiscardHandler)
	if _, _, err := o.secure(server, listeners[0], listeners[1], log); err == nil || !strings.Contains(err.Error(),
		"--tls-cert") {
		t.Errorf("without files: %v", err)
	}
	own := certtest.For(t, "127.0.0.1")
	own.Write(t, o.tlsCert, o.tlsKey)
	roots := own.Pool()
	serve, secured, err := o.secure(server, listeners[0], listeners[1], log)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	healthv1.RegisterHealthServer(g, health.NewServer())
	var both sync.WaitGroup
	both.Go(func() { _ = serve() })
	both.Go(func() { _ = g.Serve(secured) })
	defer both.Wait()
	defer g.Stop()
	defer server.Close()

	settings := &tls.Config{RootCAs: roots}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	res, err := client.Get("https://" + listeners[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || string(text) != "HTTP/2.0" {
		t.Errorf("REST: %s, %v", text, err)
	}
	conn, err := grpc.NewClient(listeners[1].Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(settings)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Errorf("gRPC: %v", err)
	}
}

package main

import (
	"strings"
	"testing"
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

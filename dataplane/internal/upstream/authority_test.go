package upstream

import (
	"testing"
)

func TestAuthorities(t *testing.T) {
	for _, c := range []struct {
		network, host string
		port          uint32
		want          authorities
	}{
		{"tcp", "a.test", 80, authorities{"a.test", "a.test:80"}},
		{"tcp", "a.test", 443, authorities{"a.test:443", "a.test"}},
		{"tcp", "10.0.0.1", 8080, authorities{"10.0.0.1:8080", "10.0.0.1:8080"}},
		{"tcp", "::1", 443, authorities{"[::1]:443", "[::1]"}},
		{"unix", "unix:/run/a.sock", 0, authorities{"localhost", "localhost"}},
	} {
		if got := authoritiesOf(&Endpoint{network: c.network, Host: c.host, Port: c.port}); got != c.want {
			t.Errorf("%s %d: %+v", c.host, c.port, got)
		}
	}
}

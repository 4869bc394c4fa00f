package cli

import (
	"strings"
	"testing"
)

func TestServerAddress(t *testing.T) {
	for _, c := range []struct{ server, want, err string }{
		{"127.0.0.1:9090", "127.0.0.1:9090", ""},
		{"127.0.0.1", "127.0.0.1:9090", ""},
		{"control.test", "control.test:9090", ""},
		{"control.test:", "control.test:9090", ""},
		{"control.test:19090", "control.test:19090", ""},
		{"::1", "[::1]:9090", ""},
		{"[::1]", "[::1]:9090", ""},
		{"[::1]:7", "[::1]:7", ""},
		{"2001:db8::1", "[2001:db8::1]:9090", ""},
		{"dns:///control.test:9090", "dns:///control.test:9090", ""},
		{"unix:/run/gateway.sock", "unix:/run/gateway.sock", ""},
		{"http://127.0.0.1:9080", "", "is a URL, as for REST"},
		{"https://control.test", "", "is a URL, as for REST"},
		{"grpc://control.test", "", "is a URL"},
		{"127.0.0.1:9080/api/v1", "", "what no host name has"},
		{"", "", "names no host"},
		{":9090", "", "names no host"},
		{"a:b:c", "", "too many colons"},
		{"control.test:http", "", `the port "http" is none`},
		{"control.test:0", "", `the port "0" is none`},
		{"control.test:65536", "", `the port "65536" is none`},
	} {
		got, err := ServerAddress(c.server)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %q, %v; want %q, %q", c.server, got, err, c.want, c.err)
		}
	}
}

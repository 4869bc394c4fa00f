package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestTunnels has curl take a node for a proxy, which it is only to where its routes lead.
func TestTunnels(t *testing.T) {
	f := newFront(t, map[string]any{
		"services": []any{map[string]any{"name": "echo", "endpoints": []any{map[string]any{"host": "127.0.0.1", "port": echo(t)}}}},
		"routes": []any{
			map[string]any{"name": "tunnels", "path": "/*", "methods": []string{"CONNECT"}, "hosts": []string{"shop.example"}, "service_id": "echo", "policy_id": "tunnels"},
			map[string]any{"name": "all", "path": "/*", "service_id": "echo"},
		},
		"policies": []any{map[string]any{"name": "tunnels", "upgrades": []string{"connect"}}},
	})
	for _, c := range []struct {
		name, proxy, target string
		want                []string
		fails               bool
	}{
		{"without TLS", f.http(), "http://shop.example/echo/x", []string{"HTTP/1.1 200 OK", `"Path":"/echo/x","Host":"shop.example","Protocol":"","Client":"","Via":"HTTP/1.1","Bytes":262144`}, false},
		{"with TLS", f.https(), "http://shop.example:8000/echo/x", []string{"HTTP/1.1 200 OK", `"Host":"shop.example:8000"`}, false},
		{"to another host", f.http(), "http://other.example/echo/x", []string{"HTTP/1.1 501 Not Implemented"}, true},
		// It is the service's endpoint that is at the other end, not what curl has asked for.
		{"to the node itself", f.http(), strings.Replace(f.http(), "localhost", "shop.example", 1) + "/healthz", []string{`"Path":"/healthz"`}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, err := run(t, "curl", "-sS", "-i", "--noproxy", "", "--max-time", "30", "--proxy-cacert", f.dir+"/ca.pem", "--proxytunnel", "--proxy", c.proxy,
				"-H", "Expect:", "--data-binary", fmt.Sprintf("@%s/large", f.dir), c.target)
			if (err != nil) != c.fails {
				t.Fatalf("curl: %v\n%s", err, out)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
		})
	}
}

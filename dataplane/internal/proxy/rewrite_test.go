package proxy

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestRewritePrefixAndBack(t *testing.T) {
	service := newMixedServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen", fmt.Sprintf("%s host=%s prefix=%q", r.URL.Path, r.Host, r.Header.Values("X-Forwarded-Prefix")))
		w.Header().Set("Location", "http://"+r.Host+"/login?next=/")
		w.Header().Add("Set-Cookie", "a=b; Path=/")
		w.WriteHeader(302)
	})
	routes := `
routes:
  - {name: strip, path: /shop/*, service_id: s, rewrite: {prefix: /, reverse: true}}
  - {name: keep, path: /kept/*, service_id: s, rewrite: {prefix: /}}
  - {name: move, path: /moved/*, service_id: s, rewrite: {prefix: /v2}}
  - {name: part, path: /outer/api/*, service_id: s, rewrite: {prefix: /api}}
  - {name: named, path: /named/*, service_id: s, pipeline_id: p, rewrite: {prefix: /, host: inner.test, reverse: true}}
middleware:
  - {name: m, type: headers, config: {request: {set: {X-Forwarded-Prefix: /mine}}}}
pipelines:
  - {name: p, middleware_ids: [m]}
`
	services, _, _ := strings.Cut(speaking("http", service, ""), "routes:")
	for _, protocol := range []string{"http", "h2c"} {
		config := strings.Replace(services, "protocol: http", "protocol: "+protocol, 1) + routes
		for _, c := range []struct {
			trusted               bool
			path, seen, to, crumb string
		}{
			{false, "/shop/a", `/a host=HOST prefix=["/shop"]`, "http://HOST/shop/login?next=/", "a=b; Path=/shop"},
			{false, "/kept/a", `/a host=HOST prefix=["/kept"]`, "http://HOST/login?next=/", "a=b; Path=/"},
			{true, "/shop", `/ host=HOST prefix=["/outer/shop"]`, "http://HOST/shop/login?next=/", "a=b; Path=/shop"},
			{false, "/moved/a", `/v2/a host=HOST prefix=[]`, "http://HOST/login?next=/", "a=b; Path=/"},
			{false, "/outer/api/a", `/api/a host=HOST prefix=["/outer"]`, "http://HOST/login?next=/", "a=b; Path=/"},
			{false, "/named/a", `/a host=inner.test prefix=["/mine"]`, "http://HOST/named/login?next=/", "a=b; Path=/named"},
		} {
			proxies := []string{"10.0.0.1"}
			if c.trusted {
				proxies = []string{"127.0.0.1"}
			}
			g := behind(t, proxies, config)
			res := g.raw("GET "+c.path+" HTTP/1.1\r\nHost: "+g.address+"\r\nX-Forwarded-Prefix: /outer/\r\n\r\n", "GET")[0]
			for name, want := range map[string]string{"X-Seen": c.seen, "Location": c.to, "Set-Cookie": c.crumb} {
				if want = strings.ReplaceAll(want, "HOST", g.address); res.Header.Get(name) != want {
					t.Errorf("%s of %s over %s: %q instead of %q", name, c.path, protocol, res.Header.Get(name), want)
				}
			}
		}
	}
}

// The endpoint's own host is that of the endpoint which is asked, also where another one was tried before.
func TestRewriteHostOfEndpoint(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := ln.Addr().String()
	_ = ln.Close()
	service := newMixedServer(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Seen", r.Host) })
	for _, protocol := range []string{"http", "h2c"} {
		var endpoints []string
		for _, address := range []string{dead, service} {
			host, port, _ := net.SplitHostPort(address)
			endpoints = append(endpoints, fmt.Sprintf("{host: %s, port: %s}", host, port))
		}
		g := start(t, fmt.Sprintf("services: [{name: s, protocol: %s, endpoints: [%s]}]\n", protocol, strings.Join(endpoints, ", "))+`
routes:
  - {name: own, path: /*, service_id: s, rewrite: {host: endpoint}}
  - {name: real, path: /real, service_id: s, rewrite: {host: "endpoint:80"}}
`)
		for range 4 { // the two take turns at being asked first
			if seen := g.raw("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET")[0].Header.Get("X-Seen"); seen != service {
				t.Errorf("over %s the service was asked for %q", protocol, seen)
			}
		}
		if seen := g.raw("GET /real HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET")[0].Header.Get("X-Seen"); seen != "endpoint:80" {
			t.Errorf("over %s the service was asked for %q", protocol, seen)
		}
	}
}

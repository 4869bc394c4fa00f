package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/listener"
	"gateway.internal/shared/pathnorm"
)

// TestRedirects sends requests to routes of which the later ones are for what the redirects do not take.
func TestRedirects(t *testing.T) {
	ca := newAuthority(t)
	cert, key, _ := ca.issue("a.test")
	g := startNode(t, codec.DefaultLimits(), pathnorm.DefaultSettings(), `
routes:
  - {name: rest, path: /*, direct_response: {body: rest}}
  - {name: to-https, path: /tls/*, redirect: {scheme: https, status: 308}}
  - {name: after, path: /tls/*, direct_response: {body: secure}}
  - {name: explicit, path: /only-http/*, schemes: [http], redirect: {scheme: https, status: 301}}
  - {name: to-port, path: /port/*, redirect: {scheme: https, port: 8443}}
  - {name: own-port, path: /own/*, redirect: {scheme: https, port: 443}}
  - {name: same-port, path: /host/*, redirect: {host: b.test, status: 307}}
  - {name: host-port, path: /hostport/*, redirect: {host: "b.test:81", status: 303}}
  - {name: host-own, path: /host-own/*, redirect: {host: c.test, port: 80}}
  - {name: host-tls, path: /host-tls/*, redirect: {host: c.test, scheme: https}}
  - {name: here, path: /here/*, redirect: {path: /here/x}}
  - {name: swapped, path: "/swap/{a}/{b}", redirect: {path: "/swap/{b}/{a}"}}
  - {name: strip, path: /strip, redirect: {strip_query: true}}
`+"certificates:\n"+certificateOf("a", cert, key, "    default: true\n"), func(set *listener.Settings) {
		set.Proxies, _ = exchange.ParseProxies([]string{"127.0.0.1"})
	})
	for _, c := range []struct {
		tls                    bool
		target, host, fields   string
		status                 int
		location, body, method string
	}{
		{false, "/tls/a?b=c", "a.test:8080", "", 308, "https://a.test/tls/a?b=c", "", ""},
		{false, "/tls/a", "[::1]:8080", "", 308, "https://[::1]/tls/a", "", ""},
		{true, "/tls/a", "a.test:8443", "", 200, "", "secure", ""},
		{false, "/tls/a", "a.test", "X-Forwarded-Proto: https\r\n", 200, "", "secure", ""},
		{true, "/tls/a", "a.test", "X-Forwarded-Proto: http\r\n", 308, "https://a.test/tls/a", "", ""},
		{false, "/only-http/a", "a.test", "", 301, "https://a.test/only-http/a", "", ""},
		{true, "/only-http/a", "a.test", "", 200, "", "rest", ""},
		{false, "/port/a", "a.test", "", 302, "https://a.test:8443/port/a", "", ""},
		{true, "/port/a", "a.test", "", 302, "https://a.test:8443/port/a", "", ""},
		{true, "/port/a", "A.test:8443", "", 200, "", "rest", ""},
		{false, "/own/a", "a.test:80", "", 302, "https://a.test/own/a", "", ""},
		{true, "/own/a", "a.test:443", "", 200, "", "rest", ""},
		{false, "/host/a", "a.test:8080", "", 307, "http://b.test:8080/host/a", "", ""},
		{false, "/host/a", "a.test:80", "", 307, "http://b.test/host/a", "", ""},
		{true, "/host/a", "a.test:8443", "", 307, "https://b.test:8443/host/a", "", ""},
		{false, "/host/a", "b.test:8080", "", 200, "", "rest", ""},
		{false, "/host-own/a", "a.test:8080", "", 302, "http://c.test/host-own/a", "", ""},
		{false, "/host-tls/a", "a.test:8080", "", 302, "https://c.test/host-tls/a", "", ""},
		{false, "/host/a", "B.test:80", "", 200, "", "rest", ""},
		{false, "/host/a", "B.test.", "", 200, "", "rest", ""},
		{false, "/hostport/a", "b.test", "", 303, "http://b.test:81/hostport/a", "", ""},
		{false, "/hostport/a", "b.test:81", "", 200, "", "rest", ""},
		{false, "/here/y", "a.test", "", 302, "http://a.test/here/x", "", ""},
		{false, "/here/x", "a.test", "", 200, "", "rest", ""},
		{false, "/swap/1/2", "a.test", "", 302, "http://a.test/swap/2/1", "", ""},
		{false, "/swap/1/1", "a.test", "", 508, "", "LOOP_DETECTED", ""},
		{false, "/strip?a=b", "a.test", "", 302, "http://a.test/strip", "", ""},
		{false, "/strip", "a.test", "", 200, "", "rest", ""},
		{false, "/tls/a", "", "", 400, "", "names no host", ""},
		{false, "/host/a", "", "", 307, "http://b.test/host/a", "", ""},
		{false, "/here/y?q", "", "", 302, "/here/x?q", "", ""},
	} {
		request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", c.target, c.host, c.fields)
		if c.host == "" {
			request = fmt.Sprintf("GET %s HTTP/1.0\r\n\r\n", c.target)
		}
		var res *http.Response
		if c.tls {
			conn, err := tls.Dial("tcp", g.secure.Addr().String(), &tls.Config{ServerName: "a.test", InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, request)
			if res, err = http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
				t.Fatal(err)
			}
		} else {
			res = g.raw(request, "GET")[0]
		}
		if text := body(t, res); res.StatusCode != c.status || res.Header.Get("Location") != c.location || !strings.Contains(text, c.body) {
			t.Errorf("%q, over TLS: %v: %d %q %s; want %d %q %s", request, c.tls, res.StatusCode, res.Header.Get("Location"), text, c.status, c.location, c.body)
		}
	}
}

func TestPortsOfRoutes(t *testing.T) {
	g := start(t, "routes: [{name: rest, path: /*, direct_response: {body: rest}}]")
	_, port, _ := strings.Cut(g.address, ":")
	g.apply("routes: [{name: rest, path: /*, direct_response: {body: rest}}, {name: here, path: /*, ports: [1, " + port + "], direct_response: {body: here}}, {name: other, path: /other, ports: [1], direct_response: {}}]")
	for target, want := range map[string]string{"/": "here", "/other": "here"} {
		if got := body(t, g.raw("GET "+target+" HTTP/1.1\r\nHost: a.test:1\r\n\r\n", "GET")[0]); got != want {
			t.Errorf("%s at port %s: %s, want %s", target, port, got, want)
		}
	}
}

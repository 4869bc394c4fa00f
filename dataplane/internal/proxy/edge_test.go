package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/listener"
	"gateway.internal/shared/pathnorm"
	"gateway.internal/shared/waittest"
)

// behind starts a node that believes what proxies say.
func behind(t *testing.T, proxies []string, config string, edits ...func(*listener.Settings)) *gateway {
	t.Helper()
	trusted, err := exchange.ParseProxies(proxies)
	if err != nil {
		t.Fatal(err)
	}
	edits = append([]func(*listener.Settings){func(set *listener.Settings) {
		set.Proxies, set.HeaderTimeout = trusted, 5*time.Second
	}}, edits...)
	return startNode(t, codec.DefaultLimits(), pathnorm.DefaultSettings(), config, edits...)
}

func TestPROXYProtocolBeforeTLS(t *testing.T) {
	ca := newAuthority(t)
	certPEM, keyPEM, _ := ca.issue("a.test")
	g := behind(t, []string{"127.0.0.1"}, to(showing(t), "")+"certificates:\n"+certificateOf("a", certPEM, keyPEM, "    hosts: [a.test]\n"),
		func(set *listener.Settings) { set.ProxyProtocol = listener.ProxyProtocolRequire })
	for _, protocol := range []string{"http/1.1", "h2"} {
		transport := &http.Transport{
			ForceAttemptHTTP2: protocol == "h2",
			TLSClientConfig:   &tls.Config{RootCAs: ca.Pool(), ServerName: "a.test", NextProtos: []string{protocol}},
			Dial: func(network, _ string) (net.Conn, error) {
				c, err := net.Dial(network, g.secure.Addr().String())
				if err == nil {
					_, err = io.WriteString(c, "PROXY TCP4 192.0.2.7 10.0.0.1 56789 443\r\n")
				}
				return c, err
			},
		}
		res, err := (&http.Client{Transport: transport, Timeout: waittest.Limit}).Get("https://a.test/")
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		transport.CloseIdleConnections()
		if !strings.Contains(string(text), "X-Forwarded-For: 192.0.2.7\r\n") || (res.ProtoMajor == 2) != (protocol == "h2") {
			t.Errorf("%s: %s\n%s", protocol, res.Proto, text)
		}
	}
}

func TestPROXYProtocolTogetherWithTheRequest(t *testing.T) {
	g := behind(t, []string{"127.0.0.1"}, to(showing(t), ""), func(set *listener.Settings) { set.ProxyProtocol = listener.ProxyProtocolAccept })
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(waittest.Deadline())
	request := "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	_, _ = io.WriteString(c, "PROXY TCP6 2001:db8::7 2001:db8::1 56789 443\r\n"+request+request)
	r := bufio.NewReader(c)
	for range 2 {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if text := body(t, res); !strings.Contains(text, "X-Forwarded-For: 2001:db8::7\r\n") {
			t.Error(text)
		}
	}
}

// clientOf returns a client of the node that speaks one version of HTTP, without TLS.
func (g *gateway) clientOf(version string) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(version == "http/1.1")
	transport.Protocols.SetUnencryptedHTTP2(version == "h2c")
	g.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: waittest.Limit}
}

func TestOriginOfRequests(t *testing.T) {
	rules := "---\nmiddleware: [{name: r, type: ip_restriction, config: {deny: [192.0.2.66]}}]\npipelines: [{name: g, global: true, middleware_ids: [r]}]\n"
	believing := behind(t, []string{"127.0.0.1"}, to(showing(t), "")+rules)
	doubting := behind(t, []string{"10.0.0.1"}, to(showing(t), "")+rules)
	for _, version := range []string{"http/1.1", "h2c"} {
		for _, test := range []struct {
			g                *gateway
			name, value      string
			status           int
			contains, misses string
		}{
			{believing, "X-Forwarded-For", "6.6.6.6, 192.0.2.7", 200, "X-Forwarded-For: 192.0.2.7, 127.0.0.1\r\n", "6.6.6.6"},
			{believing, "X-Forwarded-For", "192.0.2.66", 403, "", ""},
			{believing, "X-Forwarded-Proto", "https", 200, "X-Forwarded-Proto: https\r\n", ""},
			{believing, "Forwarded", "for=6.6.6.6", 200, "X-Forwarded-For: 127.0.0.1\r\n", "6.6.6.6"},
			{doubting, "X-Forwarded-For", "192.0.2.66", 200, "X-Forwarded-For: 127.0.0.1\r\n", "192.0.2.66"},
			{doubting, "X-Forwarded-Proto", "https", 200, "X-Forwarded-Proto: http\r\n", "https"},
			{doubting, "X-Forwarded-Host", "evil.test", 200, "X-Forwarded-Host: " + doubting.address + "\r\n", "evil.test"},
			{doubting, "X-Real-Ip", "6.6.6.6", 200, "X-Forwarded-For: 127.0.0.1\r\n", "6.6.6.6"},
			{doubting, "Forwarded", "for=6.6.6.6", 200, "X-Forwarded-For: 127.0.0.1\r\n", "6.6.6.6"},
			{doubting, "X_Forwarded_For", "6.6.6.6", 400, "BAD_REQUEST", ""},
			{doubting, "X-Forwarded_Proto", "https", 400, "BAD_REQUEST", ""},
		} {
			req, err := http.NewRequest("GET", "http://"+test.g.address+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(test.name, test.value)
			res, err := test.g.clientOf(version).Do(req)
			if err != nil {
				t.Fatalf("%s, %s: %s: %v", version, test.name, test.value, err)
			}
			text := body(t, res)
			if res.StatusCode != test.status || !strings.Contains(text, test.contains) || test.misses != "" && strings.Contains(text, test.misses) {
				t.Errorf("%s, %s: %s: %d\n%s", version, test.name, test.value, res.StatusCode, text)
			}
		}
	}
}

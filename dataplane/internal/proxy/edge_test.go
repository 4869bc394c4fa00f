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

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/listener"
	"gateway.internal/dataplane/internal/target"
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
	return startNode(t, http1.DefaultLimits(), target.DefaultSettings(), config, edits...)
}

func TestPROXYProtocolBeforeTLS(t *testing.T) {
	ca := newAuthority(t)
	certPEM, keyPEM, _ := ca.issue("a.test")
	g := behind(t, []string{"127.0.0.1"}, to(showing(t), "")+"certificates:\n"+certificateOf("a", certPEM, keyPEM, "    hosts: [a.test]\n"),
		func(set *listener.Settings) { set.ProxyProtocol = listener.ProxyProtocolRequire })
	for _, protocol := range []string{"http/1.1", "h2"} {
		transport := &http.Transport{
			ForceAttemptHTTP2: protocol == "h2",
			TLSClientConfig:   &tls.Config{RootCAs: ca.pool(), ServerName: "a.test", NextProtos: []string{protocol}},
			Dial: func(network, _ string) (net.Conn, error) {
				c, err := net.Dial(network, g.secure.Addr().String())
				if err == nil {
					_, err = io.WriteString(c, "PROXY TCP4 192.0.2.7 10.0.0.1 56789 443\r\n")
				}
				return c, err
			},
		}
		res, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Get("https://a.test/")
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
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
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

package listener

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/waittest"
)

func proxies(t *testing.T, list ...string) *exchange.Proxies {
	t.Helper()
	p, err := exchange.ParseProxies(list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	text4  = "PROXY TCP4 192.0.2.7 10.0.0.1 56789 443\r\n"
	local2 = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

func TestPROXYProtocol(t *testing.T) {
	for _, test := range []struct {
		mode             ProxyProtocol
		from, sent, want string // want empty: it is reset
	}{
		{ProxyProtocolOff, "127.0.0.2", "hello\n", `127.0.0.2 http "hello\n"`},
		{ProxyProtocolOff, "127.0.0.2", text4, `127.0.0.2 http "PROXY TCP4 192.0.2.7 10.0.0.1 56789 443\r\n"`},
		{ProxyProtocolAccept, "127.0.0.2", text4 + "hello\n", `192.0.2.7 http "hello\n"`},
		{ProxyProtocolAccept, "127.0.0.2", local2 + "hello\n", `127.0.0.2 http "hello\n"`},
		{ProxyProtocolAccept, "127.0.0.2", "hello\n", ""},
		{ProxyProtocolAccept, "127.0.0.1", text4, `127.0.0.1 http "PROXY TCP4 192.0.2.7 10.0.0.1 56789 443\r\n"`},
		{ProxyProtocolRequire, "127.0.0.2", text4 + "hello\n", `192.0.2.7 http "hello\n"`},
		{ProxyProtocolRequire, "127.0.0.2", "hello\n", ""},
		{ProxyProtocolRequire, "127.0.0.1", text4 + "hello\n", ""},
	} {
		t.Run(test.mode.String()+" from "+test.from+" "+strings.TrimSpace(test.sent), func(t *testing.T) {
			r := run(t, "127.0.0.1:0", Settings{Proxies: proxies(t, "127.0.0.2"), ProxyProtocol: test.mode, HeaderTimeout: waittest.Limit})
			got, err := r.ask(test.from, test.sent)
			if got != test.want {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
			if test.want != "" {
				return
			}
			if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("%v, not a reset", err)
			}
			waittest.Until(t, "the count", func() bool { return r.metric("gateway_connections_refused_total", "proxy_protocol") == 1 })
			waittest.Until(t, "the log line", func() bool { return strings.Contains(r.log.String(), "connection refused") })
			waittest.Until(t, "the end", func() bool { return r.metric("gateway_active_connections", "") == 0 })
		})
	}
}

func TestPROXYHeaderThatDoesNotCome(t *testing.T) {
	r := run(t, "127.0.0.1:0", Settings{Proxies: proxies(t, "127.0.0.0/8"), ProxyProtocol: ProxyProtocolAccept, HeaderTimeout: 20 * time.Millisecond})
	if got, err := r.ask("", ""); got != "" || !errors.Is(err, syscall.ECONNRESET) { // perhaps before the client knows that it is connected
		t.Errorf("%q, %v", got, err)
	}
}

func TestBalancerThatOnlyLooksIsNotRefused(t *testing.T) {
	r := run(t, "127.0.0.1:0", Settings{Proxies: proxies(t, "127.0.0.0/8"), ProxyProtocol: ProxyProtocolRequire, HeaderTimeout: waittest.Limit})
	c := r.from("")
	waittest.Until(t, "the connection", func() bool { return r.metric("gateway_active_connections", "") == 1 })
	_ = c.Close()
	waittest.Until(t, "its end", func() bool { return r.metric("gateway_active_connections", "") == 0 })
	if n := r.metric("gateway_connections_refused_total", "proxy_protocol"); n != 0 || r.log.String() != "" {
		t.Errorf("%v counted; log: %s", n, r.log)
	}
}

func TestRefusalsAreLoggedNowAndThen(t *testing.T) {
	r := run(t, "127.0.0.1:0", Settings{Proxies: proxies(t, "127.0.0.0/8"), ProxyProtocol: ProxyProtocolRequire, HeaderTimeout: waittest.Limit})
	for range 5 {
		_, _ = r.ask("", "hello\n")
	}
	waittest.Until(t, "the count", func() bool { return r.metric("gateway_connections_refused_total", "proxy_protocol") == 5 })
	if n := strings.Count(r.log.String(), "connection refused"); n != 1 {
		t.Errorf("%d lines:\n%s", n, r.log)
	}
}

func TestDrainCutsThoseThatHaveNotSaidWhoTheyAre(t *testing.T) {
	r := run(t, "127.0.0.1:0", Settings{Proxies: proxies(t, "127.0.0.0/8"), ProxyProtocol: ProxyProtocolAccept, HeaderTimeout: time.Hour})
	c := r.from("")
	waittest.Until(t, "the connection", func() bool { return r.metric("gateway_active_connections", "") == 1 })
	now := make(chan struct{})
	close(now)
	Drain(now, r.Listener)
	if _, err := io.ReadAll(c); err == nil || errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("the connection was not cut: %v", err)
	}
}

func TestProxyProtocolFlag(t *testing.T) {
	var p ProxyProtocol
	for _, name := range proxyProtocolNames {
		if err := p.Set(name); err != nil || p.String() != name {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if err := p.Set("on"); err == nil {
		t.Error("any word will do")
	}
}

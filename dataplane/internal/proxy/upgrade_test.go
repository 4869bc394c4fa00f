package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/waittest"
)

// switching answers as a WebSocket server.
func switching(c net.Conn, req *http.Request) {
	_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", exchange.WebSocketAccept(req.Header.Get("Sec-WebSocket-Key")))
}

const (
	sampleKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	upgradeLines = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + sampleKey + "\r\n"
)

// upgraded opens an upgraded connection and reads the head of the answer; more goes out together with the request.
func (g *gateway) upgraded(more string) (*net.TCPConn, *bufio.Reader) {
	g.t.Helper()
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	_ = c.SetDeadline(waittest.Deadline())
	if _, err := io.WriteString(c, "GET /x HTTP/1.1\r\nHost: a\r\n"+upgradeLines+"\r\n"+more); err != nil {
		g.t.Fatal(err)
	}
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || res.Header.Get("Upgrade") != "websocket" {
		g.t.Fatalf("%+v, %v", res, err)
	}
	return c.(*net.TCPConn), r
}

// Each side's end is passed on while the other one goes on, and bytes that come with the heads are not lost.
func TestUpgradeHalfClose(t *testing.T) {
	got := make(chan string, 1)
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\nfirst ", exchange.WebSocketAccept(req.Header.Get("Sec-WebSocket-Key")))
		_, _ = c.Write(b.Bytes())
		all, _ := io.ReadAll(r)
		got <- fmt.Sprintf("%s %s %s", req.Header.Get("Connection"), req.Header.Get("Upgrade"), all)
		_, _ = io.WriteString(c, "last")
	})
	buffers := socket.InUse.Load()
	g := startWith(t, codec.DefaultLimits(), to(service, ", timeout: 1s"))
	c, r := g.upgraded("early ")
	begun := time.Now()
	defer func() { _ = c.Close() }()
	// The policy's timeout ends with the head.
	waittest.Until(t, "the connection was upgraded", func() bool { return g.counters.Upgrades().Active() == 1 })
	if part := make([]byte, 6); true {
		if _, err := io.ReadFull(r, part); err != nil || string(part) != "first " {
			t.Errorf("%q, %v", part, err)
		}
	}
	waittest.Until(t, "an idle tunnel holds no buffers, and the policy's time is over", func() bool {
		return socket.InUse.Load() <= buffers+waiting && time.Since(begun) > time.Second
	})
	_, _ = io.WriteString(c, "late")
	_ = c.CloseWrite()
	if s := <-got; s != "Upgrade websocket early late" {
		t.Errorf("the service got %q", s)
	}
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "last" {
		t.Errorf("the client got %q, %v", rest, err)
	}
	g.none(buffers)
}

// Whatever is odd about an upgrade is either ignored, and the request goes on without it, or refused.
func TestUpgradeRefused(t *testing.T) {
	seen := make(chan string, 10)
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			seen <- fmt.Sprintf("%s %s upgrade=%s connection=%s body=%s", req.Method, req.URL.Path, req.Header.Get("Upgrade"), req.Header.Get("Connection"), body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	g := start(t, to(service, ""))
	const key = "Sec-WebSocket-Key: " + sampleKey + "\r\n"
	for name, c := range map[string]struct{ request, seen string }{
		"not allowed":       {"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: spdy/3\r\n\r\n", "GET /a upgrade= connection= body="},
		"h2c":               {"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n", "GET /a upgrade= connection= body="},
		"second of a list":  {"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c, websocket\r\n" + key + "\r\n", "GET /a upgrade=websocket connection=Upgrade body="},
		"two fields":        {"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n" + key + "\r\n", "GET /a upgrade= connection= body="},
		"not in Connection": {"GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n" + key + "\r\n", "GET /a upgrade= connection= body="},
		"HTTP/1.0":          {"GET /a HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" + key + "\r\n", "GET /a upgrade= connection= body="},
		"with a body":       {"GET /a HTTP/1.1\r\nHost: a\r\n" + upgradeLines + "Content-Length: 3\r\n\r\nabc", "GET /a upgrade= connection= body=abc"},
		"in chunks":         {"GET /a HTTP/1.1\r\nHost: a\r\n" + upgradeLines + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "GET /a upgrade= connection= body="},
		"POST":              {"POST /a HTTP/1.1\r\nHost: a\r\n" + upgradeLines + "Content-Length: 0\r\n\r\n", "POST /a upgrade= connection= body="},
		"not agreed to":     {"GET /a HTTP/1.1\r\nHost: a\r\n" + upgradeLines + "\r\n", "GET /a upgrade=websocket connection=Upgrade body="},
	} {
		t.Run(name, func(t *testing.T) {
			// What follows a refused upgrade is a request, and nothing of it passes unread.
			all := g.raw(c.request+"GET /next HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "GET")
			if all[0].StatusCode != 200 || all[1].StatusCode != 200 {
				t.Errorf("%d and %d", all[0].StatusCode, all[1].StatusCode)
			}
			if first, second := <-seen, <-seen; first != c.seen || second != "GET /next upgrade= connection= body=" {
				t.Errorf("the service saw %q and %q", first, second)
			}
		})
	}
	for name, keys := range map[string]string{"no key": "", "two keys": key + key, "a short key": "Sec-WebSocket-Key: YQ==\r\n"} {
		if res := g.raw("GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+keys+"\r\n", "GET")[0]; res.StatusCode != 400 {
			t.Errorf("%s: %d", name, res.StatusCode)
		}
	}
}

// Frameworks send the length of a body that 101 can't have. There is nothing else that it could mean.
func TestHarmlessSwitch(t *testing.T) {
	var answer string
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if readRequest(r) {
			_, _ = io.WriteString(c, answer)
		}
	})
	lenient, strict := start(t, to(service, "")), start(t, strictly(to(service, "")))
	const right = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	for _, lines := range []string{
		"Content-Length: 0\r\n", "Content-Length: 0\r\nContent-Length: 0\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
	} {
		answer = "HTTP/1.1 101 Switching Protocols\r\n" + lines + right + "\r\n" + "0\r\n\r\n"
		request := "GET /a HTTP/1.1\r\nHost: a\r\n" + upgradeLines + "\r\n"
		if res := strict.raw(request, "GET")[0]; res.StatusCode != 502 {
			t.Errorf("%q from a strict service: %d", lines, res.StatusCode)
		}
		c, err := net.Dial("tcp", lenient.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(waittest.Deadline())
		_, _ = io.WriteString(c, request)
		r := bufio.NewReader(c)
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != 101 || res.Header.Get("Content-Length") != "" || res.TransferEncoding != nil {
			t.Fatalf("%q: %+v, %v", lines, res, err) // after which nothing ends the connection
		}
		rest, err := io.ReadAll(r)
		_ = c.Close()
		if err != nil || string(rest) != "0\r\n\r\n" {
			t.Errorf("%q: %v, %q", lines, err, rest)
		}
	}
}

func TestHostileSwitch(t *testing.T) {
	var answer string
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if readRequest(r) {
			_, _ = io.WriteString(c, answer)
		}
	})
	buffers := socket.InUse.Load()
	g := start(t, to(service, ", upgrades: [websocket, other]"))
	const right = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	for name, lines := range map[string]string{
		"another protocol":   "Connection: Upgrade\r\nUpgrade: other\r\n" + right,
		"a list":             "Connection: Upgrade\r\nUpgrade: websocket, other\r\n" + right,
		"two fields":         "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n" + right,
		"no Upgrade":         "Connection: Upgrade\r\n" + right,
		"no Connection":      "Upgrade: websocket\r\n" + right,
		"a length":           "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n" + right,
		"a coding":           "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: gzip\r\n" + right,
		"another key's word": "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n",
		"no word":            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
	} {
		answer = "HTTP/1.1 101 Switching Protocols\r\n" + lines + "\r\nabc"
		res := g.raw("GET /a HTTP/1.1\r\nHost: a\r\n"+upgradeLines+"\r\n", "GET")[0]
		if text := body(t, res); res.StatusCode != 502 || !strings.Contains(text, "UPSTREAM_INVALID_RESPONSE") {
			t.Errorf("%s: %d %s", name, res.StatusCode, text)
		}
	}
	answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + right + "\r\n"
	if res := g.raw("GET /a HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]; res.StatusCode != 502 {
		t.Errorf("unasked: %d", res.StatusCode)
	}
	g.none(buffers)
}

// A tunnel in which nothing goes in either direction is cut, and one with traffic in one direction is not.
func TestUpgradeIdle(t *testing.T) {
	const idle = time.Second // much longer than this process may rest
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		switching(c, req)
		tick := time.NewTicker(idle / 10)
		defer tick.Stop()
		for range 20 {
			<-tick.C
			if _, err := io.WriteString(c, "x"); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, r)
	})
	g := startWith(t, codec.DefaultLimits(), to(service, ", stream_idle_timeout: 1s"))
	c, r := g.upgraded("")
	defer func() { _ = c.Close() }()
	begun := time.Now()
	got, err := io.ReadAll(r)
	if len(got) != 20 || err == nil {
		t.Errorf("got %q, %v", got, err)
	}
	if took := time.Since(begun); took < 3*idle {
		t.Errorf("it was cut after %s", took)
	}
	g.none(1 << 20)
	g.logs(`"code":"UPSTREAM_TIMEOUT"`)
}

// Upgraded connections go on while the node drains, until it is out of patience.
func TestUpgradeDrain(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(echoMessages))
	defer plain.Close()
	g := startWith(t, codec.DefaultLimits(), to(plain.Listener.Addr().String(), ""))
	c := dialWebSocket(t, "ws://"+g.address, nil)
	waittest.Until(t, "the connection was upgraded", func() bool { return g.counters.Upgrades().Active() == 1 })
	cut, drained := g.drain()
	g.apply("routes: []\n") // changes do not touch it either
	if err := c.Write(t.Context(), websocket.MessageText, []byte("still here")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(t.Context()); err != nil || string(got) != "still here" {
		t.Errorf("%q, %v", got, err)
	}
	cut()
	if _, _, err := c.Read(t.Context()); err == nil {
		t.Error("it goes on for ever")
	}
	waittest.Receive(t, "the node is drained", drained)
	g.none(1 << 20)
}

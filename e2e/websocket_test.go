package e2e

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// echoUpgraded is a service that goes over to WebSocket and sends back what comes.
func echoUpgraded(t *testing.T) (port int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
		_, _ = io.Copy(c, rw)
	})}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close() })
	return ln.Addr().(*net.TCPAddr).Port
}

// TestUpgradedConnections outlive changes of the configuration and the beginning of a node's end, but not that end
// itself.
func TestUpgradedConnections(t *testing.T) {
	g := newGateway(t)
	n := g.node("n1", "--drain-timeout", "2s")
	g.must(fmt.Sprintf("services: [{name: s, endpoints: [{host: 127.0.0.1, port: %d}]}]\nroutes: [{name: ws, path: /ws, service_id: s}]\n", echoUpgraded(t)), "apply", "-f", "-")
	n.runs(1)
	c, err := net.Dial("tcp", n.http)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(waittest.Deadline())
	_, _ = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%+v, %v", res, err)
	}
	echoes := func(when string) {
		t.Helper()
		_, _ = io.WriteString(c, when+"\n")
		if line, err := r.ReadString('\n'); err != nil || line != when+"\n" {
			t.Fatalf("%s: %q, %v", when, line, err)
		}
	}
	echoes("at first")
	waittest.UntilNil(t, "the gauge", func() error {
		if _, text := get(t, "http://"+n.status+"/metrics"); !strings.Contains(text, "gateway_active_upgrades 1") {
			return fmt.Errorf("it is not 1")
		}
		return nil
	})
	g.must("", "disable", "route", "ws")
	n.runs(2)
	echoes("after the route is gone")
	ended := make(chan int)
	go func() { ended <- n.terminate() }()
	waittest.UntilNil(t, "draining", func() error {
		if !strings.Contains(n.logs(), "draining") {
			return fmt.Errorf("it does not drain")
		}
		return nil
	})
	echoes("while the node drains")
	if _, err := r.ReadByte(); err == nil {
		t.Error("something came")
	}
	if code := <-ended; code != 0 {
		t.Errorf("the node ended with %d", code)
	}
	if !strings.Contains(n.logs(), "upgraded=1") {
		t.Errorf("it logged %s", n.logs())
	}
}

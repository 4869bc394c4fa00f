package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

func TestDrain(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	answer := sync.OnceFunc(func() { close(release) })
	defer answer()
	limits := codec.DefaultLimits()
	limits.LastRequestTimeout = waittest.Limit
	g := startWith(t, limits, to(scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if readRequest(r) {
			close(arrived)
			<-release
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}), ""))
	// refused sends a request that the node answers itself, and reports whether the connection goes on.
	refused := func(c *client) (goesOn bool) {
		c.send("GET /../ HTTP/1.1\r\nHost: a\r\n\r\n")
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		return !res.Close
	}
	idle, probe, fresh, busy := g.client(), g.client(), g.client(), g.client()
	if !refused(idle) {
		t.Fatal("the connection ends before it has to")
	}
	busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	waittest.Receive(t, "the request under way is at the service", arrived)
	_, drained := g.drain()
	waittest.Until(t, "connections end with a request", func() bool { return !refused(probe) })
	if refused(idle) {
		t.Error("an idle connection goes on after its last request")
	}
	if refused(fresh) {
		t.Error("a connection goes on after its first request")
	}
	select {
	case <-drained:
		t.Error("drained while an exchange is under way")
	default:
	}
	answer()
	res, err := http.ReadResponse(busy.r, nil)
	if err != nil || body(t, res) != "ok" || !res.Close {
		t.Errorf("the exchange under way: %v, %v", res, err)
	}
	waittest.Receive(t, "the node is drained", drained)
}

// A connection that brings nothing does not keep a node that drains for longer than its last request may take.
func TestDrainEndsSilentConnections(t *testing.T) {
	limits := codec.DefaultLimits()
	limits.LastRequestTimeout = 10 * time.Millisecond
	g := startWith(t, limits, to(echo(t), ""))
	fresh, idle := g.client(), g.client()
	if got := idle.get("/"); got != "200 GET /" {
		t.Fatal(got)
	}
	_, drained := g.drain()
	waittest.Receive(t, "the node is drained", drained)
	for name, c := range map[string]*client{"fresh": fresh, "idle": idle} {
		if _, err := c.r.ReadByte(); err != io.EOF {
			t.Errorf("the connection that is %s: %v", name, err)
		}
	}
}

package http1

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/codec"
)

// TestLeave has connections that wait in a goroutine, parked and not at all yet: after Leave each is good for one more
// response, which says so.
func TestLeave(t *testing.T) {
	n := newParking(t, codec.DefaultLimits(), nil)
	type client struct {
		net.Conn
		*bufio.Reader
	}
	dial := func() client { c, r := n.dial(); return client{c, r} }
	resting, silent := dial(), dial()
	n.ask(resting.Conn, resting.Reader, 1)
	n.await(2)
	n.server.Leave()
	clients := map[string]client{"parked": resting, "has not asked yet": silent, "comes later": dial()}
	for name, c := range clients {
		_, _ = io.WriteString(c.Conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		res, err := http.ReadResponse(c.Reader, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		if !res.Close {
			t.Errorf("%s: the response does not say that the connection ends", name)
		}
		_ = c.Conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Reader.ReadByte(); err != io.EOF {
			t.Errorf("%s: %v instead of the connection's end", name, err)
		}
	}
}

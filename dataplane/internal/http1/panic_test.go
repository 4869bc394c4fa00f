package http1

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/waittest"
)

// defective is a handler that breaks connections from within, and is told of what comes of it.
type defective struct {
	breaks func(c *conn, x *exchange.Exchange)
	told   chan string
}

func (h *defective) Serve(x *exchange.Exchange) {
	if !x.Response.Local {
		x.Answer(200, "text/plain", []byte("hello"))
	}
	_ = x.Down.WriteHead(x, x.Response.Body, true)
	if x.Request.Path == "/break" {
		h.breaks(x.Down.(*conn), x)
	}
}

func (h *defective) Start(x *exchange.Exchange, _ codec.LoopConn) bool {
	h.Serve(x)
	return true
}

func (h *defective) Panicked(what, _ string, v any) { h.told <- fmt.Sprint(what, ": ", v) }

// TestPanicsOfTheCodec has connections panic where no exchange is under way: each ends, with 500 where a request has
// come, and is told of once.
func TestPanicsOfTheCodec(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(c *conn, x *exchange.Exchange)
		next   string // what the next request gets; "": the connection has ended
	}{
		"while a head is read": {func(c *conn, _ *exchange.Exchange) { c.peer = nil }, "500"},
		"after the response":   {func(c *conn, _ *exchange.Exchange) { c.req.x = nil }, ""},
	} {
		for _, in := range []string{"goroutine", "loop"} {
			t.Run(name+" in a "+in, func(t *testing.T) {
				h := &defective{breaks: c.breaks, told: make(chan string, 9)}
				s := NewServer(codec.DefaultLimits(), h)
				if in == "loop" {
					loops := socket.NewLoops(1)
					if loops == nil {
						t.Skip("there are no loops on this system")
					}
					defer loops.Close()
					s.ServeIn(loops, 0)
				}
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				client, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				_ = client.SetDeadline(waittest.Deadline())
				nc, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				var ends atomic.Int32
				ended := make(chan struct{})
				go s.Serve(socket.New(nc), exchange.NewPeer(nc.RemoteAddr()), func() {
					if ends.Add(1) == 1 {
						close(ended)
					}
				})
				r := bufio.NewReader(client)
				for _, path := range []string{"/", "/break"} {
					if got := askOver(client, r, path); got != "200" {
						t.Fatalf("%s: %s", path, got)
					}
				}
				if c.next != "" {
					if got := askOver(client, r, "/next"); got != c.next {
						t.Errorf("the next request got %s, want %s", got, c.next)
					}
				}
				if b, err := io.ReadAll(r); len(b) > 0 || err != nil {
					t.Errorf("then came %q, %v", b, err)
				}
				_ = client.Close()
				waittest.Receive(t, "the end of the connection", ended)
				if told := waittest.Receive(t, "what has panicked", h.told); !strings.Contains(told, "nil pointer") {
					t.Errorf("told of %s", told)
				}
				if n := s.Active(); n != 0 || ends.Load() != 1 || len(h.told) != 0 {
					t.Errorf("%d connections are left, %d ends, %d more panics", n, ends.Load(), len(h.told))
				}
			})
		}
	}
}

// askOver asks for a path and returns the status.
func askOver(c net.Conn, r *bufio.Reader, path string) string {
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		return err.Error()
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return err.Error()
	}
	_, _ = io.Copy(io.Discard, res.Body)
	return fmt.Sprint(res.StatusCode)
}

// What panics as a response is received in a loop is the exchange's, which is told when it looks for the response.
func TestPanicAsAResponseIsReceived(t *testing.T) {
	c := &ClientConn{} // without a socket
	if !c.Receive() {
		t.Fatal("nobody is told that something has come")
	}
	defer func() {
		if v := recover(); !strings.Contains(fmt.Sprint(v), "Receive") {
			t.Errorf("it panics with %v", v)
		}
	}()
	_, _, _ = c.Collect(&exchange.Exchange{})
}

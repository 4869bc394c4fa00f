package http1

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/certtest"
	"gateway.internal/shared/waittest"
)

// parking is a server that parks connections as soon as they are idle.
type parking struct {
	t         *testing.T
	server    *Server
	idleConns *socket.IdleConns
	address   string
	ended     sync.WaitGroup
	secure    *tls.Config
}

func newParking(t *testing.T, limits codec.Limits, secure *tls.Config) *parking {
	t.Helper()
	n := &parking{t: t, server: NewServer(limits, answering("hello")), idleConns: socket.NewIdleConns(), secure: secure}
	if n.idleConns == nil {
		t.Skip("connections can't be parked on this system")
	}
	n.server.ParkIn(n.idleConns)
	n.server.parkAfter = time.Millisecond
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.address = ln.Addr().String()
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			n.ended.Add(1)
			go n.serve(nc)
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		accepting.Wait()
		n.server.Cut()
		n.ended.Wait()
		n.idleConns.Close()
		if buffers := socket.InUse.Load(); buffers != 0 {
			t.Errorf("%d buffers are in use", buffers)
		}
	})
	return n
}

func (n *parking) serve(nc net.Conn) {
	peer := exchange.NewPeer(nc.RemoteAddr())
	if n.secure != nil {
		secured := tls.Server(socket.NewTransport(nc), n.secure)
		if err := secured.Handshake(); err != nil {
			_ = secured.Close()
			n.ended.Done()
			return
		}
		nc = secured
	}
	n.server.Serve(socket.New(nc), peer, n.ended.Done)
}

func (n *parking) dial() (net.Conn, *bufio.Reader) {
	n.t.Helper()
	c, err := net.Dial("tcp", n.address)
	if err != nil {
		n.t.Fatal(err)
	}
	if n.secure != nil {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	n.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(waittest.Deadline())
	return c, bufio.NewReader(c)
}

func (n *parking) ask(c net.Conn, r *bufio.Reader, requests int) {
	n.t.Helper()
	if _, err := io.WriteString(c, strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n", requests)); err != nil {
		n.t.Fatal(err)
	}
	for range requests {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			n.t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); err != nil || string(b) != "hello" {
			n.t.Fatalf("%q, %v", b, err)
		}
	}
}

// await waits until a number of connections rest.
func (n *parking) await(parked int) {
	n.t.Helper()
	isParked := func() (int, bool) { return n.idleConns.Len(), n.idleConns.Len() == parked }
	n.until(isParked, fmt.Sprintf("%d connections are parked", parked))
}

// until waits until something holds; the number says how far it is.
func (n *parking) until(holds func() (int, bool), what string) {
	n.t.Helper()
	waittest.UntilNil(n.t, what, func() error {
		if have, ok := holds(); !ok {
			return fmt.Errorf("%d", have)
		}
		return nil
	})
}

func TestConnectionsRest(t *testing.T) {
	for _, secure := range []*tls.Config{nil, {Certificates: []tls.Certificate{certtest.For(t, "a").TLS()}}} {
		n := newParking(t, codec.DefaultLimits(), secure)
		before := runtime.NumGoroutine()
		c, r := n.dial()
		if secure == nil {
			n.await(1) // one that has not said anything yet rests too
		}
		for requests := 1; requests < 4; requests++ {
			n.ask(c, r, requests)
			n.await(1)
		}
		n.until(func() (int, bool) { now := runtime.NumGoroutine(); return now, now <= before }, "no more goroutines than before")
		if n.server.Active() != 1 {
			t.Errorf("%d connections are open", n.server.Active())
		}
		_ = c.Close()
		n.await(0)
		n.ended.Wait()
	}
}

func TestPartOfARequestWakes(t *testing.T) {
	n := newParking(t, codec.DefaultLimits(), nil)
	c, r := n.dial()
	n.await(1)
	if _, err := io.WriteString(c, "GET / HT"); err != nil {
		t.Fatal(err)
	}
	n.await(0)
	if _, err := io.WriteString(c, "TP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := http.ReadResponse(r, nil); err != nil {
		t.Fatal(err)
	}
}

func TestRestEndsWithTheIdleTimeout(t *testing.T) {
	limits := codec.DefaultLimits()
	limits.IdleTimeout = 100 * time.Millisecond
	n := newParking(t, limits, nil)
	c, r := n.dial()
	n.ask(c, r, 1)
	if _, err := r.ReadByte(); err != io.EOF {
		t.Error(err)
	}
	n.until(func() (int, bool) { open := n.server.Active(); return open, open == 0 }, "no connection is open")
}

func TestDrainAndCutReachThoseThatRest(t *testing.T) {
	for name, end := range map[string]func(*Server){"drain": (*Server).Drain, "cut": (*Server).Cut} {
		n := newParking(t, codec.DefaultLimits(), nil)
		for range 10 {
			c, r := n.dial()
			n.ask(c, r, 1)
		}
		n.await(10)
		end(n.server)
		n.ended.Wait()
		if n.server.Active() != 0 {
			t.Errorf("%s: %d connections are open", name, n.server.Active())
		}
	}
}

func TestRestsAndRequestsCross(t *testing.T) {
	n := newParking(t, codec.DefaultLimits(), nil)
	var clients sync.WaitGroup
	for range 8 {
		c, r := n.dial()
		clients.Go(func() {
			for i := range 200 {
				n.ask(c, r, 1)
				if i%10 == 0 {
					<-time.After(time.Millisecond) // about when it is going to rest
				}
			}
		})
	}
	clients.Wait()
}

package listener

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"gateway.internal/dataplane/internal/certificate"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/waittest"
)

// faulty is a server whose first connection panics, before or after it has been counted out.
type faulty struct {
	teller
	after  bool
	served atomic.Uint32
}

func (s *faulty) Serve(sock *socket.Conn, peer *exchange.Peer, ended func()) {
	if s.served.Add(1) > 1 {
		s.teller.Serve(sock, peer, ended)
		return
	}
	if s.after {
		ended()
	}
	panic("in a test")
}

// anonymous is a connection whose address can't be asked for.
type anonymous struct{ net.Conn }

func (anonymous) RemoteAddr() net.Addr { panic("in a test") }

// TestPanicsEndConnections sees that what panics before a server looks after a connection ends that one alone, is
// counted and logged once, and that the connection is counted out.
func TestPanicsEndConnections(t *testing.T) {
	newFaulty := func(after bool) Servers {
		return Servers{HTTP1: &faulty{teller: teller{conns: map[*socket.Conn]bool{}}, after: after}}
	}
	broken := &Security{HandshakeTimeout: waittest.Limit, Certificates: func() *certificate.Set { panic("in a test") }}
	for name, set := range map[string]Settings{
		"the server":              {Servers: newFaulty(false)},
		"the server, after ended": {Servers: newFaulty(true)},
		"the choice of TLS":       {Security: broken},
		"the client's address":    {},
	} {
		t.Run(name, func(t *testing.T) {
			set.Limit = NewLimit(1, 1)
			r := run(t, "127.0.0.1:0", set)
			switch {
			case set.Security != nil:
				c, err := net.Dial("tcp", r.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				_ = c.SetDeadline(waittest.Deadline())
				if err := tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
					t.Error("the handshake has succeeded")
				}
				_ = c.Close()
			case set.Servers.HTTP1 != nil:
				c := r.from("127.0.0.1")
				if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
					t.Error(err)
				}
			default:
				near, far := net.Pipe()
				r.set.Counters.Connections(1)
				r.wg.Add(1)
				r.begin(anonymous{near})
				_ = far.SetDeadline(waittest.Deadline())
				if _, err := far.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("the connection is not closed: %v", err)
				}
			}
			waittest.Until(t, "the connection is counted out", func() bool {
				return r.set.Limit.open.Load() == 0 && r.metric("gateway_active_connections", "") == 0
			})
			if n := r.metric("gateway_panics_total", ""); n != 1 {
				t.Errorf("%v panics are counted", n)
			}
			if n := strings.Count(r.log.String(), "panicked"); n != 1 {
				t.Errorf("%d panics are logged: %s", n, r.log.String())
			}
			if set.Security != nil {
				return
			}
			if got, err := r.ask("127.0.0.1", "hello\n"); err != nil || !strings.Contains(got, "hello") {
				t.Errorf("the next connection: %q, %v", got, err)
			}
		})
	}
}

package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/pathnorm"
	"gateway.internal/shared/waittest"
)

// tunnelBreaker is a step whose tunnels panic in one direction.
type tunnelBreaker struct {
	up    bool // from the client to the service
	ended chan *pipeline.Outcome
}

func (b *tunnelBreaker) Request(x *exchange.Exchange) exchange.Verdict {
	if x.Request.Upgrade != "" {
		x.Down = &breakingDown{x.Down, b.up}
	}
	return exchange.Continue
}

func (b *tunnelBreaker) Response(*exchange.Exchange) {}

func (b *tunnelBreaker) End(x *exchange.Exchange, o *pipeline.Outcome) {
	if x.Response.Tunnel {
		b.ended <- o
	}
}

type breakingDown struct {
	exchange.Downstream
	up bool
}

func (d *breakingDown) Tunnel(x *exchange.Exchange) (exchange.Tunnel, error) {
	t, err := d.Downstream.Tunnel(x)
	return &breakingTunnel{t, d.up}, err
}

type breakingTunnel struct {
	exchange.Tunnel
	up bool
}

func (t *breakingTunnel) Receive(within time.Duration) ([]byte, error) {
	if t.up {
		panic("in a test")
	}
	return t.Tunnel.Receive(within)
}

func (t *breakingTunnel) Send(part []byte, within time.Duration) error {
	if !t.up {
		panic("in a test")
	}
	return t.Tunnel.Send(part, within)
}

// TestPanicsInTunnels breaks one direction of a tunnel while the other one waits: both end, and what they were made of
// is not touched any more.
func TestPanicsInTunnels(t *testing.T) {
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		switching(c, req)
		if _, err := io.ReadFull(r, make([]byte, len("hello"))); err == nil {
			_, _ = io.WriteString(c, "hi")
		}
		_, _ = io.Copy(io.Discard, r)
	})
	for _, up := range []bool{false, true} {
		b := &tunnelBreaker{up: up, ended: make(chan *pipeline.Outcome, 9)}
		g := startThrough(t, b, codec.DefaultLimits(), pathnorm.DefaultSettings(), HeaderSettings{}, to(service, ""))
		c, r := g.upgraded("hello")
		_ = c.SetDeadline(waittest.Deadline())
		if all, err := io.ReadAll(r); len(all) > 0 {
			t.Errorf("up %v: the client got %q, %v", up, all, err)
		}
		_ = c.Close()
		if o := waittest.Receive(t, "the end", b.ended); o.Code != fault.Internal {
			t.Errorf("up %v: the outcome is %+v", up, o)
		}
		if n := g.panics(); n != 1 {
			t.Errorf("up %v: %v panics were counted", up, n)
		}
		waittest.Until(t, "the endpoint has no exchanges", func() bool {
			return g.services.Get(g.serviceID()).Pick(nil, nil).State.InFlight() == 0
		})
		if n := g.counters.Upgrades().Active(); n != 0 {
			t.Errorf("up %v: %d tunnels are counted still", up, n)
		}
	}
}

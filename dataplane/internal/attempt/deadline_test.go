package attempt

import (
	"errors"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// staying is a client that has not gone and takes everything.
type staying struct{ exchange.Downstream }

func (staying) Gone() bool                                       { return false }
func (staying) Abort()                                           {}
func (staying) WriteBody(*exchange.Exchange, []byte, bool) error { return nil }

// A gRPC service resets the stream itself when the deadline that it was told is over. Where that comes before the timer
// of the node has run off, the deadline is still the reason.
func TestReset(t *testing.T) {
	reset := errors.New("the stream was reset")
	for _, c := range []struct {
		name string
		rpc  exchange.RPC
		left time.Duration // until the deadline; 0: there is none
		want fault.Code
	}{
		{"after a call's deadline", exchange.GRPC, -time.Millisecond, fault.UpstreamTimeout},
		{"after the deadline of a call from a browser", exchange.GRPCWeb, -time.Millisecond, fault.UpstreamTimeout},
		{"before a call's deadline", exchange.GRPC, time.Hour, fault.UpstreamUnavailable},
		{"of a call without a deadline", exchange.GRPC, 0, fault.UpstreamUnavailable},
		{"of a request whose service knows no deadline", exchange.NoRPC, -time.Millisecond, fault.UpstreamUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := &exchange.Exchange{}
			x.Down, x.RPC = staying{}, c.rpc
			a := Attempts{Exchange: x}
			if c.left != 0 {
				x.Deadline = time.Now().Add(c.left)
			}
			a.fail(reset)
			if got := x.Response.Code; got != c.want {
				t.Errorf("before the response: %s instead of %s", got, c.want)
			}
			x.Response.ContentLength = -1
			a.breakOff(reset, 0)
			if got := x.Response.Code; got != c.want {
				t.Errorf("within the response: %s instead of %s", got, c.want)
			}
		})
	}
}

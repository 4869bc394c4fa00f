package attempt

import (
	"os"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/shared/fault"
)

// refusing is a connection to a service whose upload the client's fault has broken off, but that is not over before it
// is waited for.
type refusing struct {
	upstream.Conn
	upload *upload
}

func (r refusing) Abort() { close(r.upload.done) }

// ending is a client whose upload ends.
type ending struct{ staying }

func (ending) CancelBody()                                      {}
func (ending) WriteHead(*exchange.Exchange, []byte, bool) error { return nil }

// A call whose request is refused is broken off by its upload, which is perhaps not over yet when the response ends
// with that: the reason is still the request.
func TestReasonOfARefusedCall(t *testing.T) {
	for _, begun := range []bool{false, true} {
		u := &upload{done: make(chan struct{}), err: &fault.Error{Code: fault.RequestTooLarge}}
		u.state.Store(answered)
		x := &exchange.Exchange{}
		x.Down = ending{}
		x.RPC = exchange.GRPC
		a := Attempts{Exchange: x, Attempt: Attempt{x: x, Conn: refusing{upload: u}, upload: u}}
		if begun {
			a.form = exchange.GRPC
			a.breakOff(os.ErrDeadlineExceeded, 0)
		} else {
			a.response = Part{taken: true, Err: os.ErrDeadlineExceeded}
			a.Stream()
		}
		if got := x.Response.Code; got != fault.RequestTooLarge {
			t.Errorf("the head was sent: %v: %s, want %s", begun, got, fault.RequestTooLarge)
		}
	}
}

package stream

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// sendTimeout is how long a node has to take a chunk, or a smaller message.
const sendTimeout = 30 * time.Second

var errSlow = status.Errorf(codes.DeadlineExceeded, "the node has not taken what it was sent within %s", sendTimeout)

// delivery is an update in chunks.
type delivery []encoded

// with returns the delivery with one more message.
func (d delivery) with(m *streamv1.StreamResponse) (delivery, error) {
	raw, err := encode(m)
	return append(d, raw), err
}

// sendStream is what of a gRPC stream is used to send.
type sendStream interface {
	SendMsg(m any) error
}

// send sends what comes until out is closed or ctx, the stream's, ends. Why it ended earlier goes to failed, which has
// room for one. A node that does not take anything holds nobody else up: what waits for it is shared by all. A SendMsg
// that such a node does not let come to its end returns when ctx has ended, so that nobody waits for this.
func send(ctx context.Context, to sendStream, out <-chan delivery, timeout time.Duration, failed chan error) {
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	for d := range out {
		for _, m := range d {
			if ctx.Err() != nil {
				return
			}
			late := time.AfterFunc(timeout, func() { fail(errSlow) })
			err := to.SendMsg(m)
			late.Stop()
			if err != nil {
				fail(err)
				return
			}
		}
	}
}

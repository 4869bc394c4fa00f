package stream

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

const (
	// maxFull bounds how many chunks of full snapshots are on their way at once, so that a fleet that reconnects does
	// not ask for all of the memory.
	maxFull = 16
	// slotTime is how long a chunk counts as one that is on its way. A node that does not take it by then makes room for
	// others.
	slotTime = time.Second
	// sendTimeout is how long a node has to take a chunk, or a smaller message.
	sendTimeout = 30 * time.Second
)

var errSlow = status.Errorf(codes.DeadlineExceeded, "the node has not taken what it was sent within %s", sendTimeout)

// delivery is an update in chunks.
type delivery struct {
	chunks []*streamv1.StreamResponse
	full   bool // a full snapshot, or all endpoints
}

// sending is what all streams have in common.
type sending struct {
	slots                 chan struct{}
	slotTime, sendTimeout time.Duration
}

func newSending() sending {
	return sending{slots: make(chan struct{}, maxFull), slotTime: slotTime, sendTimeout: sendTimeout}
}

type sendStream interface {
	Send(*streamv1.StreamResponse) error
}

// send sends what comes until out is closed or ctx, the stream's, ends. Why it ended earlier goes to failed, which
// has room for one. A Send that a node does not let come to its end returns when ctx has ended, so that nobody waits
// for this.
func (s *sending) send(ctx context.Context, to sendStream, out <-chan delivery, failed chan error) {
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	for d := range out {
		for _, m := range d.chunks {
			free := func() {}
			if d.full {
				select {
				case s.slots <- struct{}{}:
				case <-ctx.Done():
					return
				}
				free = sync.OnceFunc(func() { <-s.slots })
			}
			waiting := time.AfterFunc(s.slotTime, free)
			late := time.AfterFunc(s.sendTimeout, func() { fail(errSlow) })
			err := to.Send(m)
			waiting.Stop()
			late.Stop()
			free()
			if err != nil {
				fail(err)
				return
			}
		}
	}
}

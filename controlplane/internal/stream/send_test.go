package stream

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gateway.internal/controlplane/internal/catalog"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// stuck is a node that takes nothing.
type stuck struct{ ctx context.Context }

func (s stuck) Send(*streamv1.StreamResponse) error {
	<-s.ctx.Done()
	return s.ctx.Err()
}

// taken tells what it is sent.
type taken chan *streamv1.StreamResponse

func (s taken) Send(m *streamv1.StreamResponse) error {
	s <- m
	return nil
}

func TestNodesThatTakeNothingHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSending()
		begun := time.Now()
		whole := delivery{[]*streamv1.StreamResponse{{}, {}, {}}, true}
		start := func(ctx context.Context, to sendStream, d delivery) (failed chan error) {
			out := make(chan delivery, 1)
			out <- d
			close(out)
			failed = make(chan error, 1)
			go s.send(ctx, to, out, failed)
			synctest.Wait() // they take their turn as they come
			return failed
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var failures []chan error
		for range 2 * maxFull {
			failures = append(failures, start(ctx, stuck{ctx}, whole))
		}
		fresh := make(taken)
		start(ctx, fresh, whole)
		for range 3 {
			<-fresh
		}
		if took := time.Since(begun); took != 2*slotTime {
			t.Errorf("a fresh node waited %s for all others", took)
		}
		small := start(ctx, stuck{ctx}, delivery{[]*streamv1.StreamResponse{{}}, false})
		for i, failed := range append(failures, small) {
			err := <-failed
			if took := time.Since(begun); err != errSlow || took < sendTimeout || took > sendTimeout+2*slotTime {
				t.Errorf("node %d was given up after %s: %v", i, took, err)
			}
		}
		if len(s.slots) != 0 {
			t.Errorf("%d slots are taken", len(s.slots))
		}
	})
}

// TestSilentNodes is the same over connections: a fresh node does not wait for those that do not read, and they are
// ended.
func TestSilentNodes(t *testing.T) {
	connected := func(p *plane) (n int) {
		for _, v := range p.fleet.Nodes() {
			if v.GetConnected() {
				n++
			}
		}
		return n
	}
	begin := func(t *testing.T, sendTimeout time.Duration) (p *plane, v *catalog.Version, silent []*node) {
		p = newPlane(t)
		p.server.sending.slotTime, p.server.sending.sendTimeout = time.Millisecond, sendTimeout
		var edits []config.Edit
		for i := range 64 {
			edit := route(fmt.Sprint("r", i))
			edit.Put.(*configv1.Route).DirectResponse.Body = strings.Repeat("x", 50<<10)
			edits = append(edits, edit)
		}
		v = p.commit(edits...)
		for i := range maxFull + 1 {
			n := &node{t: t, id: fmt.Sprint("silent", i)}
			n.connect(p, token)
			t.Cleanup(n.close)
			silent = append(silent, n)
		}
		waittest.UntilNil(t, "the streams of those that do not read", func() error {
			if n := len(p.fleet.Nodes()); n != len(silent) {
				return fmt.Errorf("%d of %d", n, len(silent))
			}
			return nil
		})
		return p, v, silent
	}
	t.Run("a fresh one does not wait", func(t *testing.T) {
		p, v, silent := begin(t, waittest.Limit)
		fresh := &node{t: t, id: "fresh"}
		fresh.connect(p, token)
		t.Cleanup(fresh.close)
		fresh.follow(v.Revision)
		if n := connected(p); n != len(silent)+1 {
			t.Errorf("%d of those that do not read have gone before", len(silent)+1-n)
		}
	})
	t.Run("they are ended", func(t *testing.T) {
		p, _, silent := begin(t, 100*time.Millisecond)
		waittest.UntilNil(t, "the end of those that do not read", func() error {
			if n := connected(p); n > 0 {
				return fmt.Errorf("%d are connected", n)
			}
			return nil
		})
		for _, n := range silent {
			var err error
			for err == nil {
				_, err = n.stream.Recv()
			}
			if status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("%s was ended with %v", n.id, err)
			}
		}
	})
}

// TestNodeThatAnswersTooEarly can't make its stream wait for itself.
func TestNodeThatAnswersTooEarly(t *testing.T) {
	n := &nodeStream{out: make(chan delivery, 2)}
	for range 2 {
		if err := n.deliver(delivery{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.deliver(delivery{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
}

func TestHelloHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, begun := &Server{}, time.Now()
		if _, err := s.hello(t.Context(), nil, nil); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begun); took != helloTimeout {
			t.Errorf("it took %s", took)
		}
	})
}

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
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// stuck is a node that takes nothing.
type stuck struct{ ctx context.Context }

func (s stuck) SendMsg(any) error {
	<-s.ctx.Done()
	return s.ctx.Err()
}

// taken tells what it is sent.
type taken chan any

func (s taken) SendMsg(m any) error {
	s <- m
	return nil
}

func TestNodesThatTakeNothingHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		whole := delivery{{}, {}, {}}
		start := func(ctx context.Context, to sendStream, d delivery) (failed chan error) {
			out := make(chan delivery, 1)
			out <- d
			close(out)
			failed = make(chan error, 1)
			go send(ctx, to, out, sendTimeout, failed)
			synctest.Wait() // they take their turn as they come
			return failed
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var failures []chan error
		for range 200 {
			failures = append(failures, start(ctx, stuck{ctx}, whole))
		}
		fresh := make(taken)
		start(ctx, fresh, whole)
		for range 3 {
			<-fresh
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("a fresh node waited %s for all others", took)
		}
		for i, failed := range failures {
			if err := <-failed; err != errSlow || time.Since(begun) != sendTimeout {
				t.Errorf("node %d was given up after %s: %v", i, time.Since(begun), err)
			}
		}
	})
}

// TestSnapshotsAreShared: what waits for a node is no copy of its own, on the way through gRPC's codec too.
func TestSnapshotsAreShared(t *testing.T) {
	p := newPlane(t)
	v := p.commit(route("a"))
	one, err := p.server.made().between(nil, v, nil, false, false)
	if err != nil {
		t.Fatal(err)
	}
	other, err := p.server.made().between(nil, v, nil, false, false)
	if err != nil || &one[0][0] != &other[0][0] {
		t.Errorf("a snapshot was made twice; %v", err)
	}
	sent, err := newCodec().Marshal(one[0])
	if err != nil || len(sent) != 1 || &sent[0].ReadOnlyData()[0] != &one[0][0] {
		t.Errorf("the codec has copied it; %v", err)
	}
}

// TestSilentNodes is the same over connections: a fresh node does not wait for those that do not read, and they are
// ended.
func TestSilentNodes(t *testing.T) {
	const silentNodes = 50
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
		p.server.sendTimeout = sendTimeout
		var edits []config.Edit
		for i := range 64 {
			edit := route(fmt.Sprint("r", i))
			edit.Put.(*configv1.Route).DirectResponse.Body = strings.Repeat("x", 50<<10)
			edits = append(edits, edit)
		}
		v = p.commit(edits...)
		for i := range silentNodes {
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
		if err := n.deliver(nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.deliver(nil); status.Code(err) != codes.InvalidArgument {
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

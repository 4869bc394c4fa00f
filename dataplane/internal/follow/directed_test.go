package follow

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// directed remembers what it is told.
type directed struct {
	nodeDouble

	told []string
}

func (d *directed) Direct(m *streamv1.Directive) {
	d.told = append(d.told, fmt.Sprint(m.GetFleetSize().GetNodes(), " nodes"))
}

func (d *directed) Undirected() { d.told = append(d.told, "lost") }

// TestDirected: a node is told what comes on a stream, and when that has ended, in this order.
func TestDirected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := follower(t, t.TempDir())
		defer f.Close()
		to := &directed{}
		f.node = to
		for _, nodes := range []uint32{7, 9} {
			p := &pipe{up: make(chan *streamv1.StreamRequest, 10), down: make(chan *streamv1.StreamResponse),
				end: make(chan error)}
			f.dial = func(ctx context.Context, _ string) (stream, func(error) error, func(), error) {
				p.ctx = ctx
				return p, func(err error) error { return err }, func() {}, nil
			}
			done := make(chan error)
			go func() { done <- f.follow(t.Context(), "cp") }()
			p.down <- &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Directive{Directive: &streamv1.Directive{
				Action: &streamv1.Directive_FleetSize{FleetSize: &streamv1.FleetSize{Nodes: nodes}}}}}
			synctest.Wait() // a message may be overtaken by the end
			p.end <- io.EOF
			<-done
		}
		if got := fmt.Sprint(to.told); got != "[7 nodes lost 9 nodes lost]" {
			t.Errorf("told %s", got)
		}
	})
}

package follow

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

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

// TestManyDirectivesAreOneReport: a node that is told of many circuits at once tells once what became of them, soon,
// and nothing on account of what is no change by hand.
func TestManyDirectivesAreOneReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := follower(t, t.TempDir())
		defer f.Close()
		f.node = &directed{}
		p := &pipe{up: make(chan *streamv1.StreamRequest, 100), down: make(chan *streamv1.StreamResponse),
			end: make(chan error)}
		f.dial = func(ctx context.Context, _ string) (stream, func(error) error, func(), error) {
			p.ctx = ctx
			return p, func(err error) error { return err }, func() {}, nil
		}
		done := make(chan error)
		go func() { done <- f.follow(t.Context(), "cp") }()
		if (<-p.up).GetHello() == nil {
			t.Error("the first message is no hello")
		}
		tell := func(d *streamv1.Directive) {
			p.down <- &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Directive{Directive: d}}
		}
		tell(&streamv1.Directive{Action: &streamv1.Directive_FleetSize{FleetSize: &streamv1.FleetSize{Nodes: 2}}})
		time.Sleep(reportInterval / 2)
		if n := len(p.up); n != 0 {
			t.Errorf("%d reports after what was not done by hand", n)
		}
		for range 50 {
			tell(&streamv1.Directive{Action: &streamv1.Directive_Circuit{Circuit: &streamv1.CircuitDirective{ServiceId: "s"}}})
		}
		time.Sleep(2 * directedReport)
		if n := len(p.up); n != 1 {
			t.Errorf("%d reports, want one", n)
		}
		p.end <- io.EOF
		<-done
	})
}

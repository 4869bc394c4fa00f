package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/dataplane/internal/join"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

const (
	reportInterval = 2 * time.Second
	// directedReport is how soon a node tells what became of what was done by hand.
	directedReport = 100 * time.Millisecond
)

// stream is an open stream. Send and Recv may be called at the same time, each by one goroutine.
type stream interface {
	Send(*streamv1.StreamRequest) error
	Recv() (*streamv1.StreamResponse, error)
}

// dialer opens a stream that ends with ctx. Its errors are to be explained, and closing it frees the connection.
type dialer func(ctx context.Context, address string) (s stream, explain func(error) error, closing func(), err error)

// dialBy returns a dialer that connects as a node does that has joined.
func dialBy(keeper *join.Keeper) dialer {
	return func(ctx context.Context, address string) (stream, func(error) error, func(), error) {
		conn, err := keeper.Connect(ctx, address)
		if err != nil {
			return nil, nil, nil, err
		}
		s, err := streamv1.NewSnapshotServiceClient(conn).Stream(conn.Outgoing(ctx))
		if err != nil {
			err = conn.Explain(err)
			conn.Close()
			return nil, nil, nil, err
		}
		return s, conn.Explain, conn.Close, nil
	}
}

// follow opens a stream and serves it until it ends.
func (f *Follower) follow(ctx context.Context, address string) error {
	ctx, cancel := context.WithCancel(ctx)
	var receiving sync.WaitGroup
	defer receiving.Wait()
	defer cancel()
	s, explain, closing, err := f.dial(ctx, address)
	if err != nil {
		return err
	}
	defer closing()
	if err := s.Send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Hello{Hello: f.hello()}}); err != nil {
		return explain(receiveError(s, err))
	}
	messages := make(chan *streamv1.StreamResponse)
	ended := make(chan error, 1)
	receiving.Go(func() { ended <- receive(ctx, s, messages) })
	err = f.converse(ctx, address, s, messages, ended)
	if to, ok := f.node.(Directed); ok {
		to.Undirected()
	}
	return explain(err)
}

// hello says what the node runs. Without the hashes, when a full snapshot is wanted: the control plane then takes what
// the node has for unknown, while it still knows which revisions are on the way from there.
func (f *Follower) hello() *streamv1.Hello {
	h := &streamv1.Hello{
		NodeId: f.set.NodeID, InstanceId: f.instance, Group: f.join.Group(), Labels: f.set.Labels, Build: f.set.Build,
		StartedAt: timestamppb.New(f.started),
	}
	h.Host, _ = os.Hostname() // empty where it is not known
	h.Epoch, h.Revision = f.state.epoch, f.state.revision
	h.Degradation, f.told = f.degraded.Load(), f.degraded.Load()
	set := &streamv1.SetState{Kind: config.Consumer.Proto(), Epoch: f.state.consumersOf.epoch,
		Revision: f.state.consumersOf.revision}
	if consumers := f.state.consumers.Hash(); !f.freshSets {
		set.Hash = consumers[:]
	}
	h.Sets = []*streamv1.SetState{set}
	f.building = nil // of another stream
	if !f.fresh {
		hash, known := f.state.config.Hash(), f.state.endpoints.Hash()
		h.Hash, h.EndpointsVersion, h.EndpointsHash = hash[:], f.state.endpointsVersion, known[:]
	}
	return h
}

// receiveError returns what the server says instead of io.EOF, which is all that a failed Send gives when the server
// ended the stream.
func receiveError(s stream, err error) error {
	for errors.Is(err, io.EOF) {
		if _, recvErr := s.Recv(); recvErr != nil {
			return recvErr
		}
	}
	return err
}

// endError is receiveError while receive runs.
func endError(err error, messages <-chan *streamv1.StreamResponse, ended <-chan error) error {
	for errors.Is(err, io.EOF) {
		select {
		case <-messages:
		case err := <-ended:
			return err
		}
	}
	return err
}

// receive hands on whole updates until the stream ends.
func receive(ctx context.Context, s stream, messages chan<- *streamv1.StreamResponse) error {
	var g gather
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		whole, err := g.add(m)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if whole == nil {
			continue
		}
		select {
		case messages <- whole:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// converse answers updates and sends reports.
func (f *Follower) converse(ctx context.Context, address string, s stream, messages <-chan *streamv1.StreamResponse, ended <-chan error) error {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	all := true
	var directed <-chan time.Time
	report := func() error {
		if err := f.report(s, all); err != nil {
			return endError(err, messages, ended)
		}
		all, directed = false, nil
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return err
		case m := <-messages:
			f.works(address)
			if s := m.GetStanding(); s != nil {
				f.stand(s)
				continue
			}
			if d := m.GetDirective(); d != nil {
				if to, ok := f.node.(Directed); ok {
					to.Direct(d)
				}
				// Whoever has asked for it looks at what became of it.
				if (d.GetCircuit() != nil || d.GetLimit() != nil) && directed == nil {
					directed = time.After(directedReport)
				}
				continue
			}
			r, err := f.take(m)
			if err != nil {
				return err
			}
			if r == nil {
				continue
			}
			if err := s.Send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Result{Result: r}}); err != nil {
				return endError(err, messages, ended)
			}
		case <-directed:
			if err := report(); err != nil {
				return err
			}
		case <-tick.C:
			if err := report(); err != nil {
				return err
			}
			f.works(address)
			f.saveAgain()
		}
	}
}

// report sends what happened since the last one that was sent; what a broken stream did not take is in the next.
func (f *Follower) report(s stream, all bool) error {
	report, commit := f.node.Report(all)
	now := time.Now()
	report.IntervalMicros = uint64(now.Sub(f.reported).Microseconds())
	degraded := f.degraded.Load()
	if degraded != f.told {
		report.Degradation = cmp.Or(degraded, &streamv1.Degradation{})
	}
	routes := 0
	for _, part := range split(report, maxReportBytes) {
		if err := s.Send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Report{Report: part}}); err != nil {
			return err
		}
		routes += len(part.GetRoutes())
		commit(routes)
	}
	f.reported, f.told = now, degraded
	return nil
}

package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/fleet"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// nodeStream is one node's side of the server. One goroutine owns it. It holds no version of the catalog, which alone
// says how many there are.
type nodeStream struct {
	server  *Server
	ctx     context.Context // the stream's, whose life this is
	session *fleet.Session
	id      string
	hello   *streamv1.Hello
	out     chan delivery // has room for one of each kind, and one about the fleet
	failed  chan error    // why sending has ended

	runs     place // what the node says that it runs
	known    bool  // runs is what has that number here
	sent     place // what is under way; zero: nothing
	rejected place // what the node refused last: it is not sent again

	told      bool // how the fleet stands to what the node refuses, which is othersRun
	othersRun bool

	endpoints     endpointsPlace // what the node has
	sentEndpoints endpointsPlace // what is under way; zero: nothing
}

// place is a revision in a history.
type place struct {
	epoch     string
	revision  uint32
	committed time.Time
}

func placeOf(v *catalog.Version) place { return place{v.Epoch, v.Revision, v.CommittedAt} }

// is compares the numbers.
func (p place) is(epoch string, revision uint32) bool {
	return p.epoch == epoch && p.revision == revision
}

// endpointsPlace is a version of endpoints, whose number is that of the process which sent it, and its content.
type endpointsPlace struct {
	version uint64
	hash    [32]byte
}

func (n *nodeStream) run(requests <-chan *streamv1.StreamRequest, ended <-chan error) error {
	c := n.server.catalog
	first := true
	for {
		changed := c.Changed()
		if first && c.Current() != nil {
			if err := c.NodeRuns(n.ctx, n.hello.GetEpoch(), n.hello.GetRevision()); err != nil {
				n.server.log.Warn("it can't be seen whether what a node runs is lost", "node", n.id, "revision",
					n.hello.GetRevision(), "error", err.Error())
			}
			n.resume()
			first = false
		}
		if !first {
			if err := n.sendNewest(); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case m := <-requests:
			switch {
			case m.GetResult() != nil:
				n.result(m.GetResult())
			case m.GetReport() != nil:
				n.session.Report(m.GetReport())
				if err := n.sendStanding(); err != nil {
					return err
				}
			}
		case err := <-n.failed:
			return err
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-n.session.Replaced:
			return status.Error(codes.Aborted, "this process has opened another stream")
		case <-n.server.stop:
			return errStopping
		}
	}
}

// resume finds out whether what the node says it runs is a version that is known here.
func (n *nodeStream) resume() {
	n.runs = place{epoch: n.hello.GetEpoch(), revision: n.hello.GetRevision()}
	if v := n.server.catalog.At(n.runs.epoch, n.runs.revision); v != nil {
		hash := v.Config.Hash()
		n.known = bytes.Equal(hash[:], n.hello.GetHash())
	}
	n.endpoints.version = n.hello.GetEndpointsVersion()
	copy(n.endpoints.hash[:], n.hello.GetEndpointsHash())
}

// sendNewest sends what leads to the newest version, when nothing is under way.
func (n *nodeStream) sendNewest() error {
	v := n.server.catalog.Current()
	if n.sent == (place{}) && !n.has(v) && !n.rejected.is(v.Epoch, v.Revision) && !n.wouldGoBack(v) {
		var base *catalog.Version // nil: a full snapshot
		if n.known && n.runs.epoch == v.Epoch {
			base = n.server.catalog.At(n.runs.epoch, n.runs.revision)
		}
		n.sent = placeOf(v)
		chunks, err := n.server.updates.between(base, v, mayShrink(n.runs.epoch, n.runs.revision, v))
		if err != nil {
			return err
		}
		if err := n.deliver(chunks); err != nil {
			return err
		}
	}
	e := n.server.catalog.Endpoints()
	newest := endpointsPlace{e.Version, e.Hash()}
	if n.sentEndpoints == (endpointsPlace{}) && e.Version != 0 && n.endpoints != newest {
		var base *catalog.EndpointsVersion // nil: all
		if n.endpoints.version != 0 {
			base = n.server.catalog.EndpointsWith(n.endpoints.hash)
		}
		chunks, err := n.server.updates.endpoints(base, n.endpoints, e)
		if err != nil {
			return err
		}
		n.sentEndpoints = newest
		return n.deliver(chunks)
	}
	return nil
}

// sendStanding tells a node that refuses the newest revision how the fleet stands to that, when it has changed. While
// something else waits to be sent, that can wait too.
func (n *nodeStream) sendStanding() error {
	if n.rejected == (place{}) || len(n.out) > 0 {
		return nil
	}
	othersRun := n.session.OthersRun()
	if n.told && othersRun == n.othersRun {
		return nil
	}
	n.told, n.othersRun = true, othersRun
	standing := &streamv1.FleetStanding{Epoch: n.rejected.epoch, Revision: n.rejected.revision, OthersRun: othersRun}
	m, err := encode(&streamv1.StreamResponse{Message: &streamv1.StreamResponse_Standing{Standing: standing}})
	if err != nil {
		return err
	}
	return n.deliver(delivery{m})
}

func (n *nodeStream) deliver(d delivery) error {
	select {
	case n.out <- d:
		return nil
	default:
		return status.Error(codes.InvalidArgument, "the node answers what it has not been sent yet")
	}
}

func (n *nodeStream) has(v *catalog.Version) bool { return n.known && n.runs.is(v.Epoch, v.Revision) }

// wouldGoBack reports whether the node runs a newer revision of the same epoch: this process has not seen it yet.
func (n *nodeStream) wouldGoBack(v *catalog.Version) bool {
	return n.runs.epoch == v.Epoch && n.runs.revision > v.Revision
}

func (n *nodeStream) result(r *streamv1.Result) {
	if v := n.sentEndpoints; v.version != 0 && r.GetEndpointsVersion() == v.version {
		n.endpoints, n.sentEndpoints = v, endpointsPlace{}
		return
	}
	v := n.sent
	if v == (place{}) || !v.is(r.GetEpoch(), r.GetRevision()) {
		return
	}
	n.sent = place{}
	n.session.Result(r, v.committed)
	if r.GetOutcome() == streamv1.Result_OUTCOME_REJECTED {
		n.rejected, n.told = v, false
		for _, p := range r.GetProblems() {
			n.server.log.Warn("node refused a revision", "node", n.id, "revision", v.revision, "kind", p.GetKind(), "name",
				p.GetName(), "field", p.GetField(), "reason", p.GetReason())
		}
		return
	}
	n.runs, n.known, n.rejected = v, true, place{}
}

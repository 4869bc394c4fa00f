package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gateway.internal/controlplane/internal/authority"
	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/fleet"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// nodeStream is one node's side of the server. One goroutine owns it. It holds no version: the catalog and updates say
// how many there are.
type nodeStream struct {
	server  *Server
	ctx     context.Context // the stream's, whose life this is
	session *fleet.Session
	id      string
	hello   *streamv1.Hello
	who     authority.Peer
	out     chan delivery // has room for one of the configuration, of each track, about the fleet, and of directives
	failed  chan error    // why sending has ended
	updates *updates      // what is sent is one of these

	runs     place // what the node says that it runs
	known    bool  // runs is what has that number here
	sent     place // what is under way; zero: nothing
	rejected place // what the node refused last: it is not sent again

	told      bool // how the fleet stands to what the node refuses, which is othersRun
	othersRun bool

	apart  []config.Kind // what the node takes apart from the configuration
	tracks []*track      // what is apart from it

	untold place // the target that could not be had, as far as that was logged
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

func (n *nodeStream) run(requests <-chan *streamv1.StreamRequest, ended <-chan error) error {
	c := n.server.catalog
	first := true
	life := n.life()
	defer life.Stop()
	look := time.NewTicker(rootsInterval)
	defer look.Stop()
	for {
		changed, retargeted, refusals := c.Changed(), n.session.Retargeted(), n.server.gate.Changed()
		if err := n.server.isNot(n.who, n.hello); err != nil {
			return n.server.refuse(n.ctx, n.id, err)
		}
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
		waits, err := n.sendDirectives()
		if err != nil {
			return err
		}
		var later <-chan time.Time
		if waits {
			later = time.After(directiveRetry)
		}
		select {
		case <-changed:
		case <-retargeted:
		case <-refusals:
		case <-life.C:
			if err := n.expired(); err != nil {
				return err
			}
			life.Reset(time.Until(n.who.Until()))
		case <-look.C:
			if err := n.authenticateAgain(); err != nil {
				return err
			}
		case <-n.session.Directed():
		case <-later:
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

// life returns what fires when the node's certificate expires; in plain text it has none.
func (n *nodeStream) life() *time.Timer {
	if !n.who.Certified {
		return time.NewTimer(math.MaxInt64)
	}
	return time.NewTimer(time.Until(n.who.Until()))
}

// expired ends the stream of a node that has not renewed its certificate.
func (n *nodeStream) expired() error {
	if time.Now().Before(n.who.Until()) {
		return nil
	}
	return n.server.refuse(n.ctx, n.id, &authority.Refusal{Reason: authority.ReasonExpired, Node: n.id,
		Message: "the node's certificate has expired, and was not renewed"})
}

// rootsInterval is how often it is looked at whether certificates are verified by other authorities now.
const rootsInterval = time.Second

// authenticateAgain ends the stream of a node whose certificate is of an authority that is trusted no more, or that
// names another node by the rules of the one that is.
func (n *nodeStream) authenticateAgain() error {
	who, err := n.server.gate.Again(n.ctx, n.who)
	if err != nil {
		return n.server.refuse(n.ctx, n.id, err)
	}
	n.who = who
	return nil
}

// resume finds out whether what the node says it runs is a version that is known here.
func (n *nodeStream) resume() {
	n.updates = n.server.made()
	n.runs = place{epoch: n.hello.GetEpoch(), revision: n.hello.GetRevision()}
	endpoints := &track{of: endpointSet{n.server}, has: content{version: n.hello.GetEndpointsVersion()}}
	copy(endpoints.has.hash[:], n.hello.GetEndpointsHash())
	n.tracks = []*track{endpoints}
	for _, s := range n.hello.GetSets() {
		k, err := config.KindOf(s.GetKind())
		if err != nil || !k.IsApart() || slices.Contains(n.apart, k) {
			continue // a kind of a later build, which this one has no resources of
		}
		t := &track{of: resourceSet{n.server, k}, whole: len(s.GetHash()) == 0,
			has: content{place: place{epoch: s.GetEpoch(), revision: s.GetRevision()}}}
		copy(t.has.hash[:], s.GetHash())
		n.apart, n.tracks = append(n.apart, k), append(n.tracks, t)
	}
	if v := n.versionOf(n.runs); v != nil {
		hash := v.Config.HashOf(without(n.apart)...)
		n.known = bytes.Equal(hash[:], n.hello.GetHash())
	}
}

// versionOf returns the version of a revision of the epoch in force, from memory or from the history; nil: it can't be
// had.
func (n *nodeStream) versionOf(p place) *catalog.Version {
	if p.revision == 0 {
		return nil
	}
	if v := n.updates.heldAt(p); v != nil {
		return v
	}
	v, err := n.server.catalog.VersionAt(n.ctx, p.epoch, p.revision)
	if err != nil {
		return nil
	}
	return v
}

// target returns the version that the node is to run, and whether the fleet says so, instead of it being the newest.
// It is nil where that can't be had: the node keeps what it runs.
func (n *nodeStream) target() (v *catalog.Version, aimed bool) {
	newest := n.server.catalog.Current()
	t, aimed := n.session.Target()
	if !aimed || t.Epoch != newest.Epoch { // what was aimed at is of a history that was replaced
		return newest, false
	}
	v, err := n.server.catalog.VersionAt(n.ctx, t.Epoch, t.Revision)
	p := place{epoch: t.Epoch, revision: t.Revision}
	if err != nil && p != n.untold {
		n.server.log.Error("a node's target can't be had; it keeps what it runs", "node", n.id, "revision", t.Revision,
			"error", err.Error())
		n.untold = p
	}
	n.session.TargetProblem(t, err)
	return v, true
}

// sendNewest sends what leads to the node's target, of that which is not under way. What is apart goes first: a route
// is not served before the consumers that were committed with it. Endpoints are of no revision, and wait for none.
func (n *nodeStream) sendNewest() error {
	n.updates = n.server.made()
	if err := n.sendSets(nil); err != nil {
		return err
	}
	v, aimed := n.target()
	if v == nil || !aimed && n.wouldGoBack(v) {
		return nil
	}
	if err := n.sendSets(v); err != nil {
		return err
	}
	if n.sent == (place{}) && n.has(v) {
		return n.withdraw()
	}
	if n.sent != (place{}) || n.rejected.is(v.Epoch, v.Revision) || n.setsLag(v) {
		return nil
	}
	var base *catalog.Version // nil: a full snapshot
	if n.known && n.runs.epoch == v.Epoch {
		base = n.versionOf(n.runs)
	}
	n.sent = placeOf(v)
	chunks, err := n.updates.between(base, v, n.apart, mayShrink(n.runs.epoch, n.runs.revision, v), aimed)
	if err != nil {
		return err
	}
	return n.deliver(chunks)
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
	return n.tellStanding(othersRun)
}

// directiveRetry is how soon directives are sent that wait for what is on its way.
const directiveRetry = 100 * time.Millisecond

// sendDirectives sends what operators want. While something else waits to be sent that waits too, which it reports.
func (n *nodeStream) sendDirectives() (waits bool, err error) {
	if len(n.out) > 0 {
		return n.session.HasDirectives(), nil
	}
	var d delivery
	for _, one := range n.session.Directives() {
		m := &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Directive{Directive: one}}
		if d, err = d.with(m); err != nil {
			return false, err
		}
	}
	if len(d) == 0 {
		return false, nil
	}
	return false, n.deliver(d)
}

// withdraw takes back what the node refused, as it is not to run that any more, but what it runs.
func (n *nodeStream) withdraw() error {
	if n.rejected == (place{}) {
		return nil
	}
	n.session.Withdrawn(n.runs.epoch)
	if err := n.tellStanding(false); err != nil {
		return err
	}
	n.rejected, n.told = place{}, false
	return nil
}

func (n *nodeStream) tellStanding(othersRun bool) error {
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
	if n.answered(r) {
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
		n.logProblems("node refused a revision", r, v)
		return
	}
	n.runs, n.known, n.rejected = v, true, place{}
}

func (n *nodeStream) logProblems(message string, r *streamv1.Result, of place) {
	for _, p := range r.GetProblems() {
		n.server.log.Warn(message, "node", n.id, "revision", of.revision, "kind", p.GetKind(), "name", p.GetName(),
			"field", p.GetField(), "reason", p.GetReason())
	}
}

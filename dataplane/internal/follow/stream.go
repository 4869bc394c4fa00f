package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/dataplane/internal/runtime"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

const (
	reportInterval = 2 * time.Second
	minBackoff     = 200 * time.Millisecond
	maxBackoff     = 10 * time.Second
	connectTimeout = 5 * time.Second
)

// Node is what follows: the data plane's runtime.
type Node interface {
	Applier
	// ApplyEndpoints makes these the discovered endpoints by service id.
	ApplyEndpoints(found map[string][]*configv1.Endpoint)
	// Report returns what happened since the last report that was committed.
	Report(all bool) (report *streamv1.Report, commit func())
}

// Settings say whom to follow, and as whom.
type Settings struct {
	// Addresses are control planes, tried in turn.
	Addresses []string
	// Token is the join token.
	Token string
	// NodeID is the id in the fleet; empty: one that is kept in DataDir.
	NodeID string
	Group  string
	Labels map[string]string
	Build  string
	// DataDir is the folder of the last good snapshot.
	DataDir string
}

// Follower follows a control plane.
type Follower struct {
	set      Settings
	log      *slog.Logger
	node     Node
	disk     *disk
	state    *state
	instance string
	started  time.Time
	lastCode codes.Code
	unsaved  bool // what is on disk is older than the state
}

// NewFollower opens the data folder, and starts the node from the last good snapshot there, if there is one. A damaged snapshot is
// logged, not an error.
func NewFollower(set Settings, log *slog.Logger, node Node) (*Follower, error) {
	d, err := openDisk(set.DataDir)
	if err != nil {
		return nil, err
	}
	f := &Follower{set: set, log: log, node: node, disk: d, state: newState(), instance: newID(), started: time.Now()}
	if f.set.NodeID == "" {
		if f.set.NodeID, err = d.nodeID(); err != nil {
			d.close()
			return nil, err
		}
	}
	f.restore()
	return f, nil
}

func (f *Follower) restore() {
	records, err := f.disk.load()
	if err != nil {
		f.log.Error("last good snapshot", "error", err.Error())
	}
	if len(records) == 0 {
		return
	}
	s, err := replay(records)
	if err != nil {
		f.log.Error("last good snapshot: going on with what fits together", "error", err.Error())
		f.unsaved = true
	}
	if s.revision == 0 {
		return
	}
	f.node.ApplyEndpoints(s.found())
	if problems := f.node.Apply(runtime.Version{Epoch: s.epoch, Revision: s.revision, Config: s.config}); len(problems) > 0 {
		f.log.Error("last good snapshot can't be applied", "revision", s.revision, "kind", problems[0].GetKind(), "name", problems[0].GetName(), "reason", problems[0].GetReason())
		return
	}
	f.state = s
	f.log.Info("started from the last good snapshot", "revision", s.revision)
}

// NodeID returns the id in the fleet.
func (f *Follower) NodeID() string { return f.set.NodeID }

// Run follows until ctx ends, connecting again and again.
func (f *Follower) Run(ctx context.Context) {
	defer f.disk.close()
	wait := minBackoff
	for turn := 0; ctx.Err() == nil; turn++ {
		address := f.set.Addresses[turn%len(f.set.Addresses)]
		begun := time.Now()
		err := f.follow(ctx, address)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > maxBackoff {
			wait = minBackoff
		}
		f.explain(address, err)
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, maxBackoff)
	}
}

// explain logs why a stream ended, once for each kind of reason.
func (f *Follower) explain(address string, err error) {
	code := status.Code(err)
	if code == f.lastCode {
		return
	}
	f.lastCode = code
	switch code {
	case codes.Unauthenticated, codes.AlreadyExists:
		f.log.Error("the control plane refuses this node", "address", address, "node", f.set.NodeID, "reason", status.Convert(err).Message())
	default:
		f.log.Warn("no control plane; the node goes on with what it has", "address", address, "revision", f.state.revision, "reason", status.Convert(err).Message())
	}
}

func (f *Follower) follow(ctx context.Context, address string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: connectTimeout}))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+f.set.Token))
	defer cancel()
	stream, err := streamv1.NewSnapshotServiceClient(conn).Stream(ctx)
	if err != nil {
		return err
	}
	hash := f.state.config.Hash()
	if err := stream.Send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Hello{Hello: &streamv1.Hello{
		NodeId: f.set.NodeID, InstanceId: f.instance, Group: f.set.Group, Labels: f.set.Labels, Build: f.set.Build,
		Epoch: f.state.epoch, Revision: f.state.revision, Hash: hash[:], EndpointsVersion: f.state.endpointsVersion, StartedAt: timestamppb.New(f.started),
	}}}); err != nil {
		return receiveError(stream, err)
	}
	messages := make(chan *streamv1.StreamResponse)
	ended := make(chan error, 1)
	go func() {
		var g gather
		for {
			m, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			if whole := g.add(m); whole != nil {
				select {
				case messages <- whole:
				case <-ctx.Done():
					ended <- ctx.Err()
					return
				}
			}
		}
	}()
	err = f.converse(ctx, stream, messages, ended)
	cancel()
	return err
}

// receiveError returns what the server says instead of "EOF", which is all that a failed Send gives.
func receiveError(stream grpc.BidiStreamingClient[streamv1.StreamRequest, streamv1.StreamResponse], err error) error {
	if _, recvErr := stream.Recv(); recvErr != nil {
		return recvErr
	}
	return err
}

func (f *Follower) converse(ctx context.Context, stream grpc.BidiStreamingClient[streamv1.StreamRequest, streamv1.StreamResponse], messages <-chan *streamv1.StreamResponse, ended <-chan error) error {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	last := time.Now()
	all := true
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return err
		case m := <-messages:
			if f.lastCode != codes.OK {
				f.lastCode = codes.OK
				f.log.Info("following the control plane again")
			}
			if err := stream.Send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Result{Result: f.take(m)}}); err != nil {
				return err
			}
		case now := <-tick.C:
			report, commit := f.node.Report(all)
			report.IntervalMicros = uint64(now.Sub(last).Microseconds())
			if err := stream.Send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Report{Report: report}}); err != nil {
				return err
			}
			commit()
			last, all = now, false
		}
	}
}

// take applies a whole update and puts it on disk, and returns the answer.
func (f *Follower) take(m *streamv1.StreamResponse) *streamv1.Result {
	start := time.Now()
	r := &streamv1.Result{Outcome: streamv1.Result_OUTCOME_APPLIED}
	var next *state
	var err error
	switch {
	case m.GetUpdate() != nil:
		u := m.GetUpdate()
		r.Revision, r.Epoch = u.GetRevision(), u.GetEpoch()
		if next, err = f.state.next(u); err == nil {
			if problems := f.node.Apply(runtime.Version{Epoch: next.epoch, Revision: next.revision, Config: next.config}); len(problems) > 0 {
				err = &refusal{problems}
			}
		}
	default:
		u := m.GetEndpoints()
		r.EndpointsVersion = u.GetVersion()
		if next, err = f.state.nextEndpoints(u); err == nil {
			f.node.ApplyEndpoints(next.found())
		}
	}
	if err != nil {
		r.Outcome = streamv1.Result_OUTCOME_REJECTED
		var ref *refusal
		if errors.As(err, &ref) {
			r.Problems = ref.problems
		}
		f.log.Error("update refused; the node keeps what it has", "revision", r.GetRevision(), "reason", err.Error())
	} else {
		f.state = next
		f.save(m, r)
	}
	hash := f.state.config.Hash()
	r.Hash = hash[:]
	r.ApplyMicros = uint64(time.Since(start).Microseconds())
	return r
}

// save puts the state on disk. Where that fails the node serves all the same, and says that it is degraded.
func (f *Follower) save(m *streamv1.StreamResponse, r *streamv1.Result) {
	if f.state.revision == 0 {
		return // endpoints alone can't be started from
	}
	change := m
	if f.unsaved || m.GetUpdate() != nil && m.GetUpdate().GetBaseRevision() == 0 {
		change = nil
	}
	err := f.disk.save(change, f.state.records)
	f.unsaved = err != nil
	if err != nil {
		r.Outcome = streamv1.Result_OUTCOME_DEGRADED
		r.Problems = append(r.Problems, &streamv1.Problem{Reason: fmt.Sprintf("the node runs it, but can't keep it for a restart: %s", err)})
		f.log.Error("the last good snapshot can't be written", "error", err.Error())
	}
}

package follow

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"gateway.internal/dataplane/internal/join"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/backoff"
	"gateway.internal/shared/nodeid"
)

// Node is what follows: the data plane's runtime.
type Node interface {
	Applier
	// ApplyEndpoints makes these the discovered endpoints by service id.
	ApplyEndpoints(found map[string][]*configv1.Endpoint)
	// Report returns what happened since the last report that was committed. commit is told how many of its routes were
	// sent, the first ones, and may be called again with more.
	Report(all bool) (report *streamv1.Report, commit func(sent int))
}

// Directed is a node that is told what to do at once, apart from the configuration.
type Directed interface {
	// Direct does it. What it does not know it ignores.
	Direct(*streamv1.Directive)
	// Undirected says that the stream has ended that what it was told came by.
	Undirected()
}

// Settings say whom to follow, and as whom.
type Settings struct {
	// Addresses are control planes, at least one, tried in turn.
	Addresses []string
	// Join says how the node is let in. Its folder, id and group are those of the other settings.
	Join join.Settings
	// NodeID is the id in the fleet; empty: one that is kept in DataDir.
	NodeID string
	// Group is for rollouts; it may be empty.
	Group string
	// Labels are free key-value pairs.
	Labels map[string]string
	// Build is the version of this program.
	Build string
	// DataDir is the folder of the last good snapshot.
	DataDir string
	// Keys say with what the files there are encrypted.
	Keys KeySource
	// Instance is what the control plane tells this process by; empty: a new one. A process that replaces another one has
	// the other's.
	Instance string
	// RefusalTimeout is how long the node may refuse what most of its fleet runs before it is not ready; 0: for ever.
	RefusalTimeout time.Duration
	// Lock is the locked file of the data folder, from the process that is replaced; nil: the folder is to be locked. It
	// is the follower's.
	Lock *os.File
}

// Follower follows a control plane. One goroutine, Run's, owns it.
type Follower struct {
	set      Settings
	log      *slog.Logger
	node     Node
	join     *join.Keeper
	dial     dialer
	disk     *disk
	instance string
	started  time.Time

	state     *state
	fresh     bool      // ask for a full snapshot: the control plane's view of this node is not what it runs
	freshSets bool      // ask for all that is apart
	building  *building // what is apart as far as it has come; nil: nothing
	unsaved   unsaved   // what is on disk is older than the state
	savedAt   time.Time // the last attempt to write
	reported  time.Time // up to when reports have told what happened

	unkept   [2]string                            // why the snapshot, and the consumers, are not on disk; "": they are
	unmet    []*streamv1.Problem                  // why consumers were refused last; nil: they were not
	degraded atomic.Pointer[streamv1.Degradation] // what of the revision does not work; nil: it works
	told     *streamv1.Degradation                // what the stream was told last
	refused  atomic.Pointer[refused]              // nil: it runs what it was told to run last
	outcomes map[string]codes.Code                // how the last stream to an address ended, as far as it was logged
}

// NewFollower opens the data folder, and starts the node from the last good snapshot there, if there is one. A damaged
// snapshot is logged, not an error. The folder is this process's until Run returns.
func NewFollower(set Settings, log *slog.Logger, node Node) (*Follower, error) {
	if set.NodeID != "" {
		if err := nodeid.Check(set.NodeID); err != nil {
			return nil, fmt.Errorf("--node-id %w", err)
		}
	}
	d, err := openDisk(set.DataDir, set.Lock, &keyring{source: set.Keys, dir: set.DataDir, log: log})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	f := &Follower{
		set: set, log: log, node: node, disk: d, state: newState(), instance: cmp.Or(set.Instance, newID()),
		started: now, reported: now,
		outcomes: map[string]codes.Code{},
	}
	if f.set.NodeID == "" {
		if f.set.NodeID, err = d.nodeID(); err != nil {
			d.close()
			return nil, err
		}
	}
	f.set.Join.Dir, f.set.Join.NodeID, f.set.Join.Group = f.set.DataDir, f.set.NodeID, f.set.Group
	f.join = join.New(f.set.Join, log)
	f.dial = dialBy(f.join)
	f.restore()
	return f, nil
}

// NodeID returns the id in the fleet.
func (f *Follower) NodeID() string { return f.set.NodeID }

// Instance returns what the control plane tells this process by.
func (f *Follower) Instance() string { return f.instance }

// Lock returns the locked file of the data folder.
func (f *Follower) Lock() *os.File { return f.disk.lock }

// Close leaves the data folder to others.
func (f *Follower) Close() { f.disk.close() }

// Run is Follow and then Close.
func (f *Follower) Run(ctx context.Context) {
	defer f.Close()
	f.Follow(ctx)
}

// Follow follows until ctx ends, connecting again and again. It may be called again afterwards: who did so knows that
// another process may have written to the folder meanwhile, so the snapshot there is written anew.
func (f *Follower) Follow(ctx context.Context) {
	defer func() { f.unsaved = unsaved{true, true} }()
	retry := backoff.Exponential{Least: 2 * minBackoff}
	for turn := 0; ctx.Err() == nil; turn++ {
		address := f.set.Addresses[turn%len(f.set.Addresses)]
		begun := time.Now()
		err := f.follow(ctx, address)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > maxBackoff {
			retry.Reset()
		}
		retry.Most = maxBackoff
		if f.explain(address, err) {
			retry.Most = maxRefused
		}
		retry.Wait(ctx, nil)
		f.saveAgain()
	}
}

package follow

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/runtime"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/secretkey"
)

// nodeDouble remembers what it was told to run.
type nodeDouble struct {
	mu      sync.Mutex
	version runtime.Version
	found   map[string][]*configv1.Endpoint
	clients *consumer.Set
	refuse  atomic.Bool
	counted uint64
}

func (n *nodeDouble) Apply(v runtime.Version) []*streamv1.Problem {
	if n.refuse.Load() {
		return []*streamv1.Problem{{Kind: "route", Name: "r", Reason: "no"}}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.version = v
	return nil
}

// running returns what was applied last.
func (n *nodeDouble) running() runtime.Version {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.version
}

func (n *nodeDouble) runs() [32]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.version.Config.Hash()
}

func (n *nodeDouble) ApplyEndpoints(found map[string][]*configv1.Endpoint) { n.found = found }

func (n *nodeDouble) ApplyConsumers(s *consumer.Set) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clients = s
}

// requests counts requests of a route.
func (n *nodeDouble) requests(k uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counted += k
}

func (n *nodeDouble) Report(all bool) (*streamv1.Report, func(int)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := n.counted
	r := &streamv1.Report{Routes: []*streamv1.RouteTraffic{{RouteId: "r", Requests: k}}}
	if all {
		r.Endpoints = []*streamv1.EndpointHealth{{ServiceId: "s"}}
	}
	return r, func(int) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.counted -= k
	}
}

// source makes updates as a control plane does.
type source struct {
	t        *testing.T
	config   *config.Config
	revision uint32
	n        int
	apart    bool // it sends consumers apart, as this build does
}

func (s *source) change(full bool, edits ...config.Edit) *streamv1.StreamResponse {
	s.t.Helper()
	plan, err := s.config.Plan(edits, config.PlanOptions{Now: time.Unix(1, 0), AllowShrink: true, NewID: func() string { s.n++; return fmt.Sprint("id", s.n) }})
	if err != nil {
		s.t.Fatal(err)
	}
	u := &streamv1.Update{Epoch: "e", Revision: s.revision + 1, BaseRevision: s.revision, Chunk: 1, Chunks: 1}
	from, kinds := s.config, config.Kinds()
	if full {
		u.BaseRevision, from = 0, config.Empty()
	}
	if s.apart {
		u.Apart, kinds = apartKinds(), config.Together()
	}
	changes := config.DiffOf(from, plan.Config, kinds...)
	for _, ch := range changes {
		if ch.After == nil {
			u.Removals = append(u.Removals, &streamv1.ResourceRef{Kind: ch.Kind.Proto(), Id: ch.ID()})
		} else {
			u.Upserts = append(u.Upserts, plan.Config.ByID(ch.Kind, ch.ID()).Encoded())
		}
	}
	s.config, s.revision = plan.Config, s.revision+1
	hash := s.config.HashOf(kinds...)
	u.Hash = hash[:]
	return &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: u}}
}

func route(name string) config.Edit {
	return config.Edit{Kind: config.Route, Put: &configv1.Route{Name: name, Path: "/" + name, DirectResponse: &configv1.DirectResponse{Body: name}}}
}

func follower(t *testing.T, dir string) (*Follower, *nodeDouble) {
	t.Helper()
	n := &nodeDouble{}
	f, err := NewFollower(Settings{DataDir: dir}, slog.New(slog.DiscardHandler), n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.disk.close)
	return f, n
}

// take is take of an update that fits.
func take(t *testing.T, f *Follower, m *streamv1.StreamResponse) *streamv1.Result {
	t.Helper()
	r, err := f.take(m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func applied(t *testing.T, r *streamv1.Result) {
	t.Helper()
	if r.GetOutcome() != streamv1.Result_OUTCOME_APPLIED {
		t.Fatalf("got %v", r)
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	src := &source{t: t, config: config.Empty()}
	f, _ := follower(t, dir)
	applied(t, take(t, f, src.change(true, route("a"))))
	applied(t, take(t, f, src.change(false, route("b"))))
	applied(t, take(t, f, src.change(false, config.Edit{Kind: config.Route, Delete: "a"})))
	applied(t, take(t, f, &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Endpoints{Endpoints: &streamv1.EndpointsUpdate{
		Version: 9, Chunk: 1, Chunks: 1, Upserts: []*streamv1.ServiceEndpoints{{ServiceId: "s", Endpoints: []*configv1.Endpoint{{Host: "h", Port: 1}}}},
	}}}))
	if _, err := NewFollower(Settings{DataDir: dir}, slog.New(slog.DiscardHandler), &nodeDouble{}); err == nil {
		t.Error("two nodes share a folder")
	}
	id := f.NodeID()
	f.disk.close()
	again, n := follower(t, dir)
	if n.version.Revision != 3 || n.version.Config.Hash() != src.config.Hash() || len(n.found["s"]) != 1 || again.NodeID() != id {
		t.Errorf("restarted with %v, endpoints %v, id %s", n.version.Revision, n.found, again.NodeID())
	}
	applied(t, take(t, again, src.change(false, route("c"))))
	if info, err := os.Stat(again.disk.snapshot.path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestTornFile cuts the file at every byte, as a crash may, and flips each byte once. The node starts with an earlier
// revision or with none, never with something else; and what it is told then is there after the next start.
func TestTornFile(t *testing.T) {
	dir := t.TempDir()
	src := &source{t: t, config: config.Empty()}
	f, _ := follower(t, dir)
	hashes := map[uint32][32]byte{}
	for i := range 4 {
		applied(t, take(t, f, src.change(i == 0, route(fmt.Sprint("r", i)))))
		hashes[src.revision] = src.config.Hash()
	}
	f.disk.close()
	whole, err := os.ReadFile(f.disk.snapshot.path())
	if err != nil {
		t.Fatal(err)
	}
	newest := src.change(true, route("newest"))
	for i := range whole {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 0x10
		for _, text := range [][]byte{whole[:i], flipped} {
			write(t, f.disk.snapshot.path(), string(text))
			n := &nodeDouble{}
			again, err := NewFollower(Settings{DataDir: dir}, slog.New(slog.DiscardHandler), n)
			if err != nil {
				t.Fatal(err)
			}
			if n.version.Config != nil && n.version.Config.Hash() != hashes[n.version.Revision] {
				t.Fatalf("at byte %d: revision %d has another content", i, n.version.Revision)
			}
			if text := string(text); n.version.Config == nil && len(text) > len(whole)/2 && text == string(whole[:i]) {
				t.Fatalf("at byte %d: nothing is left", i)
			}
			if i%37 == 0 {
				applied(t, take(t, again, proto.CloneOf(newest)))
				more := *src
				applied(t, take(t, again, more.change(false, route("more"))))
				again.disk.close()
				last, n := follower(t, dir)
				if n.version.Config.Hash() != more.config.Hash() {
					t.Fatalf("at byte %d: what came after it is lost", i)
				}
				last.disk.close()
			}
			again.disk.close()
		}
	}
}

// breakDisk makes writing of a new snapshot impossible until the returned function is called.
func breakDisk(t *testing.T, dir string) func() {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "snapshot.pb.new", "in-the-way"), 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		// At once, since the node may try to write meanwhile.
		err := os.Rename(filepath.Join(dir, "snapshot.pb.new"), filepath.Join(t.TempDir(), "away"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

func TestDamagedFileIsPutAside(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "snapshot.pb"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, n := follower(t, dir)
	if n.version.Config != nil {
		t.Error("nonsense was applied")
	}
	if _, err := os.Stat(f.disk.snapshot.path() + ".bad"); err != nil {
		t.Error(err)
	}
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("mounting is not possible here: ", err)
	}
	f, n := follower(t, dir)
	defer func() {
		f.disk.close()
		_ = syscall.Unmount(dir, syscall.MNT_DETACH)
	}()
	src := &source{t: t, config: config.Empty()}
	applied(t, take(t, f, src.change(true, route("a"))))
	big := &configv1.Route{Name: "big", Path: "/big", DirectResponse: &configv1.DirectResponse{Body: string(make([]byte, 60<<10))}}
	if r := take(t, f, src.change(false, config.Edit{Kind: config.Route, Put: big})); r.GetOutcome() != streamv1.Result_OUTCOME_DEGRADED || n.version.Revision != 2 {
		t.Errorf("got %v, runs %d", r, n.version.Revision)
	}
	applied(t, take(t, f, src.change(false, config.Edit{Kind: config.Route, Delete: "big"})))
	records, _, err := f.disk.snapshot.load()
	if err != nil {
		t.Fatal(err)
	}
	if s, err := replay(records); err != nil || s.revision != 3 {
		t.Errorf("on disk there is revision %d, %v", s.revision, err)
	}
}

func TestRefusals(t *testing.T) {
	src := &source{t: t, config: config.Empty()}
	f, n := follower(t, t.TempDir())
	var edits []config.Edit
	for i := range 20 {
		edits = append(edits, route(fmt.Sprint("r", i)))
	}
	applied(t, take(t, f, src.change(true, edits...)))
	good := src.change(false, route("x"))
	wrongHash := src.change(false, route("y"))
	if _, err := f.take(wrongHash); !errors.Is(err, errStale) || !f.fresh { // starts from a revision that the node skipped
		t.Errorf("a gap: %v", err)
	}
	f.fresh = false
	good.GetUpdate().Hash = make([]byte, 32)
	if _, err := f.take(good); !errors.Is(err, errStale) || !f.fresh {
		t.Errorf("another hash: %v", err)
	}
	other := src.change(false, route("w"))
	other.GetUpdate().Epoch = "f"
	if _, err := f.take(other); !errors.Is(err, errStale) {
		t.Errorf("a delta of another epoch: %v", err)
	}
	wrong := src.change(true, route("w"))
	wrong.GetUpdate().Hash = make([]byte, 32)
	if r := take(t, f, wrong); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED {
		t.Errorf("a full snapshot with another hash: %v", r)
	}
	spoilt := src.change(true, route("w"))
	spoilt.GetUpdate().Upserts[3] = proto.CloneOf(spoilt.GetUpdate().Upserts[3])
	spoilt.GetUpdate().Upserts[3].Body[2] ^= 1
	if r := take(t, f, spoilt); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED || r.GetProblems()[0].GetKind() != "route" {
		t.Errorf("a spoilt resource: %v", r)
	}
	small := &source{t: t, config: config.Empty(), revision: 50}
	if r := take(t, f, small.change(true, route("only"))); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED {
		t.Errorf("a shrink: %v", r)
	}
	n.refuse.Store(true)
	full := src.change(true, route("z"))
	if r := take(t, f, full); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED || r.GetProblems()[0].GetName() != "r" {
		t.Errorf("the node's own refusal: %v", r)
	}
	n.refuse.Store(false)
	applied(t, take(t, f, full))
	old := &source{t: t, config: config.Empty()}
	if r := take(t, f, old.change(true, edits...)); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED {
		t.Errorf("an older revision: %v", r)
	}
}

func FuzzDecodeRecords(f *testing.F) {
	keys, err := secretkey.Parse(strings.Repeat("A", 43) + "=")
	if err != nil {
		f.Fatal(err)
	}
	c, err := newFileCipher(keys[0], "snapshot.pb")
	if err != nil {
		f.Fatal(err)
	}
	u := &streamv1.Update{Revision: 1, Chunk: 1, Chunks: 1}
	m := &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: u}}
	b, err := c.encode(0, m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(bytes.Clone(c.head), b...))
	f.Add(c.head)
	f.Add([]byte(plainFile(f, m)))
	f.Add([]byte(plainMagic))
	f.Fuzz(func(_ *testing.T, text []byte) {
		var records []*streamv1.StreamResponse
		for m := range decodePlain(text) {
			records = append(records, m)
		}
		for m := range c.decode(bytes.Clone(text)) {
			records = append(records, m)
		}
		_, _ = replay(records)
	})
}

func TestEmptyIsRefused(t *testing.T) {
	src := &source{t: t, config: config.Empty()}
	f, _ := follower(t, t.TempDir())
	applied(t, take(t, f, src.change(true, route("a"), route("b"))))
	remove := func(name string) config.Edit { return config.Edit{Kind: config.Route, Delete: name} }
	both := *src
	if r := take(t, f, both.change(false, remove("a"), remove("b"))); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED {
		t.Errorf("a delta to nothing: %v", r)
	}
	other := &source{t: t, config: config.Empty(), revision: 8}
	if r := take(t, f, other.change(true)); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED {
		t.Errorf("an empty snapshot: %v", r)
	}
	applied(t, take(t, f, src.change(false, remove("a")))) // a delta from what the node kept
	applied(t, take(t, f, src.change(false, remove("b")))) // one by one is how somebody means it
	applied(t, take(t, f, src.change(true, route("a"), route("b"))))
	meant := src.change(true, remove("a"), remove("b"))
	meant.GetUpdate().AllowShrink = true
	applied(t, take(t, f, meant))
}

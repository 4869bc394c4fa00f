package follow

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/runtime"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// nodeDouble remembers what it was told to run.
type nodeDouble struct {
	version runtime.Version
	found   map[string][]*configv1.Endpoint
	refuse  bool
}

func (n *nodeDouble) Apply(v runtime.Version) []*streamv1.Problem {
	if n.refuse {
		return []*streamv1.Problem{{Kind: "route", Name: "r", Reason: "no"}}
	}
	n.version = v
	return nil
}

func (n *nodeDouble) ApplyEndpoints(found map[string][]*configv1.Endpoint) { n.found = found }

func (n *nodeDouble) Report(bool) (*streamv1.Report, func()) { return &streamv1.Report{}, func() {} }

// source makes updates as a control plane does.
type source struct {
	t        *testing.T
	config   *config.Config
	revision uint32
	n        int
}

func (s *source) change(full bool, edits ...config.Edit) *streamv1.StreamResponse {
	s.t.Helper()
	plan, err := s.config.Plan(edits, config.PlanOptions{Now: time.Unix(1, 0), AllowShrink: true, NewID: func() string { s.n++; return fmt.Sprint("id", s.n) }})
	if err != nil {
		s.t.Fatal(err)
	}
	u := &streamv1.Update{Epoch: "e", Revision: s.revision + 1, BaseRevision: s.revision, Chunk: 1, Chunks: 1}
	changes := plan.Changes
	if full {
		u.BaseRevision = 0
		changes = config.Diff(config.Empty(), plan.Config)
	}
	for _, ch := range changes {
		if ch.After == nil {
			u.Removals = append(u.Removals, &streamv1.ResourceRef{Kind: ch.Kind.Proto(), Id: ch.ID()})
		} else {
			u.Upserts = append(u.Upserts, plan.Config.ByID(ch.Kind, ch.ID()).Encoded())
		}
	}
	s.config, s.revision = plan.Config, s.revision+1
	hash := s.config.Hash()
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
	applied(t, f.take(src.change(true, route("a"))))
	applied(t, f.take(src.change(false, route("b"))))
	applied(t, f.take(src.change(false, config.Edit{Kind: config.Route, Delete: "a"})))
	applied(t, f.take(&streamv1.StreamResponse{Message: &streamv1.StreamResponse_Endpoints{Endpoints: &streamv1.EndpointsUpdate{
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
	applied(t, again.take(src.change(false, route("c"))))
	if info, err := os.Stat(again.disk.path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestTornFile cuts the file at every byte, as a crash may, and flips each byte once.
func TestTornFile(t *testing.T) {
	dir := t.TempDir()
	src := &source{t: t, config: config.Empty()}
	f, _ := follower(t, dir)
	hashes := map[[32]byte]bool{config.Empty().Hash(): true}
	for i := range 4 {
		applied(t, f.take(src.change(i == 0, route(fmt.Sprint("r", i)))))
		hashes[src.config.Hash()] = true
	}
	whole, err := os.ReadFile(f.disk.path())
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		flipped := append([]byte(nil), whole...)
		flipped[i] ^= 0x10
		for _, text := range [][]byte{whole[:i], flipped} {
			records, _ := decodeRecords(text)
			s, err := replay(records)
			if err != nil || !hashes[s.config.Hash()] {
				t.Fatalf("at byte %d: %v", i, err)
			}
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
	if _, err := os.Stat(f.disk.path() + ".bad"); err != nil {
		t.Error(err)
	}
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("mounting a small file system needs root")
		return
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Log("mounting is not possible here: ", err)
		return
	}
	f, n := follower(t, dir)
	defer func() {
		f.disk.close()
		_ = syscall.Unmount(dir, syscall.MNT_DETACH)
	}()
	src := &source{t: t, config: config.Empty()}
	applied(t, f.take(src.change(true, route("a"))))
	big := &configv1.Route{Name: "big", Path: "/big", DirectResponse: &configv1.DirectResponse{Body: string(make([]byte, 60<<10))}}
	if r := f.take(src.change(false, config.Edit{Kind: config.Route, Put: big})); r.GetOutcome() != streamv1.Result_OUTCOME_DEGRADED || n.version.Revision != 2 {
		t.Errorf("got %v, runs %d", r, n.version.Revision)
	}
	applied(t, f.take(src.change(false, config.Edit{Kind: config.Route, Delete: "big"})))
	records, err := f.disk.load()
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
	applied(t, f.take(src.change(true, edits...)))
	good := src.change(false, route("x"))
	wrongHash := src.change(false, route("y"))
	if r := f.take(wrongHash); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED { // starts from a revision that the node skipped
		t.Errorf("a gap: %v", r)
	}
	good.GetUpdate().Hash = make([]byte, 32)
	if r := f.take(good); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED {
		t.Errorf("another hash: %v", r)
	}
	empty := &source{t: t, config: config.Empty(), revision: 5}
	if r := f.take(empty.change(true, route("only"))); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED {
		t.Errorf("a shrink: %v", r)
	}
	n.refuse = true
	full := src.change(true, route("z"))
	if r := f.take(full); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED || r.GetProblems()[0].GetName() != "r" {
		t.Errorf("the node's own refusal: %v", r)
	}
	n.refuse = false
	applied(t, f.take(full))
	old := &source{t: t, config: config.Empty()}
	if r := f.take(old.change(true, edits...)); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED {
		t.Errorf("an older revision: %v", r)
	}
}

func FuzzDecodeRecords(f *testing.F) {
	b, _ := encodeRecord(&streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: &streamv1.Update{Revision: 1, Chunk: 1, Chunks: 1}}})
	f.Add(append([]byte(magic), b...))
	f.Add([]byte(magic))
	f.Fuzz(func(_ *testing.T, text []byte) {
		records, _ := decodeRecords(text)
		_, _ = replay(records)
	})
}

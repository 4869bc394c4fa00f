package follow

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
)

// of puts resources as another build committed them.
func (s *source) of(entries ...*config.Entry) *streamv1.StreamResponse {
	s.t.Helper()
	next, err := s.config.WithEntries(entries, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	u := &streamv1.Update{Epoch: "e", Revision: s.revision + 1, BaseRevision: s.revision, Chunk: 1, Chunks: 1}
	for _, e := range entries {
		u.Upserts = append(u.Upserts, e.Encoded())
	}
	s.config, s.revision = next, s.revision+1
	hash := next.Hash()
	u.Hash = hash[:]
	return &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: u}}
}

func newer(t *testing.T, name string) *config.Entry {
	t.Helper()
	return configtest.Newer(t, &configv1.Route{Id: name, Name: name, Path: "/" + name})
}

// TestFieldsOfALaterBuild: a node that does not know a field serves what has it, and says so for as long as it is
// there: in results, in reports, to the next control plane, and after a restart.
func TestFieldsOfALaterBuild(t *testing.T) {
	dir := t.TempDir()
	src := &source{t: t, config: config.Empty()}
	named := func(list []*streamv1.Problem) bool {
		return len(list) == 1 && list[0].GetKind() == "route" && list[0].GetName() == "b" &&
			list[0].GetField() == "field 9" &&
			strings.Contains(list[0].GetReason(), "this build (v1) does not know the field")
	}
	play(t, dir, Settings{Build: "v1"}, func(s *scene) {
		p, h := s.hello()
		if h.GetDegradation() != nil {
			t.Errorf("from the start: %v", h)
		}
		applied(t, p.answer(src.change(true, route("a"))))
		for _, change := range []func() *streamv1.StreamResponse{
			func() *streamv1.StreamResponse { return src.of(newer(t, "b")) },
			func() *streamv1.StreamResponse { return src.change(false, route("c")) },
		} {
			r := p.answer(change())
			if r.GetOutcome() != streamv1.Result_OUTCOME_DEGRADED || !named(r.GetProblems()) ||
				s.node.version.Revision != r.GetRevision() || s.node.runs() != src.config.Hash() {
				t.Errorf("got %v", r)
			}
		}
		for range 3 {
			if r := (<-p.up).GetReport(); r.GetDegradation() != nil {
				t.Errorf("reported what was told: %v", r)
			}
		}
		p.end <- fmt.Errorf("gone")
		_, h = s.hello()
		if !named(h.GetDegradation().GetProblems()) {
			t.Errorf("to another control plane: %v", h)
		}
	})
	play(t, dir, Settings{Build: "v1"}, func(s *scene) {
		p, h := s.hello()
		if !named(h.GetDegradation().GetProblems()) || h.GetRevision() != 3 || s.node.runs() != src.config.Hash() {
			t.Errorf("after a restart: %v", h)
		}
		applied(t, p.answer(src.change(false, config.Edit{Kind: config.Route, Delete: "b"})))
	})
}

// TestManyFieldsOfALaterBuild: a result names so many that it stays small.
func TestManyFieldsOfALaterBuild(t *testing.T) {
	f, _ := follower(t, t.TempDir())
	src := &source{t: t, config: config.Empty()}
	var entries []*config.Entry
	for i := range maxUnknown + 10 {
		entries = append(entries, newer(t, fmt.Sprintf("r%03d", i)))
	}
	r := take(t, f, src.of(entries...))
	if list := r.GetProblems(); len(list) != maxUnknown+1 || list[0].GetName() != "r000" ||
		list[maxUnknown].GetReason() != "10 more fields have no effect" {
		t.Errorf("got %d problems: %v", len(list), list)
	}
	want := "# HELP gateway_config_problems What of the revision that the node runs does not work: fields that this " +
		"build does not know, and the revision itself where it can't be kept for a restart.\n" +
		"# TYPE gateway_config_problems gauge\n" +
		"gateway_config_problems 51\n"
	if err := testutil.CollectAndCompare(f, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

package follow

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// TestRefusalTimeout: a node that refuses what most of its fleet runs is not ready after a while, where that is
// chosen, until it runs what it is told to.
func TestRefusalTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := func(timeout time.Duration) (*Follower, *nodeDouble) {
			n := &nodeDouble{}
			f, err := NewFollower(Settings{DataDir: t.TempDir(), RefusalTimeout: timeout}, slog.New(slog.DiscardHandler), n)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(f.disk.close)
			return f, n
		}
		f, n := start(time.Minute)
		src := &source{t: t, config: config.Empty()}
		applied(t, take(t, f, src.change(true, route("a"))))
		n.refuse.Store(true)
		bad := src.change(true, route("b"))
		refuse := func() {
			t.Helper()
			if r := take(t, f, proto.CloneOf(bad)); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED {
				t.Fatalf("got %v", r)
			}
		}
		othersRun := func(revision uint32, yes bool) {
			f.stand(&streamv1.FleetStanding{Epoch: "e", Revision: revision, OthersRun: yes})
		}
		ready := func(what string, want bool) {
			t.Helper()
			if reason := f.NotReady(); (reason == "") != want {
				t.Errorf("%s: %q", what, reason)
			}
		}
		refuse()
		time.Sleep(time.Hour)
		ready("nobody has said what others run", true)
		othersRun(2, false)
		time.Sleep(time.Hour)
		ready("most refuse it", true)
		othersRun(7, true)
		time.Sleep(time.Hour)
		ready("others run something else", true)
		othersRun(2, true)
		time.Sleep(59 * time.Second)
		othersRun(2, true)
		refuse() // on another stream
		ready("for a while", true)
		time.Sleep(time.Second)
		ready("for long", false)
		if reason := f.NotReady(); !strings.Contains(reason, `revision 2`) || !strings.Contains(reason, `route "r": no`) {
			t.Errorf("the reason is %q", reason)
		}
		othersRun(2, false)
		ready("others have gone", true)
		othersRun(2, true)
		time.Sleep(time.Minute)
		ready("for long again", false)
		n.refuse.Store(false)
		endpoints := &streamv1.EndpointsUpdate{Version: 1, Chunk: 1, Chunks: 1}
		take(t, f, &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Endpoints{Endpoints: endpoints}})
		ready("endpoints say nothing of that", false)
		applied(t, take(t, f, src.change(true, route("c"))))
		ready("it runs what it was told to", true)

		f, n = start(0)
		applied(t, take(t, f, src.change(true, route("d"))))
		n.refuse.Store(true)
		bad = src.change(true, route("e"))
		refuse()
		othersRun(src.revision, true)
		time.Sleep(24 * time.Hour)
		ready("nobody has chosen that", true)
	})
}

package fleet

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// othersRun counts as OthersRun says.
func othersRun(f *Fleet, id string) bool {
	own := f.nodes[id]
	run, refuse := 0, 0
	for _, n := range f.nodes {
		switch {
		case n.session == nil || n.epoch != own.epoch:
		case n.view.GetRefuses() != nil:
			refuse++
		case n.view.GetRevision() >= own.view.GetRefuses().GetRevision():
			run++
		}
	}
	return own.session != nil && own.view.GetRefuses() != nil && run > refuse
}

// TestOthersRun has nodes come, go, apply and refuse at random, and compares what each is told with a count of all.
func TestOthersRun(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	f := New(prometheus.NewRegistry())
	sessions := map[string]*Session{}
	epochs := []string{"", "e", "f"}
	told := map[bool]int{}
	for range 5000 {
		id := fmt.Sprint("n", random.IntN(7))
		epoch, revision := epochs[random.IntN(3)], uint32(random.IntN(4))
		s := sessions[id]
		switch random.IntN(6) {
		case 0: // also in place of an open one
			s, err := f.Connect(&streamv1.Hello{NodeId: id, InstanceId: "i", Epoch: epoch, Revision: revision}, "")
			if err != nil {
				t.Fatal(err)
			}
			sessions[id] = s
		case 1:
			if s != nil {
				s.Close()
			}
		default:
			if s != nil {
				outcome := streamv1.Result_OUTCOME_APPLIED
				if random.IntN(2) == 0 {
					outcome = streamv1.Result_OUTCOME_REJECTED
				}
				s.Result(&streamv1.Result{Epoch: epoch, Revision: revision, Outcome: outcome}, time.Now())
			}
		}
		for id, s := range sessions {
			got := s.OthersRun()
			if want := othersRun(f, id); got != want {
				t.Fatalf("%s is told %t, want %t", id, got, want)
			}
			told[got]++
		}
	}
	for _, s := range sessions {
		s.Close()
	}
	if len(f.tallies) > 0 || told[true] < 100 || told[false] < 100 {
		t.Errorf("%d epochs are counted, and nobody is connected; told %v", len(f.tallies), told)
	}
}

// TestManyRefuse: what asking costs does not grow with the number of nodes.
func TestManyRefuse(t *testing.T) {
	took := func(nodes int) time.Duration {
		f := New(prometheus.NewRegistry())
		var s *Session
		for i := range nodes {
			// Not by Connect: a new node goes through all others, to make room.
			s = &Session{fleet: f, id: fmt.Sprint("n", i), Replaced: make(chan struct{})}
			f.nodes[s.id] = &node{view: &adminv1.Node{}, session: s}
			s.Result(&streamv1.Result{Epoch: "e", Revision: 1, Outcome: streamv1.Result_OUTCOME_REJECTED}, time.Now())
		}
		best := time.Hour
		for range 20 {
			begun := time.Now()
			for range 10 {
				s.OthersRun()
			}
			best = min(best, time.Since(begun))
		}
		return best
	}
	if few, many := took(10), took(maxNodes); many > 50*few {
		t.Errorf("asked by one of 10 nodes: %s; by one of %d: %s", few, maxNodes, many)
	}
}

package fleet

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// TestNodesAreAskedAboutLimits waits for the answers of all that are connected, and for no others.
func TestNodesAreAskedAboutLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(prometheus.NewRegistry())
		if got, ok := f.AskLimit(t.Context(), &streamv1.LimitDirective{}); len(got) != 0 || !ok {
			t.Errorf("without nodes: %v, %t", got, ok)
		}
		one, err := f.Connect(&streamv1.Hello{NodeId: "one", InstanceId: "1"}, "")
		if err != nil {
			t.Fatal(err)
		}
		two, err := f.Connect(&streamv1.Hello{NodeId: "two", InstanceId: "2"}, "")
		if err != nil {
			t.Fatal(err)
		}
		asked := func(s *Session) (number uint64) {
			for _, d := range s.Directives() {
				if l := d.GetLimit(); l != nil {
					number = l.GetQuestion()
				}
			}
			return number
		}
		answers := make(chan map[string]*streamv1.LimitStatus)
		ask := func(within time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			got, _ := f.AskLimit(ctx, &streamv1.LimitDirective{Limit: "l"})
			answers <- got
		}
		go ask(time.Minute)
		synctest.Wait()
		q := asked(one)
		if q == 0 || asked(two) != q {
			t.Fatal("not both are asked the same")
		}
		one.Report(&streamv1.Report{Limits: []*streamv1.LimitStatus{
			{Question: q, Left: 3}, {Question: q, Left: 9}, {Question: q + 1},
		}})
		two.Report(&streamv1.Report{Limits: []*streamv1.LimitStatus{{Question: q, Left: 4}}})
		if got := <-answers; len(got) != 2 || got["one"].GetLeft() != 3 || got["two"].GetLeft() != 4 {
			t.Errorf("both: %v", got)
		}
		go ask(time.Second)
		synctest.Wait()
		one.Report(&streamv1.Report{Limits: []*streamv1.LimitStatus{{Question: asked(one), Left: 5}}})
		if got := <-answers; len(got) != 1 || got["one"].GetLeft() != 5 {
			t.Errorf("one is silent: %v", got)
		}
		if n := len(f.questions.open); n != 0 {
			t.Errorf("%d questions are kept", n)
		}
	})
}

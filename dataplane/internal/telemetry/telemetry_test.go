package telemetry

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"gateway.internal/shared/fault"
)

func TestCountsAndReports(t *testing.T) {
	r := New(4)
	route := r.Route(Key{"r1", "users", "s1", "svc"})
	if r.Route(Key{"r1", "users", "s1", "svc"}) != route {
		t.Fatal("another Route for the same key")
	}
	for shard := range uint32(6) {
		route.Done(shard, &Done{Method: MethodOf("GET"), Status: 200, Duration: 2 * time.Millisecond, Upstream: time.Millisecond, ResponseBytes: 500})
	}
	route.Done(0, &Done{Method: MethodOf("BREW"), Status: 503, Code: fault.NoHealthyEndpoints, Duration: time.Minute})
	want := `
# HELP gateway_errors_total Errors of the gateway by code.
# TYPE gateway_errors_total counter
gateway_errors_total{code="NO_HEALTHY_ENDPOINTS",route="users",service="svc"} 1
# HELP gateway_requests_total Requests that ended.
# TYPE gateway_requests_total counter
gateway_requests_total{method="GET",route="users",service="svc",status_code="200"} 6
gateway_requests_total{method="other",route="users",service="svc",status_code="503"} 1
`
	if err := testutil.CollectAndCompare(r, strings.NewReader(want), "gateway_requests_total", "gateway_errors_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(r); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	p := r.NewReporter()
	first, _, commit := p.Report()
	if len(first) != 1 || first[0].GetRequests() != 7 || first[0].GetErrors() != 1 || first[0].GetDurationBuckets()[2] != 6 || first[0].GetDurationBuckets()[14] != 1 {
		t.Errorf("got %v", first)
	}
	again, _, commit2 := p.Report()
	if len(again) != 1 {
		t.Error("a report that was not committed is lost")
	}
	commit(len(first))
	commit2(len(again))
	if none, _, _ := p.Report(); len(none) != 0 {
		t.Errorf("reported twice: %v", none)
	}
}

func TestDoneDoesNotAllocate(t *testing.T) {
	route := New(2).Route(Key{})
	d := &Done{Method: MethodOf("GET"), Status: 502, Code: fault.UpstreamUnavailable, Duration: time.Millisecond}
	route.Done(0, d)
	if n := testing.AllocsPerRun(100, func() { route.Done(0, d) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDone(b *testing.B) {
	route := New(2).Route(Key{})
	d := &Done{Method: MethodOf("GET"), Status: 200, Duration: time.Millisecond, Upstream: time.Millisecond, ResponseBytes: 1024}
	b.ReportAllocs()
	for b.Loop() {
		route.Done(0, d)
	}
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(1)
		used, unused, back := Key{RouteID: "1"}, Key{RouteID: "2"}, Key{RouteID: "3"}
		for _, k := range []Key{used, unused, back} {
			if c := r.Route(k); k != unused {
				c.Done(0, &Done{Method: MethodOf("GET"), Status: 200})
			}
		}
		r.Forget(map[Key]bool{used: true, unused: true, back: true})
		r.Route(back)
		if n := len(r.sorted()); n != 2 {
			t.Errorf("%d routes are shown, want the two that counted", n)
		}
		time.Sleep(forgetAfter)
		if list := r.sorted(); len(list) != 1 || list[0].key != back {
			t.Errorf("shown are %v", list)
		}
	})
}

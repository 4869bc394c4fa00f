package telemetry

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/waittest"
)

// of returns the requests and errors of each revision in a report.
func of(traffic []*streamv1.RouteTraffic) map[string][2]uint64 {
	all := map[string][2]uint64{}
	for _, t := range traffic {
		key := fmt.Sprint(t.GetEpoch(), t.GetRevision(), t.GetRouteId())
		n := all[key]
		all[key] = [2]uint64{n[0] + t.GetRequests(), n[1] + t.GetErrors()}
	}
	return all
}

// TestReportsTellVersionsApart: an exchange counts for the version that it began with, also when it ends long after.
func TestReportsTellVersionsApart(t *testing.T) {
	r := New(2)
	one, two := r.Route(Key{RouteID: "a"}), r.Route(Key{RouteID: "b"})
	p := r.NewReporter()
	report := func(want map[string][2]uint64) {
		t.Helper()
		traffic, _, commit := p.Report()
		commit(len(traffic))
		if got := of(traffic); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("reported %v, want %v", got, want)
		}
	}
	first := r.NewVersion("e", 1)
	done := func(route *Route, v *Version, status int) {
		route.Done(0, &Done{Version: v, Method: MethodOf("GET"), Status: status, Duration: time.Millisecond})
	}
	done(one, nil, 200)
	done(one, first, 200)
	done(one, first, 500)
	second := r.NewVersion("e", 2)
	done(one, second, 200)
	done(one, first, 503) // it began before
	done(two, second, 200)
	report(map[string][2]uint64{"0a": {1, 0}, "e1a": {3, 2}, "e2a": {1, 0}, "e2b": {1, 0}})
	done(one, first, 200)
	report(map[string][2]uint64{"e1a": {1, 0}})
	back := r.NewVersion("e", 1) // the node goes back: the same revision, and another version
	done(one, back, 200)
	done(one, first, 500)
	traffic, _, _ := p.Report() // which is not sent
	if len(traffic) != 2 {
		t.Errorf("got %v", traffic)
	}
	report(map[string][2]uint64{"e1a": {2, 1}})
	for range lingers + 1 {
		report(map[string][2]uint64{})
	}
	if n := len(one.served()); n != 1 || one.traffic.Load().version != back {
		t.Errorf("%d versions are kept", n)
	}
	if n := len(two.served()); n != 0 {
		t.Errorf("of a route without traffic %d versions are kept", n)
	}
	done(one, first, 500) // very late
	done(two, second, 200)
	report(map[string][2]uint64{"e1a": {1, 1}, "e2b": {1, 0}})
	if one.traffic.Load().version != back {
		t.Error("a late exchange takes the first place")
	}
}

// TestErrorsAreToldWithTheirRequests: a report that comes while an exchange is being counted loses nothing of it.
func TestErrorsAreToldWithTheirRequests(t *testing.T) {
	r := New(1)
	route, v := r.Route(Key{RouteID: "a"}), r.NewVersion("e", 1)
	p := r.NewReporter()
	fails := &Done{Version: v, Status: 500, Duration: time.Microsecond}
	route.Done(0, fails)
	report := func() []*streamv1.RouteTraffic {
		traffic, _, commit := p.Report()
		commit(len(traffic))
		return traffic
	}
	report()
	c := &route.traffic.Load().cells[0]
	c.errors.Add(1)
	c.nanos.Add(1000)
	if traffic := report(); len(traffic) != 0 { // control planes pass over what has no requests
		t.Errorf("told %v", traffic)
	}
	c.duration[0].Add(1)
	if traffic := report(); len(traffic) != 1 || traffic[0].GetRequests() != 1 || traffic[0].GetErrors() != 1 ||
		traffic[0].GetDurationMicros() != 1 {
		t.Errorf("told %v", traffic)
	}
	var counting sync.WaitGroup
	var ended atomic.Bool
	for range 3 {
		counting.Go(func() {
			for !ended.Load() {
				route.Done(0, fails)
			}
		})
	}
	for range 20_000 {
		if s := route.traffic.Load().sum(); s.errors < s.requests || s.nanos < 1000*s.requests {
			t.Errorf("%d errors and %d ns of %d requests that fail", s.errors, s.nanos, s.requests)
			break
		}
	}
	ended.Store(true)
	counting.Wait()
}

// TestPartsOfAReport: what was sent of a report is not in the next one.
func TestPartsOfAReport(t *testing.T) {
	r := New(1)
	p := r.NewReporter()
	v := r.NewVersion("e", 1)
	for _, id := range []string{"b", "c", "a"} {
		r.Route(Key{RouteID: id}).Done(0, &Done{Version: v, Status: 200})
	}
	_, _, commit := p.Report()
	commit(0)
	commit(1)
	traffic, _, commit := p.Report()
	if len(traffic) != 2 || traffic[0].GetRouteId() != "b" || traffic[1].GetRouteId() != "c" {
		t.Errorf("after a third of it was sent the next report has %v", traffic)
	}
	commit(1)
	commit(2)
	if traffic, _, _ := p.Report(); len(traffic) != 0 {
		t.Errorf("sent again: %v", traffic)
	}
}

// TestVersionsAreBounded: while nothing is reported the versions that are told apart are not more and more, and nothing
// is lost.
func TestVersionsAreBounded(t *testing.T) {
	r := New(1)
	route := r.Route(Key{RouteID: "a"})
	for i := range 3 * maxTraffic {
		route.Done(0, &Done{Version: r.NewVersion("e", uint32(i+1)), Status: 200})
	}
	if n := len(route.served()); n != maxTraffic {
		t.Errorf("%d versions", n)
	}
	traffic, _, _ := r.NewReporter().Report()
	sum := uint64(0)
	for _, t := range traffic {
		sum += t.GetRequests()
	}
	if sum != 3*maxTraffic {
		t.Errorf("%d requests", sum)
	}
}

// TestTooManyVersionsAreCountedUnlocked: the version that is in force is counted without the route's mutex, also where
// it is one too many to be told apart, and where exchanges of earlier ones end meanwhile.
func TestTooManyVersionsAreCountedUnlocked(t *testing.T) {
	r := New(1)
	route := r.Route(Key{RouteID: "a"})
	p := r.NewReporter()
	var before, v *Version
	done := func(v *Version) { route.Done(0, &Done{Version: v, Status: 200}) }
	for i := range maxTraffic + 3 {
		before, v = v, r.NewVersion("e", uint32(i+1))
		done(v)
	}
	unlocked := func() {
		t.Helper()
		done(before)
		done(v)
		route.mu.Lock()
		defer route.mu.Unlock()
		ended := make(chan struct{})
		go func() { defer close(ended); done(v) }()
		waittest.Receive(t, "an exchange, which does not wait for the route's mutex", ended)
	}
	unlocked()
	sum := uint64(0)
	for range lingers + 2 { // the others are let go of
		traffic, _, commit := p.Report()
		commit(len(traffic))
		for _, one := range traffic {
			sum += one.GetRequests()
		}
		unlocked()
	}
	if n := len(route.served()); n > 2 {
		t.Errorf("%d versions", n)
	}
	before, v = v, r.NewVersion("e", maxTraffic+4)
	done(v)
	unlocked()
	traffic, _, _ := p.Report()
	if n := of(traffic)[fmt.Sprint("e", v.Revision, "a")]; n[0] != 3 {
		t.Errorf("the next version is not told apart: %v", of(traffic))
	}
	if want := uint64(maxTraffic + 3 + 3*(lingers+2)); sum != want {
		t.Errorf("%d of %d requests were reported", sum, want)
	}
}

// TestCountingWhileReporting loses nothing, whoever counts while versions come and go.
func TestCountingWhileReporting(t *testing.T) {
	const workers, each = 4, 2000
	r := New(2)
	route := r.Route(Key{RouteID: "a"})
	p := r.NewReporter()
	var counting sync.WaitGroup
	for w := range uint32(workers) {
		counting.Go(func() {
			v := r.NewVersion("e", 1)
			for i := range each {
				if i%50 == 0 {
					v = r.NewVersion("e", uint32(i))
				}
				route.Done(w, &Done{Version: v, Status: 200})
			}
		})
	}
	ended := make(chan struct{})
	go func() { counting.Wait(); close(ended) }()
	sum, over := uint64(0), false
	for !over {
		select {
		case <-ended:
			over = true
		default:
		}
		traffic, _, commit := p.Report()
		for _, t := range traffic {
			sum += t.GetRequests()
		}
		commit(len(traffic))
	}
	if sum != workers*each {
		t.Errorf("%d of %d requests were reported", sum, workers*each)
	}
}

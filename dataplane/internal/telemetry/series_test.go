package telemetry

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"gateway.internal/shared/fault"
)

// requests compares gateway_requests_total with the counts of routes, and sees that everything can be scraped.
func requests(t *testing.T, r *Registry, when string, want map[string]int) {
	t.Helper()
	text := ""
	for _, route := range []string{"a", "b", "c"} {
		if n, ok := want[route]; ok {
			text += fmt.Sprintf("gateway_requests_total{method=\"GET\",route=%q,service=\"s\",status_code=\"200\"} %d\n", route, n)
		}
	}
	if text != "" {
		text = "# HELP gateway_requests_total Requests that ended.\n# TYPE gateway_requests_total counter\n" + text
	}
	if err := testutil.CollectAndCompare(r, strings.NewReader(text), "gateway_requests_total"); err != nil {
		t.Errorf("%s: %v", when, err)
	}
	if _, err := testutil.CollectAndLint(r); err != nil { // gathers all, as a scrape does
		t.Errorf("%s: %v", when, err)
	}
}

func TestSeriesAreOfNames(t *testing.T) {
	key := func(id, name string) Key { return Key{RouteID: id, Route: name, ServiceID: "s-" + id, Service: "s"} }
	count := func(r *Registry, k Key, n int) {
		for range n {
			r.Route(k).Done(0, &Done{Method: MethodOf("GET"), Status: 200, Code: fault.UpstreamTimeout, Duration: time.Millisecond, Upstream: 1, ResponseBytes: 1})
		}
	}
	// replace is what a change does: new routes are made before old ones are let go of.
	replace := func(r *Registry, old, next []Key) {
		gone := map[Key]bool{}
		for _, k := range old {
			gone[k] = true
		}
		for _, k := range next {
			r.Route(k)
			delete(gone, k)
		}
		r.Forget(gone)
	}
	synctest.Test(t, func(t *testing.T) {
		r := New(2)
		p := r.NewReporter()
		count(r, key("1", "a"), 3)
		count(r, key("2", "b"), 5)
		replace(r, []Key{key("1", "a")}, []Key{key("3", "a")})
		requests(t, r, "made again", map[string]int{"a": 3, "b": 5})
		count(r, key("3", "a"), 1)
		count(r, key("1", "a"), 1) // an exchange that was under way
		r.Forget(map[Key]bool{key("1", "a"): true})
		requests(t, r, "after requests to both", map[string]int{"a": 5, "b": 5})
		replace(r, []Key{key("3", "a"), key("2", "b")}, []Key{key("3", "b"), key("2", "a")})
		requests(t, r, "two names swapped", map[string]int{"a": 5, "b": 5})
		count(r, key("2", "a"), 2)
		traffic, _, commit := p.Report()
		commit(len(traffic))
		time.Sleep(forgetAfter)
		requests(t, r, "when the old ones are forgotten", map[string]int{"a": 7, "b": 5})
		count(r, key("3", "b"), 1)
		requests(t, r, "later", map[string]int{"a": 7, "b": 6})
		if reports, _, _ := p.Report(); len(reports) != 1 || reports[0].GetRouteId() != "3" || reports[0].GetRequests() != 1 {
			t.Errorf("reported is %v", reports)
		}
		replace(r, []Key{key("2", "a")}, []Key{key("4", "a")})
		replace(r, []Key{key("4", "a")}, nil) // it had no request
		requests(t, r, "both are gone", map[string]int{"a": 7, "b": 6})
		time.Sleep(forgetAfter)
		requests(t, r, "nobody has the name", map[string]int{"b": 6})
		if n := len(r.past); n != 1 {
			t.Errorf("%d names are kept, want that of b", n)
		}
		count(r, key("2", "a"), 1)
		if reports, _, _ := p.Report(); len(reports) != 2 || reports[0].GetRequests() != 1 {
			t.Errorf("reported is %v", reports)
		}
	})
}

// Package chaos has a proxy serve a steady load while its endpoints, each a process of its own, are killed, hang,
// answer wrongly or are cut off, and counts the requests that failed. The short form is a part of make test; make chaos
// runs the long one, and prints a table.
package chaos

import (
	"fmt"
	"testing"
	"time"
)

// scenario is one thing that goes wrong.
type scenario struct {
	name string
	// balancing is the service's load_balancer_type.
	balancing string
	// begin lets it happen, and end mends it; nil: it is not mended.
	begin, end func(*run)
	// posts is how many requests may fail that may not be sent again: endpoints had them when they failed.
	posts int
	// outage tells that nobody is left to serve: what fails until an endpoint is back does not count.
	outage bool
}

// size is how long a run is.
type size struct {
	endpoints int
	// before, during and after are requests: before it happens, until it is mended, and from then on.
	before, during, after int
}

var (
	short = size{endpoints: 4, before: 100, during: 300, after: 100}
	long  = size{endpoints: 4, before: 400, during: 4000, after: 2000}
)

// run is one scenario with one proxy.
type run struct {
	t         testing.TB
	scenario  *scenario
	endpoints []*endpoint
	dir       string
	load      *load
}

// result is what came of a run.
type result struct {
	scenario, proxy string
	skipped         string
	// requests are those from the beginning of what happened.
	requests int
	// failed are those of them that another endpoint could have served: GET, and all that no endpoint had got.
	failed, posts int
	// first says how the first of both failed.
	first string
	// recovered is the time until requests were answered well and fast again: in an outage from its end, otherwise from
	// its beginning.
	recovered time.Duration
	// again is the time from the end until the endpoints that had failed served again.
	again time.Duration
}

// play has a proxy go through a scenario.
func play(t testing.TB, s *scenario, p proxy, size size) result {
	t.Helper()
	r := &run{t: t, scenario: s, dir: t.TempDir()}
	names := make([]string, size.endpoints)
	for i := range names {
		names[i] = fmt.Sprint("e", i)
		r.endpoints = append(r.endpoints, startEndpoint(t, names[i]))
	}
	http1, http2 := p.start(r)
	r.load = startLoad(http1, http2)
	defer r.load.stop()
	r.load.awaitAnswers(t, names...)
	r.load.await(t, size.before)
	res := result{scenario: s.name, proxy: p.name()}
	begun := r.load.now()
	s.begin(r)
	r.load.await(t, size.during)
	ended := begun
	if s.end != nil {
		s.end(r)
		ended = r.load.now()
		res.again = r.load.awaitAnswers(t, names...) - ended
		r.load.await(t, size.after)
	}
	res.judge(s, r.load.stop(), begun, ended)
	return res
}

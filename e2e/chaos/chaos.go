// Package chaos has a proxy serve a steady load while its endpoints, each a process of its own, are killed, hang,
// answer wrongly or are cut off, and counts the requests that failed. The short form is a part of make test; make chaos
// runs the long one, and prints a table.
package chaos

import (
	"fmt"
	"strconv"
	"testing"
	"time"
)

// scenario is one thing that goes wrong.
type scenario struct {
	name string
	// unequal has requests go to where they are answered soonest, as far as a proxy can, and not in turns.
	unequal bool
	// http2 has the endpoints spoken to over HTTP/2.
	http2 bool
	// latency is that of all endpoints at first.
	latency time.Duration
	// proxy is the gateway as this scenario needs it; nil: a node that follows files.
	proxy func() proxy
	// alone tells that it is nothing for HAProxy and nginx.
	alone bool
	// apart has the first endpoint in a network of its own.
	apart bool
	// begin lets it happen, and end mends it; nil: it is not mended.
	begin, end func(*run)
	// posts is how many requests may fail that may not be sent again: endpoints had them when they failed.
	posts int
	// outage tells that nobody is left to serve: what fails until an endpoint is back does not count.
	outage bool
	// dying tells that retries can't help, and may not be more than the default of a policy's budget lets them be.
	dying bool
	// ejected tells that only the time for which they are ejected keeps the endpoints out when it is mended. The short
	// form does not wait for that, and so does not mend it.
	ejected bool
	// needs names what of its configuration the gateway can't do without.
	needs string
	// lost tells that what fails can't be saved, since its response had begun: failures count as those of POST.
	lost bool
}

// size is how long a run is.
type size struct {
	endpoints int
	// before, during and after are requests: before it happens, until it is mended, and from then on.
	before, during, after int
	// changes is how many there are in scenarios that consist of them.
	changes int
	short   bool
}

var (
	short = size{endpoints: 4, before: 100, during: 300, after: 100, changes: 50, short: true}
	long  = size{endpoints: 4, before: 400, during: 1200, after: 600, changes: 1000}
)

// run is one scenario with one proxy.
type run struct {
	t         testing.TB
	scenario  *scenario
	endpoints []*endpoint
	dir       string
	load      *load
	proxy     proxy
	size      size
}

// result is what came of a run.
type result struct {
	scenario, proxy string
	skipped         string
	// requests are those from the beginning of what happened.
	requests int
	// failed are those of them that another endpoint could have served: GET, and all that no endpoint had got.
	failed, posts int
	// slow are those that failed or were not answered fast.
	slow int
	// unequal tells that slow says more than recovered: an endpoint is slow, and gets a request now and then.
	unequal bool
	// attempts are requests that endpoints had for each that clients sent, over the whole run; 0: nobody has counted.
	attempts float64
	// first says how the first of both failed.
	first string
	// recovered is the time until requests were answered well and fast again: in an outage from its end, otherwise from
	// its beginning; below 0: they never were.
	recovered time.Duration
	// again is the time from the end until the endpoints that had failed served again.
	again time.Duration
}

// play has a proxy go through a scenario.
func play(t testing.TB, s *scenario, p proxy, size size) result {
	t.Helper()
	if s.apart {
		if why := networkless(); why != "" {
			t.Skip(why)
		}
	}
	if p.name() == (gateway{}).name() && !configured[s.needs] {
		t.Skip("the gateway is run without " + s.needs)
	}
	r := &run{t: t, scenario: s, dir: folder(t), proxy: p, size: size}
	names := make([]string, size.endpoints)
	for i := range names {
		names[i] = fmt.Sprint("e", i)
		e := startEndpoint(t, names[i], s.apart && i == 0)
		e.tell("latency " + s.latency.String())
		r.endpoints = append(r.endpoints, e)
	}
	http1, http2 := p.start(r)
	r.load = startLoad(http1, http2)
	defer r.load.stop()
	r.load.awaitAnswers(t, names...)
	r.load.await(t, size.before)
	res := result{scenario: s.name, proxy: p.name(), unequal: s.unequal}
	begun := r.load.now()
	s.begin(r)
	r.load.await(t, size.during)
	ended := begun
	if s.outage {
		ended = r.load.now() // What is answered well before has begun before all endpoints were out.
	}
	if s.end != nil && !(s.ejected && size.short) {
		s.end(r)
		ended = r.load.now()
		res.again = r.load.awaitAnswers(t, names...) - ended
		r.load.await(t, size.after)
	}
	outcomes := r.load.stop()
	res.judge(s, outcomes, begun, ended)
	if s.dying {
		received := r.received()
		res.attempts = float64(received) / float64(len(outcomes))
		if p.name() == (gateway{}).name() && received > len(outcomes)+max(len(outcomes)/5, retriesInAnyCase) {
			t.Errorf("endpoints that failed had %d requests, and clients sent %d", received, len(outcomes))
		}
	}
	return res
}

// retriesInAnyCase is how many retries a policy's min_retries_per_second allows by default, where a fifth of the
// requests are fewer: 10 a second over ten seconds.
const retriesInAnyCase = 100

// received returns how many requests the endpoints had.
func (r *run) received() (n int) {
	r.t.Helper()
	for _, e := range r.endpoints {
		had, err := strconv.Atoi(e.tell("requests"))
		r.must(err)
		n += had
	}
	return n
}

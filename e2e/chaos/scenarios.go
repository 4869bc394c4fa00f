package chaos

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"
)

// postsLost is how many requests that may not be sent again an endpoint may take until it gets none any more: as many
// as have to fail, and those that are under way then. One that only ends its connections may meet a POST on each of
// them, up to postWorkers.
const postsLost = failuresToEject + postWorkers

// scenarios are those that every proxy can go through.
func scenarios() []*scenario {
	return []*scenario{
		{
			name: "an endpoint is killed, and comes back", posts: postWorkers,
			begin: func(r *run) { r.endpoints[0].kill() },
			end:   func(r *run) { r.endpoints[0].start() },
		},
		{
			name: "an endpoint refuses connections", posts: postWorkers,
			begin: func(r *run) { r.endpoints[0].tell("refuse") },
			end:   func(r *run) { r.endpoints[0].tell("listen") },
		},
		{
			name: "an endpoint's address is a black hole", posts: postWorkers,
			begin: func(r *run) { r.endpoints[0].tell("blackhole") },
			end:   func(r *run) { r.endpoints[0].tell("listen") },
		},
		{
			name: "an endpoint's network drops everything", needs: "retry", apart: true, posts: postsLost,
			begin: func(r *run) { r.must(r.endpoints[0].network.cut()) },
			end:   func(r *run) { r.must(r.endpoints[0].network.mend()) },
		},
		{
			name: "an endpoint takes requests and never answers", needs: "retry", posts: postsLost,
			begin: func(r *run) { r.endpoints[0].tell(hangs) },
			end:   func(r *run) { r.endpoints[0].tell(answers) },
		},
		{
			name: "an endpoint is frozen", needs: "retry", posts: postsLost,
			begin: func(r *run) { r.must(r.endpoints[0].cmd.Process.Signal(syscall.SIGSTOP)) },
			end:   func(r *run) { r.must(r.endpoints[0].cmd.Process.Signal(syscall.SIGCONT)) },
		},
		{
			name: "an endpoint resets what it is asked", needs: "outlier_detection", posts: postsLost,
			begin: func(r *run) { r.endpoints[0].tell(cuts) },
			end:   func(r *run) { r.endpoints[0].tell(answers) },
		},
		{
			name: "an endpoint resets after the head of its response", needs: "outlier_detection",
			posts: workers + failuresToEject, lost: true,
			begin: func(r *run) { r.endpoints[0].tell(cutsResponses) },
			end:   func(r *run) { r.endpoints[0].tell(answers) },
		},
		{
			name: "an endpoint is twenty times slower", unequal: true, latency: 5 * time.Millisecond,
			begin: func(r *run) { r.endpoints[0].tell("latency 100ms") },
			end:   func(r *run) { r.endpoints[0].tell("latency 5ms") },
		},
		{
			name: "half of the endpoints answer with 500", needs: "outlier_detection", ejected: true,
			posts: 2*failuresToEject + postWorkers,
			begin: func(r *run) {
				for _, e := range r.endpoints[:len(r.endpoints)/2] {
					e.tell(errs)
				}
			},
			end: func(r *run) {
				for _, e := range r.endpoints[:len(r.endpoints)/2] {
					e.tell(answers)
				}
			},
		},
		{
			name: "an endpoint over HTTP/2 is killed, and comes back", alone: true, http2: true, posts: postWorkers,
			needs: "retry",
			begin: func(r *run) { r.endpoints[0].kill() },
			end:   func(r *run) { r.endpoints[0].start() },
		},
		{
			name: "an endpoint over HTTP/2 never answers", alone: true, http2: true, posts: postsLost, needs: "retry",
			begin: func(r *run) { r.endpoints[0].tell(hangs) },
			end:   func(r *run) { r.endpoints[0].tell(answers) },
		},
		{
			name: "an endpoint over HTTP/2 resets streams", alone: true, http2: true, posts: postsLost,
			needs: "outlier_detection",
			begin: func(r *run) { r.endpoints[0].tell(cuts) },
			end:   func(r *run) { r.endpoints[0].tell(answers) },
		},
		{
			name: "all endpoints answer with 500, and recover", outage: true, dying: true, needs: "outlier_detection",
			begin: func(r *run) {
				for _, e := range r.endpoints {
					e.tell(errs)
				}
			},
			end: func(r *run) {
				for _, e := range r.endpoints {
					e.tell(answers)
				}
			}, ejected: true,
		},
		{
			name: "all endpoints are killed, and come back", outage: true,
			begin: func(r *run) {
				for _, e := range r.endpoints {
					e.kill()
				}
			},
			end: func(r *run) {
				for _, e := range r.endpoints {
					e.start()
				}
			},
		},
		{
			name: "a node is terminated behind a balancer", alone: true,
			proxy: func() proxy { return &pair{} },
			begin: func(r *run) { r.proxy.(*pair).terminate(r, 0) },
			end:   func(r *run) { r.proxy.(*pair).launch(r, 0) },
		},
		{
			name: "a thousand changes of endpoints in a minute", latency: 20 * time.Millisecond,
			proxy: func() proxy { return &fleet{} },
			begin: changeEndpoints,
		},
		{
			name: "discovery takes an endpoint away, which ends, and finds it again", alone: true,
			proxy: func() proxy { return &fleet{discovers: true} },
			begin: func(r *run) {
				r.proxy.(changer).use(r, r.endpoints[1:])
				r.load.awaitNone(r.t, r.endpoints[0].name)
				r.endpoints[0].kill()
			},
			end: func(r *run) {
				r.endpoints[0].start()
				r.proxy.(changer).use(r, r.endpoints)
			},
		},
		{
			name: "a policy changes again and again", alone: true,
			proxy: func() proxy { return &fleet{} },
			begin: changePolicy,
		},
	}
}

// gateway returns the gateway that goes through a scenario.
func (s *scenario) gateway() proxy {
	if s.proxy != nil {
		return s.proxy()
	}
	return gateway{}
}

// changeEndpoints takes away one endpoint after the other and adds it again, at the pace of a thousand changes a
// minute.
func changeEndpoints(r *run) {
	pace := time.NewTicker(time.Minute / 1000)
	defer pace.Stop()
	p := r.proxy.(changer)
	for i := range r.size.changes {
		<-pace.C
		in := r.endpoints
		if i%2 == 0 {
			n := i / 2 % len(in)
			in = slices.Concat(in[:n], in[n+1:])
		}
		p.use(r, in)
	}
}

// changePolicy lets bodies be shorter than those of the requests, and longer again. As soon as the node has the
// revision, new requests are answered by it.
func changePolicy(r *run) {
	f := r.proxy.(*fleet)
	client := &http.Client{Timeout: answerWithin}
	for i := range r.size.changes / 10 {
		most, want := 1, http.StatusRequestEntityTooLarge
		if i%2 == 1 {
			most, want = 1000, http.StatusOK
		}
		f.awaitRevision(r, f.call(r, "PATCH", "policies/changing", fmt.Sprintf(`{"max_request_bytes":%d}`, most)))
		for range 10 {
			res, err := client.Post("http://"+f.front+"/changing/", "text/plain", strings.NewReader("two or more"))
			if err != nil {
				r.t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != want {
				r.t.Errorf("where at most %d bytes may be sent, more are answered with %s", most, res.Status)
			}
		}
	}
}

// must ends the run when a fault can't be had.
func (r *run) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

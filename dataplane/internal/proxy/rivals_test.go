package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/attempt"
	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/shared/config"
	"gateway.internal/shared/pathnorm"
	"gateway.internal/shared/waittest"
)

// rivals are a service with two endpoints, whose requests are answered as the test says. Those for /next/ are
// answered at once, with their path.
type rivals struct{ calls chan *rivalCall }

// rivalCall is a request that has come to one of them.
type rivalCall struct {
	answer chan string // what is answered; "": the connection, or the stream, is broken off
	body   chan string // what the request had as its body, or "cut"
	gone   chan struct{}
	end    func()
}

func (s *rivals) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/next/") {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, r.URL.Path)
		return
	}
	c := &rivalCall{answer: make(chan string, 1), body: make(chan string, 1), gone: make(chan struct{})}
	c.end = sync.OnceFunc(func() { close(c.gone) })
	defer c.end()
	s.calls <- c
	if r.URL.Path == "/broken off" {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil { // otherwise net/http waits for the body
			_ = conn.Close()
			return
		}
		panic(http.ErrAbortHandler)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		c.body <- "cut"
	} else {
		c.body <- string(b)
	}
	select {
	case text := <-c.answer:
		w.Header().Set("X-Rival", text)
		switch {
		case text == "":
			panic(http.ErrAbortHandler)
		case strings.HasPrefix(text, "503"):
			w.WriteHeader(503)
		}
		_, _ = io.WriteString(w, text)
	case <-r.Context().Done():
		_, _ = io.WriteString(w, "late") // nobody is to get it
		_ = http.NewResponseController(w).Flush()
	}
}

// race is a node before rivals.
type race struct {
	*gateway
	*rivals
	t      *testing.T
	client *http.Client
	copies int64
}

// startRace starts a node whose exchanges may have several attempts.
func startRace(t *testing.T, version, protocol string, retries *config.Retries) *race {
	t.Helper()
	return startRaceThrough(t, version, protocol, retries, &hedged{})
}

// startRaceThrough does that with a step.
func startRaceThrough(t *testing.T, version, protocol string, retries *config.Retries, step hedging) *race {
	t.Helper()
	step.set(retries)
	r := &race{t: t, rivals: &rivals{calls: make(chan *rivalCall, 100)}, client: clientOf(t, version)}
	const pool = "connection_pool: {response_timeout: 20s, connect_timeout: 20s}"
	config := "services: [{name: s, protocol: " + protocol + ", " + pool + ", endpoints: ["
	for range 2 {
		var address string
		if protocol == "h2c" {
			address = newH2Server(t, nil, r.rivals).address
		} else {
			s := httptest.NewUnstartedServer(r.rivals)
			s.Config.ErrorLog = newH2Server(t, nil, r.rivals).Config.ErrorLog
			s.Start()
			t.Cleanup(s.Close)
			address = s.Listener.Addr().String()
		}
		host, port, _ := net.SplitHostPort(address)
		config += fmt.Sprintf("{host: %s, port: %s},", host, port)
	}
	r.copies = attempt.CopiesInUse.Load()
	config += "]}]\nroutes: [{name: all, path: /*, service_id: s}]\n"
	limits, paths := codec.DefaultLimits(), pathnorm.DefaultSettings()
	r.gateway = startThrough(t, step, limits, paths, HeaderSettings{}, config)
	return r
}

// hedged is a step whose exchanges may have several attempts. A client's side that is to tell its client to go on
// panics in whichever attempt that is, where the request asks for it.
type hedged struct{ retries *config.Retries }

// hedging is a step whose exchanges are hedged.
type hedging interface {
	pipeline.Step
	set(retries *config.Retries)
	prepare(g *gateway)
}

func (h *hedged) set(retries *config.Retries) { h.retries = retries }

// prepare is called before there are exchanges.
func (h *hedged) prepare(g *gateway) {
	for b := range g.backends() {
		b.Retries = h.retries
	}
}

func (h *hedged) Request(x *exchange.Exchange) exchange.Verdict {
	if x.Request.Path == "/broken" {
		x.Down = breakingInterim{x.Down}
	}
	return exchange.Continue
}

func (h *hedged) Response(*exchange.Exchange) {}

type breakingInterim struct{ exchange.Downstream }

func (breakingInterim) WriteInterim(int, *exchange.Header, []byte) error { panic("in a test") }

// outcomes returns how many attempts have had which outcome.
func (r *race) outcomes() map[string]float64 {
	r.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(r.services)
	all, err := registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	n := map[string]float64{}
	for _, family := range all {
		if !strings.HasPrefix(family.GetName(), "gateway_concurrent_attempts") {
			continue
		}
		for _, m := range family.GetMetric() {
			outcome := map[string]string{"gateway_concurrent_attempts_refused_total": "refused"}[family.GetName()]
			for _, l := range m.GetLabel() {
				if l.GetName() == "outcome" {
					outcome = l.GetValue()
				}
			}
			n[outcome] += m.GetCounter().GetValue()
		}
	}
	return n
}

// came waits until so many attempts have come to an outcome since the node was started.
func (r *race) came(won, failed, canceled, refused float64) {
	r.t.Helper()
	waittest.UntilNil(r.t, "the attempts are counted", func() error {
		now := r.outcomes()
		all := map[string]float64{"won": won, "failed": failed, "canceled": canceled, "refused": refused}
		for outcome, want := range all {
			if n := now[outcome]; n != want {
				return fmt.Errorf("%v have %s, want %v", n, outcome, want)
			}
		}
		return nil
	})
}

// call waits for a request.
func (r *race) call(what string) *rivalCall {
	r.t.Helper()
	return waittest.Receive(r.t, what, r.calls)
}

// answer is what a client got: status and body, and fields of the response.
type answer struct {
	text          string
	err           error
	dates, rivals int
}

// ask asks for a path, and returns where the answer comes.
func (r *race) ask(method, path string, body io.Reader) <-chan answer {
	r.t.Helper()
	got := make(chan answer, 1)
	req, err := http.NewRequestWithContext(context.WithoutCancel(r.t.Context()), method, "http://"+r.address+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	go func() {
		res, err := r.client.Do(req)
		if err != nil {
			got <- answer{err: err}
			return
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		got <- answer{fmt.Sprint(res.StatusCode, " ", string(b)), err, len(res.Header["Date"]), len(res.Header["X-Rival"])}
	}()
	return got
}

// over sees that nothing is left of the exchange: neither at the endpoints, nor in what the next ones get.
func (r *race) over() {
	r.t.Helper()
	for i := range 4 {
		path := fmt.Sprint("/next/", i)
		got := waittest.Receive(r.t, path, r.ask("GET", path, nil))
		if got.text != "200 "+path || got.dates != 1 || got.rivals > 0 {
			r.t.Errorf("the next exchange got %+v", got)
		}
	}
	waittest.UntilNil(r.t, "nothing is left", func() error {
		one := r.services.Get(r.serviceID()).Pick(nil, nil)
		var tried upstream.Tried
		tried.Add(one)
		two := r.services.Get(r.serviceID()).Pick(nil, &tried)
		if a, b := one.State.InFlight(), two.State.InFlight(); a != 0 || b != 0 {
			return fmt.Errorf("%d and %d exchanges are at the endpoints", a, b)
		}
		if n := attempt.CopiesInUse.Load(); n != r.copies {
			return fmt.Errorf("%d copies are in use, before %d", n, r.copies)
		}
		return nil
	})
}

// eachPair runs a test for all pairs of protocols.
func eachPair(t *testing.T, test func(t *testing.T, version, protocol string)) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		for _, protocol := range []string{"http", "h2c"} {
			t.Run(version+" to "+protocol, func(t *testing.T) {
				if version == "HTTP/2" {
					once(t)
				}
				test(t, version, protocol)
			})
		}
	}
}

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
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/attempt"
	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
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

// startRace starts a node whose exchanges may have several attempts, as a plan says.
func startRace(t *testing.T, version, protocol string, plan *attempt.Plan) *race {
	t.Helper()
	return startRaceThrough(t, version, protocol, plan, &planned{})
}

// startRaceThrough does that with a step.
func startRaceThrough(t *testing.T, version, protocol string, plan *attempt.Plan, step planning) *race {
	t.Helper()
	step.set(plan)
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

// planned is a step whose exchanges may have several attempts. A client's side that is to tell its client to go on
// panics in whichever attempt that is, where the request asks for it.
type planned struct{ plan *attempt.Plan }

// planning is a step that knows a plan.
type planning interface {
	pipeline.Step
	set(plan *attempt.Plan)
	prepare(g *gateway)
}

func (p *planned) set(plan *attempt.Plan) { p.plan = plan }

// prepare is called before there are exchanges.
func (p *planned) prepare(g *gateway) {
	for b := range g.backends() {
		b.Attempts = p.plan
	}
}

func (p *planned) Request(x *exchange.Exchange) exchange.Verdict {
	if x.Request.Path == "/broken" {
		x.Down = breakingInterim{x.Down}
	}
	return exchange.Continue
}

func (p *planned) Response(*exchange.Exchange) {}

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
		one := r.services.Get(r.serviceID()).Pick(nil)
		two := r.services.Get(r.serviceID()).Pick(one)
		if a, b := one.State.InFlight(), two.State.InFlight(); a != 0 || b != 0 {
			return fmt.Errorf("%d and %d exchanges are at the endpoints", a, b)
		}
		if n := attempt.CopiesInUse.Load(); n != r.copies {
			return fmt.Errorf("%d copies are in use, before %d", n, r.copies)
		}
		return nil
	})
}

// each runs a test for all pairs of protocols.
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

// soon has the second attempt begin at once, onFailure only when the first one has failed, and
// onBad also where its response is not good.
var (
	soon      = &attempt.Plan{Most: 2}
	onFailure = &attempt.Plan{Most: 2, Delay: time.Hour}
	onBad     = &attempt.Plan{Most: 2, Delay: time.Hour, Good: isGood}
)

func isGood(res *exchange.Response) bool { return res.Status < 500 }

// TestTwoAttempts has two attempts at once: the first good response is the client's, and nothing is seen of the other.
func TestTwoAttempts(t *testing.T) {
	for name, c := range map[string]struct {
		plan     *attempt.Plan
		do       func(r *race, one *rivalCall)
		want     string
		outcomes [4]float64 // won, failed, canceled, refused
	}{
		"the first one wins": {soon, func(r *race, one *rivalCall) {
			two := r.call("the second attempt")
			one.answer <- "one"
			waittest.Receive(r.t, "the end of the second attempt", two.gone)
		}, "200 one", [4]float64{1, 0, 1, 0}},
		"the second one wins": {soon, func(r *race, one *rivalCall) {
			r.call("the second attempt").answer <- "two"
			waittest.Receive(r.t, "the end of the first attempt", one.gone)
		}, "200 two", [4]float64{1, 0, 1, 0}},
		"both fail": {soon, func(r *race, one *rivalCall) {
			two := r.call("the second attempt")
			one.answer <- ""
			two.answer <- ""
		}, "502", [4]float64{0, 2, 0, 0}},
		"the second one begins when the first has failed": {onFailure, func(r *race, one *rivalCall) {
			one.answer <- ""
			r.call("the second attempt").answer <- "two"
		}, "200 two", [4]float64{1, 1, 0, 0}},
		"the first response is not good": {onBad, func(r *race, one *rivalCall) {
			one.answer <- "503 one"
			r.call("the second attempt").answer <- "two"
		}, "200 two", [4]float64{1, 0, 1, 0}},
		"no response is good": {onBad, func(r *race, one *rivalCall) {
			one.answer <- "503 one"
			r.call("the second attempt").answer <- "503 two"
		}, "503 503 one", [4]float64{1, 0, 1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			eachPair(t, func(t *testing.T, version, protocol string) {
				r := startRace(t, version, protocol, c.plan)
				got := r.ask("GET", "/", nil)
				c.do(r, r.call("the first attempt"))
				if a := waittest.Receive(t, "the response", got); !strings.HasPrefix(a.text, c.want) || a.err != nil {
					t.Errorf("the client got %q, %v, want %s", a.text, a.err, c.want)
				}
				r.came(c.outcomes[0], c.outcomes[1], c.outcomes[2], c.outcomes[3])
				r.over()
			})
		})
	}
}

// TestClientLeavesTwoAttempts ends both when the client goes away.
func TestClientLeavesTwoAttempts(t *testing.T) {
	eachPair(t, func(t *testing.T, version, protocol string) {
		r := startRace(t, version, protocol, soon)
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		req, err := http.NewRequestWithContext(ctx, "GET", "http://"+r.address+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		left := make(chan error, 1)
		go func() {
			res, err := r.client.Do(req)
			if err == nil {
				_ = res.Body.Close()
			}
			left <- err
		}()
		one, two := r.call("the first attempt"), r.call("the second attempt")
		leave()
		if err := waittest.Receive(t, "the client", left); err == nil {
			t.Error("the client got a response")
		}
		waittest.Receive(t, "the end of the first attempt", one.gone)
		waittest.Receive(t, "the end of the second attempt", two.gone)
		r.came(0, 0, 2, 0)
		r.over()
	})
}

// parts is a body whose parts come as the test sends them.
func parts() (body io.Reader, send chan<- string) {
	r, w := io.Pipe()
	ch := make(chan string)
	go func() {
		for part := range ch {
			if _, err := io.WriteString(w, part); err != nil {
				break
			}
		}
		_ = w.Close()
		for range ch { // nobody takes it any more
		}
	}()
	return r, ch
}

// TestBodyOfTwoAttempts sends a body to both, as far as it is kept; where it is longer, one of them alone gets all of
// it.
func TestBodyOfTwoAttempts(t *testing.T) {
	const kept = 100 << 10
	within, beyond := strings.Repeat("within ", 10<<10), strings.Repeat("beyond! ", 40<<10)
	t.Run("within the limit", func(t *testing.T) {
		eachPair(t, func(t *testing.T, version, protocol string) {
			r := startRace(t, version, protocol, &attempt.Plan{Most: 2, KeptBytes: kept})
			body, send := parts()
			got := r.ask("PUT", "/", body)
			send <- "first "
			one, two := r.call("the first attempt"), r.call("the second attempt")
			send <- within
			close(send)
			for _, c := range []*rivalCall{one, two} {
				if b := waittest.Receive(t, "the body", c.body); b != "first "+within {
					t.Errorf("an attempt got %d bytes: %.20q", len(b), b)
				}
			}
			two.answer <- "two"
			if a := waittest.Receive(t, "the response", got); a.text != "200 two" {
				t.Errorf("the client got %q, %v", a.text, a.err)
			}
			r.came(1, 0, 1, 0)
			r.over()
		})
	})
	t.Run("after the first one has failed", func(t *testing.T) {
		eachPair(t, func(t *testing.T, version, protocol string) {
			r := startRace(t, version, protocol, &attempt.Plan{Most: 2, KeptBytes: kept, Delay: time.Hour})
			body, send := parts()
			got := r.ask("PUT", "/", body)
			send <- within
			close(send)
			one := r.call("the first attempt")
			waittest.Receive(t, "the body", one.body)
			one.answer <- ""
			two := r.call("the second attempt")
			if b := waittest.Receive(t, "the body", two.body); b != within {
				t.Errorf("the second attempt got %d bytes: %.20q", len(b), b)
			}
			two.answer <- "two"
			if a := waittest.Receive(t, "the response", got); a.text != "200 two" {
				t.Errorf("the client got %q, %v", a.text, a.err)
			}
			r.came(1, 1, 0, 0)
			r.over()
		})
	})
	t.Run("both fail while it comes", func(t *testing.T) {
		eachPair(t, func(t *testing.T, version, protocol string) {
			r := startRace(t, version, protocol, soon)
			body, send := parts()
			defer close(send)
			got := r.ask("PUT", "/broken%20off", body)
			send <- "first "
			r.call("the first attempt")
			r.call("the second attempt")
			if a := waittest.Receive(t, "the response", got); !strings.HasPrefix(a.text, "502") {
				t.Errorf("the client got %q, %v", a.text, a.err)
			}
			r.came(0, 2, 0, 0)
			r.over()
		})
	})
	t.Run("longer than the limit, both under way", func(t *testing.T) {
		eachPair(t, func(t *testing.T, version, protocol string) {
			r := startRace(t, version, protocol, &attempt.Plan{Most: 2, KeptBytes: kept})
			body, send := parts()
			got := r.ask("PUT", "/", body)
			send <- "first "
			calls := []*rivalCall{r.call("the first attempt"), r.call("the second attempt")}
			for range 3 {
				send <- beyond
			}
			close(send)
			whole := 0
			for _, c := range calls {
				switch b := waittest.Receive(t, "the body", c.body); {
				case b == "first "+strings.Repeat(beyond, 3):
					whole++
					c.answer <- "whole"
				case b != "cut":
					t.Errorf("an attempt got %d bytes as the whole body", len(b))
				}
			}
			if whole != 1 {
				t.Errorf("%d attempts got the whole body", whole)
			}
			if a := waittest.Receive(t, "the response", got); a.text != "200 whole" {
				t.Errorf("the client got %q, %v", a.text, a.err)
			}
			r.came(1, 0, 1, 0)
			r.over()
		})
	})
	t.Run("longer than the limit, before the second one", func(t *testing.T) {
		eachPair(t, func(t *testing.T, version, protocol string) {
			r := startRace(t, version, protocol, &attempt.Plan{Most: 2, KeptBytes: kept, Delay: time.Hour})
			body, send := parts()
			got := r.ask("PUT", "/", body)
			send <- beyond
			close(send)
			one := r.call("the first attempt")
			if b := waittest.Receive(t, "the body", one.body); b != beyond {
				t.Errorf("the first attempt got %d bytes", len(b))
			}
			one.answer <- ""
			if a := waittest.Receive(t, "the response", got); !strings.HasPrefix(a.text, "502") {
				t.Errorf("the client got %q, %v", a.text, a.err)
			}
			r.came(0, 1, 0, 1)
			r.over()
		})
	})
}

// TestPanicInOneOfTwoAttempts ends that one alone.
func TestPanicInOneOfTwoAttempts(t *testing.T) {
	eachPair(t, func(t *testing.T, version, protocol string) {
		r := startRace(t, version, protocol, soon)
		r.client.Transport.(*http.Transport).ExpectContinueTimeout = time.Millisecond // it will not be told
		body, send := parts()
		req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), "PUT", "http://"+r.address+"/broken", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Expect", "100-continue")
		got := make(chan string, 1)
		go func() {
			res, err := r.client.Do(req)
			if err != nil {
				got <- err.Error()
				return
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			got <- fmt.Sprint(res.StatusCode, " ", string(b), err)
		}()
		one, two := r.call("the first attempt"), r.call("the second attempt")
		r.came(0, 1, 0, 0)
		send <- "body"
		close(send)
		bodies := 0
		for _, c := range []*rivalCall{one, two} {
			if b := waittest.Receive(t, "the body", c.body); b == "body" {
				bodies++
				c.answer <- "whole"
			} else if b != "cut" {
				t.Errorf("an attempt got %q", b)
			}
		}
		if bodies != 1 {
			t.Errorf("%d attempts got the body", bodies)
		}
		if text := waittest.Receive(t, "the response", got); text != "200 whole<nil>" {
			t.Errorf("the client got %q", text)
		}
		r.came(1, 1, 0, 0)
		if n := r.panics(); n != 1 {
			t.Errorf("%v panics were counted", n)
		}
		if n := strings.Count(r.log.String(), "panicked"); n != 1 {
			t.Errorf("%d lines:\n%s", n, r.log)
		}
		r.over()
	})
}

// A plan does not touch what it is not for: a method that is not idempotent, a body that is longer than what is kept.
func TestPlansAreForRepeatableRequests(t *testing.T) {
	r := startRace(t, "HTTP/1.1", "http", &attempt.Plan{Most: 2, KeptBytes: 10})
	for _, c := range []struct{ method, body string }{{"POST", "short"}, {"PUT", "more than ten bytes"}} {
		got := r.ask(c.method, "/", strings.NewReader(c.body))
		one := r.call("the only attempt")
		if b := waittest.Receive(t, "the body", one.body); b != c.body {
			t.Errorf("%s: the service got %q", c.method, b)
		}
		one.answer <- "one"
		if a := waittest.Receive(t, "the response", got); a.text != "200 one" {
			t.Errorf("%s: the client got %q, %v", c.method, a.text, a.err)
		}
	}
	select {
	case <-r.calls:
		t.Error("there was another attempt")
	default:
	}
	r.came(0, 0, 0, 0)
}

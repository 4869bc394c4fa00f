package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/shared/match"
	"gateway.internal/shared/pathnorm"
	"gateway.internal/shared/waittest"
)

// fragile is a step that panics in one phase of an exchange, and counts the ends that it is told of.
type fragile struct {
	in    string
	ended chan *pipeline.Outcome
}

func (f *fragile) Request(x *exchange.Exchange) exchange.Verdict {
	if x.Request.Path != "/broken" {
		return exchange.Continue
	}
	if f.in == "request" {
		panic("in a test")
	}
	x.Down = &fragileDown{x.Down, f.in}
	return exchange.Continue
}

func (f *fragile) Response(x *exchange.Exchange) {
	if f.in == "response" && x.Request.Path == "/broken" {
		panic("in a test")
	}
}

func (f *fragile) End(x *exchange.Exchange, o *pipeline.Outcome) {
	if x.Request.Path == "/broken" {
		f.ended <- o
	}
}

// fragileDown is a client's side that panics.
type fragileDown struct {
	exchange.Downstream
	in string
}

func (d *fragileDown) BufferedBody() ([]byte, bool, error) {
	if d.in == "buffered body" {
		panic("in a test")
	}
	return d.Downstream.BufferedBody()
}

func (d *fragileDown) NextBody() ([]byte, error) {
	if d.in == "body" {
		panic("in a test")
	}
	return d.Downstream.NextBody()
}

func (d *fragileDown) WriteHead(x *exchange.Exchange, part []byte, last bool) error {
	if d.in == "head" {
		panic("in a test")
	}
	err := d.Downstream.WriteHead(x, part, last)
	if d.in == "after the head" {
		panic("in a test")
	}
	return err
}

func (d *fragileDown) WriteBody(x *exchange.Exchange, part []byte, last bool) error {
	if d.in == "response body" {
		panic("in a test")
	}
	return d.Downstream.WriteBody(x, part, last)
}

// TestPanicsEndOneExchange breaks an exchange on every part of its way, beside others on the same connections, who
// notice nothing.
func TestPanicsEndOneExchange(t *testing.T) {
	for _, c := range []struct {
		in     string
		method string
		status int // 0: the response breaks off
	}{
		{"request", "GET", 500}, {"response", "GET", 500}, {"buffered body", "GET", 500}, {"body", "POST", 500},
		{"head", "GET", 500}, {"after the head", "POST", 0}, {"response body", "POST", 0},
	} {
		for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(c.in+" "+version, func(t *testing.T) {
				if version == "HTTP/2" {
					once(t)
				}
				release, arrived, more := make(chan struct{}), make(chan struct{}, 9), make(chan struct{}, 9)
				service := newSlowService(t, release, arrived, more)
				f := &fragile{in: c.in, ended: make(chan *pipeline.Outcome, 9)}
				g := startThrough(t, f, codec.DefaultLimits(), pathnorm.DefaultSettings(), HeaderSettings{}, to(service, ""))
				client := clientOf(t, version)
				ask := func(method, path string) (int, error) {
					var body io.Reader
					if method == "POST" {
						body = io.MultiReader(strings.NewReader("first"), untilArrived{arrived}, strings.NewReader("last"))
					}
					req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, "http://"+g.address+path, body)
					if err != nil {
						t.Fatal(err)
					}
					res, err := client.Do(req)
					if method == "POST" {
						more <- struct{}{}
					}
					if err != nil {
						return 0, err
					}
					defer res.Body.Close()
					_, err = io.Copy(io.Discard, res.Body)
					return res.StatusCode, err
				}
				beside := make(chan error, 1)
				go func() {
					_, err := ask("GET", "/slow")
					beside <- err
				}()
				status, err := ask(c.method, "/broken")
				if c.status != 0 && (status != c.status || err != nil) || c.status == 0 && err == nil {
					t.Errorf("the broken exchange: %d, %v", status, err)
				}
				if o := waittest.Receive(t, "the end", f.ended); o.Code == "" {
					t.Errorf("its outcome: %+v", o)
				}
				if status, err := ask("GET", "/whole"); status != 200 || err != nil {
					t.Errorf("the next one: %d, %v", status, err)
				}
				release <- struct{}{}
				if err := waittest.Receive(t, "the one beside", beside); err != nil {
					t.Errorf("the one beside: %v", err)
				}
				if n := g.panics(); n != 1 {
					t.Errorf("%v panics were counted", n)
				}
				if n := strings.Count(g.log.String(), "panicked"); n != 1 {
					t.Errorf("%d lines:\n%s", n, g.log)
				}
				select {
				case o := <-f.ended:
					t.Errorf("told of an end twice: %+v", o)
				default:
				}
				waittest.Until(t, "the endpoint has no exchanges", func() bool {
					return g.services.Get(g.serviceID()).Pick(nil, nil).State.InFlight() == 0
				})
			})
		}
	}
}

// untilArrived is an empty part of a body that comes when the service has the request's head.
type untilArrived struct{ arrived <-chan struct{} }

func (w untilArrived) Read([]byte) (int, error) {
	<-w.arrived
	return 0, io.EOF
}

// newSlowService answers a GET at once, but for /slow, and a POST in two parts, the second of which comes after a token
// of more.
func newSlowService(t *testing.T, release <-chan struct{}, arrived chan<- struct{}, more <-chan struct{}) string {
	t.Helper()
	return scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.Method == "POST" {
				arrived <- struct{}{}
			}
			if _, err = io.Copy(io.Discard, req.Body); err != nil {
				<-more
				return
			}
			if req.URL.Path == "/slow" {
				<-release
			}
			if req.Method == "POST" {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
				<-more
				_, _ = io.WriteString(c, "4\r\nlast\r\n0\r\n\r\n")
				continue
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")
		}
	})
}

// through makes the exchanges of the route for all paths go through a step. It is called before there are any.
func (g *gateway) through(s pipeline.Step) {
	g.t.Helper()
	for b := range g.backends() {
		steps := []pipeline.NamedStep{{Name: "test", Step: s}}
		b.Chain = pipeline.NewChain(g.node.Panics(), &pipeline.Pipeline{Name: "test", Steps: steps})
	}
}

// backends yields those of the route for all paths.
func (g *gateway) backends() func(func(*runtime.Backend) bool) {
	return func(yield func(*runtime.Backend) bool) {
		x := &exchange.Exchange{}
		x.Match = match.Request{Method: "GET", Path: "/", Scheme: "http"}
		route := g.node.Snapshot().Table.Match(&x.Match, &x.Params).Value.(*runtime.Route)
		for i := range route.Backends {
			if !yield(&route.Backends[i]) {
				return
			}
		}
	}
}

// serviceID returns that of the service of the route for all paths.
func (g *gateway) serviceID() (id string) {
	for b := range g.backends() {
		id = b.Count.Key().ServiceID
	}
	return id
}

func (g *gateway) panics() (n float64) {
	g.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(g.counters)
	all, err := registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, family := range all {
		if family.GetName() == "gateway_panics_total" {
			n = family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return n
}

// clientOf returns a client of one version of HTTP, in cleartext.
func clientOf(t *testing.T, version string) *http.Client {
	t.Helper()
	protocols := &http.Protocols{}
	if version == "HTTP/2" {
		protocols.SetUnencryptedHTTP2(true)
	} else {
		protocols.SetHTTP1(true)
	}
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

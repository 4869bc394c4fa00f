package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/accesslog"
	"gateway.internal/dataplane/internal/certificate"
	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/follow"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/http2"
	"gateway.internal/dataplane/internal/listener"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/dataplane/internal/via"
	"gateway.internal/shared/pathnorm"
	"gateway.internal/shared/waittest"
)

// lookInterval is how often nodes look for clients that have gone.
var lookInterval = http1.LookInterval

// lookOften has the nodes that a test starts look for clients that have gone all the time.
func lookOften(t *testing.T) {
	lookInterval = 20 * time.Millisecond
	t.Cleanup(func() { lookInterval = http1.LookInterval })
}

// gateway is a node with everything but its main function.
type gateway struct {
	t        testing.TB
	address  string // without TLS
	server   *http1.Server
	two      *http2.Server
	access   *accesslog.Log
	loops    *socket.Loops
	plain    *listener.Listener
	secure   *listener.Listener
	node     *runtime.Runtime
	counters *telemetry.Registry
	services *upstream.Registry
	lines    string      // the access log's file
	log      *syncBuffer // what the node logged
}

// syncBuffer is a buffer that many may write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func start(t *testing.T, config string) *gateway {
	t.Helper()
	return startWith(t, codec.DefaultLimits(), config)
}

// startHasty starts a node that does not wait long for heads and bodies, for tests of these limits: on a slow machine
// others would reach them.
func startHasty(t *testing.T, config string) *gateway {
	t.Helper()
	limits := codec.DefaultLimits()
	limits.HeadTimeout, limits.BodyTimeout = 300*time.Millisecond, 300*time.Millisecond
	return startWith(t, limits, config)
}

func startWith(t *testing.T, limits codec.Limits, config string) *gateway {
	t.Helper()
	return startNode(t, limits, pathnorm.DefaultSettings(), config)
}

func startNode(
	t *testing.T, limits codec.Limits, paths pathnorm.Settings, config string, edits ...func(*listener.Settings),
) *gateway {
	t.Helper()
	return startProxy(t, limits, paths, HeaderSettings{}, config, edits...)
}

func startProxy(
	t *testing.T, limits codec.Limits, paths pathnorm.Settings, headers HeaderSettings, config string,
	edits ...func(*listener.Settings),
) *gateway {
	t.Helper()
	return startThrough(t, nil, limits, paths, headers, config, edits...)
}

// startThrough starts a node all of whose exchanges go through a step, unless that is nil.
func startThrough(
	t testing.TB, step pipeline.Step, limits codec.Limits, paths pathnorm.Settings, headers HeaderSettings, config string,
	edits ...func(*listener.Settings),
) *gateway {
	t.Helper()
	waittest.Watch(t)
	logged := &syncBuffer{}
	log := slog.New(slog.NewTextHandler(logged, nil))
	counters := telemetry.New(2)
	services := upstream.NewRegistry(log)
	services.BeginAt(0)
	node := runtime.New(log, services, counters, certificate.NewTickets(nil))
	node.UsePaths(paths)
	g := &gateway{t: t, node: node, log: logged, counters: counters, services: services, lines: filepath.Join(t.TempDir(), "access.log")}
	if config != "" {
		g.apply(config)
	}
	if step != nil {
		g.through(step)
		if p, ok := step.(hedging); ok {
			p.prepare(g)
		}
	}
	access, err := accesslog.Open(accesslog.Settings{Path: g.lines, Query: true, Shards: 2}, log)
	if err != nil {
		t.Fatal(err)
	}
	g.access = access
	p := New(node, counters, via.New(via.Settings{Pseudonym: "gateway", MaxVisits: via.DefaultMaxVisits}), access).Headers(headers)
	p.Overload(overloadOfTests)
	if chanceOfTests != nil {
		p.chance = *chanceOfTests
	}
	g.server = http1.NewServer(limits, p)
	two := http2.NewServer(limits, p)
	g.two = two
	g.server.HandOver(two.Serve)
	idle := socket.NewIdleConns()
	g.server.ParkIn(idle)
	if looping {
		g.loops = socket.NewLoops(2)
		g.server.ServeIn(g.loops, 0)
	}
	ctx, stop := context.WithCancel(context.Background())
	go g.server.Run(ctx, lookInterval)
	servers := listener.Servers{HTTP1: g.server, HTTP2: two}
	set := listener.Settings{Log: log, Servers: servers, Counters: counters}
	for _, edit := range edits {
		edit(&set)
	}
	g.plain = g.listen(set)
	set.Security = &listener.Security{Certificates: node.Certificates, HandshakeTimeout: time.Second}
	g.secure = g.listen(set)
	t.Cleanup(func() {
		g.end()
		stop()
		idle.Close()
		services.Close()
		g.loops.Close()
		access.Close()
	})
	g.address = g.plain.Addr().String()
	return g
}

func (g *gateway) listen(set listener.Settings) *listener.Listener {
	g.t.Helper()
	ln, err := listener.Listen("127.0.0.1:0", set)
	if err != nil {
		g.t.Fatal(err)
	}
	go ln.Serve()
	return ln
}

// end ends the node's listeners and all connections.
func (g *gateway) end() {
	now := make(chan struct{})
	close(now)
	listener.Drain(now, g.plain, g.secure)
}

// drain begins to end the node's listeners, and returns when their address is closed. What is under way may go on until
// cut is called; drained is closed when nothing is left.
func (g *gateway) drain() (cut func(), drained <-chan struct{}) {
	g.t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		listener.Drain(stop, g.plain, g.secure)
	}()
	waittest.Until(g.t, "the address is closed", func() bool {
		c, err := net.Dial("tcp", g.address)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	return sync.OnceFunc(func() { close(stop) }), done
}

// apply gives the node a configuration.
func (g *gateway) apply(config string) {
	g.t.Helper()
	path := filepath.Join(g.t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		g.t.Fatal(err)
	}
	files := &follow.Files{Path: path, Log: slog.New(slog.DiscardHandler), To: g.node}
	if err := files.Load(); err != nil {
		g.t.Fatal(err)
	}
}

// logged returns the access log's lines. Those that are gathered are written soon, not only after a second.
func (g *gateway) logged() string {
	g.t.Helper()
	g.access.Reopen()
	lines, err := os.ReadFile(g.lines)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(lines)
}

// to returns the configuration of one service with a policy and a route for all paths.
func to(address, extra string) string {
	host, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf(`services: [{name: s, endpoints: [{host: %s, port: %s}], connection_pool: {response_timeout: 20s, connect_timeout: 20s}, policy_id: p}]
routes: [{name: all, path: /*, service_id: s}]
policies: [{name: p, max_request_bytes: 1000000%s}]
`, host, port, extra)
}

// respondingWithin changes how long a service of a configuration may take to respond.
func respondingWithin(time, config string) string {
	return strings.Replace(config, "response_timeout: 20s", "response_timeout: "+time, 1)
}

// raw sends text and returns everything that comes until the connection ends, or until n responses were read.
func (g *gateway) raw(text string, methods ...string) []*http.Response {
	g.t.Helper()
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(waittest.Deadline())
	if _, err := io.WriteString(c, text); err != nil {
		g.t.Fatal(err)
	}
	r := bufio.NewReader(c)
	var all []*http.Response
	for _, m := range methods {
		res, err := http.ReadResponse(r, &http.Request{Method: m})
		if err != nil {
			g.t.Fatalf("response %d: %v", len(all)+1, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			g.t.Fatalf("response %d: %v", len(all)+1, err)
		}
		res.Body = io.NopCloser(bytes.NewReader(body))
		all = append(all, res)
	}
	return all
}

func body(t testing.TB, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// echo answers with what it was sent.
func echo(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("X-Method", r.Method)
		w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
		if r.Trailer.Get("X-Sum") != "" {
			w.Header().Set("X-Got-Trailer", r.Trailer.Get("X-Sum"))
		}
		_, _ = w.Write(b)
		if len(b) == 0 {
			fmt.Fprintf(w, "%s %s", r.Method, r.URL.RequestURI())
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// scripted is a server that answers each connection with a function.
func scripted(t *testing.T, serve func(n int, c net.Conn, r *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	n := 0
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			n++
			i := n
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(waittest.Deadline())
				serve(i, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

func readRequest(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

package proxy

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/waittest"
)

// shape is an exchange that is cut at every byte. Six digits in its texts are the request's own number, which the
// response has to carry.
type shape struct {
	name, method string
	head, body   string
	response     string // with %06d in its body
	interim      string
	step         int // looks at every step-th byte only
}

const (
	continues  = "HTTP/1.1 100 Continue\r\n\r\n"
	partLength = 20_000
)

func shapes() []shape {
	large := strings.Repeat("0123456789", 30_000)
	return []shape{
		{name: "get", method: "GET", response: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n%06d"},
		{name: "post", method: "POST", head: "Content-Length: 5\r\n", body: "hello", response: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n%06d"},
		{
			name: "chunks and trailers", method: "POST", head: "Transfer-Encoding: chunked\r\nTE: trailers\r\n", body: "3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n",
			response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n6\r\n%06d\r\n0\r\nX-Sum: 2\r\n\r\n",
		},
		{name: "100-continue", method: "POST", head: "Content-Length: 5\r\nExpect: 100-continue\r\n", body: "hello", interim: continues, response: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n%06d"},
		{name: "head", method: "HEAD", response: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Number: %06d\r\n\r\n"},
		{name: "until it closes", method: "GET", response: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\n%06d"},
		{
			name: "large", method: "POST", head: "Content-Length: 300000\r\n", body: large,
			response: "HTTP/1.1 200 OK\r\nContent-Length: 300006\r\n\r\n" + large + "%06d", step: 9973,
		},
	}
}

func (s *shape) request(n int) (head, body string) {
	return fmt.Sprintf("%s /%06d HTTP/1.1\r\nHost: a\r\n%s\r\n", s.method, n, s.head), s.body
}

// moment is where an exchange is cut.
type moment uint8

const (
	never moment = iota
	clientSends
	clientReceives
	serviceReceives
	serviceSends
)

// cut is who dies where, and how.
type cut struct {
	when   moment
	offset int
	reset  bool
}

func (c cut) die(conn net.Conn) {
	if c.reset {
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
	_ = conn.Close()
}

// mortal is a service that dies where the plan says.
type mortal struct {
	shape    atomic.Pointer[shape]
	plan     atomic.Pointer[cut]
	received atomic.Int64 // how long the last whole request was
	open     atomic.Int64
}

// counting counts what was read.
type counting struct {
	net.Conn
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n += int64(n)
	return n, err
}

func (m *mortal) serve(_ int, nc net.Conn, _ *bufio.Reader) {
	m.open.Add(1)
	defer m.open.Add(-1)
	_ = nc.SetDeadline(waittest.Deadline())
	c := &counting{Conn: nc}
	r := bufio.NewReader(c)
	for {
		if _, err := r.Peek(1); err != nil {
			return
		}
		begun := c.n - int64(r.Buffered())
		plan, s := *m.plan.Load(), m.shape.Load()
		if plan.when == serviceReceives {
			_, _ = io.CopyN(io.Discard, r, int64(plan.offset))
			plan.die(nc)
			return
		}
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		answer := s.interim + s.response
		answer = strings.Replace(answer, "%06d", strings.TrimPrefix(req.URL.Path, "/"), 1)
		if plan.when == serviceSends {
			answer = answer[:plan.offset]
		}
		now := min(len(s.interim), len(answer))
		if _, err := io.WriteString(nc, answer[:now]); err != nil {
			return
		}
		if plan.when == serviceSends && now < len(s.interim) {
			plan.die(nc)
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		m.received.Store(c.n - int64(r.Buffered()) - begun)
		for text := answer[now:]; len(text) > 0; {
			n := min(len(text), partLength)
			if _, err := io.WriteString(nc, text[:n]); err != nil {
				return
			}
			text = text[n:]
		}
		if plan.when == serviceSends {
			plan.die(nc)
			return
		}
		if req.Close || strings.Contains(s.response, "Connection: close") {
			return
		}
	}
}

// TestCutAnywhere lets the client, and the service, die at every byte of an exchange in both ways that connections end.
// Nothing may be left behind, and every response that anybody takes for whole is that of the request.
func TestCutAnywhere(t *testing.T) {
	leavesNothing(t)
	m := &mortal{}
	g := startWith(t, codec.DefaultLimits(), to(scripted(t, m.serve), ""))
	c := &cutter{t: t, gateway: g, service: m}
	for _, s := range shapes() {
		t.Run(s.name, func(t *testing.T) {
			c.t = t
			m.shape.Store(&s)
			c.cutEverywhere(&s)
		})
	}
	c.t = t
	if c.survivor != nil {
		_ = c.survivor.Close()
	}
	waittest.Until(t, "the end of connections of clients", func() bool { return g.server.Active() == 0 })
	g.end()
	if !t.Failed() {
		t.Logf("%d exchanges were cut", c.n)
	}
}

// leavesNothing fails a test that leaves anything behind when all that it has started has ended. It comes first.
func leavesNothing(t *testing.T) {
	t.Helper()
	goroutines := goleak.IgnoreCurrent()
	buffers, exchanges := socket.InUse.Load(), http1.ExchangesInUse.Load()
	t.Cleanup(func() {
		if err := goleak.Find(goroutines); err != nil {
			t.Error(err)
		}
		if now := socket.InUse.Load(); now != buffers {
			t.Errorf("%d buffers are in use, %d were before", now, buffers)
		}
		if now := http1.ExchangesInUse.Load(); now != exchanges {
			t.Errorf("%d exchanges are in use, %d were before", now, exchanges)
		}
	})
}

// cutter runs exchanges one after another.
type cutter struct {
	t        *testing.T
	gateway  *gateway
	service  *mortal
	n        int
	survivor net.Conn // of a client that lives
	reader   *bufio.Reader
}

func (c *cutter) cutEverywhere(s *shape) {
	_, sent := c.exchange(s, cut{})
	received := int(c.service.received.Load())
	head, body := s.request(0)
	lengths := map[moment]int{
		clientSends: len(head) + len(body), clientReceives: sent,
		serviceReceives: received, serviceSends: len(s.interim) + len(s.response) + len("000000") - len("%06d"),
	}
	step := max(s.step, 1)
	for when, length := range lengths {
		for _, reset := range []bool{false, true} {
			for offset := range offsets(length-1, step, reset) {
				at := cut{when, offset, reset}
				c.exchange(s, at)
				c.lives(s)
				if c.t.Failed() {
					c.t.Fatalf("that was with a cut at %+v of %d", at, length)
				}
			}
		}
	}
}

// offsets returns the places from 0 to last at which a connection is cut: each step-th, or fewer with the race
// detector. A reset and an end then come at different ones.
func offsets(last, step int, reset bool) iter.Seq[int] {
	return func(yield func(int) bool) {
		first := 0
		if reset {
			first = step * (cutStride / 2)
		}
		for offset := first; offset <= last && yield(offset); offset += step * cutStride {
		}
	}
}

// lives sends a request on the connection of a client that nobody cuts.
func (c *cutter) lives(s *shape) {
	c.service.plan.Store(&cut{})
	if c.survivor == nil {
		conn, err := net.Dial("tcp", c.gateway.address)
		if err != nil {
			c.t.Fatal(err)
		}
		c.survivor, c.reader = conn, bufio.NewReader(conn)
	}
	_ = c.survivor.SetDeadline(waittest.Deadline())
	c.n++
	head, body := s.request(c.n)
	if got := c.whole(c.survivor, c.reader, s, head, body); got != 200 {
		c.t.Errorf("a client that lives got %d", got)
	}
}

// exchange runs one, and returns the status of its response, if that is whole, and how many bytes it took.
func (c *cutter) exchange(s *shape, at cut) (status, length int) {
	c.service.plan.Store(&at)
	nc, err := net.Dial("tcp", c.gateway.address)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = nc.SetDeadline(waittest.Deadline())
	conn := &counting{Conn: nc}
	c.n++
	head, body := s.request(c.n)
	switch at.when {
	case clientSends:
		_, _ = io.WriteString(nc, head[:min(at.offset, len(head))])
		if at.offset > len(head) {
			if s.interim != "" {
				_, _ = io.CopyN(io.Discard, nc, int64(len(s.interim)))
			}
			_, _ = io.WriteString(nc, body[:at.offset-len(head)])
		}
		at.die(nc)
		return 0, 0
	case clientReceives:
		_, _ = io.WriteString(nc, head)
		got := 0
		if s.interim != "" {
			got = min(len(s.interim), at.offset)
			_, _ = io.CopyN(io.Discard, nc, int64(got))
		}
		if got == len(s.interim) {
			_, _ = io.WriteString(nc, body)
			_, _ = io.CopyN(io.Discard, nc, int64(at.offset-got))
		}
		at.die(nc)
		return 0, 0
	}
	defer func() { _ = nc.Close() }()
	r := bufio.NewReader(conn)
	if at.when == serviceReceives {
		head, body = head+body, "" // the service does not say that it may come
	}
	status = c.whole(conn, r, s, head, body)
	return status, int(conn.n) - r.Buffered()
}

// whole sends a request and returns the status of its response: 0 when that is not whole. One of the service's has to
// carry the request's number.
func (c *cutter) whole(conn net.Conn, r *bufio.Reader, s *shape, head, body string) int {
	if _, err := io.WriteString(conn, head); err != nil {
		return 0
	}
	if s.interim == "" {
		_, _ = io.WriteString(conn, body) // an early answer may end it
	}
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: s.method})
		if err != nil {
			return 0
		}
		if res.StatusCode == 100 {
			if _, err := io.WriteString(conn, body); err != nil {
				return 0
			}
			continue
		}
		text, err := io.ReadAll(res.Body)
		if err != nil {
			return 0
		}
		switch number := fmt.Sprintf("%06d", c.n); {
		case res.StatusCode == 200 && !strings.HasSuffix(string(text), number) && res.Header.Get("X-Number") != number:
			c.t.Errorf("request %s got another's response: %v %.200q", number, res.Header, text)
		case res.StatusCode != 200 && res.StatusCode != 502:
			c.t.Errorf("request %s got %d %s", number, res.StatusCode, text)
		}
		return res.StatusCode
	}
}

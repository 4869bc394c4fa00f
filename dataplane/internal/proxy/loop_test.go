package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/waittest"
)

// startInLoops starts a node that serves connections in loops from their first request on, for a test that needs to run
// once.
func startInLoops(t *testing.T, config string, edits ...func(*codec.Limits)) *gateway {
	t.Helper()
	once(t)
	if probe := socket.NewLoops(1); probe == nil {
		t.Skip("there are no loops on this system")
	} else {
		probe.Close()
	}
	before := looping
	looping = true
	defer func() { looping = before }()
	limits := codec.DefaultLimits()
	for _, edit := range edits {
		edit(&limits)
	}
	if secureClients {
		cert, key, _ := newAuthority(t).issue("a")
		config += "---\ncertificates:\n" + certificateOf("a", cert, key, "    default: true\n")
	}
	return startWith(t, limits, config)
}

// secureClients makes the clients of tests that onBoth runs speak TLS.
var secureClients bool

// onBoth runs a test whose clients speak TLS, and one whose clients do not.
func onBoth(t *testing.T, test func(t *testing.T)) {
	t.Run("plain", test)
	secureClients = true
	defer func() { secureClients = false }()
	t.Run("TLS", test)
}

// registered waits until a number of connections are in loops, those to services included.
func (g *gateway) registered(n int) {
	g.t.Helper()
	waittest.UntilNil(g.t, fmt.Sprintf("%d connections are in loops", n), func() error {
		if have := g.loops.Len(); have != n {
			return fmt.Errorf("%d are", have)
		}
		return nil
	})
}

// client is a connection of a client's.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func (g *gateway) client() *client {
	g.t.Helper()
	dial := func() (net.Conn, error) { return net.Dial("tcp", g.address) }
	if secureClients {
		config := &tls.Config{InsecureSkipVerify: true}
		dial = func() (net.Conn, error) { return tls.Dial("tcp", g.secure.Addr().String(), config) }
	}
	c, err := dial()
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(waittest.Deadline())
	return &client{g.t, c, bufio.NewReader(c)}
}

// get asks for a path, in pieces if there are several, and returns status and body.
func (c *client) get(path string) string {
	c.t.Helper()
	c.send("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")
	return c.read()
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) read() string {
	c.t.Helper()
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Sprintf("%d cut", res.StatusCode)
	}
	return fmt.Sprintf("%d %s", res.StatusCode, b)
}

// TestInLoops sees that connections are where they should be: in a loop while nothing has to be waited for, and back
// there afterwards.
func TestInLoops(t *testing.T) { onBoth(t, testInLoops) }

func testInLoops(t *testing.T) {
	g := startInLoops(t, to(echo(t), ""))
	c := g.client()
	g.registered(1)
	for i := range 3 {
		if got, want := c.get(fmt.Sprint("/", i)), fmt.Sprint("200 GET /", i); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	// The first request had to open a connection to the service. After that one both are in loops.
	g.registered(2)
	c.send("GET /slow HTTP/1.1\r\nHo")
	g.registered(1)
	c.send("st: a\r\n\r\n")
	if got := c.read(); got != "200 GET /slow" {
		t.Fatal(got)
	}
	for range 4 {
		c.get("/")
	}
	g.registered(2)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nwhole")
	if got := c.read(); got != "200 whole" {
		t.Fatal(got)
	}
	g.registered(2)
	_ = c.Close()
	g.registered(1)
}

// TestTimeInLoops lets services take their time: exchanges leave the loop, and every limit holds.
func TestTimeInLoops(t *testing.T) { onBoth(t, testTimeInLoops) }

func testTimeInLoops(t *testing.T) {
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			const first, second = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n", "in parts"
			switch req.URL.Path {
			case "/late":
				<-time.After(3 * socket.LoopTick)
				_, _ = io.WriteString(c, first+second)
			case "/parts":
				for _, b := range []byte(first + second) {
					<-time.After(time.Millisecond)
					_, _ = c.Write([]byte{b})
				}
			case "/body-later":
				_, _ = io.WriteString(c, first)
				<-time.After(10 * time.Millisecond)
				_, _ = io.WriteString(c, second)
			case "/body-late":
				_, _ = io.WriteString(c, first)
				<-time.After(3 * socket.LoopTick)
				_, _ = io.WriteString(c, second)
			case "/chunks":
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nin parts\r\n0\r\n\r\n")
			case "/chunks-later":
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nin ")
				<-time.After(10 * time.Millisecond)
				_, _ = io.WriteString(c, "\r\n5\r\nparts\r\n0\r\n\r\n")
			case "/never":
				_, _ = r.ReadByte()
				return
			case "/never-whole":
				_, _ = io.WriteString(c, first+"in")
				_, _ = r.ReadByte()
				return
			case "/gone":
				return
			default:
				_, _ = io.WriteString(c, first+second)
			}
		}
	})
	g := startInLoops(t, to(service, "")+`---
policies: [{name: short, timeout: 400ms}]
routes: [{name: never, path: /never, service_id: s, policy_id: short}, {name: never-whole, path: /never-whole, service_id: s, policy_id: short}]
`)
	c := g.client()
	for _, k := range []struct{ path, want string }{
		{"/", "200 in parts"},
		{"/late", "200 in parts"},
		{"/parts", "200 in parts"},
		{"/body-later", "200 in parts"},
		{"/body-late", "200 in parts"},
		{"/chunks", "200 in parts"},
		{"/chunks-later", "200 in parts"},
		{"/never", "504"},
		{"/gone", "502"},
		{"/never-whole", "200 cut"}, // the client has the head by then
	} {
		for c.get("/") != "200 in parts" { // so that it is in a loop, and so is a connection to the service
			t.Fatal("a simple request failed")
		}
		c.get("/")
		begun := time.Now()
		got := c.get(k.path)
		if !strings.HasPrefix(got, k.want) {
			t.Errorf("%s: got %s, want %s", k.path, got, k.want)
		}
		if took := time.Since(begun); k.want == "504" && took < 350*time.Millisecond {
			t.Errorf("%s took %v", k.path, took)
		}
	}
}

// TestSlowReaderInALoop lets a client ask for much before it takes any of it, and others be served meanwhile.
func TestSlowReaderInALoop(t *testing.T) { onBoth(t, testSlowReaderInALoop) }

func testSlowReaderInALoop(t *testing.T) {
	const size, requests = 60_000, 200
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			n := strings.TrimPrefix(req.URL.Path, "/")
			if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat(n, size)[:size]); err != nil {
				return
			}
		}
	})
	g := startInLoops(t, to(service, ""))
	slow, other := g.client(), g.client()
	for range 3 {
		slow.get("/0")
	}
	var sender sync.WaitGroup
	sender.Go(func() {
		for i := range requests {
			if _, err := fmt.Fprintf(slow, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 50 {
		if got := other.get("/1"); len(got) != 4+size {
			t.Fatalf("%.20s", got)
		}
	}
	for i := range requests {
		if got, want := slow.read(), "200 "+strings.Repeat(fmt.Sprint(i), size)[:size]; got != want {
			t.Fatalf("response %d is %.30s", i, got)
		}
	}
	sender.Wait()
}

// TestDrainOfLoops sees that connections in loops end with the node, and that no request is lost on the way.
func TestDrainOfLoops(t *testing.T) { onBoth(t, testDrainOfLoops) }

func testDrainOfLoops(t *testing.T) {
	g := startInLoops(t, to(echo(t), ""))
	var clients sync.WaitGroup
	served := make(chan struct{}, 1000)
	for range 20 {
		c := g.client()
		clients.Go(func() {
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i); err != nil {
					return // the connection was closed before the request was sent
				}
				res, err := http.ReadResponse(c.r, nil)
				if err != nil {
					if i == 0 {
						t.Error(err)
					}
					return
				}
				b, err := io.ReadAll(res.Body)
				if err != nil || string(b) != fmt.Sprint("GET /", i) {
					t.Errorf("%q, %v", b, err)
					return
				}
				select {
				case served <- struct{}{}:
				default:
				}
				if res.Close {
					return
				}
			}
		})
	}
	rests := g.client()
	rests.get("/")
	for range cap(served) / 2 {
		<-served
	}
	_, drained := g.drain()
	waittest.Receive(t, "the node is drained", drained)
	clients.Wait()
	if b, err := io.ReadAll(rests.r); len(b) > 0 || err != nil {
		t.Errorf("a connection that rested: %q, %v", b, err)
	}
	if n := g.server.Active(); n > 0 {
		t.Errorf("%d connections are open", n)
	}
}

// TestDrainReachesLoops sees that a connection does not wait in a loop until it is found to be unused.
func TestDrainReachesLoops(t *testing.T) { onBoth(t, testDrainReachesLoops) }

func testDrainReachesLoops(t *testing.T) {
	waittest.UntilNil(t, "a connection leaves its loop with Drain, not after two seconds as an unused one", func() error {
		g := startInLoops(t, to(echo(t), ""), func(l *codec.Limits) { l.LastRequestTimeout = waittest.Limit })
		c := g.client()
		for range 3 {
			c.get("/")
		}
		g.registered(2)
		begun := time.Now()
		g.server.Drain()
		g.registered(1)
		if took := time.Since(begun); took > 1500*time.Millisecond {
			return fmt.Errorf("it took %v", took) // it may on a slow machine, but not again and again
		}
		if got := c.get("/last"); got != "200 GET /last" {
			t.Error(got)
		}
		return nil
	})
}

// TestRequestsBehindOneUnderWay sends requests while an earlier one is waited for: what arrives then is announced once,
// and must not be forgotten.
func TestRequestsBehindOneUnderWay(t *testing.T) { onBoth(t, testRequestsBehindOneUnderWay) }

func testRequestsBehindOneUnderWay(t *testing.T) {
	arrived, answer := make(chan struct{}), make(chan struct{})
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.URL.Path == "/held" {
				arrived <- struct{}{}
				<-answer
			}
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(req.URL.Path), req.URL.Path)
		}
	})
	g := startInLoops(t, to(service, ""))
	c, others := g.client(), []*client{g.client(), g.client()}
	for _, o := range append(others, c) {
		for range 3 {
			o.get("/")
		}
	}
	for range 20 {
		c.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
		<-arrived
		c.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
		for _, o := range others { // both loops have looked at what has arrived since
			o.get("/")
			o.get("/")
		}
		answer <- struct{}{}
		for _, want := range []string{"200 /held", "200 /next"} {
			if got := c.read(); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
	}
}

// TestUnusedLeaveLoops sees that a connection that is not used any more goes on to where idle ones rest.
func TestUnusedLeaveLoops(t *testing.T) { onBoth(t, testUnusedLeaveLoops) }

func testUnusedLeaveLoops(t *testing.T) {
	g := startInLoops(t, to(echo(t), ""))
	c := g.client()
	for range 3 {
		c.get("/")
	}
	g.registered(2)
	g.registered(1) // in two seconds
	if got := c.get("/again"); got != "200 GET /again" {
		t.Error(got)
	}
}

// TestEndsInLoops lets the service close a connection that carries nothing, or send something on it that nobody has
// asked for: a request that may not be repeated must not meet it. No system call looks for that before each request;
// the loop has to have seen it.
func TestEndsInLoops(t *testing.T) { onBoth(t, testEndsInLoops) }

func testEndsInLoops(t *testing.T) {
	goOn := make(chan struct{})
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			switch req.URL.Path {
			case "/then-end":
				<-goOn
				_ = c.Close()
				goOn <- struct{}{}
				return
			case "/with-end":
				_ = c.Close()
				goOn <- struct{}{}
				return
			case "/then-more":
				<-goOn
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
				goOn <- struct{}{}
			}
		}
	})
	g := startInLoops(t, to(service, ""))
	c := g.client()
	for i := range 60 {
		for range 3 {
			c.get("/")
		}
		path := []string{"/then-end", "/with-end", "/then-more"}[i%3]
		if got := c.get(path); got != "200 ok" {
			t.Fatalf("%s: %s", path, got)
		}
		if path != "/with-end" {
			goOn <- struct{}{}
		}
		waittest.Receive(t, "the service has done what it does after "+path, goOn)
		<-time.After(2 * time.Millisecond) // longer than a connection is used again without a look
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nonce!")
		if got := c.read(); got != "200 ok" {
			t.Fatalf("the request after %s: %s", path, got)
		}
	}
}

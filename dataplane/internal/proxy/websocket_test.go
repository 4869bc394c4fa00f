package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/waittest"
)

const largestMessage = 32 << 20

// echoMessages is a WebSocket server that sends every message back.
func echoMessages(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(largestMessage)
	for {
		kind, message, err := c.Reader(r.Context())
		if err != nil {
			return
		}
		out, err := c.Writer(r.Context(), kind)
		if err != nil {
			return
		}
		if _, err := io.Copy(out, message); err != nil {
			return
		}
		if err := out.Close(); err != nil {
			return
		}
	}
}

// dialWebSocket opens a WebSocket through a gateway.
func dialWebSocket(t *testing.T, url string, config *tls.Config) *websocket.Conn {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	c, res, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}, CompressionMode: websocket.CompressionContextTakeover, Subprotocols: []string{"a"}})
	if err != nil {
		t.Fatalf("%v, %+v", err, res)
	}
	c.SetReadLimit(largestMessage)
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func talk(t *testing.T, c *websocket.Conn) {
	t.Helper()
	for _, m := range []struct {
		kind websocket.MessageType
		text []byte
	}{
		{websocket.MessageText, []byte("hello")},
		{websocket.MessageBinary, []byte{}},
		{websocket.MessageText, bytes.Repeat([]byte("compressible "), 10_000)},
		{websocket.MessageBinary, bytes.Repeat([]byte{0, 255, 7}, 1<<20)},
	} {
		go func() { _ = c.Write(context.WithoutCancel(t.Context()), m.kind, m.text) }()
		kind, got, err := c.Read(t.Context())
		if err != nil || kind != m.kind || !bytes.Equal(got, m.text) {
			t.Fatalf("of %d bytes of kind %v came %d of %v, %v", len(m.text), m.kind, len(got), kind, err)
		}
	}
	// A message in fragments, with a ping between them.
	w, err := c.Writer(t.Context(), websocket.MessageText)
	if err != nil {
		t.Fatal(err)
	}
	ponged := make(chan error, 1)
	for _, part := range []string{"a", "b", "c"} {
		if _, err := io.WriteString(w, part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(t.Context()); err != nil || string(got) != "abc" {
		t.Fatalf("of a message in fragments came %q, %v", got, err)
	}
	go func() { ponged <- c.Ping(t.Context()) }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read := c.CloseRead(ctx)
	if err := <-ponged; err != nil {
		t.Errorf("ping: %v", err)
	}
	if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Errorf("close: %v", err)
	}
	<-read.Done()
}

// none waits until the node has no upgraded connections, and nothing of them.
func (g *gateway) none(buffers int64) {
	g.t.Helper()
	waittest.Until(g.t, "the end of upgraded connections", func() bool { return g.counters.Upgrades().Active() == 0 })
	waittest.Until(g.t, "the end of buffers", func() bool { return socket.InUse.Load() <= buffers+waiting })
}

// logs waits until the access log has a text.
func (g *gateway) logs(text string) {
	g.t.Helper()
	waittest.Until(g.t, "the access log has "+text, func() bool { return strings.Contains(g.logged(), text) })
}

func TestWebSocket(t *testing.T) {
	ca := newAuthority(t)
	certPEM, keyPEM, _ := ca.issue("127.0.0.1")
	plain := httptest.NewServer(http.HandlerFunc(echoMessages))
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.HandlerFunc(echoMessages))
	secure.StartTLS()
	defer secure.Close()
	unix := httptest.NewUnstartedServer(http.HandlerFunc(echoMessages))
	path := t.TempDir() + "/s"
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Listener.Close()
	unix.Listener = ln
	unix.Start()
	defer unix.Close()
	configs := map[string]string{
		"http":  to(plain.Listener.Addr().String(), ""),
		"https": strings.Replace(to(secure.Listener.Addr().String(), ""), "name: s,", "name: s, protocol: https, tls: {insecure_skip_verify: true},", 1),
		"unix":  fmt.Sprintf("services: [{name: s, endpoints: [{host: 'unix:%s'}]}]\nroutes: [{name: all, path: /*, service_id: s}]\n", path),
	}
	for name, config := range configs {
		t.Run(name, func(t *testing.T) {
			buffers := socket.InUse.Load()
			g := start(t, config+"certificates:\n"+certificateOf("c", certPEM, keyPEM, "    default: true\n"))
			talk(t, dialWebSocket(t, "ws://"+g.address, nil))
			talk(t, dialWebSocket(t, "wss://"+g.secure.Addr().String(), &tls.Config{RootCAs: ca.Pool()}))
			g.none(buffers)
			g.logs(`"status":101`)
			g.logs(`"bytes_received":`)
		})
	}
}

// A slow reader holds the other side up, and nothing piles up in between.
func TestWebSocketBackPressure(t *testing.T) {
	sent := make(chan int64, 1)
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		switching(c, req)
		_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		n, _ := io.Copy(c, io.LimitReader(zeros{}, 1<<30))
		sent <- n
	})
	buffers := socket.InUse.Load()
	g := startWith(t, codec.DefaultLimits(), to(service, ""))
	c, r := g.upgraded("")
	defer func() { _ = c.Close() }()
	n := <-sent
	if n >= 64<<20 {
		t.Errorf("%d bytes were taken for a client that reads nothing", n)
	}
	if in := socket.InUse.Load() - buffers; in > 8 { // panics in other tests lose some
		t.Errorf("%d buffers are in use", in)
	}
	_ = c.SetReadDeadline(waittest.Deadline())
	if got, err := io.Copy(io.Discard, r); got != n {
		t.Errorf("of %d bytes came %d, %v", n, got, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestWebSocketCutAnywhere lets either side die at every byte of a WebSocket exchange, and at once afterwards.
func TestWebSocketCutAnywhere(t *testing.T) {
	var serviceAt, left, open atomic.Int64
	var reset atomic.Bool
	die := func(c net.Conn) {
		if reset.Load() {
			_ = c.(*net.TCPConn).SetLinger(0)
		}
		_ = c.Close()
	}
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		open.Add(1)
		defer open.Add(-1)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		answer := "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + exchange.WebSocketAccept(req.Header.Get("Sec-WebSocket-Key")) + "\r\n\r\nabcdefghij"
		if at := int(serviceAt.Load()); at >= 0 {
			left.Store(int64(len(answer) - at))
			_, _ = io.WriteString(c, answer[:min(at, len(answer))])
			die(c)
			return
		}
		_, _ = io.WriteString(c, answer)
		_, _ = io.Copy(io.Discard, r)
	})
	buffers, exchanges := socket.InUse.Load(), http1.ExchangesInUse.Load()
	g := startWith(t, codec.DefaultLimits(), to(service, ""))
	request := "GET /x HTTP/1.1\r\nHost: a\r\n" + upgradeLines + "\r\n0123456789"
	dial := func() net.Conn {
		c, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(waittest.Deadline())
		return c
	}
	serviceAt.Store(-1)
	c := dial()
	_, _ = io.WriteString(c, request)
	total := 0
	for one := []byte{0}; one[0] != 'j'; total++ { // the last that comes
		if _, err := c.Read(one); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.Close()
	ended := func() bool { return open.Load() == 0 }
	for _, hard := range []bool{false, true} {
		reset.Store(hard)
		serviceAt.Store(-1)
		for at := range len(request) + 1 {
			c := dial()
			_, _ = io.WriteString(c, request[:at])
			die(c)
		}
		for at := range total + 1 {
			c := dial()
			_, _ = io.WriteString(c, request)
			_, _ = io.CopyN(io.Discard, c, int64(at))
			die(c)
		}
		waittest.Until(t, "the end of connections", func() bool { return g.server.Active() == 0 })
		waittest.Until(t, "the end of connections to the service", ended)
		left.Store(1)
		for serviceAt.Store(0); left.Load() > 0; serviceAt.Add(1) {
			c := dial()
			_, _ = io.WriteString(c, request)
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
			waittest.Until(t, "the end of connections to the service", ended)
		}
	}
	waittest.Until(t, "the end of connections of clients", func() bool { return g.server.Active() == 0 })
	g.none(buffers)
	if now := http1.ExchangesInUse.Load(); now != exchanges {
		t.Errorf("%d exchanges are in use, %d were before", now, exchanges)
	}
}

// An event reaches the client before there is another one, and neither the policy's timeout nor the service's cuts the
// stream.
func TestServerSentEvents(t *testing.T) {
	next, ended := make(chan struct{}), make(chan struct{}, 9)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				ended <- struct{}{}
				return
			}
		}
	}))
	defer server.Close()
	g := start(t, respondingWithin("1s", to(server.Listener.Addr().String(), ", timeout: 1s")))
	for _, transport := range transports() {
		res, err := (&http.Client{Transport: transport}).Get("http://" + g.address + "/")
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(res.Body)
		for i := range 3 {
			line, err := r.ReadString('\n')
			if want := fmt.Sprintf("data: %d\n", i); err != nil || line != want {
				t.Fatalf("event %d: %q, %v", i, line, err)
			}
			_, _ = r.ReadString('\n')
			if i == 1 {
				time.Sleep(1100 * time.Millisecond) // longer than both times
			}
			select {
			case next <- struct{}{}:
			case <-ended:
				t.Fatal("the stream has ended")
			}
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("the end: %v", err)
		}
		_ = res.Body.Close()
		transport.CloseIdleConnections()
	}
}

// transports are HTTP/1.1 and HTTP/2 without TLS.
func transports() []*http.Transport {
	p := &http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	return []*http.Transport{{}, {Protocols: p}}
}

// A body goes up while the response comes down, each part only after the other side's last one, for longer than any
// timeout of requests.
func TestFullDuplex(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		part := make([]byte, 100)
		for {
			n, err := r.Body.Read(part)
			_, _ = w.Write(part[:n])
			w.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	})
	one := httptest.NewServer(handler)
	t.Cleanup(one.Close)
	two := newH2Server(t, nil, handler)
	for protocol, address := range map[string]string{"http": one.Listener.Addr().String(), "h2c": two.address} {
		config := strings.Replace(to(address, ", timeout: 1s, stream_idle_timeout: 10m"), "name: s,", "name: s, protocol: "+protocol+",", 1)
		g := startHasty(t, config) // with 300ms for more of a body
		for i, transport := range transports() {
			t.Run(fmt.Sprint(protocol, i+1), func(t *testing.T) {
				t.Parallel()
				up, feed := io.Pipe()
				req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+g.address+"/", up)
				if err != nil {
					t.Fatal(err)
				}
				res, err := transport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				part := make([]byte, 100)
				for i := range 4 {
					text := fmt.Sprint("part ", i)
					if _, err := io.WriteString(feed, text); err != nil {
						t.Fatal(err)
					}
					if n, err := io.ReadFull(res.Body, part[:len(text)]); err != nil || string(part[:n]) != text {
						t.Fatalf("%q, %v", part[:n], err)
					}
					if i == 1 {
						time.Sleep(1100 * time.Millisecond) // longer than all times but the stream's
					}
				}
				_ = feed.Close()
				if _, err := io.ReadAll(res.Body); err != nil {
					t.Error(err)
				}
				_ = res.Body.Close()
				transport.CloseIdleConnections()
			})
		}
	}
}

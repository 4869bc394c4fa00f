package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

// stuckService is a service over HTTP/2 that does not read what is sent to /stuck until the test ends, nor more than
// a part of what is sent to /half, and tells how long everything else is.
type stuckService struct {
	net.Listener
	t           *testing.T
	entered     chan struct{} // by requests to /stuck
	bytes       atomic.Int64  // that have come
	connections atomic.Int64
	senders     sync.WaitGroup
	release     func()
}

func newStuckService(t *testing.T) *stuckService {
	release := make(chan struct{})
	s := &stuckService{t: t, entered: make(chan struct{}), release: sync.OnceFunc(func() { close(release) })}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stuck" || r.URL.Path == "/half" {
			if r.URL.Path == "/half" {
				_, _ = io.CopyN(io.Discard, r.Body, 256<<10)
			}
			s.entered <- struct{}{}
			<-release
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, err)
	}))
	s.Listener, server.Listener = server.Listener, s
	server.Config.Protocols = &http.Protocols{}
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(s.senders.Wait)
	t.Cleanup(s.release)
	return s
}

func (s *stuckService) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s.connections.Add(1)
	return &countedConn{c, &s.bytes}, nil
}

// countedConn counts what is read from it.
type countedConn struct {
	net.Conn
	bytes *atomic.Int64
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

// stick sends a number of uploads that the service does not read, of 4 MiB altogether or at least 320 KiB each, and
// returns when they hold of its window what they can.
func (s *stuckService) stick(g *gateway, path string, n int) {
	s.t.Cleanup(s.release) // before the node ends, which waits for what is under way
	part := fmt.Sprintf("10000\r\n%s\r\n", make([]byte, 64<<10))
	for range n {
		upload, err := net.Dial("tcp", g.address)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { _ = upload.Close() })
		_ = upload.SetDeadline(waittest.Deadline())
		s.senders.Go(func() {
			_, err := io.WriteString(upload, "POST "+path+" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range max(64/n, 5) {
				if err == nil {
					_, err = io.WriteString(upload, part)
				}
			}
		})
	}
	for range n {
		waittest.Receive(s.t, "an upload that the service does not read", s.entered)
	}
	waittest.Until(s.t, "as much sent to the service as one upload may have on its way", func() bool {
		return s.bytes.Load() > 512<<10
	})
}

// upload sends the service so many bytes, which it reads.
func (s *stuckService) upload(g *gateway, size int) {
	s.t.Helper()
	begun := time.Now()
	client := g.client()
	_ = client.SetDeadline(waittest.Deadline())
	client.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, make([]byte, size)))
	res, err := http.ReadResponse(client.r, nil)
	if err != nil {
		s.t.Fatalf("an upload of %d bytes: %v after %s", size, err, time.Since(begun))
	}
	if body, err := io.ReadAll(res.Body); string(body) != fmt.Sprint(size, " <nil>") {
		s.t.Fatalf("an upload of %d bytes: %d %q, %v", size, res.StatusCode, body, err)
	}
}

// Uploads that a service does not read, however many, leave the others a part of its connections' windows.
func TestStuckUploadsOfAService(t *testing.T) {
	for _, c := range []struct {
		name, pool, path string
		stuck            int
	}{
		{"one", ", max_connections: 1", "/stuck", 1},
		{"some", ", max_connections: 1", "/stuck", 6},
		{"as many as a connection carries", ", max_connections: 1", "/stuck", 90},
		{"as many as a client may have on a connection", "", "/stuck", 250},
		{"one that is read at first", ", max_connections: 1", "/half", 1},
		{"some that are read at first", ", max_connections: 1", "/half", 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			service := newStuckService(t)
			g := startWith(t, codec.DefaultLimits(), respondingWithin("5m", speaking("h2c", service.Addr().String(), c.pool)))
			service.stick(g, c.path, c.stuck)
			service.upload(g, 172)
			service.upload(g, 1<<20)
		})
	}
}

// Where a connection's window is used up, requests with a body go to another connection, if there may be one, and
// those without do not mind.
func TestUploadsBesideAStuckOne(t *testing.T) {
	for _, c := range []struct {
		pool        string
		connections int64
	}{
		{", max_connections: 1", 1},
		{", max_connections: 2", 2},
		{", max_connections: 2, max_pending: 0", 2},
	} {
		t.Run(c.pool[2:], func(t *testing.T) {
			service := newStuckService(t)
			g := startWith(t, codec.DefaultLimits(), respondingWithin("5m", speaking("h2c", service.Addr().String(), c.pool)))
			service.stick(g, "/stuck", 1)
			waittest.Until(t, "connections as many as there may be", func() bool {
				service.upload(g, 172)
				return service.connections.Load() == c.connections
			})
			for range 3 {
				service.upload(g, 1<<20)
				if status, text := g.get("/"); status != 200 || text != "0 <nil>" {
					t.Errorf("without a body: %d %q", status, text)
				}
			}
			if n := service.connections.Load(); n != c.connections {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// Where the other connection can't be opened, the one whose window is used up has to do.
func TestUploadsBesideAStuckOneAlone(t *testing.T) {
	service := newStuckService(t)
	g := startWith(t, codec.DefaultLimits(), respondingWithin("5m", speaking("h2c", service.Addr().String(), "")))
	service.stick(g, "/stuck", 1)
	_ = service.Close()
	begun := time.Now()
	for time.Since(begun) < 300*time.Millisecond {
		service.upload(g, 172)
	}
	service.upload(g, 1<<20)
}

package proxy

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

// A service that breaks requests off, however often, does not cost those their answers that are under way on the same
// connection.
func TestResetsByAService(t *testing.T) {
	held, release := make(chan struct{}, 3), make(chan struct{})
	server := newH2Server(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
		held <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "ok")
	}))
	g := startWith(t, codec.DefaultLimits(),
		respondingWithin("5m", speaking("h2c", server.address, ", max_connections: 1")))
	answers := make(chan string, 3)
	for range 3 {
		go func() {
			c := g.client()
			_ = c.SetDeadline(waittest.Deadline())
			answers <- c.get("/held")
		}()
		<-held
	}
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			c := g.client()
			_ = c.SetDeadline(waittest.Deadline())
			for range 400 {
				c.send("GET /abort HTTP/1.1\r\nHost: a\r\n\r\n")
				res, err := http.ReadResponse(c.r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 502 {
					t.Errorf("%d, %v", res.StatusCode, err)
				}
			}
		})
	}
	clients.Wait()
	close(release)
	for range 3 {
		hear(t, answers, "200 ok")
	}
	if n := server.connections.Load(); n != 1 {
		t.Errorf("it took %d connections", n)
	}
}

// Clients that take nothing, however many, leave those a window who do.
func TestManySlowClientsOfAService(t *testing.T) {
	server := newH2Server(t, &http.HTTP2Config{MaxConcurrentStreams: 250}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size := 2
		if r.URL.Path == "/large" {
			size = 1 << 20
		}
		_, _ = w.Write(make([]byte, size))
	}))
	g := startWith(t, codec.DefaultLimits(),
		respondingWithin("5m", speaking("h2c", server.address, ", max_connections: 1")))
	for range 2 {
		takesNothing(t, g.address, 80)
	}
	c := g.client()
	for range 20 {
		if got := c.get("/small"); got != "200 \x00\x00" {
			t.Fatal(got)
		}
	}
	if n := server.connections.Load(); n != 1 {
		t.Errorf("it took %d connections", n)
	}
}

// takesNothing asks for a number of large responses on one connection, and takes their heads only.
func takesNothing(t *testing.T, address string, n int) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(waittest.Deadline())
	f := xhttp2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, err = io.WriteString(c, xhttp2.ClientPreface)
	if err == nil {
		err = f.WriteSettings()
	}
	var head bytes.Buffer
	fields := hpack.NewEncoder(&head)
	for i := range n {
		head.Reset()
		for _, field := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/large"}, {":authority", "a"}} {
			_ = fields.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		if err == nil {
			err = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: head.Bytes(), EndHeaders: true, EndStream: true})
		}
	}
	for heads := 0; err == nil && heads < n; {
		var frame xhttp2.Frame
		if frame, err = f.ReadFrame(); err == nil {
			if _, isHead := frame.(*xhttp2.MetaHeadersFrame); isHead {
				heads++
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

package proxy

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/http1"
)

// A service that breaks requests off, however often, does not cost those their answers that are under way on the same connection.
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
	g := startWith(t, http1.DefaultLimits(), strings.Replace(speaking("h2c", server.address, ", max_connections: 1"), "response_timeout: 2s", "response_timeout: 1m", 1))
	answers := make(chan string, 3)
	for range 3 {
		go func() {
			c := g.client()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			answers <- c.get("/held")
		}()
		<-held
	}
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			c := g.client()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
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
			size = 4 << 20
		}
		_, _ = w.Write(make([]byte, size))
	}))
	g := startWith(t, http1.DefaultLimits(), strings.Replace(speaking("h2c", server.address, ", max_connections: 1"), "response_timeout: 2s", "response_timeout: 1m", 1))
	for range 160 {
		c, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(c, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
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

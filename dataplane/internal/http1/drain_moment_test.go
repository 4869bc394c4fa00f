package http1

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// reading reads a request's body and answers with it.
type reading struct{}

func (reading) Serve(x *exchange.Exchange) {
	part, whole, err := x.Down.BufferedBody()
	body := append([]byte(nil), part...)
	for err == nil && !whole {
		if part, err = x.Down.NextBody(); err == io.EOF {
			whole, err = true, nil
		}
		body = append(body, part...)
	}
	if err != nil {
		x.Answer(408, "text/plain", []byte(err.Error()))
	} else {
		x.Answer(200, "text/plain", body)
	}
	_ = x.Down.WriteHead(x, x.Response.Body, true)
}

// TestDrainAtTheMomentOfARequest interrupts a connection that was idle when Drain looked, and is not any more when it
// acts: the request that has begun is served.
func TestDrainAtTheMomentOfARequest(t *testing.T) {
	const request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
	for n := 1; n < len(request); n++ {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			s := NewServer(codec.DefaultLimits(), reading{})
			served := make(chan struct{})
			go s.Serve(socket.New(near), exchange.NewPeer(near.RemoteAddr()), func() { close(served) })
			if _, err := io.WriteString(far, request[:n]); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			s.leaving.Store(true)
			s.draining.Store(true)
			s.each(func(c *conn) { c.sock.Interrupt() })
			synctest.Wait()
			if _, err := io.WriteString(far, request[n:]); err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
			_ = far.SetReadDeadline(time.Now().Add(time.Minute))
			res, err := http.ReadResponse(bufio.NewReader(far), nil)
			if err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
			if body, err := io.ReadAll(res.Body); res.StatusCode != 200 || string(body) != "hello" {
				t.Errorf("after %d bytes: %d %s, %v", n, res.StatusCode, body, err)
			}
			_ = res.Body.Close()
			_ = far.Close()
			<-served
		})
	}
}

// TestDrainOfAConnectionThatKnows interrupts a connection that has seen already that the server drains, as Drain does
// to one that comes between its first look and its last: the request that it brings within LastRequestTimeout is
// served.
func TestDrainOfAConnectionThatKnows(t *testing.T) {
	limits := codec.DefaultLimits()
	last := limits.LastRequestTimeout
	for _, at := range []time.Duration{0, last / 2, last - 1, 2 * last} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			s := NewServer(limits, reading{})
			s.leaving.Store(true)
			s.draining.Store(true)
			served := make(chan struct{})
			go s.Serve(socket.New(near), exchange.NewPeer(near.RemoteAddr()), func() { close(served) })
			synctest.Wait()
			s.Drain()
			synctest.Wait()
			time.Sleep(at)
			synctest.Wait()
			_ = far.SetDeadline(time.Now().Add(time.Minute))
			_, err := io.WriteString(far, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			var res *http.Response
			if err == nil {
				res, err = http.ReadResponse(bufio.NewReader(far), nil)
			}
			if at > last {
				if err == nil {
					t.Errorf("after %v a request is served", at)
				}
				_ = far.Close()
				<-served
				return
			}
			if err != nil {
				t.Fatalf("after %v: %v", at, err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			if res.StatusCode != 200 || !res.Close {
				t.Errorf("after %v: %d, close %t", at, res.StatusCode, res.Close)
			}
			_ = far.Close()
			<-served
		})
	}
}

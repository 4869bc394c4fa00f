package http1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// answering reads the request's body and answers with a body.
type answering string

func (a answering) Serve(x *exchange.Exchange) {
	if !x.Response.Local {
		if err := readAll(x.Down); err != nil {
			own := &fault.Error{Code: fault.BadRequest}
			errors.As(err, &own)
			x.Fail(own.Code, own.Reason)
		} else {
			x.Answer(200, "text/plain", []byte(a))
		}
	}
	if x.Down.WriteHead(x, x.Response.Body, true) != nil {
		x.Down.Abort()
	}
}

func readAll(d exchange.Downstream) error {
	_, whole, err := d.BufferedBody()
	for !whole && err == nil {
		if _, err = d.NextBody(); err == io.EOF {
			return nil
		}
	}
	return err
}

// TestSlowClients lets clients send and take at different rates, in virtual time. The limits are the defaults.
func TestSlowClients(t *testing.T) {
	const response = 30_000
	for _, c := range []struct {
		name    string
		head    string
		more    string // sent after the head, by so many bytes a second
		sends   int
		takes   int  // bytes a second; 0: as fast as they come
		stops   bool // takes nothing after that of the first second
		any     bool // without a least rate
		status  int  // 0: none
		after   time.Duration
		partial bool // the response is cut
	}{
		{name: "a fast client", head: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", status: 200},
		{name: "a client that says nothing", status: 0, after: 75 * time.Second},
		{name: "a head by bytes", head: "G", more: "ET / HTTP/1.1\r\nHost: a\r\n\r\n", sends: 1, status: 408, after: 10 * time.Second},
		{name: "half a head", head: "GET / HTTP/1.1\r\n", status: 408, after: 10 * time.Second},
		{name: "a head in time", head: "G", more: "ET / HTTP/1.1\r\nHost: a\r\n\r\n", sends: 4, status: 200},
		{name: "a body that does not come", head: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6000\r\n\r\n", status: 408, after: 60 * time.Second},
		{name: "a body too slowly", head: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n", more: strings.Repeat("x", 60_000), sends: 50, status: 408, after: 60 * time.Second},
		{name: "a chunked body too slowly", head: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", more: strings.Repeat("1\r\nx\r\n", 10_000), sends: 6, status: 408, after: 60 * time.Second},
		{name: "a body slowly enough", head: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n", more: strings.Repeat("x", 60_000), sends: 200, status: 200},
		{name: "a body at any rate", any: true, head: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 600\r\n\r\n", more: strings.Repeat("x", 600), sends: 1, status: 200},
		{name: "takes too slowly", head: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", takes: 80, status: 200, partial: true, after: 100 * time.Second}, // two pieces of 4 KiB
		{name: "takes much too slowly", head: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", takes: 20, status: 200, partial: true, after: 60 * time.Second},
		{name: "takes slowly enough", head: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", takes: 200, status: 200},
		{name: "takes nothing more", head: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", takes: 200, stops: true, status: 200, partial: true, after: 60 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limits := codec.DefaultLimits()
				if c.any {
					limits.MinRate = 0
				}
				near, far := net.Pipe()
				begun := time.Now()
				var took time.Duration
				served := make(chan struct{})
				go func() {
					defer close(served)
					NewServer(limits, answering(strings.Repeat("y", response))).Serve(socket.New(near), exchange.NewPeer(near.RemoteAddr()), func() {})
					took = time.Since(begun)
				}()
				var sending sync.WaitGroup
				sending.Go(func() {
					if c.head == "" {
						return // a pipe would pass an empty write on
					}
					_, err := io.WriteString(far, c.head)
					for text := c.more; err == nil && text != ""; {
						n := min(c.sends, len(text))
						time.Sleep(time.Second)
						_, err = io.WriteString(far, text[:n])
						text = text[n:]
					}
				})
				got := take(far, c.takes, c.stops, served)
				answered := time.Since(begun)
				_ = far.Close()
				<-served
				sending.Wait()
				status := 0
				_, _ = fmt.Sscanf(got, "HTTP/1.1 %d", &status)
				_, text, _ := strings.Cut(got, "\r\n\r\n")
				if whole := len(text) == response; status != c.status || status == 200 && whole == c.partial {
					t.Errorf("status %d with %d bytes, want %d", status, len(got), c.status)
				}
				ended := answered
				if c.partial || c.status == 0 {
					ended = took
				}
				if c.after > 0 && (ended < c.after || ended > c.after+c.after/8+2*time.Second) {
					t.Errorf("that took %s, want %s", ended, c.after)
				}
			})
		})
	}
}

// take reads a response at a rate until it is whole, the connection ends or, once it stops, has been served.
func take(c net.Conn, rate int, stops bool, served <-chan struct{}) string {
	var got strings.Builder
	b := make([]byte, 1000)
	if rate > 0 {
		b = b[:rate]
	}
	for {
		n, err := c.Read(b)
		got.Write(b[:n])
		text := got.String()
		head, body, _ := strings.Cut(text, "\r\n\r\n")
		length := -1
		if i := strings.Index(head, "Content-Length: "); i >= 0 {
			_, _ = fmt.Sscanf(head[i:], "Content-Length: %d", &length)
		}
		if err != nil || len(body) == length {
			return text
		}
		if stops {
			<-served
			return text
		}
		if rate > 0 {
			time.Sleep(time.Second)
		}
	}
}

package http2

import (
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
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/socket"
)

// bothWays begins its response at once, and goes on with it every so often, until the request has ended.
type bothWays time.Duration

func (h bothWays) Serve(x *exchange.Exchange) {
	_, whole, err := x.Down.BufferedBody()
	read := make(chan error, 1)
	x.BeginBoth()
	go func() {
		for err == nil && !whole {
			if _, err = x.Down.NextBody(); err == io.EOF {
				whole, err = true, nil
			}
		}
		read <- err
	}()
	x.Response.Status, x.Response.ContentLength = 200, -1
	_ = x.Down.WriteHead(x, []byte("begun"), false)
	for {
		select {
		case err := <-read:
			if err != nil || x.Down.WriteBody(x, nil, true) != nil {
				x.Down.Abort()
			}
			x.Tick()
			return
		case <-time.After(time.Duration(h)):
			_ = x.Down.WriteBody(x, []byte("more"), false)
			x.Moved()
		}
	}
}

// A client may pause its request's body, or send it by bytes, while the response goes on: nobody waits for it. When
// neither goes on, it is over.
func TestPauseWhileTheResponseGoesOn(t *testing.T) {
	const often, never = 30 * time.Second, time.Hour
	for _, c := range []struct {
		name  string
		every time.Duration
		sends time.Duration // how long it takes until the body goes on, each time
		times int
		want  string
		after time.Duration
	}{
		{"a long pause", often, 20 * time.Minute, 1, "200", 20 * time.Minute},
		{"a byte now and then", often, 50 * time.Second, 20, "200", 1000 * time.Second},
		{"bytes too slowly", often, time.Second, 500, "200", 500 * time.Second},
		{"bytes too slowly, and no response", never, time.Second, 500, "200", 500 * time.Second},
		{"a pause, and no response", never, 20 * time.Minute, 1, "cut", 60 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			send := func(part func() bool) {
				for range c.times {
					time.Sleep(c.sends)
					if !part() {
						return
					}
				}
			}
			check := func(version, got string, took time.Duration) {
				if got != c.want || took < c.after || took > c.after+c.after/8+time.Second {
					t.Errorf("%s: %s after %s, want %s after %s", version, got, took, c.want, c.after)
				}
			}
			bubble(t, codec.DefaultLimits(), bothWays(c.every), func(k *talker) {
				begun := time.Now()
				id := k.ask("POST", "/", false)
				var sending sync.WaitGroup
				defer sending.Wait()
				sending.Go(func() {
					send(func() bool { return k.send(id, 1, 1, 0) })
					k.finish(id)
				})
				got := k.outcome(id)
				if got != "200" {
					got = "cut"
				}
				check("HTTP/2", got, time.Since(begun))
			})
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				served := make(chan struct{})
				go func() {
					defer close(served)
					http1.NewServer(codec.DefaultLimits(),
						bothWays(c.every)).Serve(socket.New(near), exchange.NewPeer(near.RemoteAddr()), func() {})
				}()
				begun := time.Now()
				var sending sync.WaitGroup
				defer sending.Wait()
				sending.Go(func() {
					_, _ = io.WriteString(far, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
					send(func() bool {
						_, err := io.WriteString(far, "1\r\nb\r\n")
						return err == nil
					})
					_, _ = io.WriteString(far, "0\r\n\r\n")
				})
				var text strings.Builder
				b := make([]byte, 1000)
				for !strings.HasSuffix(text.String(), "\r\n0\r\n\r\n") {
					n, err := far.Read(b)
					if text.Write(b[:n]); err != nil {
						break
					}
				}
				got := "cut"
				if strings.HasSuffix(text.String(), "\r\n0\r\n\r\n") {
					_, _ = fmt.Sscanf(text.String(), "HTTP/1.1 %s", &got)
				}
				check("HTTP/1.1", got, time.Since(begun))
				_ = far.Close()
				<-served
			})
		})
	}
}

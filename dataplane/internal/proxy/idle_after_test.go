package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// A connection to a service is idle from the end of an exchange on, not from the head of its response on: whatever
// the exchange came to, the next one a moment later has the same connection.
func TestIdleFromTheEndOn(t *testing.T) {
	const idle = 2 * time.Second
	for _, c := range []struct{ protocol, path string }{
		{"http", "/long"}, {"h2c", "/long"}, {"h2c", "/cancelled"},
	} {
		t.Run(c.protocol+c.path, func(t *testing.T) {
			if c.protocol == "h2c" {
				once(t)
			}
			t.Parallel()
			came, gone := make(chan struct{}, 1), make(chan struct{}, 1)
			var opened atomic.Int32
			var ended atomic.Pointer[time.Time] // before the end of the first exchange
			ends := func() {
				now := time.Now()
				ended.Store(&now)
			}
			service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/cancelled":
					ends()
					came <- struct{}{}
					<-r.Context().Done()
					gone <- struct{}{}
				case "/long":
					_, _ = io.WriteString(w, "first")
					_ = http.NewResponseController(w).Flush()
					time.Sleep(idle + idle/4)
					ends()
					_, _ = io.WriteString(w, "last")
				}
			}))
			service.Config.Protocols = &http.Protocols{}
			service.Config.Protocols.SetHTTP1(c.protocol == "http")
			service.Config.Protocols.SetUnencryptedHTTP2(c.protocol == "h2c")
			service.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					opened.Add(1)
				}
			}
			service.Start()
			t.Cleanup(service.Close)
			g := start(t, speaking(c.protocol, service.Listener.Addr().String(), ", idle_timeout: "+idle.String()))
			get := func(ctx context.Context, path string) error {
				req, err := http.NewRequestWithContext(ctx, "GET", "http://"+g.address+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := clientOf(t, "HTTP/1.1").Do(req)
				if err != nil {
					return err
				}
				defer res.Body.Close()
				_, err = io.Copy(io.Discard, res.Body)
				return err
			}
			longAfter := func() error {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.path == "/cancelled" {
					go func() {
						<-came
						cancel()
					}()
				}
				if err := get(ctx, c.path); (err == nil) != (c.path == "/long") {
					t.Fatal(err)
				}
				if c.path == "/cancelled" {
					<-gone
				}
				time.Sleep(1200 * time.Millisecond) // connections are looked at every second
				return get(t.Context(), "/")
			}
			waittest.UntilNil(t, "a connection that rests no longer than it may", func() error {
				opened.Store(0)
				ended.Store(nil)
				if err := longAfter(); err != nil {
					t.Fatal(err)
				}
				n, rested := opened.Load(), time.Since(*ended.Load())
				if n > 1 && rested >= idle {
					return fmt.Errorf("%d connections were opened, since the machine is busy: %s", n, rested)
				}
				if n > 1 {
					t.Errorf("%d connections were opened", n)
				}
				return nil
			})
		})
	}
}

package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
)

// Heads, and first parts of chunked bodies, that outgrow the buffer that they are put together in do not take it with
// them.
func TestLargeHeadsLeaveNothing(t *testing.T) {
	long := strings.Repeat("x", 30_000)
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Long", r.Header.Get("X-Long"))
		w.Header().Set("Link", long)
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "ok")
		w.Header().Set("X-Sum", long[:3000])
	})
	for _, protocol := range []string{"http", "h2c"} {
		t.Run(protocol, func(t *testing.T) {
			leavesNothing(t)
			service := newService(t, protocol, answer)
			g := startWith(t, codec.DefaultLimits(), speaking(protocol, service.Listener.Addr().String(), ""))
			for _, client := range []*http.Client{{Transport: &http.Transport{}}, survivor(t)} {
				req, err := http.NewRequest("POST", "http://"+g.address+"/", io.MultiReader(strings.NewReader(long), strings.NewReader(long)))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-Long", long)
				req.Header.Set("TE", "trailers")
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				if text := body(t, res); text != "ok" || res.Header.Get("X-Long") != long {
					t.Errorf("%d %.100q", res.StatusCode, text)
				}
				client.CloseIdleConnections()
			}
		})
	}
	t.Run("upgrade", func(t *testing.T) {
		leavesNothing(t)
		g := startWith(t, codec.DefaultLimits(), to(scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if req, err := http.ReadRequest(r); err == nil {
				_, _ = fmt.Fprintf(c, "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nLink: %s\r\n\r\n",
					exchange.WebSocketAccept(req.Header.Get("Sec-WebSocket-Key")), long)
			}
		}), ""))
		c, r := g.upgraded("")
		_, _ = io.Copy(io.Discard, r)
		_ = c.Close()
		if s := extended(t, g.address, "websocket"); len(s.res.Header.Get("Link")) != len(long) {
			t.Errorf("%v", s.res.Header)
		} else {
			_ = s.Close()
			_, _ = io.Copy(io.Discard, s.res.Body)
		}
	})
}

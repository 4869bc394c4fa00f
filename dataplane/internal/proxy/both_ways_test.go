package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/codec"
)

// TestOneDirectionPauses lets either side of an exchange say nothing for longer than it may, while the other one goes
// on: that is no reason to end it.
func TestOneDirectionPauses(t *testing.T) {
	const (
		pause = 1500 * time.Millisecond // the longest that either side may pause by itself
		step  = 50 * time.Millisecond
		steps = 40
	)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		_, _ = io.WriteString(w, "b")
		_ = c.Flush()
		if r.URL.Path == "/service-goes-on" {
			tick := time.NewTicker(step)
			defer tick.Stop()
			for range steps {
				<-tick.C
				_, _ = io.WriteString(w, ".")
				_ = c.Flush()
			}
		}
		got, err := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%d %v", len(got), err)
	})
	one := httptest.NewServer(handler)
	t.Cleanup(one.Close)
	two := newH2Server(t, nil, handler)
	limits := codec.DefaultLimits()
	limits.BodyTimeout = pause
	for protocol, address := range map[string]string{"http": one.Listener.Addr().String(), "h2c": two.address} {
		config := strings.Replace(to(address, ""), "name: s,", "name: s, protocol: "+protocol+",", 1)
		config = respondingWithin(pause.String(), config)
		g := startWith(t, limits, config)
		for version, transport := range transports() {
			for _, path := range []string{"/service-goes-on", "/client-goes-on"} {
				t.Run(fmt.Sprintf("HTTP/%d to %s%s", version+1, protocol, path), func(t *testing.T) {
					t.Parallel()
					up, feed := io.Pipe()
					req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+g.address+path, up)
					if err != nil {
						t.Fatal(err)
					}
					res, err := transport.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					defer transport.CloseIdleConnections()
					defer func() { _ = res.Body.Close() }()
					want := "4 <nil>"
					if path == "/client-goes-on" {
						want = fmt.Sprintf("b%d <nil>", steps+4)
						tick := time.NewTicker(step)
						defer tick.Stop()
						for range steps {
							<-tick.C
							if _, err := io.WriteString(feed, "."); err != nil {
								t.Fatal(err)
							}
						}
					} else {
						if _, err := io.ReadFull(res.Body, make([]byte, 1+steps)); err != nil {
							t.Fatal(err)
						}
					}
					_, _ = io.WriteString(feed, "late")
					_ = feed.Close()
					if text, err := io.ReadAll(res.Body); string(text) != want || err != nil {
						t.Errorf("%q, %v, want %q", text, err, want)
					}
				})
			}
		}
	}
}

package proxy

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

// TestCutHTTP2UpstreamsThatRead lets a service of HTTP/2 die at every byte that it is sent. Whoever asks is told so.
func TestCutHTTP2UpstreamsThatRead(t *testing.T) {
	leavesNothing(t)
	var plan atomic.Pointer[cut]
	var open atomic.Int64
	g := startWith(t, codec.DefaultLimits(), speaking("h2c", scripted(t, func(_ int, nc net.Conn, r *bufio.Reader) {
		open.Add(1)
		defer open.Add(-1)
		at := *plan.Load()
		_, _ = io.CopyN(io.Discard, r, int64(at.offset))
		at.die(nc)
	}), ""))
	k := &upstreamCutter{t: t, g: g, survivor: survivor(t)}
	for _, reset := range []bool{false, true} {
		for offset := range offsets(200, 1, reset) { // the preface, the first frames, and most of a request's
			plan.Store(&cut{serviceReceives, offset, reset})
			for name, res := range map[string]got{"GET": k.ask("GET", "/a"), "POST": k.ask("POST", "/a"), "HTTP/2": k.askHTTP2("/a")} {
				if res.err != nil || res.status != 502 || !strings.Contains(res.body, "UPSTREAM_UNAVAILABLE") {
					t.Fatalf("cut at %+v: %s got %s", *plan.Load(), name, res)
				}
			}
		}
	}
	k.survivor.CloseIdleConnections()
	waittest.Until(t, "the end of connections", func() bool { return g.server.Active() == 0 && g.two.Active() == 0 && open.Load() == 0 })
}

package http2

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// An interim response gives the service its time anew, as over HTTP/1.1, but there may only be some.
func TestTimeAfterInterimResponses(t *testing.T) {
	const timeout, pause = time.Second, 600 * time.Millisecond
	for _, c := range []struct {
		name    string
		interim int
		answers bool
		want    string
		after   time.Duration
	}{
		{"none", 0, true, "200", pause},
		{"some", 5, true, "200", 6 * pause},
		{"as many as there may be", maxInterim, true, "200", (maxInterim + 1) * pause},
		{"too many", maxInterim + 1, true, "malformed", (maxInterim + 1) * pause},
		{"and nothing after them", 5, false, "timeout", 5*pause + timeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				client := NewClientConn(ours, "http", false, nil, nil)
				asked := make(chan struct{}, 1)
				served := make(chan struct{})
				go func() { // takes what the client says
					defer close(served)
					_, _ = io.ReadFull(theirs, make([]byte, len(preface)))
					f := xhttp2.NewFramer(io.Discard, theirs)
					for {
						frame, err := f.ReadFrame()
						if err != nil {
							return
						}
						if _, is := frame.(*xhttp2.HeadersFrame); is {
							asked <- struct{}{}
						}
					}
				}()
				said := make(chan struct{})
				go func() {
					defer close(said)
					<-asked
					say := func(write func(f *xhttp2.Framer, list func(...string) []byte)) { _, _ = theirs.Write(frames(write)) }
					say(func(f *xhttp2.Framer, _ func(...string) []byte) { _ = f.WriteSettings() })
					for range c.interim {
						time.Sleep(pause)
						say(func(f *xhttp2.Framer, list func(...string) []byte) {
							_ = f.WriteHeaders(head(1, list(":status", "102"), false))
						})
					}
					time.Sleep(pause)
					if c.answers {
						say(func(f *xhttp2.Framer, list func(...string) []byte) {
							_ = f.WriteHeaders(head(1, list(":status", "200"), true))
						})
					}
				}()
				down := &interims{}
				x := &exchange.Exchange{}
				x.Start = time.Now()
				x.Down = down
				x.Request.Method, x.Request.Path, x.Request.Host = "GET", "/", "a"
				stream := &ClientStream{} // not one that others have used: its channels are the bubble's
				stream.init()
				client.mu.Lock()
				client.active++
				stream.begin(client, false)
				client.mu.Unlock()
				_, _, err := stream.Send(x, nil, true, timeout)
				took := time.Since(x.Start)
				got := fmt.Sprint(x.Response.Status)
				var own *fault.Error
				switch {
				case errors.As(err, &own) && own.Code == fault.UpstreamInvalid:
					got = "malformed"
				case errors.Is(err, timedOut):
					got = "timeout"
				case err != nil:
					got = err.Error()
				}
				if got != c.want || took != c.after {
					t.Errorf("%s after %s, want %s after %s", got, took, c.want, c.after)
				}
				if passed := strings.Count(down.text.String(), "102 "); passed != min(c.interim, maxInterim) {
					t.Errorf("%d interim responses were passed on", passed)
				}
				client.Close()
				_ = theirs.Close()
				<-served
				<-said
			})
		})
	}
}

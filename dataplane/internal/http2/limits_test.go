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

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// limited takes bodies up to a size in, and answers with 80,000 bytes.
type limited struct{}

const (
	limitedBody   = 100_000
	limitedAnswer = 80_000
)

func (limited) Serve(x *exchange.Exchange) {
	if !x.Response.Local {
		x.Down.LimitBody(limitedBody)
		_, whole, err := x.Down.BufferedBody()
		for !whole && err == nil {
			if _, err = x.Down.NextBody(); err == io.EOF {
				whole, err = true, nil
			}
		}
		own := &fault.Error{Code: fault.BadRequest}
		if errors.As(err, &own); err != nil {
			x.Fail(own.Code, own.Reason)
		} else {
			x.Answer(200, "text/plain", make([]byte, limitedAnswer))
		}
	}
	if x.Down.WriteHead(x, x.Response.Body, true) != nil {
		x.Down.Abort()
	}
	x.Tick()
}

// conduct is how a client behaves.
type conduct struct {
	name string
	// silent clients say hello and nothing more; noisy ones say all the time what is allowed and achieves nothing,
	// where their protocol has that.
	silent, noisy bool
	// headBy is how many bytes of the head are sent a second; 0: all at once. parts: in frames of their own. halfHead
	// clients stop in its middle.
	headBy          int
	parts, halfHead bool
	target          string
	fields          []string
	// body is how many bytes of body are sent, bodyBy a second; 0: all at once. -1: the body does not come.
	body, bodyBy int
	// large is the size of the pieces that the body is cut into: frames, or chunks, that come part by part; 0: what
	// is sent at once is one.
	large int
	// takes is how many bytes of the response are taken a second, 0: any number, and through what that is bounded where
	// there are windows.
	takes   int
	through string
	stops   bool // and nothing after the first seconds
	// stopsAfter is how many bytes of the body come; 0: all.
	stopsAfter int
	any        bool // without a least rate
	again      bool // a request before, on the same connection
	// want is what comes of it: a status, "cut" for half a response, or how the connection ends; of HTTP/2 where that
	// is something else.
	want, want2 string
	after       time.Duration
	late        time.Duration // how much later that may be
}

// conducts is the table of limits: what HTTP/1.1 keeps, HTTP/2 does.
var conducts = []conduct{
	{name: "a fast client", want: "200"},
	{name: "idle", silent: true, want: "end", after: 75 * time.Second},
	{name: "idle, with noise", silent: true, noisy: true, want: "end", after: 75 * time.Second},
	{name: "idle after a request", again: true, silent: true, want: "end", after: 75 * time.Second},
	{name: "idle after a request, with noise", again: true, silent: true, noisy: true, want: "end", after: 75 * time.Second},
	{name: "a head by bytes", headBy: 1, want: "408", want2: "goaway ENHANCE_YOUR_CALM", after: 10 * time.Second},
	{name: "a head by parts", headBy: 1, parts: true, fields: []string{"x", strings.Repeat("~", 15)}, want: "408", want2: "goaway ENHANCE_YOUR_CALM", after: 10 * time.Second},
	{name: "half a head", halfHead: true, want: "408", want2: "goaway ENHANCE_YOUR_CALM", after: 10 * time.Second},
	{name: "half a head, after a request", again: true, halfHead: true, want: "408", want2: "goaway ENHANCE_YOUR_CALM", after: 10 * time.Second},
	{name: "a head in time", headBy: 8, want: "200"},
	{name: "as many fields as allowed, with the host", fields: manyFields(127), want: "200"},
	{name: "one field more", fields: manyFields(128), want: "431"},
	{name: "a large head", fields: []string{"x", strings.Repeat("v", 60<<10)}, want: "200"},
	{name: "a head that is too large", fields: []string{"x", strings.Repeat("v", 64<<10)}, want: "431"},
	{name: "a head that is much too large", fields: append(manyFields(100), "x", strings.Repeat("v", 90<<10)), want: "431"},
	{name: "a long target", target: "/" + strings.Repeat("t", 8000), want: "200"},
	{name: "a target that is too long", target: "/" + strings.Repeat("t", 8200), want: "414"},
	{name: "a body", body: limitedBody, want: "200"},
	{name: "a body that is too large", body: limitedBody + 1, want: "413"},
	{name: "a body that does not come", body: -1, want: "408", after: 60 * time.Second},
	{name: "a body that does not come, with noise", body: -1, noisy: true, want: "408", after: 60 * time.Second},
	{name: "a body too slowly", body: 60_000, bodyBy: 50, want: "408", after: 60 * time.Second},
	{name: "a body slowly enough", body: 60_000, bodyBy: 200, want: "200"},
	{ // looked at each minute
		name: "a body too slowly in large pieces", body: 60_000, bodyBy: 50, large: maxFrameBytes,
		want: "408", after: 60 * time.Second, late: time.Minute,
	},
	{name: "a body slowly enough in large pieces", body: 60_000, bodyBy: 150, large: maxFrameBytes, want: "200"},
	{
		name: "a body that stops in a large piece", body: 60_000, bodyBy: 150, large: maxFrameBytes, stopsAfter: 1500,
		want: "408", after: 69 * time.Second,
	},
	{name: "a body at any rate in large pieces", body: 600, bodyBy: 1, large: 600, any: true, want: "200"},
	{name: "a body at any rate", body: 600, bodyBy: 1, any: true, want: "200"},
	{name: "takes too slowly from the socket", takes: 80, through: "socket", want: "cut", after: 60 * time.Second, late: time.Minute}, // pieces of 4 KiB are written
	{name: "takes much too slowly from the socket", takes: 20, through: "socket", want: "cut", after: 60 * time.Second},
	{name: "takes slowly enough from the socket", takes: 200, through: "socket", want: "200"},
	{name: "takes nothing more from the socket", takes: 200, through: "socket", stops: true, want: "cut", after: 60 * time.Second},
	{name: "takes too slowly through the stream's window", takes: 80, through: "stream", want: "cut", after: 60 * time.Second, late: time.Minute},
	{name: "takes by bytes through the stream's window", takes: 1, through: "stream", want: "cut", after: 60 * time.Second},
	{name: "takes by bytes through the stream's window, with noise", takes: 1, noisy: true, through: "stream", want: "cut", after: 60 * time.Second},
	{name: "takes slowly enough through the stream's window", takes: 200, through: "stream", want: "200"},
	{name: "takes nothing more through the stream's window", takes: 200, stops: true, through: "stream", want: "cut", after: 60 * time.Second},
	{name: "takes nothing more through the stream's window, with noise", takes: 200, noisy: true, stops: true, through: "stream", want: "cut", after: 60 * time.Second},
	{name: "takes by bytes through the connection's window", takes: 1, through: "connection", want: "cut", after: 60 * time.Second},
	{name: "takes slowly enough through the connection's window", takes: 200, through: "connection", want: "200"},
	{name: "takes nothing more through the connection's window", takes: 200, stops: true, through: "connection", want: "cut", after: 60 * time.Second},
}

func manyFields(n int) (fields []string) {
	for i := range n {
		fields = append(fields, fmt.Sprint("x-", i), "v")
	}
	return fields
}

// slowly is a connection that is read from at a rate.
type slowly struct {
	net.Conn
	rate    int // bytes a second; 0: any
	left    int // of this second's
	seconds int
	stops   <-chan struct{} // after three seconds nothing more is read until then
}

func (c *slowly) Read(p []byte) (int, error) {
	if c.rate == 0 {
		return c.Conn.Read(p)
	}
	if c.left == 0 {
		if c.seconds++; c.seconds > 3 && c.stops != nil {
			<-c.stops
		}
		time.Sleep(time.Second)
		c.left = c.rate
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// TestLimits lets clients of both protocols behave in each way, in virtual time, against the default limits.
func TestLimits(t *testing.T) {
	for _, c := range conducts {
		for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(version+", "+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					limits := codec.DefaultLimits()
					if c.any {
						limits.MinRate = 0
					}
					near, far := net.Pipe()
					ended := make(chan struct{})
					slow := &slowly{Conn: far}
					if c.through == "socket" || c.through != "" && version == "HTTP/1.1" {
						slow.rate = c.takes
						if c.stops {
							slow.stops = ended
						}
					}
					sock, peer := socket.New(near), exchange.NewPeer(near.RemoteAddr())
					want := c.want
					got, took := "", time.Duration(0)
					if version == "HTTP/1.1" {
						go func() {
							http1.NewServer(limits, limited{}).Serve(sock, peer, func() {})
							close(ended)
						}()
						got, took = c.speak1(slow, ended)
					} else {
						go func() {
							NewServer(limits, creditChecked{t, limited{}}).Serve(sock, peer, func() {})
							close(ended)
						}()
						if c.want2 != "" {
							want = c.want2
						}
						got, took = c.speak2(t, slow, ended)
					}
					_ = far.Close()
					<-ended
					if got != want {
						t.Errorf("%s after %s, want %s", got, took, want)
					}
					if least := c.after; least > 0 && (took < least || took > least+least/8+5*time.Second+c.late) {
						t.Errorf("that took %s, want %s", took, least)
					}
				})
			})
		}
	}
}

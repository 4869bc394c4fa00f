package http2

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

	xhttp2 "golang.org/x/net/http2"

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

// speak1 behaves so in HTTP/1.1.
func (c *conduct) speak1(conn net.Conn, ended <-chan struct{}) (got string, took time.Duration) {
	responses := make(chan string)
	go func() { // takes one response after the other
		defer close(responses)
		var text strings.Builder
		b := make([]byte, 64<<10)
		for {
			n, err := conn.Read(b)
			text.Write(b[:n])
			head, body, _ := strings.Cut(text.String(), "\r\n\r\n")
			length := -1
			if i := strings.Index(head, "Content-Length: "); i >= 0 {
				_, _ = fmt.Sscanf(head[i:], "Content-Length: %d", &length)
			}
			if len(body) == length {
				responses <- head[len("HTTP/1.1 "):][:3]
				text.Reset()
			}
			if err != nil {
				if text.Len() > 0 {
					responses <- "cut"
				}
				return
			}
		}
	}()
	var sending sync.WaitGroup
	defer func() {
		_ = conn.Close()
		for range responses {
		}
		sending.Wait()
	}()
	if c.again {
		sending.Go(func() { _, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") })
		<-responses
	}
	begun := time.Now()
	sending.Go(func() { c.send1(conn) })
	got, ok := <-responses
	if !ok {
		got = "end"
	}
	if c.stops {
		<-ended
	}
	return got, time.Since(begun)
}

func (c *conduct) send1(conn net.Conn) {
	if c.silent {
		return
	}
	target := c.target
	if target == "" {
		target = "/"
	}
	head := "POST " + target + " HTTP/1.1\r\nHost: a\r\n"
	for i := 0; i < len(c.fields); i += 2 {
		head += c.fields[i] + ": " + c.fields[i+1] + "\r\n"
	}
	if c.body == 0 {
		head += "\r\n"
	} else {
		head += "Transfer-Encoding: chunked\r\n\r\n"
	}
	if c.halfHead {
		_, _ = io.WriteString(conn, head[:len(head)/2])
		return
	}
	if c.headBy == 0 {
		_, _ = io.WriteString(conn, head)
	}
	for c.headBy > 0 && head != "" {
		n := min(c.headBy, len(head))
		if _, err := io.WriteString(conn, head[:n]); err != nil {
			return
		}
		head = head[n:]
		time.Sleep(time.Second)
	}
	if c.large > 0 {
		c.drip(conn, func(n int) string { return fmt.Sprintf("%x\r\n%s\r\n", n, strings.Repeat("b", n)) }, "0\r\n\r\n")
		return
	}
	c.sendBody(func(n int) bool {
		_, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", n, strings.Repeat("b", n))
		return err == nil
	}, func() { _, _ = io.WriteString(conn, "0\r\n\r\n") })
}

// sendBody sends the body in parts, if there is one.
func (c *conduct) sendBody(part func(n int) bool, end func()) {
	if c.body <= 0 {
		return
	}
	for left := c.body; left > 0; {
		n := min(left, 10_000)
		if c.bodyBy > 0 {
			n = min(n, c.bodyBy)
			time.Sleep(time.Second)
		}
		if !part(n) {
			return
		}
		left -= n
	}
	end()
}

// drip sends the body in large pieces, part by part.
func (c *conduct) drip(conn net.Conn, piece func(n int) string, end string) {
	var text strings.Builder
	for left := c.body; left > 0; {
		n := min(left, c.large)
		text.WriteString(piece(n))
		left -= n
	}
	text.WriteString(end)
	all := text.String()
	if c.stopsAfter > 0 {
		all = all[:c.stopsAfter]
	}
	for all != "" {
		n := min(len(all), c.bodyBy)
		if _, err := io.WriteString(conn, all[:n]); err != nil {
			return
		}
		all = all[n:]
		time.Sleep(time.Second)
	}
}

// speak2 behaves so in HTTP/2.
func (c *conduct) speak2(t *testing.T, conn net.Conn, ended <-chan struct{}) (got string, took time.Duration) {
	var settings []xhttp2.Setting
	switch c.through {
	case "stream":
		settings = []xhttp2.Setting{{ID: xhttp2.SettingInitialWindowSize, Val: 0}}
	case "connection":
		settings = []xhttp2.Setting{{ID: xhttp2.SettingInitialWindowSize, Val: granted - 1}}
	}
	k := talk(t, conn, settings...)
	if c.through == "stream" {
		k.write(func(f *xhttp2.Framer) { _ = f.WriteWindowUpdate(0, granted) })
	}
	var beside sync.WaitGroup
	over := make(chan struct{})
	defer func() {
		close(over)
		_ = conn.Close()
		<-k.stopped
		beside.Wait()
	}()
	if c.again {
		k.outcome(k.ask("GET", "/", true))
	}
	begun := time.Now()
	id := k.next
	every := func(d time.Duration, do func(i int) bool) {
		beside.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				case <-time.After(d):
				}
				if !do(i) {
					return
				}
			}
		})
	}
	if c.noisy {
		every(700*time.Millisecond, func(i int) bool {
			k.write(func(f *xhttp2.Framer) {
				switch {
				case c.body < 0 && i%2 == 0:
					_ = f.WriteData(id, false, nil)
				case i%3 == 0:
					_ = f.WriteSettings()
				default:
					_ = f.WritePing(false, [8]byte{})
				}
			})
			return true
		})
	}
	if c.silent {
		return c.result(k, 0), time.Since(begun)
	}
	beside.Go(func() { c.send2(k) })
	if c.through == "connection" {
		id = 0
	}
	if c.through == "stream" || c.through == "connection" {
		every(time.Second, func(i int) bool {
			k.write(func(f *xhttp2.Framer) { _ = f.WriteWindowUpdate(id, uint32(c.takes)) })
			return !c.stops
		})
	}
	got = c.result(k, 1+2*uint32(btoi(c.again)))
	return got, time.Since(begun)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// result waits for the outcome of a stream, or of the connection where there is none.
func (c *conduct) result(k *talker, id uint32) string {
	if id == 0 {
		got := k.ended()
		if got == "goaway NO_ERROR" {
			return "end"
		}
		return got
	}
	got := k.outcome(id)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.heads[id] == "200" && got != "200" {
		return "cut"
	}
	if k.heads[id] != "" {
		return k.heads[id]
	}
	return got
}

func (c *conduct) send2(k *talker) {
	target := c.target
	if target == "" {
		target = "/"
	}
	var id uint32
	k.write(func(f *xhttp2.Framer) {
		id = k.next
		k.next += 2
		k.mu.Lock()
		k.windows[id] = k.initial
		k.mu.Unlock()
		block := k.fields(append([]string{":method", "POST", ":scheme", "http", ":authority", "a", ":path", target}, c.fields...)...)
		param := xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: c.body == 0}
		size := maxFrameBytes
		if c.parts {
			size = 1
		}
		whole := len(block) <= size
		param.BlockFragment, param.EndHeaders = block[:min(size, len(block))], whole
		var frames strings.Builder
		w := xhttp2.NewFramer(&frames, nil)
		_ = w.WriteHeaders(param)
		for block = block[len(param.BlockFragment):]; len(block) > 0; {
			n := min(size, len(block))
			_ = w.WriteContinuation(id, n == len(block), block[:n])
			block = block[n:]
		}
		text := frames.String()
		if c.halfHead {
			_, _ = io.WriteString(k.c, text[:len(text)/2])
			return
		}
		if c.headBy == 0 {
			_, _ = io.WriteString(k.c, text)
		}
		by := c.headBy
		if c.parts { // a frame at a time
			by = frameHeadBytes + 1
		}
		for by > 0 && text != "" {
			n := min(by, len(text))
			if _, err := io.WriteString(k.c, text[:n]); err != nil {
				return
			}
			text = text[n:]
			time.Sleep(time.Second)
		}
	})
	if c.large > 0 {
		c.drip(k.c, func(n int) string {
			return string(appendFrameHead(nil, n, frameData, 0, id)) + strings.Repeat("b", n)
		}, string(appendFrameHead(nil, 0, frameData, flagEndStream, id)))
		return
	}
	c.sendBody(func(n int) bool { return k.send(id, n, maxFrameBytes, 0) }, func() { k.finish(id) })
}

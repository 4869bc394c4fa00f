package storm

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

func concurrently(all ...func()) {
	var wg sync.WaitGroup
	for _, f := range all {
		wg.Go(f)
	}
	wg.Wait()
}

// misdeeds are the paths at which services do wrong.
var misdeeds = []string{"stall", "stall-within", "early", "reset", "reset-within", "drip", "large", "short/stall", "short/stall-within", "short/drip", "small/x", "small/stall"}

// stuck is how many uploads on a shared connection get nowhere, all the time.
const stuck = 6

// misbehave sends requests on a connection that others share that come to nothing: they are cancelled, their bodies
// stall, their responses are not read, or their services do wrong.
func (s *storm) misbehave(ctx context.Context, client *http.Client, url string) {
	var running sync.WaitGroup
	defer running.Wait()
	for range min(stuck, stuck*len(s.Stuck)) {
		running.Go(func() {
			for ctx.Err() == nil {
				s.upload(ctx, client, url+"/"+s.Stuck[rand.N(len(s.Stuck))]+"/stall")
				pause(ctx, 10*time.Millisecond)
			}
		})
	}
	for ctx.Err() == nil {
		for range rand.N(3) { // the gateway refuses them
			running.Go(func() { s.upload(ctx, client, url+"/"+[]string{"one", "two"}[rand.N(2)]+"/small/x") })
		}
		running.Go(func() {
			s.misdeed(ctx, client, url+"/"+[]string{"one", "two", "changing", "cutting"}[rand.N(4)]+"/"+misdeeds[rand.N(len(misdeeds))])
		})
		pause(ctx, rand.N(60*time.Millisecond))
	}
}

// upload sends a body of unknown length, more than is taken, until ctx is over or somebody answers.
func (s *storm) upload(ctx context.Context, client *http.Client, url string) {
	s.hostile.Add(1)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.LimitReader(endless{}, 4*limitBytes))
	if err != nil {
		return
	}
	if res, err := client.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
}

// misdeed is one request of that kind.
func (s *storm) misdeed(ctx context.Context, client *http.Client, url string) {
	ctx, cancel := context.WithTimeout(ctx, rand.N(800*time.Millisecond))
	defer cancel()
	s.hostile.Add(1)
	method, body := http.MethodGet, io.Reader(http.NoBody)
	switch rand.N(4) {
	case 0: // more than is taken
		method, body = http.MethodPost, io.LimitReader(endless{}, 4*limitBytes)
	case 1: // a body that stalls
		method, body = http.MethodPost, io.MultiReader(io.LimitReader(endless{}, 10_000), stalling{ctx})
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return
	}
	req.Header.Set("X-Id", strconv.Itoa(rand.N(1000)))
	req.Header.Set("X-Size", strconv.Itoa(rand.N(2*limitBytes)))
	req.Header.Set("X-Sent", "0")
	res, err := client.Do(req)
	if err != nil {
		return
	}
	defer func() { _ = res.Body.Close() }()
	switch rand.N(3) {
	case 0:
		_, _ = io.Copy(io.Discard, res.Body)
	case 1: // reads nothing, for a while
		<-ctx.Done()
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type stalling struct{ ctx context.Context }

func (s stalling) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// misbehaveInCalls makes calls on a connection that others share that are cancelled, too large, or out of time.
func (s *storm) misbehaveInCalls(ctx context.Context, client testgrpc.TestServiceClient) {
	var running sync.WaitGroup
	defer running.Wait()
	for ctx.Err() == nil {
		running.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, rand.N(800*time.Millisecond))
			defer cancel()
			s.hostile.Add(1)
			switch rand.N(3) {
			case 0:
				_, _ = client.EmptyCall(ctx, &testgrpc.Empty{})
			case 1:
				_, _ = client.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: make([]byte, limitBytes+rand.N(limitBytes))}})
			default:
				if both, err := client.FullDuplexCall(ctx); err == nil {
					_ = both.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, rand.N(limitBytes))}})
					<-ctx.Done() // nobody reads
				}
			}
		})
		pause(ctx, rand.N(80*time.Millisecond))
	}
}

// hostiles returns clients with connections of their own, on which they may break every rule.
func (s *storm) hostiles() []func(context.Context) {
	raw := func(do func(ctx context.Context, c net.Conn)) func(context.Context) {
		return func(ctx context.Context) {
			for ctx.Err() == nil {
				s.alone(ctx, do)
				pause(ctx, rand.N(20*time.Millisecond))
			}
		}
	}
	return []func(context.Context){raw(halfHead), raw(slowBody), raw(early), raw(deaf), raw(gone), raw(loops), raw(rapidResets), raw(shutWindow), raw(endlessHead), raw(gone), raw(loops),
		raw(shutWindow), raw(shutWindow), raw(shutWindow), raw(aborted)}
}

// alone opens a connection, with TLS or without, and has it misused.
func (s *storm) alone(ctx context.Context, do func(context.Context, net.Conn)) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	secure := rand.N(3) == 0
	address := s.node.plain
	if secure {
		address = s.node.secure
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	tcp := c.(*net.TCPConn)
	if rand.N(2) == 0 {
		_ = tcp.SetLinger(0)
	}
	if secure {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	}
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	defer func() { _ = c.Close() }()
	s.hostile.Add(1)
	do(ctx, c)
}

func path() string {
	return "/" + []string{"one", "two", "cutting", "changing"}[rand.N(4)] + "/" + misdeeds[rand.N(len(misdeeds))]
}

func halfHead(ctx context.Context, c net.Conn) {
	_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\nX-H", path())
	pause(ctx, rand.N(time.Second))
}

func slowBody(ctx context.Context, c net.Conn) {
	_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", path())
	for range 10 {
		_, _ = c.Write([]byte("x"))
		pause(ctx, rand.N(100*time.Millisecond))
	}
}

// early sends a body that nobody takes, and reads only then.
func early(_ context.Context, c net.Conn) {
	_, _ = fmt.Fprintf(c, "POST /%s/early HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", []string{"one", "two"}[rand.N(2)], 2*limitBytes)
	_, _ = io.CopyN(c, endless{}, 2*limitBytes)
	_, _ = io.Copy(io.Discard, c)
}

// deaf asks for much and reads nothing.
func deaf(ctx context.Context, c net.Conn) {
	for range 5 {
		_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\nX-Size: 2000000\r\nX-Sent: 0\r\n\r\n", "/one/large")
	}
	pause(ctx, rand.N(time.Second))
}

// gone is away before the answer comes.
func gone(ctx context.Context, c net.Conn) {
	_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\nX-Id: %d\r\nX-Size: 1000\r\nX-Sent: 0\r\n\r\n", path(), rand.N(100))
	pause(ctx, rand.N(30*time.Millisecond))
}

// loops behaves for long enough to be served in a loop, and does wrong then.
func loops(ctx context.Context, c net.Conn) {
	buf := make([]byte, 64<<10)
	for range 12 {
		if _, err := fmt.Fprint(c, "GET /one/x HTTP/1.1\r\nHost: a\r\nX-Id: 1\r\nX-Size: 10\r\nX-Sent: 0\r\n\r\n"); err != nil {
			return
		}
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
	switch rand.N(4) {
	case 0:
		gone(ctx, c)
	case 1:
		halfHead(ctx, c)
	case 2:
		deaf(ctx, c)
	default:
		early(ctx, c)
	}
}

// framed begins a connection of HTTP/2.
func framed(c net.Conn, settings ...xhttp2.Setting) (f *xhttp2.Framer, head func(path string, end bool, stream uint32)) {
	_, _ = io.WriteString(c, xhttp2.ClientPreface)
	f = xhttp2.NewFramer(c, c)
	f.AllowIllegalWrites = true
	_ = f.WriteSettings(settings...)
	var block writer
	codec := hpack.NewEncoder(&block)
	return f, func(path string, end bool, stream uint32) {
		block = block[:0]
		for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "a"}, {":path", path}, {"x-size", "300000"}, {"x-sent", "0"}} {
			_ = codec.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
		}
		_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true, EndStream: end})
	}
}

type writer []byte

func (w *writer) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}

func rapidResets(_ context.Context, c net.Conn) {
	f, head := framed(c)
	for i := range uint32(300) {
		head(path(), rand.N(2) == 0, 2*i+1)
		if f.WriteRSTStream(2*i+1, xhttp2.ErrCodeCancel) != nil {
			return
		}
	}
}

// shutWindow asks for much and grants nothing.
func shutWindow(ctx context.Context, c net.Conn) {
	_, head := framed(c, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: uint32(rand.N(1000))})
	for i := range uint32(100) {
		head([]string{"/one/x", "/two/x", "/two/x"}[rand.N(3)], true, 2*i+1)
	}
	pause(ctx, 2*time.Second)
}

// aborted asks, as fast as it can, for what the service breaks off.
func aborted(ctx context.Context, c net.Conn) {
	buf := make([]byte, 64<<10)
	for ctx.Err() == nil {
		if _, err := fmt.Fprint(c, "GET /two/reset HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			return
		}
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
}

// endlessHead sends a head byte by byte and does not come to its end, beside streams whose bodies stall.
func endlessHead(ctx context.Context, c net.Conn) {
	f, head := framed(c)
	for i := range uint32(5) {
		head(path(), false, 2*i+1)
		_ = f.WriteData(2*i+1, false, make([]byte, 5000))
	}
	_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 101, BlockFragment: []byte{0x82}})
	for range 20 {
		if f.WriteContinuation(101, false, []byte{0x86}) != nil {
			return
		}
		pause(ctx, rand.N(50*time.Millisecond))
	}
}

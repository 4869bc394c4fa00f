package http2

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handler answers by the path of the request.
type handler struct {
	hold    chan struct{} // "/hold" waits for it
	holding chan struct{} // and says so
}

func (h *handler) Serve(x *exchange.Exchange) {
	switch {
	case x.Response.Local: // refused by the codec
		_ = x.Down.WriteHead(x, x.Response.Body, true)
		return
	case x.Request.Path == "/hold", x.Request.Host == "hold:1":
		h.holding <- struct{}{}
		<-h.hold
	case strings.HasPrefix(x.Request.Path, "/bytes/"):
		var n int
		_, _ = fmt.Sscanf(x.Request.Path, "/bytes/%d", &n)
		x.Response.Status, x.Response.ContentLength = 200, int64(n)
		part := bytes.Repeat([]byte("x"), 100_000)
		err := x.Down.WriteHead(x, nil, n == 0)
		for err == nil && n > 0 {
			part = part[:min(n, len(part))]
			n -= len(part)
			err = x.Down.WriteBody(x, part, n == 0)
		}
		return
	case strings.HasPrefix(x.Request.Path, "/limited"): // "/limited/late": looks at the body when all of it may have come
		x.Down.LimitBody(100_000)
		if x.Request.Path == "/limited/late" {
			h.late(x.Down.(*serverStream))
		}
		_, whole, err := x.Down.BufferedBody()
		for err == nil && !whole {
			if _, err = x.Down.NextBody(); errors.Is(err, io.EOF) {
				whole, err = true, nil
			}
		}
		status := 200
		if errors.Is(err, errBodyTooLarge) {
			status = 413
		}
		x.Answer(status, "text/plain", nil)
		_ = x.Down.WriteHead(x, nil, true)
		return
	case x.Request.Path == "/early": // answers without a look at the body
		x.Answer(403, "text/plain", []byte("no"))
		_ = x.Down.WriteHead(x, x.Response.Body, true)
		return
	case x.Request.Path == "/abort":
		x.Response.Status, x.Response.ContentLength = 200, -1
		_ = x.Down.WriteHead(x, []byte("some"), false)
		x.Down.Abort()
		return
	case x.Request.Path == "/trailers":
		_ = x.Down.WriteInterim(103, &x.Response.Header, nil)
		x.Response.Status, x.Response.ContentLength = 200, -1
		x.Response.Trailer.Add("X-Sum", "1")
		_ = x.Down.WriteHead(x, []byte("body"), false)
		_ = x.Down.WriteBody(x, nil, true)
		return
	}
	h.echo(x)
}

// late waits until the client has ended its request, or broken it off.
func (h *handler) late(s *serverStream) {
	limit := time.NewTimer(waittest.Limit)
	defer limit.Stop()
	for {
		s.c.mu.Lock()
		over := s.remoteEnded || s.reset
		s.c.mu.Unlock()
		if over {
			return
		}
		select {
		case <-s.readable:
		case <-limit.C:
			return
		}
	}
}

// echo sends the request's body back as it comes.
func (h *handler) echo(x *exchange.Exchange) {
	part, whole, err := x.Down.BufferedBody()
	x.Response.Status, x.Response.ContentLength = 200, -1
	x.Response.Header.Add("X-Method", x.Request.Method)
	x.Response.Header.Add("X-Host", x.Request.Host)
	x.Response.Header.Add("X-Length", fmt.Sprint(x.Request.ContentLength))
	if v, ok := x.Request.Header.Lookup("cookie"); ok {
		x.Response.Header.Add("X-Cookie", v)
	}
	echoTrailers := func() {
		for name, value := range x.Request.Trailer.All() {
			x.Response.Trailer.Add("Echo-"+name, value)
		}
	}
	if whole {
		echoTrailers()
	}
	if err == nil {
		err = x.Down.WriteHead(x, part, whole)
	}
	for err == nil && !whole {
		if part, err = x.Down.NextBody(); errors.Is(err, io.EOF) {
			whole, err = true, nil
			echoTrailers()
		}
		if err == nil {
			err = x.Down.WriteBody(x, part, whole)
		}
	}
	if err != nil {
		x.Down.Abort()
	}
}

type running struct {
	t       *testing.T
	handler *handler
	server  *Server
	address string
}

func limits() codec.Limits {
	l := codec.DefaultLimits()
	l.HeadTimeout = time.Second
	l.MaxFields = 50
	return l
}

func start(t *testing.T) *running {
	t.Helper()
	return startWith(t, limits())
}

func startWith(t *testing.T, limits codec.Limits) *running {
	t.Helper()
	h := &handler{hold: make(chan struct{}), holding: make(chan struct{}, 1000)}
	r := &running{t: t, handler: h, server: NewServer(limits, creditChecked{t, h})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = ln.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { r.server.Serve(socket.New(c), exchange.NewPeer(c.RemoteAddr()), func() {}) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		r.server.Cut()
		wg.Wait()
	})
	return r
}

// client is a real one.
func (r *running) client() *http.Client {
	tr := &xhttp2.Transport{AllowHTTP: true, DialTLSContext: nil}
	tr.DialTLSContext = dialPlain
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: waittest.Limit}
}

func TestExchanges(t *testing.T) {
	r := start(t)
	c := r.client()
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	t.Run("large both ways", func(t *testing.T) {
		res, err := c.Post("http://"+r.address+"/", "text/plain", bytes.NewReader(big))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil || sha256.Sum256(got) != sha256.Sum256(big) || res.Header.Get("X-Length") != fmt.Sprint(len(big)) {
			t.Errorf("%d bytes, %v, %v", len(got), err, res.Header)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 300 {
			wg.Go(func() {
				n := i * 997
				res, err := c.Get(fmt.Sprintf("http://%s/bytes/%d", r.address, n))
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := io.Copy(io.Discard, res.Body); err != nil || got != int64(n) || res.ContentLength != int64(n) {
					t.Errorf("%d of %d bytes, %v", got, n, err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("trailers", func(t *testing.T) {
		req, _ := http.NewRequest("POST", "http://"+r.address+"/", io.NopCloser(strings.NewReader("abc")))
		req.Trailer = http.Header{"X-T": {"1"}}
		req.Header["Cookie"] = []string{"a=1", "b=2"}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		if err != nil || string(text) != "abc" || res.Trailer.Get("Echo-X-T") != "1" || res.Header.Get("X-Cookie") != "a=1; b=2" {
			t.Errorf("%q, %v, %v, %v", text, err, res.Trailer, res.Header)
		}
		res, err = c.Get("http://" + r.address + "/trailers")
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(res.Body); err != nil || string(text) != "body" || res.Trailer.Get("X-Sum") != "1" {
			t.Errorf("%q, %v, %v", text, err, res.Trailer)
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		res, err := c.Head("http://" + r.address + "/bytes/7")
		if err != nil || res.StatusCode != 200 {
			t.Errorf("%v, %v", res, err)
		}
	})
	t.Run("early answer", func(t *testing.T) {
		res, err := c.Post("http://"+r.address+"/early", "text/plain", bytes.NewReader(big))
		if err != nil || res.StatusCode != 403 {
			t.Fatalf("%v, %v", res, err)
		}
		if text, err := io.ReadAll(res.Body); err != nil || string(text) != "no" {
			t.Errorf("%q, %v", text, err)
		}
	})
	t.Run("broken off", func(t *testing.T) {
		res, err := c.Get("http://" + r.address + "/abort")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Error("the end of the response was not missing")
		}
	})
	t.Run("head too large", func(t *testing.T) {
		req, _ := http.NewRequest("GET", "http://"+r.address+"/", nil)
		for i := range 60 {
			req.Header.Set(fmt.Sprint("X-", i), "v")
		}
		if res, err := c.Do(req); err != nil || res.StatusCode != 431 {
			t.Errorf("%v, %v", res, err)
		}
		if res, err := c.Get("http://" + r.address + "/bytes/1"); err != nil || res.StatusCode != 200 {
			t.Errorf("afterwards: %v, %v", res, err)
		}
	})
}

// raw is a client that can break rules.
type raw struct {
	t   *testing.T
	c   net.Conn
	f   *xhttp2.Framer
	enc *hpack.Encoder
	buf bytes.Buffer
}

func (r *running) raw() *raw {
	r.t.Helper()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = c.SetDeadline(waittest.Deadline())
	r.t.Cleanup(func() { _ = c.Close() })
	w := &raw{t: r.t, c: c, f: xhttp2.NewFramer(c, c)}
	w.f.AllowIllegalWrites, w.f.AllowIllegalReads = true, true
	w.enc = hpack.NewEncoder(&w.buf)
	_, _ = io.WriteString(c, preface)
	_ = w.f.WriteSettings()
	return w
}

// list encodes fields, given as names and values in turn.
func (w *raw) list(fields ...string) []byte {
	w.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = w.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(w.buf.Bytes())
}

func (w *raw) get(id uint32, path string, more ...string) {
	_ = w.f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: w.list(append([]string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", path}, more...)...), EndHeaders: true, EndStream: true})
}

// outcome reads until the connection's end, or something that tells how a stream ended: "reset CODE", "goaway CODE", or
// "status N".
func (w *raw) outcome() string {
	dec := hpack.NewDecoder(4096, nil)
	for {
		f, err := w.f.ReadFrame()
		if err != nil {
			return "end"
		}
		switch f := f.(type) {
		case *xhttp2.RSTStreamFrame:
			return fmt.Sprintf("reset %v", f.ErrCode)
		case *xhttp2.GoAwayFrame:
			return fmt.Sprintf("goaway %v", f.ErrCode)
		case *xhttp2.HeadersFrame:
			fields, err := dec.DecodeFull(f.HeaderBlockFragment())
			if err != nil {
				w.t.Fatal(err)
			}
			return "status " + fields[0].Value
		}
	}
}

// TestStreamsAreBounded opens more streams than allowed, and resets them: their exchanges go on, so they still count.
func TestStreamsAreBounded(t *testing.T) {
	r := start(t)
	w := r.raw()
	for i := range maxStreams + 10 {
		w.get(uint32(2*i+1), "/hold")
	}
	for range maxStreams {
		<-r.handler.holding
	}
	for range 10 {
		if got := w.outcome(); got != "reset REFUSED_STREAM" {
			t.Fatalf("got %q", got)
		}
	}
	close(r.handler.hold)
	for range maxStreams {
		if got := w.outcome(); got != "status 200" {
			t.Fatalf("got %q", got)
		}
	}
}

// Streams that the client has reset are no longer open for it, but their exchanges count until they have ended.
func TestExchangesAreBounded(t *testing.T) {
	r := start(t)
	w := r.raw()
	for i := range maxExchanges + 10 {
		w.get(uint32(2*i+1), "/hold")
		if i < maxStreams {
			_ = w.f.WriteRSTStream(uint32(2*i+1), xhttp2.ErrCodeCancel)
		}
	}
	for range maxExchanges {
		<-r.handler.holding
	}
	for range 10 {
		if got := w.outcome(); got != "reset REFUSED_STREAM" {
			t.Fatalf("got %q", got)
		}
	}
	close(r.handler.hold)
}

// TestSlowClient grants no window: the response waits, bounded, and the stream is reset in the end, while others go on.
func TestSlowClient(t *testing.T) {
	l := limits()
	l.WriteTimeout = time.Second
	r := startWith(t, l)
	w := r.raw()
	_ = w.f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 10})
	w.get(1, "/bytes/1000000")
	received := 0
	for {
		f, err := w.f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := f.(*xhttp2.DataFrame); ok {
			if received += len(d.Data()); received == 10 {
				w.get(3, "/bytes/5")
			}
			if d.StreamID == 3 && d.StreamEnded() {
				break
			}
		}
	}
	if received != 15 {
		t.Errorf("%d bytes", received)
	}
	if got := w.outcome(); got != "reset INTERNAL_ERROR" {
		t.Errorf("got %q", got)
	}
}

func TestDrain(t *testing.T) {
	r := start(t)
	w := r.raw()
	w.get(1, "/hold")
	<-r.handler.holding
	r.server.Drain()
	if got := w.outcome(); got != "goaway NO_ERROR" {
		t.Fatalf("got %q", got)
	}
	w.get(3, "/bytes/1") // sent before the client has heard
	if got := w.outcome(); got != "status 200" {
		t.Fatalf("got %q", got)
	}
	close(r.handler.hold)
	served := false
	for got := w.outcome(); got != "end"; got = w.outcome() {
		served = served || got == "status 200"
		if got != "status 200" && got != "goaway NO_ERROR" {
			t.Fatalf("got %q", got)
		}
	}
	if !served {
		t.Error("the exchange under way was not completed")
	}
	waittest.Until(t, "the connection has ended", func() bool { return r.server.Active() == 0 })
}

func TestIdleConnectionIsClosed(t *testing.T) {
	l := limits()
	l.IdleTimeout = time.Hour // it is the time for a head that ends it
	r := startWith(t, l)
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(waittest.Deadline())
	if _, err := io.Copy(io.Discard, c); err != nil { // no preface
		t.Error(err)
	}
}

func FuzzConnection(f *testing.F) {
	frame := func(kind frameType, flags uint8, stream uint32, payload string) []byte {
		return append(appendFrameHead(nil, len(payload), kind, flags, stream), payload...)
	}
	settings := frame(frameSettings, 0, 0, "")
	f.Add(settings)
	f.Add(append(bytes.Clone(settings), frame(frameHeaders, flagEndHeaders|flagEndStream, 1, "\x82\x86\x84\x41\x01a")...))
	f.Add(append(bytes.Clone(settings), append(frame(frameHeaders, flagEndHeaders, 1, "\x83\x86\x84\x41\x01a"), frame(frameData, flagEndStream, 1, "abc")...)...))
	f.Add(append(bytes.Clone(settings), frame(frameWindowUpdate, 0, 0, string(binary.BigEndian.AppendUint32(nil, 5)))...))
	limits := limits()
	h := &handler{hold: make(chan struct{}), holding: make(chan struct{}, 1<<20)}
	close(h.hold)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewServer(limits, creditChecked{t, h})
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Serve(socket.New(ours), exchange.NewPeer(ours.RemoteAddr()), func() {})
		}()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		_ = theirs.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = theirs.Write(append([]byte(preface), b...))
		_ = theirs.Close()
		<-done
	})
}

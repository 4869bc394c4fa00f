package http2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/waittest"
)

// frames builds what a peer says, frame by frame.
func frames(write func(f *xhttp2.Framer, list func(fields ...string) []byte)) []byte {
	var b, block bytes.Buffer
	e := hpack.NewEncoder(&block)
	write(xhttp2.NewFramer(&b, nil), func(fields ...string) []byte {
		block.Reset()
		for i := 0; i < len(fields); i += 2 {
			_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		return bytes.Clone(block.Bytes())
	})
	return b.Bytes()
}

func head(stream uint32, block []byte, end bool) xhttp2.HeadersFrameParam {
	return xhttp2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true, EndStream: end}
}

// told is what a call has got to see, as text, and whether that was a whole response.
type told struct {
	text  string
	whole bool
}

// answered lets a client with three streams under way hear b, the first cut bytes of it apart from the rest, and then
// the end. It returns what each call was told when everything of the client has ended.
func answered(t *testing.T, b []byte, cut int) []told {
	ours, theirs := net.Pipe()
	c := NewClientConn(ours, "http", false, nil, nil)
	methods := []string{"GET", "HEAD", "POST"}
	results := make([]told, len(methods))
	var wg sync.WaitGroup
	heads := make(chan struct{}, len(methods))
	said := make(chan struct{})
	go func() { // takes what the client says, and tells when a request's head has come
		defer close(said)
		_, _ = io.ReadFull(theirs, make([]byte, len(preface)))
		f := xhttp2.NewFramer(io.Discard, theirs)
		for {
			fr, err := f.ReadFrame()
			if err != nil {
				_, _ = io.Copy(io.Discard, theirs)
				return
			}
			if _, is := fr.(*xhttp2.HeadersFrame); is {
				heads <- struct{}{}
			}
		}
	}()
	for i, method := range methods {
		stream := c.Begin(len(methods), false)
		if stream == nil {
			t.Fatal("no stream can begin")
		}
		wg.Go(func() { results[i] = ask1(t, stream, method) })
		<-heads // so that the streams are always those of the same streams
	}
	_ = theirs.SetWriteDeadline(waittest.Deadline())
	inTwo(theirs, b, cut)
	wg.Wait()
	<-said
	c.running.Wait()
	if err := c.checkCredit(); err != nil {
		t.Error(err)
	}
	return results
}

// inTwo says b in two parts, and then ends.
func inTwo(c net.Conn, b []byte, cut int) {
	for _, part := range [][]byte{b[:cut], b[cut:]} {
		if len(part) > 0 { // a pipe would give an empty part to its reader
			_, _ = c.Write(part)
		}
	}
	_ = c.Close()
}

// ask1 takes a call to its end.
func ask1(t *testing.T, stream *ClientStream, method string) (r told) {
	x := &exchange.Exchange{}
	down := &interims{}
	x.Down = down
	x.Request.Method, x.Request.Path, x.Request.Host = method, "/", "a"
	defer stream.Release(time.Now())
	if _, _, err := stream.Send(x, nil, true, time.Minute); err != nil {
		if errors.Is(err, timedOut) {
			t.Error("a stream waits for a connection that is over")
		}
		return r
	}
	var body []byte
	part, whole, err := stream.BufferedBody(x, time.Second)
	body = append(body, part...)
	for err == nil && !whole {
		if part, err = stream.NextBody(x, time.Minute); err == io.EOF {
			whole, err = true, nil
		}
		body = append(body, part...)
	}
	if !whole {
		return r
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s%d\n", down.text.String(), x.Response.Status)
	wellFormed(t, &x.Response.Header, &text)
	fmt.Fprintf(&text, "\n%s\n", body)
	wellFormed(t, &x.Response.Trailer, &text)
	if x.Response.Status < 200 || x.Response.Status > 599 {
		t.Errorf("the status is %d", x.Response.Status)
	}
	if n := x.Response.ContentLength; n >= 0 && n != int64(len(body)) && method != "HEAD" && x.Response.Status != 204 && x.Response.Status != 304 {
		t.Errorf("a body of %d bytes for one of %d", len(body), n)
	}
	return told{text.String(), true}
}

// wellFormed holds that fields may be written into a message of HTTP/1.1 as they are.
func wellFormed(t *testing.T, h *exchange.Header, text *strings.Builder) {
	for name, value := range h.All() {
		fmt.Fprintf(text, "%s: %s\n", name, value)
		if name == "" || strings.ContainsAny(name, " :\t\r\n\x00") || strings.ToLower(name) != name || strings.ContainsAny(value, "\r\n\x00") || strings.TrimSpace(value) != value && strings.Trim(value, " \t") != value {
			t.Errorf("the field %q: %q got through", name, value)
		}
	}
}

// interims is the client's side of a call, as far as it is needed.
type interims struct {
	exchange.Downstream
	text strings.Builder
}

func (d *interims) WriteInterim(status int, h *exchange.Header, _ []byte) error {
	fmt.Fprintf(&d.text, "%d %d\n", status, h.Len())
	return nil
}

// FuzzClient lets an endpoint say anything to a connection with three requests: a GET, a HEAD and a POST. Every call
// ends, whole responses are well-formed and as long as they say, and however the bytes are cut, the same is understood.
func FuzzClient(f *testing.F) {
	for _, write := range []func(f *xhttp2.Framer, list func(...string) []byte){
		func(f *xhttp2.Framer, list func(...string) []byte) {
			_ = f.WriteHeaders(head(1, list(":status", "200", "content-length", "2"), false))
			_ = f.WriteData(1, true, []byte("ok"))
			_ = f.WriteHeaders(head(3, list(":status", "200", "content-length", "9"), true))
			_ = f.WriteHeaders(head(5, list(":status", "103", "link", "</a>"), false))
			_ = f.WriteHeaders(head(5, list(":status", "200"), false))
			_ = f.WriteDataPadded(5, false, []byte("yes"), make([]byte, 3))
			_ = f.WriteHeaders(head(5, list("x-sum", "3"), true))
		},
		func(f *xhttp2.Framer, list func(...string) []byte) {
			_ = f.WriteGoAway(3, xhttp2.ErrCodeNo, nil)
			_ = f.WriteRSTStream(1, xhttp2.ErrCodeRefusedStream)
			_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 3, BlockFragment: list(":status", "304"), EndStream: true})
			_ = f.WriteContinuation(3, true, list("etag", `"x"`))
		},
		func(f *xhttp2.Framer, list func(...string) []byte) {
			_ = f.WriteWindowUpdate(0, 1<<20)
			_ = f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 3}, xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 1})
			_ = f.WriteHeaders(head(1, list(":status", "204"), true))
			_ = f.WritePing(false, [8]byte{1})
			_ = f.WriteHeaders(head(1, list(":status", "200"), true))
			_ = f.WriteData(7, false, nil)
		},
	} {
		b := frames(write)
		f.Add(append(frames(func(f *xhttp2.Framer, _ func(...string) []byte) { _ = f.WriteSettings() }), b...), uint16(len(b)/2))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		one := answered(t, b, len(b))
		two := answered(t, b, min(int(at), len(b)))
		for i := range one {
			// Whether the end of the connection overtakes what came before it, is a matter of time.
			if one[i].whole && two[i].whole && one[i] != two[i] {
				t.Errorf("stream %d: %q in one piece, %q cut at %d", i, one[i].text, two[i].text, at)
			}
		}
	})
}

// recording is a handler that writes down what requests there were.
type recording struct {
	mu   sync.Mutex
	seen map[uint32]string
}

// Serve implements codec.Handler.
func (r *recording) Serve(x *exchange.Exchange) {
	var text strings.Builder
	req := &x.Request
	fmt.Fprintf(&text, "%v %s %s %q %d %q %v\n", x.Response.Local, req.Method, req.Path, req.Host, req.ContentLength, req.Upgrade, req.AcceptsTrailers)
	for name, value := range req.Header.All() {
		fmt.Fprintf(&text, "%s: %s\n", name, value)
	}
	r.mu.Lock()
	r.seen[x.Down.(*serverStream).id] = text.String()
	r.mu.Unlock()
	if x.Response.Local {
		_ = x.Down.WriteHead(x, x.Response.Body, true)
		return
	}
	for {
		if _, err := x.Down.NextBody(); err != nil {
			break
		}
	}
	x.Answer(200, "text/plain", []byte("ok"))
	_ = x.Down.WriteHead(x, x.Response.Body, true)
}

// asked lets a client say b, the first cut bytes apart from the rest, and returns the requests that were seen, by
// stream.
func asked(t *testing.T, b []byte, cut int) map[uint32]string {
	r := &recording{seen: map[uint32]string{}}
	ours, theirs := net.Pipe()
	s := NewServer(limits(), creditChecked{t, r})
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(socket.New(ours), exchange.NewPeer(ours.RemoteAddr()), func() {})
	}()
	heard := make(chan error, 1)
	go func() { heard <- readResponses(theirs) }()
	_ = theirs.SetWriteDeadline(waittest.Deadline())
	_, _ = theirs.Write([]byte(preface))
	inTwo(theirs, b, cut)
	<-done
	if err := <-heard; err != nil {
		t.Error(err)
	}
	if s.Active() != 0 {
		t.Error("the connection is still there")
	}
	return r.seen
}

// readResponses reads what the server says and returns what it may not say.
func readResponses(r io.Reader) error {
	f := xhttp2.NewFramer(io.Discard, r)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	final, ended := map[uint32]bool{}, map[uint32]bool{}
	for first := true; ; first = false {
		frame, err := f.ReadFrame()
		if err != nil {
			_, _ = io.Copy(io.Discard, r)
			var reason xhttp2.ConnectionError
			if errors.As(err, &reason) {
				return fmt.Errorf("the server broke the rules: %w", err)
			}
			return nil
		}
		stream := frame.Header().StreamID
		switch frame := frame.(type) {
		case *xhttp2.SettingsFrame:
		case *xhttp2.MetaHeadersFrame:
			if first || ended[stream] || final[stream] && !frame.StreamEnded() {
				return fmt.Errorf("%v where it can't be", frame)
			}
			final[stream] = final[stream] || !strings.HasPrefix(frame.PseudoValue("status"), "1")
			ended[stream] = frame.StreamEnded()
		case *xhttp2.DataFrame:
			if first || ended[stream] || !final[stream] {
				return fmt.Errorf("%v where it can't be", frame)
			}
			ended[stream] = frame.StreamEnded()
		default:
			if first {
				return fmt.Errorf("%v comes first", frame)
			}
		}
	}
}

// FuzzRequests lets a client say anything. However its bytes are cut, the same requests are seen, and what is answered
// keeps to the rules.
func FuzzRequests(f *testing.F) {
	pseudo := []string{":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/a?b"}
	for _, write := range []func(f *xhttp2.Framer, list func(...string) []byte){
		func(f *xhttp2.Framer, list func(...string) []byte) {
			_ = f.WriteHeaders(head(1, list(append(pseudo, "content-length", "3", "cookie", "a=b", "cookie", "c=d")...), false))
			_ = f.WriteHeaders(head(3, list(append(pseudo, "te", "trailers")...), false))
			_ = f.WriteDataPadded(1, true, []byte("abc"), make([]byte, 9))
			_ = f.WriteHeaders(head(3, list("x-sum", "1"), true))
		},
		func(f *xhttp2.Framer, list func(...string) []byte) {
			block := list(":method", "CONNECT", ":scheme", "http", ":authority", "a", ":path", "/", ":protocol", "websocket")
			_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:4]})
			_ = f.WriteContinuation(1, true, block[4:])
			_ = f.WriteRSTStream(1, xhttp2.ErrCodeCancel)
			_ = f.WriteHeaders(head(3, list(":method", "GET", ":scheme", "http", ":path", "/", "host", "b", "transfer-encoding", "chunked"), true))
		},
		func(f *xhttp2.Framer, list func(...string) []byte) {
			_ = f.WriteGoAway(0, xhttp2.ErrCodeNo, nil)
			_ = f.WriteHeaders(head(5, list(append(pseudo, "expect", "100-continue", "X", "y")...), true))
			_ = f.WritePriority(5, xhttp2.PriorityParam{StreamDep: 5})
		},
	} {
		b := frames(write)
		f.Add(append(frames(func(f *xhttp2.Framer, _ func(...string) []byte) { _ = f.WriteSettings() }), b...), uint16(len(b)/2))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		if len(b) > 8<<10 {
			return // so that no limit depends on how fast what is answered earns more
		}
		one, two := asked(t, b, len(b)), asked(t, b, min(int(at), len(b)))
		if len(one) != len(two) {
			t.Errorf("%d requests in one piece, %d cut at %d", len(one), len(two), at)
		}
		for id, text := range one {
			if two[id] != text {
				t.Errorf("stream %d: %q in one piece, %q cut at %d", id, text, two[id], at)
			}
		}
	})
}

// FuzzHeaderList takes in any header list. What is taken is well-formed, and means the same when it is written for the
// next one to read.
func FuzzHeaderList(f *testing.F) {
	for _, write := range []func(list func(...string) []byte) []byte{
		func(list func(...string) []byte) []byte {
			return list(":method", "GET", ":scheme", "https", ":authority", "a:1", ":path", "/", "accept", "*/*", "x-y", "z", "set-cookie", "a=b")
		},
		func(list func(...string) []byte) []byte {
			return list(":status", "200", "content-length", "7", "date", "now", "x-"+strings.Repeat("y", 200), strings.Repeat("z", 20_000))
		},
		func(list func(...string) []byte) []byte { return list("x-sum", "1", "host", "a") },
	} {
		frames(func(_ *xhttp2.Framer, list func(...string) []byte) {
			b := write(list)
			f.Add(b, uint8(ofRequest))
			f.Add(b, uint8(ofResponse))
			f.Add(b, uint8(ofTrailers))
		})
	}
	f.Fuzz(func(t *testing.T, block []byte, kind uint8) {
		c := &connection{}
		c.init(socket.New(nil), nil, 64<<10, 100)
		var h, again exchange.Header
		c.fields.begin(&h, listKind(kind%3))
		if c.decode(block) != nil || c.fields.malformed != "" || c.fields.tooLarge {
			return
		}
		if c.fields.bytes > 64<<10 || h.Len() > 104 {
			t.Errorf("%d bytes and %d fields are no more than may be", c.fields.bytes, h.Len())
		}
		var text, second strings.Builder
		wellFormed(t, &h, &text)
		var out []byte
		for name, value := range h.All() {
			out = appendField(out, name, value)
		}
		next := &connection{}
		next.init(socket.New(nil), nil, 64<<10, 100)
		next.fields.begin(&again, listKind(kind%3))
		if err := next.decode(out); err != nil || next.fields.malformed != "" {
			t.Fatalf("%q is written as %q, which is refused: %v %s", text.String(), out, err, next.fields.malformed)
		}
		if wellFormed(t, &again, &second); text.String() != second.String() {
			t.Errorf("%q comes back as %q", text.String(), second.String())
		}
	})
}

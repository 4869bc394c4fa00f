package http2

import (
	"fmt"
	"io"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
)

func TestRulesThatClientsBreak(t *testing.T) {
	ok := []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"}
	headers := func(w *raw, fields ...string) {
		_ = w.f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: w.list(fields...), EndHeaders: true, EndStream: true})
	}
	open := func(w *raw, more ...string) { // a request whose body is to come
		_ = w.f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: w.list(append([]string{":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/hold"}, more...)...), EndHeaders: true})
	}
	with := func(more ...string) func(*raw) {
		return func(w *raw) { headers(w, append(append([]string{}, ok...), more...)...) }
	}
	without := func(name string) func(*raw) {
		return func(w *raw) {
			var fields []string
			for i := 0; i < len(ok); i += 2 {
				if ok[i] != name {
					fields = append(fields, ok[i], ok[i+1])
				}
			}
			headers(w, fields...)
		}
	}
	for _, c := range []struct {
		name string
		do   func(w *raw)
		want string
	}{
		{"a request", with(), "status 200"},
		{"capital letters in a name", with("X-A", "1"), "reset PROTOCOL_ERROR"},
		{"a space in a name", with("x a", "1"), "reset PROTOCOL_ERROR"},
		{"an empty name", with("", "1"), "reset PROTOCOL_ERROR"},
		{"a line break in a value", with("x", "1\r\ny: 2"), "reset PROTOCOL_ERROR"},
		{"NUL in a value", with("x", "1\x00"), "reset PROTOCOL_ERROR"},
		{"blanks around a value", with("x", " 1"), "reset PROTOCOL_ERROR"},
		{"connection", with("connection", "close"), "reset PROTOCOL_ERROR"},
		{"transfer-encoding", with("transfer-encoding", "chunked"), "reset PROTOCOL_ERROR"},
		{"upgrade", with("upgrade", "x"), "reset PROTOCOL_ERROR"},
		{"te", with("te", "gzip"), "reset PROTOCOL_ERROR"},
		{"te: trailers", with("te", "trailers"), "status 200"},
		{"a pseudo-header field at the end", with("x", "1", ":path", "/"), "reset PROTOCOL_ERROR"},
		{"a pseudo-header field of responses", with(":status", "200"), "reset PROTOCOL_ERROR"},
		{"a repeated one", with(":path", "/x"), "reset PROTOCOL_ERROR"},
		{"no method", without(":method"), "reset PROTOCOL_ERROR"},
		{"no scheme", without(":scheme"), "reset PROTOCOL_ERROR"},
		{"no path", without(":path"), "reset PROTOCOL_ERROR"},
		{"no authority", without(":authority"), "status 400"},
		{"a host that contradicts", with("host", "b"), "reset PROTOCOL_ERROR"},
		{"a length without a body", with("content-length", "3"), "reset PROTOCOL_ERROR"},
		{"a length with a sign", with("content-length", "+0"), "reset PROTOCOL_ERROR"},
		{"two lengths", with("content-length", "0", "content-length", "0"), "reset PROTOCOL_ERROR"},
		{"an absolute path", func(w *raw) { headers(w, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "http://a/") }, "status 400"},
		{"a path with a space", func(w *raw) { headers(w, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/a b") }, "status 400"},
		{"a method with a space", func(w *raw) { headers(w, ":method", "GET /x", ":scheme", "http", ":authority", "a", ":path", "/") }, "status 400"},
		{"an authority with a user", func(w *raw) { headers(w, ":method", "GET", ":scheme", "http", ":authority", "u@a", ":path", "/") }, "status 400"},
		{"CONNECT", func(w *raw) { headers(w, ":method", "CONNECT", ":authority", "a:1") }, "status 200"},
		{"CONNECT without a port", func(w *raw) { headers(w, ":method", "CONNECT", ":authority", "a") }, "status 400"},
		{"CONNECT to port 0", func(w *raw) { headers(w, ":method", "CONNECT", ":authority", "a:0") }, "status 400"},
		{"CONNECT with a user", func(w *raw) { headers(w, ":method", "CONNECT", ":authority", "u@a:1") }, "status 400"},
		{"CONNECT without an authority", func(w *raw) { headers(w, ":method", "CONNECT") }, "reset PROTOCOL_ERROR"},
		{"CONNECT with Host instead", func(w *raw) { headers(w, ":method", "CONNECT", "host", "a:1") }, "reset PROTOCOL_ERROR"},
		{"CONNECT with another Host", func(w *raw) { headers(w, ":method", "CONNECT", ":authority", "a:1", "host", "b:1") }, "reset PROTOCOL_ERROR"},
		{"CONNECT with a scheme", func(w *raw) { headers(w, ":method", "CONNECT", ":authority", "a:1", ":scheme", "http") }, "reset PROTOCOL_ERROR"},
		{"CONNECT with a path", func(w *raw) { headers(w, ":method", "CONNECT", ":authority", "a:1", ":path", "/") }, "reset PROTOCOL_ERROR"},
		{"CONNECT with a length", func(w *raw) { headers(w, ":method", "CONNECT", ":authority", "a:1", "content-length", "0") }, "reset PROTOCOL_ERROR"},
		{"CONNECT with fields after the data", func(w *raw) {
			_ = w.f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: w.list(":method", "CONNECT", ":authority", "hold:1"), EndHeaders: true})
			_ = w.f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: w.list("x", "1"), EndHeaders: true, EndStream: true})
		}, "reset PROTOCOL_ERROR"},
		{"a protocol of a GET", func(w *raw) {
			headers(w, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/", ":protocol", "websocket")
		}, "reset PROTOCOL_ERROR"},
		{"a protocol without a path", func(w *raw) { headers(w, ":method", "CONNECT", ":authority", "a", ":protocol", "websocket") }, "reset PROTOCOL_ERROR"},
		{"two protocols", func(w *raw) {
			headers(w, ":method", "CONNECT", ":scheme", "http", ":authority", "a", ":path", "/", ":protocol", "websocket", ":protocol", "websocket")
		}, "reset PROTOCOL_ERROR"},
		{"a protocol with a length", func(w *raw) {
			headers(w, ":method", "CONNECT", ":scheme", "http", ":authority", "a", ":path", "/", ":protocol", "websocket", "content-length", "0")
		}, "reset PROTOCOL_ERROR"},
		{"a protocol that is not spoken", func(w *raw) {
			headers(w, ":method", "CONNECT", ":scheme", "http", ":authority", "a", ":path", "/", ":protocol", "connect-udp")
		}, "status 501"},
		{"more body than said", func(w *raw) { open(w, "content-length", "2"); _ = w.f.WriteData(1, true, []byte("abc")) }, "reset PROTOCOL_ERROR"},
		{"less body than said", func(w *raw) { open(w, "content-length", "4"); _ = w.f.WriteData(1, true, []byte("abc")) }, "reset PROTOCOL_ERROR"},
		{"stream 0", func(w *raw) { _ = w.f.WriteData(0, true, nil) }, "goaway PROTOCOL_ERROR"},
		{"an even stream", func(w *raw) {
			_ = w.f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 2, BlockFragment: w.list(ok...), EndHeaders: true, EndStream: true})
		}, "goaway PROTOCOL_ERROR"},
		{"data for an idle stream", func(w *raw) { _ = w.f.WriteData(5, true, nil) }, "goaway PROTOCOL_ERROR"},
		{"reset of an idle stream", func(w *raw) { _ = w.f.WriteRSTStream(5, 0) }, "goaway PROTOCOL_ERROR"},
		{"a window for an idle stream", func(w *raw) { _ = w.f.WriteWindowUpdate(5, 1) }, "goaway PROTOCOL_ERROR"},
		{"no window", func(w *raw) { _ = w.f.WriteWindowUpdate(0, 0) }, "goaway PROTOCOL_ERROR"},
		{"too much window", func(w *raw) { _ = w.f.WriteWindowUpdate(0, maxWindow) }, "goaway FLOW_CONTROL_ERROR"},
		{"a push promise", func(w *raw) { _ = w.f.WriteRawFrame(xhttp2.FramePushPromise, 4, 1, []byte{0, 0, 0, 2}) }, "goaway PROTOCOL_ERROR"},
		{"a frame that is too long", func(w *raw) { _ = w.f.WriteRawFrame(xhttp2.FrameData, 0, 1, make([]byte, maxFrameBytes+1)) }, "goaway FRAME_SIZE_ERROR"},
		{"a ping of another size", func(w *raw) { _ = w.f.WriteRawFrame(xhttp2.FramePing, 0, 0, make([]byte, 7)) }, "goaway FRAME_SIZE_ERROR"},
		{"settings of another size", func(w *raw) { _ = w.f.WriteRawFrame(xhttp2.FrameSettings, 0, 0, make([]byte, 7)) }, "goaway FRAME_SIZE_ERROR"},
		{"a window that is too large", func(w *raw) { _ = w.f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 31}) }, "goaway FLOW_CONTROL_ERROR"},
		{"a frame size that is too small", func(w *raw) { _ = w.f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxFrameSize, Val: 1}) }, "goaway PROTOCOL_ERROR"},
		{"push neither on nor off", func(w *raw) { _ = w.f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingEnablePush, Val: 2}) }, "goaway PROTOCOL_ERROR"},
		{"a continuation of nothing", func(w *raw) { _ = w.f.WriteContinuation(1, true, nil) }, "goaway PROTOCOL_ERROR"},
		{"something between the parts of a list", func(w *raw) {
			_ = w.f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: w.list(ok...)})
			_ = w.f.WritePing(false, [8]byte{})
		}, "goaway PROTOCOL_ERROR"},
		{"a list in parts", func(w *raw) {
			block := w.list(ok...)
			_ = w.f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:3], EndStream: true})
			_ = w.f.WriteContinuation(1, true, block[3:])
		}, "status 200"},
		{"a list that can't be decoded", func(w *raw) {
			_ = w.f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		}, "goaway COMPRESSION_ERROR"},
		{"padding that is longer than the frame", func(w *raw) { _ = w.f.WriteRawFrame(xhttp2.FrameHeaders, flagPadded|flagEndHeaders, 1, []byte{9, 1}) }, "goaway PROTOCOL_ERROR"},
		{"an older stream", func(w *raw) { w.get(3, "/"); w.get(1, "/") }, "goaway STREAM_CLOSED"},
		{"another stream than said hello", func(w *raw) { _, _ = io.WriteString(w.c, "GET / HTTP/1.1\r\n\r\n") }, "goaway FRAME_SIZE_ERROR"},
		{"an unknown frame", func(w *raw) { _ = w.f.WriteRawFrame(0xee, 0, 9, []byte("x")); w.get(1, "/") }, "status 200"},
		{"more than the window", func(w *raw) {
			open(w)
			for range streamWindow/maxFrameBytes + 1 {
				_ = w.f.WriteData(1, false, make([]byte, maxFrameBytes))
			}
		}, "reset FLOW_CONTROL_ERROR"},
		{"trailers that don't end the stream", func(w *raw) {
			open(w)
			_ = w.f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: w.list("x", "1"), EndHeaders: true})
		}, "reset PROTOCOL_ERROR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t)
			defer close(r.handler.hold)
			w := r.raw()
			c.do(w)
			got := w.outcome()
			for got == "status 200" && strings.HasPrefix(c.want, "goaway") {
				got = w.outcome() // an answer that was on its way before
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A client may take a large response in one go and then say so in small steps, as those do that read in small pieces.
func TestManyWindowUpdatesForMuchData(t *testing.T) {
	const size = 4 << 20
	r := start(t)
	w := r.raw()
	_ = w.f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: size})
	_ = w.f.WriteWindowUpdate(0, size)
	w.get(1, fmt.Sprintf("/bytes/%d", size))
	for got := 0; got < size; {
		f, err := w.f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := f.(*xhttp2.DataFrame); ok {
			got += len(d.Data())
		}
	}
	for range maxIdleFrames + 500 {
		_ = w.f.WriteWindowUpdate(0, 1)
	}
	w.get(3, "/bytes/1")
	if got := w.outcome(); got != "status 200" {
		t.Errorf("got %q", got)
	}
}

func TestFloods(t *testing.T) {
	for _, c := range []struct {
		name string
		each func(w *raw, i int)
		want string
	}{
		{"pings", func(w *raw, _ int) { _ = w.f.WritePing(false, [8]byte{}) }, "goaway ENHANCE_YOUR_CALM"},
		{"settings", func(w *raw, _ int) { _ = w.f.WriteSettings() }, "goaway ENHANCE_YOUR_CALM"},
		{"priorities", func(w *raw, _ int) { _ = w.f.WritePriority(1, xhttp2.PriorityParam{StreamDep: 3}) }, "goaway ENHANCE_YOUR_CALM"},
		{"windows", func(w *raw, _ int) { _ = w.f.WriteWindowUpdate(0, 1) }, "goaway ENHANCE_YOUR_CALM"},
		{"resets", func(w *raw, i int) {
			w.get(uint32(2*i+1), "/hold")
			_ = w.f.WriteRSTStream(uint32(2*i+1), xhttp2.ErrCodeCancel)
		}, "goaway ENHANCE_YOUR_CALM"},
		{"unknown frames", func(w *raw, _ int) { _ = w.f.WriteRawFrame(0xee, 0, 0, nil) }, "goaway ENHANCE_YOUR_CALM"},
		{"continuations", func(w *raw, i int) {
			if i == 0 {
				_ = w.f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: w.list(":method", "GET")})
			}
			_ = w.f.WriteContinuation(1, false, nil)
		}, "goaway ENHANCE_YOUR_CALM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t)
			defer close(r.handler.hold)
			w := r.raw()
			got := make(chan string, 1)
			go func() {
				for {
					if s := w.outcome(); strings.HasPrefix(s, "goaway") || s == "end" {
						got <- s
						return
					}
				}
			}()
			for i := 0; ; i++ {
				c.each(w, i)
				select {
				case s := <-got:
					if s != c.want {
						t.Errorf("after %d: %q", i, s)
					}
					return
				default:
				}
				if i > 20_000 {
					t.Fatal("nothing happened")
				}
			}
		})
	}
}

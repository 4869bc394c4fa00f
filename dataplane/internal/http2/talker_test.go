package http2

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gateway.internal/shared/waittest"
)

// talker is a client that writes frames by hand, keeps to the windows that it is granted, and takes everything that
// comes at once.
type talker struct {
	t *testing.T
	c net.Conn

	writing sync.Mutex // protects what is for writing; it is never waited for by what reads
	f       *xhttp2.Framer
	enc     *hpack.Encoder
	block   bytes.Buffer
	next    uint32

	mu      sync.Mutex // protects what follows
	on      *sync.Cond // something has come
	window  int64
	initial int64
	windows map[uint32]int64
	heads   map[uint32]string // the status of each stream's response
	bytes   map[uint32]int    // of body that came
	ends    map[uint32]string // how each stream has ended: its status, or its reset
	resets  map[uint32]string // with what each stream was reset
	over    string            // how the connection has ended; empty: it has not
	stopped chan struct{}
}

// granted is what a talker lets the server send, of a stream and of all.
const granted = 1 << 30

// talk says hello on a connection. settings replace those that grant everything.
func talk(t *testing.T, c net.Conn, settings ...xhttp2.Setting) *talker {
	k := &talker{
		t: t, c: c, next: 1, window: initialWindow, initial: initialWindow, windows: map[uint32]int64{}, heads: map[uint32]string{},
		bytes: map[uint32]int{}, ends: map[uint32]string{}, resets: map[uint32]string{}, stopped: make(chan struct{}),
	}
	k.on = sync.NewCond(&k.mu)
	k.f = xhttp2.NewFramer(c, nil)
	k.f.AllowIllegalWrites = true
	k.enc = hpack.NewEncoder(&k.block)
	if settings == nil {
		settings = []xhttp2.Setting{{ID: xhttp2.SettingInitialWindowSize, Val: granted}}
	}
	_ = c.SetDeadline(time.Now().Add(time.Hour)) // of real time, the test's limit is less
	go k.listen()
	k.write(func(f *xhttp2.Framer) {
		_, _ = io.WriteString(c, preface)
		_ = f.WriteSettings(settings...)
		if len(settings) == 1 && settings[0].Val == granted {
			_ = f.WriteWindowUpdate(0, granted)
		}
	})
	return k
}

// dial is talk over a new connection, which ends with the test.
func (r *running) talk(settings ...xhttp2.Setting) *talker {
	r.t.Helper()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	k := talk(r.t, c, settings...)
	_ = c.SetDeadline(waittest.Deadline())
	r.t.Cleanup(k.close)
	return k
}

func (k *talker) close() {
	_ = k.c.Close()
	<-k.stopped
}

// write writes frames.
func (k *talker) write(frames func(f *xhttp2.Framer)) {
	k.writing.Lock()
	defer k.writing.Unlock()
	frames(k.f)
}

// listen takes in what comes.
func (k *talker) listen() {
	defer close(k.stopped)
	f := xhttp2.NewFramer(nil, k.c)
	f.AllowIllegalReads = true
	dec := hpack.NewDecoder(4096, nil)
	for {
		frame, err := f.ReadFrame()
		k.mu.Lock()
		if err != nil {
			if k.over == "" {
				k.over = "end"
			}
			k.on.Broadcast()
			k.mu.Unlock()
			return
		}
		k.hear(frame, dec)
		k.on.Broadcast()
		k.mu.Unlock()
	}
}

func (k *talker) hear(frame xhttp2.Frame, dec *hpack.Decoder) {
	id := frame.Header().StreamID
	switch f := frame.(type) {
	case *xhttp2.SettingsFrame:
		if v, ok := f.Value(xhttp2.SettingInitialWindowSize); ok {
			for id := range k.windows {
				k.windows[id] += int64(v) - k.initial
			}
			k.initial = int64(v)
		}
	case *xhttp2.WindowUpdateFrame:
		if id == 0 {
			k.window += int64(f.Increment)
		} else {
			k.windows[id] += int64(f.Increment)
		}
	case *xhttp2.HeadersFrame:
		fields, err := dec.DecodeFull(f.HeaderBlockFragment())
		if err != nil {
			k.t.Error(err)
			return
		}
		if fields[0].Name == ":status" && fields[0].Value >= "200" {
			k.heads[id] = fields[0].Value
		}
		if f.StreamEnded() {
			k.end(id, k.heads[id])
		}
	case *xhttp2.DataFrame:
		k.bytes[id] += len(f.Data())
		if f.StreamEnded() {
			k.end(id, k.heads[id])
		}
	case *xhttp2.RSTStreamFrame:
		k.resets[id] = "reset " + f.ErrCode.String()
		k.end(id, k.resets[id])
	case *xhttp2.GoAwayFrame:
		k.over = "goaway " + f.ErrCode.String()
	}
}

func (k *talker) end(id uint32, how string) {
	if k.ends[id] == "" {
		k.ends[id] = how
	}
}

// fields encodes a header list, given as names and values in turn. It is for write.
func (k *talker) fields(fields ...string) []byte {
	k.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = k.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(k.block.Bytes())
}

// ask opens a stream and returns its number.
func (k *talker) ask(method, path string, end bool, more ...string) uint32 {
	k.writing.Lock()
	defer k.writing.Unlock()
	id := k.next
	k.next += 2
	k.mu.Lock()
	k.windows[id] = k.initial
	k.mu.Unlock()
	block := k.fields(append([]string{":method", method, ":scheme", "http", ":authority", "a", ":path", path}, more...)...)
	_ = k.f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: end})
	return id
}

// send sends n bytes of body in frames of at most a size, besides so many bytes of padding, as the windows allow; where
// n is 0, one frame. It reports whether all were sent: a stream that has ended gets no more.
func (k *talker) send(id uint32, n, size int, padding byte) bool {
	for first := true; first || n > 0; first = false {
		extra := 0
		if padding > 0 {
			extra = int(padding) + 1
		}
		part := min(n, size)
		if !k.pay(id, int64(part+extra)) {
			return false
		}
		k.write(func(f *xhttp2.Framer) {
			if padding > 0 {
				_ = f.WriteDataPadded(id, false, make([]byte, part), make([]byte, padding))
			} else {
				_ = f.WriteData(id, false, make([]byte, part))
			}
		})
		n -= part
	}
	return true
}

// pay waits for windows of n bytes, and takes them. It reports false where the stream has ended.
func (k *talker) pay(id uint32, n int64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.over == "" && k.ends[id] == "" {
		if k.window >= n && k.windows[id] >= n {
			k.window -= n
			k.windows[id] -= n
			return true
		}
		k.on.Wait()
	}
	return false
}

// finish ends the request's body.
func (k *talker) finish(id uint32) {
	k.write(func(f *xhttp2.Framer) { _ = f.WriteData(id, true, nil) })
}

// reset breaks the request off.
func (k *talker) reset(id uint32) {
	k.write(func(f *xhttp2.Framer) { _ = f.WriteRSTStream(id, xhttp2.ErrCodeCancel) })
}

// head waits for the response's status.
func (k *talker) head(id uint32) string {
	return k.await(fmt.Sprintf("the head of stream %d", id), func() string {
		if k.heads[id] != "" {
			return k.heads[id]
		}
		return k.ends[id]
	})
}

// outcome waits for the end of a stream, and returns its status or "reset CODE"; where the connection has ended,
// "goaway CODE" or "end".
func (k *talker) outcome(id uint32) string {
	return k.await(fmt.Sprintf("the end of stream %d", id), func() string { return k.ends[id] })
}

// dropped waits until a stream was reset, be it after its response.
func (k *talker) dropped(id uint32) string {
	return k.await(fmt.Sprintf("the reset of stream %d", id), func() string { return k.resets[id] })
}

// ended waits for the end of the connection.
func (k *talker) ended() string {
	return k.await("the end of the connection", func() string { return k.over })
}

func (k *talker) await(what string, of func() string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for of() == "" && k.over == "" {
		k.on.Wait()
	}
	if got := of(); got != "" {
		return got
	}
	if k.over == "end" {
		k.t.Logf("while waiting for %s the connection has ended, or the time was over", what)
	}
	return k.over
}

// upload sends a request with n bytes of body, and returns what became of it.
func (k *talker) upload(path string, n int) string {
	id := k.ask("POST", path, false)
	if k.send(id, n, maxFrameBytes, 0) {
		k.finish(id)
	}
	return k.outcome(id)
}

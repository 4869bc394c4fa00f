package http2

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/waittest"
)

// defective is a handler that breaks connections from within, and is told of what comes of it.
type defective struct {
	breaks func(s *serverStream)
	told   chan string
}

func (h *defective) Serve(x *exchange.Exchange) {
	x.Answer(200, "text/plain", nil)
	_ = x.Down.WriteHead(x, nil, true)
	h.breaks(x.Down.(*serverStream))
}

func (h *defective) Panicked(what, _ string, v any) { h.told <- fmt.Sprint(what, ": ", v) }

// TestPanicsOfAConnection has a client's connection panic as it reads, and after an exchange: it ends, and is told of
// once.
func TestPanicsOfAConnection(t *testing.T) {
	for name, c := range map[string]struct {
		peer   *exchange.Peer
		breaks func(s *serverStream)
		goAway bool // the client is told
	}{
		"as a head is read": {nil, nil, true},
		"after an exchange": {&exchange.Peer{}, func(s *serverStream) { s.conn = nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := &defective{breaks: c.breaks, told: make(chan string, 9)}
			s := NewServer(codec.DefaultLimits(), h)
			ours, theirs := pair(t)
			ended := make(chan struct{})
			go s.Serve(socket.New(ours), c.peer, func() { close(ended) })
			_, _ = io.WriteString(theirs, preface)
			f := xhttp2.NewFramer(theirs, theirs)
			_ = f.WriteSettings()
			// :method GET, :scheme http, :path /, :authority "a"
			block := []byte{0x82, 0x86, 0x84, 0x41, 0x01, 'a'}
			_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true})
			told := false
			for {
				fr, err := f.ReadFrame()
				if err != nil {
					break
				}
				if g, ok := fr.(*xhttp2.GoAwayFrame); ok {
					told = g.ErrCode == xhttp2.ErrCodeInternal
				}
			}
			_ = theirs.Close()
			if told != c.goAway {
				t.Errorf("the client was told: %v", told)
			}
			waittest.Receive(t, "the end of the connection", ended)
			waittest.Receive(t, "what has panicked", h.told)
			if n := s.Active(); n != 0 || len(h.told) != 0 {
				t.Errorf("%d connections are left, %d more panics", n, len(h.told))
			}
		})
	}
}

// TestPanicOfAConnectionToAService ends what is under way on it as the gateway's fault.
func TestPanicOfAConnectionToAService(t *testing.T) {
	ours, theirs := pair(t)
	told := make(chan any, 9)
	c := NewClientConn(ours, "http", false, func() { panic("in a test") }, func(_, _ string, v any) { told <- v })
	t.Cleanup(c.Close)
	_, done := ask(t, c, 1)
	skipPreface(t, theirs)
	f := xhttp2.NewFramer(theirs, theirs)
	readUntil[*xhttp2.HeadersFrame](t, f)
	_ = f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 7})
	var own *fault.Error
	if err := waittest.Receive(t, "the stream's end", done); !errors.As(err, &own) || own.Code != fault.Internal {
		t.Errorf("the stream ended with %v", err)
	}
	if v := waittest.Receive(t, "what has panicked", told); v != "in a test" {
		t.Errorf("told of %v", v)
	}
	if c.Usable() {
		t.Error("the connection is still used")
	}
	_, _ = io.Copy(io.Discard, theirs) // until it is closed
	if len(told) != 0 {
		t.Errorf("told of %d more", len(told))
	}
}

// A connection that the endpoint has ended while there was no stream takes none: the one that looks finds out, and is
// given back.
func TestEndedConnectionIsNotLive(t *testing.T) {
	c, _, peer := newClientConn(t)
	stream := c.Begin(10, false)
	if !stream.Live() {
		t.Fatal("it is not live")
	}
	_ = peer.Close()
	waittest.Until(t, "the end is seen", func() bool {
		stream.doubtful = true
		return !stream.Live()
	})
	if c.Usable() || c.Begin(10, false) != nil {
		t.Error("another stream begins")
	}
	stream.Release(time.Now())
}

// TestPanicOfAWriter has the goroutine of an exchange panic as it sends, of which others recover: nobody sends any more
// then, and the other streams end instead of waiting for that.
func TestPanicOfAWriter(t *testing.T) {
	ours, theirs := pair(t)
	c := NewClientConn(ours, "http", false, nil, func(_, _ string, _ any) {})
	t.Cleanup(c.Close)
	_, done := ask(t, c, 10)
	skipPreface(t, theirs)
	f := xhttp2.NewFramer(theirs, theirs)
	readUntil[*xhttp2.HeadersFrame](t, f)
	waittest.Until(t, "the other one has sent", func() (sent bool) {
		c.locked(func() {
			if sent = !c.out.writing; sent {
				c.out.waiting = append(c.out.waiting, nil)
				c.out.pending = appendReset(c.out.buf(), 99, codeCancel)
			}
		})
		return sent
	})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was kept from who recovers from it")
			}
		}()
		c.flush()
	}()
	c.locked(func() { c.out.waiting = nil })
	if c.Usable() {
		t.Fatal("the connection is still used")
	}
	var own *fault.Error
	if err := waittest.Receive(t, "the other stream's end", done); !errors.As(err, &own) || own.Code != fault.Internal {
		t.Errorf("the other stream ended with %v", err)
	}
	_, _ = io.Copy(io.Discard, theirs) // until it is closed
}

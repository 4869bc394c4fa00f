package http2

import (
	"errors"
	"net"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/waittest"
)

// An endpoint that dies together with its last bytes, while those before are still taken in, is noticed: the poller
// says nothing of its own about it.
func TestEndTogetherWithBytes(t *testing.T) {
	c, f, peer := newClientConn(t)
	_, done := ask(t, c, 10)
	skipPreface(t, peer)
	readUntil[*xhttp2.HeadersFrame](t, f)
	_ = f.WriteSettings()
	readUntil[*xhttp2.SettingsFrame](t, f) // the acknowledgement: reading has begun
	waittest.Until(t, "the reader has settings, and waits for the mutex", func() bool {
		c.mu.Lock()
		c.heard.Store(0)
		_ = f.WriteSettings()
		for end := time.Now().Add(20 * time.Millisecond); c.heard.Load() == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) { // it waits for the mutex on account of those before
				c.mu.Unlock()
				readUntil[*xhttp2.SettingsFrame](t, f)
				return false
			}
		}
		return true
	})
	_ = f.WritePing(false, [8]byte{})
	_ = peer.(*net.TCPConn).CloseWrite()
	c.mu.Unlock()
	if err := waittest.Receive(t, "the stream is over, since the endpoint has gone", done); err == nil {
		t.Error("an answer came from nowhere")
	}
}

// The same of a client, whose request is broken off.
func TestClientEndTogetherWithBytes(t *testing.T) {
	h := &holding{begun: make(chan struct{}), over: make(chan struct{})}
	s := NewServer(limits(), h)
	reads, proceed := make(chan struct{}), make(chan struct{})
	s.streams.New = func() any {
		reads <- struct{}{}
		<-proceed
		return newServerStream()
	}
	ours, theirs := pair(t)
	go s.Serve(socket.New(ours), exchange.NewPeer(ours.RemoteAddr()), func() {})
	f := xhttp2.NewFramer(theirs, theirs)
	_, _ = theirs.Write([]byte(preface))
	_ = f.WriteSettings()
	readUntil[*xhttp2.SettingsFrame](t, f)
	_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("\x82\x86\x84\x41\x01a"), EndHeaders: true, EndStream: true})
	waittest.Receive(t, "a stream begins", reads)
	_ = f.WritePing(false, [8]byte{})
	_ = theirs.(*net.TCPConn).CloseWrite()
	close(proceed)
	waittest.Receive(t, "the request has begun", h.begun)
	waittest.Receive(t, "the request is over, since the client has gone", h.over)
}

// holding is a handler whose exchanges last until they are aborted.
type holding struct{ begun, over chan struct{} }

// Serve implements codec.Handler.
func (h *holding) Serve(x *exchange.Exchange) {
	x.Down.Watch(h)
	close(h.begun)
	<-h.over
	x.Down.Watch(nil)
}

// Abort implements exchange.Aborter. It is called with the connection's mutex held.
func (h *holding) Abort() {
	select {
	case <-h.over:
	default:
		close(h.over)
	}
}

// A tunnel that is aborted when both sides have ended it, before all was taken, is over: its end must not look like a
// wait that took too long.
func TestAbortedTunnelIsOver(t *testing.T) {
	c, f, peer := newClientConn(t)
	_ = f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingEnableConnectProtocol, Val: 1})
	stream := c.Begin(1, false)
	x := &exchange.Exchange{}
	x.Request.Method, x.Request.Path, x.Request.Host, x.Request.Upgrade = "GET", "/", "a", exchange.WebSocket
	sent := make(chan error, 1)
	go func() {
		_, _, err := stream.Send(x, nil, true, time.Minute)
		sent <- err
	}()
	skipPreface(t, peer)
	readUntil[*xhttp2.HeadersFrame](t, f)
	_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true})
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	tunnel := stream.Tunnel()
	if err := tunnel.End(); err != nil {
		t.Fatal(err)
	}
	_ = f.WriteData(1, true, []byte("not taken"))
	waittest.Until(t, "the stream's end has come", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return stream.remoteEnded
	})
	stream.Abort()
	for err := error(nil); err == nil; {
		if _, err = tunnel.Receive(time.Minute); errors.Is(err, timedOut) {
			t.Error("it may go on")
		}
	}
	stream.Release(time.Now())
}

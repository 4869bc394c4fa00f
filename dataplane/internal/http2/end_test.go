package http2

import (
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// An endpoint that dies together with its last bytes, while those before are still taken in, is noticed: the poller says nothing of its own about it.
func TestEndTogetherWithBytes(t *testing.T) {
	c, f, peer := newClientConn(t)
	_, done := ask(t, c, 10)
	skipPreface(t, peer)
	readUntil[*xhttp2.HeadersFrame](t, f)
	_ = f.WriteSettings()
	readUntil[*xhttp2.SettingsFrame](t, f) // the acknowledgement: reading has begun
	heard := c.heard.Load()
	c.mu.Lock()
	_ = f.WriteSettings() // the reader has it, and waits for the mutex
	for c.heard.Load() == heard {
		runtime.Gosched()
	}
	_ = f.WritePing(false, [8]byte{})
	_ = peer.(*net.TCPConn).CloseWrite()
	c.mu.Unlock()
	select {
	case err := <-done:
		if err == nil {
			t.Error("an answer came from nowhere")
		}
	case <-time.After(5 * time.Second):
		t.Error("the call goes on although the endpoint has gone")
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
		return newStream()
	}
	ours, theirs := pair(t)
	go s.Serve(socket.New(ours), exchange.NewPeer(ours.RemoteAddr()), func() {})
	f := xhttp2.NewFramer(theirs, theirs)
	_, _ = theirs.Write([]byte(preface))
	_ = f.WriteSettings()
	readUntil[*xhttp2.SettingsFrame](t, f)
	_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("\x82\x86\x84\x41\x01a"), EndHeaders: true, EndStream: true})
	<-reads
	_ = f.WritePing(false, [8]byte{})
	_ = theirs.(*net.TCPConn).CloseWrite()
	close(proceed)
	<-h.begun
	select {
	case <-h.over:
	case <-time.After(5 * time.Second):
		t.Error("the request goes on although the client has gone")
	}
}

// holding is a handler whose exchanges last until they are aborted.
type holding struct{ begun, over chan struct{} }

// Serve implements http1.Handler.
func (h *holding) Serve(x *exchange.Exchange) {
	x.Down.Watch(h)
	close(h.begun)
	<-h.over
	x.Down.Watch(nil)
}

// Abort implements exchange.Aborter. It is called with the link's mutex held.
func (h *holding) Abort() {
	select {
	case <-h.over:
	default:
		close(h.over)
	}
}

// A tunnel that is aborted when both sides have ended it, before all was taken, is over: its end must not look like a wait that took too long.
func TestAbortedTunnelIsOver(t *testing.T) {
	c, f, peer := newClientConn(t)
	_ = f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingEnableConnectProtocol, Val: 1})
	call := c.Begin(1)
	x := &exchange.Exchange{}
	x.Request.Method, x.Request.Path, x.Request.Host, x.Request.Upgrade = "GET", "/", "a", exchange.WebSocket
	sent := make(chan error, 1)
	go func() {
		_, err := call.Send(x, nil, true, time.Minute)
		sent <- err
	}()
	skipPreface(t, peer)
	readUntil[*xhttp2.HeadersFrame](t, f)
	_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true})
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	tunnel := call.Tunnel()
	if err := tunnel.End(); err != nil {
		t.Fatal(err)
	}
	_ = f.WriteData(1, true, []byte("not taken"))
	for ended := false; !ended; runtime.Gosched() {
		c.mu.Lock()
		ended = call.remoteEnded
		c.mu.Unlock()
	}
	call.Abort()
	for err := error(nil); err == nil; {
		if _, err = tunnel.Receive(time.Minute); errors.Is(err, timedOut) {
			t.Error("it may go on")
		}
	}
	call.Release(time.Now())
}

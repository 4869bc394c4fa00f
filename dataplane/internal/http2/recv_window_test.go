package http2

import (
	"fmt"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/waittest"
)

// check returns what is wrong with a window whose peer has sent held bytes that still wait.
func (w *recvWindow) check(held int) error {
	if w.open+w.held+w.spent != w.size || w.open < 0 || w.spent < 0 || w.held != int64(held) {
		return fmt.Errorf("%d bytes wait, and of a window of %d bytes %d are open, %d held and %d spent", held, w.size, w.open, w.held, w.spent)
	}
	return nil
}

// checkCredit returns which window of a connection has lost or won bytes: what is granted, what waits and what is about
// to be granted have to be the whole window at any time.
func (c *connection) checkCredit() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.recv.check(0); err != nil {
		return fmt.Errorf("the connection: %w", err)
	}
	for id, f := range c.streams {
		if err := f.recv.check(len(f.in)); err != nil {
			return fmt.Errorf("stream %d: %w", id, err)
		}
	}
	return nil
}

// creditChecked checks the windows of the connection after each exchange.
type creditChecked struct {
	t *testing.T
	codec.Handler
}

func (h creditChecked) Serve(x *exchange.Exchange) {
	h.Handler.Serve(x)
	if err := x.Down.(*serverStream).c.checkCredit(); err != nil {
		h.t.Error(err)
	}
}

// Whatever becomes of a stream, the bytes that came for it do not take the connection's window away from the others.
func TestCreditComesBack(t *testing.T) {
	const uploads, size = 12, 150_000 // more than the connection's window, and less than a stream's
	for _, c := range []struct {
		name string
		one  func(k *talker) // an upload that does not come to its end
	}{
		{"of a body that is too large", func(k *talker) {
			id := k.ask("POST", "/limited", false)
			k.send(id, size, 10_000, 0)
			k.head(id)
		}},
		{"of a body that is read too late to be small enough", func(k *talker) {
			id := k.ask("POST", "/limited/late", false)
			k.send(id, size, 10_000, 0)
			k.finish(id)
			k.head(id)
		}},
		{"of a request that is answered early", func(k *talker) {
			id := k.ask("POST", "/early", false)
			k.send(id, size, 10_000, 0)
			k.outcome(id)
		}},
		{"of a response that is broken off", func(k *talker) {
			id := k.ask("POST", "/abort", false)
			k.send(id, size, 10_000, 0)
			k.outcome(id)
		}},
		{"of a request that is broken off", func(k *talker) {
			id := k.ask("POST", "/limited/late", false)
			k.send(id, size, 10_000, 0)
			k.reset(id)
		}},
		{"of a request that breaks a rule", func(k *talker) {
			id := k.ask("POST", "/limited/late", false, "content-length", fmt.Sprint(size-1))
			k.send(id, size, 10_000, 0)
			k.outcome(id)
		}},
		{"of padding", func(k *talker) {
			id := k.ask("POST", "/", false)
			k.send(id, size/100, 100, 200)
			k.finish(id)
			k.outcome(id)
		}},
		{"of what comes after the reset", func(k *talker) {
			id := k.ask("POST", "/early", false)
			k.outcome(id)
			k.mu.Lock()
			k.ends[id] = "" // it has not heard
			k.mu.Unlock()
			k.send(id, size, 10_000, 0)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t)
			k := r.talk()
			for range uploads {
				c.one(k)
			}
			if got := k.upload("/", 2*streamWindow); got != "200" {
				t.Errorf("an upload afterwards: %s", got)
			}
		})
	}
}

// A stream's window comes back whatever it is filled with: padding alone must not use it up.
func TestCreditOfPaddingAlone(t *testing.T) {
	k := start(t).talk()
	id := k.ask("POST", "/", false)
	for range streamWindow/256 + 10 {
		if !k.send(id, 0, 1, 255) {
			t.Fatal(k.outcome(id))
		}
	}
	k.finish(id)
	if got := k.outcome(id); got != "200" {
		t.Error(got)
	}
}

// Uploads that nobody reads do not hold up others of the same client.
func TestStuckUploads(t *testing.T) {
	r := start(t)
	defer close(r.handler.hold)
	k := r.talk()
	for range maxStreams - 1 {
		k.send(k.ask("POST", "/hold", false), streamWindow, maxFrameBytes, 0)
	}
	if got := k.upload("/", 2*connWindow); got != "200" {
		t.Errorf("beside uploads that are stuck: %s", got)
	}
}

// The same on a connection to an endpoint: responses that nobody takes, or whose streams have been given up, do not
// hold up others.
func TestStuckResponses(t *testing.T) {
	const many = clientWindow/streamWindow + 20
	c, f, peer := newClientConn(t)
	_ = f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: many})
	x := &exchange.Exchange{}
	x.Request.Method, x.Request.Path, x.Request.Host = "GET", "/", "a"
	begin := func(first bool) (*ClientStream, uint32) {
		stream := c.Begin(many, false)
		sent := make(chan error, 1)
		go func() {
			_, _, err := stream.Send(x, nil, true, waittest.Limit)
			sent <- err
		}()
		if first {
			skipPreface(t, peer)
		}
		id := readUntil[*xhttp2.HeadersFrame](t, f).StreamID
		_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}, EndHeaders: true})
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		return stream, id
	}
	var stuck []*ClientStream
	for i := range many {
		stream, id := begin(i == 0)
		for range streamWindow / maxFrameBytes {
			_ = f.WriteData(id, false, make([]byte, maxFrameBytes))
		}
		if i%10 == 0 { // its response is taken and given up half way
			_, _, _ = stream.BufferedBody(x, time.Second)
			stream.Release(time.Now())
		} else {
			stuck = append(stuck, stream)
		}
		if err := c.checkCredit(); err != nil {
			t.Fatal(err)
		}
	}
	stream, id := begin(false)
	_ = f.WriteData(id, true, []byte("whole"))
	if part, err := stream.NextBody(x, waittest.Limit); string(part) != "whole" {
		t.Errorf("%q, %v", part, err)
	}
	for _, stream := range append(stuck, stream) {
		stream.Release(time.Now())
	}
	if err := c.checkCredit(); err != nil {
		t.Error(err)
	}
}

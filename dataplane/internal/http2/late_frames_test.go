package http2

import (
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/waittest"
)

// What was on its way for streams that were reset, however many they are by now, is ignored: neither trailers nor data
// end the connection.
func TestLateFramesOfClients(t *testing.T) {
	const many = 20 * len(connection{}.forgotten)
	k := start(t).talk()
	var early []uint32
	for range many {
		id := k.ask("POST", "/early", false)
		if got := k.outcome(id); got != "403" {
			t.Fatal(got)
		}
		k.dropped(id)
		early = append(early, id)
	}
	for i, id := range early {
		k.write(func(f *xhttp2.Framer) {
			switch i % 3 {
			case 0:
				_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: k.fields("x-sum", "1"), EndHeaders: true, EndStream: true})
			case 1:
				_ = f.WriteData(id, true, []byte("late"))
			default:
				_ = f.WriteRSTStream(id, xhttp2.ErrCodeCancel)
			}
		})
	}
	if got := k.upload("/", 10); got != "200" {
		t.Errorf("a request afterwards: %s", got)
	}
}

// A client that goes on with a stream that it has ended itself is wrong, and is told so.
func TestLateFramesOfEndedStreams(t *testing.T) {
	k := start(t).talk()
	id := k.ask("GET", "/", true)
	if got := k.outcome(id); got != "200" {
		t.Fatal(got)
	}
	k.write(func(f *xhttp2.Framer) {
		_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: k.fields("x-sum", "1"), EndHeaders: true, EndStream: true})
	})
	if got := k.ended(); got != "goaway STREAM_CLOSED" {
		t.Error(got)
	}
}

// What a service had on its way for streams that were given up does not end the connection that others share.
func TestLateFramesOfServices(t *testing.T) {
	const many = 100 * len(connection{}.forgotten)
	c, f, peer := newClientConn(t)
	_ = f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 2})
	x := &exchange.Exchange{}
	x.Request.Method, x.Request.Path, x.Request.Host = "GET", "/", "a"
	late := func(i int, id uint32) {
		switch {
		case i%2 == 1:
			_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}, EndHeaders: true})
			_ = f.WriteData(id, false, []byte("late"))
		case i%4 == 0:
			_ = f.WriteData(id, false, []byte("late"))
		default:
			_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0, 1, 'x', 1, '1'}, EndHeaders: true, EndStream: true})
		}
		if i%4 == 1 {
			_ = f.WriteRSTStream(id, xhttp2.ErrCodeNo)
		}
	}
	var ids []uint32
	for i := range many {
		if before := i - 2*len(c.forgotten); before >= 0 {
			late(before, ids[before])
		}
		stream := c.Begin(1, false)
		if stream == nil {
			t.Fatal("the connection is over")
		}
		sent := make(chan error, 1)
		go func() {
			_, _, err := stream.Send(x, nil, true, waittest.Limit)
			sent <- err
		}()
		if i == 0 {
			skipPreface(t, peer)
		}
		id := readUntil[*xhttp2.HeadersFrame](t, f).StreamID
		if i%2 == 0 {
			_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}, EndHeaders: true})
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
		} else {
			stream.Abort()
			<-sent
		}
		stream.Release(time.Now())
		ids = append(ids, id)
	}
	_, done := ask(t, c, 1)
	id := readUntil[*xhttp2.HeadersFrame](t, f).StreamID
	_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}, EndHeaders: true, EndStream: true})
	if err := <-done; err != nil {
		t.Errorf("a stream afterwards: %v", err)
	}
}

package http2

import (
	"testing"
	"time"

	"gateway.internal/dataplane/internal/socket"
)

// sizes is the payload of a SETTINGS frame that says sizes of windows, one after the other.
func sizes(values ...uint32) (payload []byte) {
	for _, v := range values {
		payload = appendSetting(payload, settingInitialWindowSize, v)
	}
	return payload
}

// withStreams returns a connection with streams whose windows are what the peer has said at first.
func withStreams(n int) *connection {
	c := &connection{}
	c.init(socket.New(nil), nil, 64<<10, 100)
	for i := range n {
		s := newServerStream()
		s.streamFlow.open(c, uint32(2*i+1), nil, 0)
		c.streams[s.id] = &s.streamFlow
	}
	return c
}

func (c *connection) takeSettings(payload []byte) error {
	err := c.settings(&frameHead{length: len(payload), kind: frameSettings}, payload)
	c.out.pending = c.out.pending[:0]
	return err
}

// Of several sizes in one frame the last one counts, for streams that have used some of theirs too, and none may be too
// large on the way.
func TestSizesOfWindows(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []uint32
		want   int64 // of a stream's window that had 65535 and has sent 5
		err    error
	}{
		{"one", []uint32{100}, 95, nil},
		{"none, below what was sent", []uint32{0}, -5, nil},
		{"several", []uint32{7, 1 << 20, 100}, 95, nil},
		{"the same again", []uint32{1, initialWindow}, initialWindow - 5, nil},
		{"the largest", []uint32{maxWindow}, maxWindow - 5, nil},
		{"too large a size", []uint32{maxWindow + 1, 1}, 0, codeFlowControl},
		{"too large a window of one stream", []uint32{maxWindow, 1}, 0, codeFlowControl},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := withStreams(2)
			l.streams[1].sendWindow -= 5
			if c.err == nil {
				l.streams[3].sendWindow -= 5
			} else {
				l.streams[3].sendWindow += 5 // a WINDOW_UPDATE
			}
			if err := l.takeSettings(sizes(c.values...)); err != c.err {
				t.Fatalf("%v instead of %v", err, c.err)
			}
			if c.err != nil {
				return
			}
			for id, s := range l.streams {
				if s.sendWindow != c.want {
					t.Errorf("stream %d: %d instead of %d", id, s.sendWindow, c.want)
				}
			}
			if last := int64(c.values[len(c.values)-1]); l.peerWindow != last {
				t.Errorf("new streams get %d instead of %d", l.peerWindow, last)
			}
		})
	}
}

// A stream ends also where its window has become less than nothing: an empty frame needs none (RFC 9113 section 6.9.1).
func TestEndWithoutAWindow(t *testing.T) {
	l := withStreams(1)
	f := l.streams[1]
	if left, all := f.put(make([]byte, 5), false); len(left) > 0 || !all {
		t.Fatalf("%d bytes are left of what the window has room for", len(left))
	}
	if err := l.takeSettings(sizes(0)); err != nil || f.sendWindow != -5 {
		t.Fatalf("%v, and a window of %d", err, f.sendWindow)
	}
	if left, all := f.put([]byte("more"), true); string(left) != "more" || all || len(l.out.pending) > 0 {
		t.Errorf("%q is left of a body without a window, and %d bytes are sent", left, len(l.out.pending))
	}
	if _, all := f.put(nil, true); !all || !f.localEnded || f.sendWindow != -5 {
		t.Errorf("the end: %t, and a window of %d", all, f.sendWindow)
	}
	want := frameHead{kind: frameData, flags: flagEndStream, stream: 1}
	if got := l.out.pending; len(got) != frameHeadBytes || parseFrameHead(got) != want {
		t.Errorf("sent is %x, want %+v", got, want)
	}
}

// A frame that says thousands of sizes costs about the same with one stream and with as many as there may be: otherwise
// 13 KiB would keep a processor busy for milliseconds.
func TestManySizesCostLittle(t *testing.T) {
	values := make([]uint32, maxFrameBytes/6)
	for i := range values {
		values[i] = uint32(i)
	}
	payload := sizes(values...)
	least := func(streams int) time.Duration {
		c := withStreams(streams)
		best := time.Hour
		for range 20 {
			c.peerWindow = initialWindow
			begun := time.Now()
			if err := c.takeSettings(payload); err != nil {
				t.Fatal(err)
			}
			best = min(best, time.Since(begun))
		}
		return best
	}
	one, many := least(1), least(maxExchanges)
	t.Logf("%s with one stream, %s with %d", one, many, maxExchanges)
	if many > 30*one {
		t.Errorf("%s with one stream, %s with %d", one, many, maxExchanges)
	}
}

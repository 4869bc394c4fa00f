package http2

import (
	"errors"
	"testing"

	"gateway.internal/dataplane/internal/socket"
)

// What waits to be sent may outgrow the pools' buffers, which are given back all the same.
func TestOutputGivesItsBuffersBack(t *testing.T) {
	for _, size := range []int{10, 20_000, 100_000, 300_000} {
		before := socket.InUse.Load()
		c := &connection{}
		f := &streamFlow{c: c, id: 1}
		for range 20 {
			f.appendList(make([]byte, size), false)
			c.out.pending = appendReset(c.out.buf(), 1, codeCancel)
		}
		want := 20 * (size + (size+maxFrameBytes-1)/maxFrameBytes*frameHeadBytes + 13)
		if got := len(c.out.pending); got != want+1 { // once the size of the encoder's table
			t.Errorf("lists of %d bytes are %d, want %d", size, got, want+1)
		}
		c.err = errors.New("over")
		c.release()
		if now := socket.InUse.Load(); now != before {
			t.Errorf("lists of %d bytes leave %d buffers behind", size, now-before)
		}
	}
}

package http1

import (
	"io"
	"reflect"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// Nothing of one request is left for the next: what is not named here as memory that is kept is zero again.
func TestNothingOfARequestIsLeft(t *testing.T) {
	r := &requestState{
		x:        &exchange.Exchange{},
		msg:      message{framing: framing{length: 7, chunked: true, close: true}, http10: true, connect: true, hollow: true},
		bodyErr:  io.ErrUnexpectedEOF,
		bodyless: true, chunked: true, begun: true, whole: true, close: true, cut: true, refused: true,
		kept: []byte("kept"), writeErr: io.ErrClosedPipe,
	}
	r.body = body{
		framed: byChunks, left: 3, max: 4, over: true, keep: true, pinned: []byte("head"),
		pace: socket.Pace{Least: 1, Over: time.Second}, chunks: chunks{state: chunkData, left: 5, trail: []byte("A: b")},
	}
	r.cancelled.Store(true)
	r.coming.Store(true)
	for v, i := reflect.ValueOf(r).Elem(), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Fatalf("the test does not set %s", v.Type().Field(i).Name)
		}
	}
	x := &exchange.Exchange{}
	r.reset(x)
	want := &requestState{x: x, body: emptyBody}
	want.body.chunks.trail = []byte{} // its memory is kept
	if !reflect.DeepEqual(r, want) {
		t.Errorf("something is left:\n%+v, want\n%+v", r, want)
	}
}

package http2

import (
	"testing"

	xhttp2 "golang.org/x/net/http2"
)

// goAway reads up to the next GOAWAY and returns the last stream that it names, after the statuses that came before.
func (w *raw) goAway(t *testing.T) (last uint32) {
	t.Helper()
	for {
		f, err := w.f.ReadFrame()
		if err != nil {
			t.Fatalf("the connection ended before a GOAWAY: %v", err)
		}
		if g, ok := f.(*xhttp2.GoAwayFrame); ok {
			return g.LastStreamID
		}
	}
}

// TestLeave has a connection that is used, one that comes afterwards, and one that has not asked anything yet: each is
// asked to open no more streams, but not before it has had one, and whatever its client opens all the same is served
// until Drain.
func TestLeave(t *testing.T) {
	r := start(t)
	used, fresh := r.raw(), r.raw()
	used.get(1, "/bytes/1")
	if got := used.outcome(); got != "status 200" {
		t.Fatalf("got %q", got)
	}
	r.server.Leave()
	if last := used.goAway(t); last != maxWindow {
		t.Errorf("the first GOAWAY names %d, want the greatest id", last)
	}
	for id := uint32(3); id < 9; id += 2 {
		used.get(id, "/bytes/1")
		if got := used.outcome(); got != "status 200" {
			t.Fatalf("stream %d: got %q", id, got)
		}
	}
	for name, w := range map[string]*raw{"one that had no stream": fresh, "one that came later": r.raw()} {
		w.get(1, "/bytes/1")
		if got := w.outcome(); got != "status 200" {
			t.Fatalf("%s: got %q", name, got)
		}
		if last := w.goAway(t); last != maxWindow {
			t.Errorf("%s: GOAWAY names %d, want the greatest id", name, last)
		}
	}
	used.get(9, "/hold")
	<-r.handler.holding
	r.server.Drain()
	if last := used.goAway(t); last != 9 {
		t.Errorf("the second GOAWAY names %d, want the last stream, 9", last)
	}
	close(r.handler.hold)
	if got := used.outcome(); got != "status 200" {
		t.Errorf("got %q of what was under way", got)
	}
}

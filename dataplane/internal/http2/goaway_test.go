package http2

import (
	"net"
	"testing"

	xhttp2 "golang.org/x/net/http2"
)

// A client that is through says GOAWAY, ends its side and waits for the other one, as Node does. Its end may come
// together with the frame.
func TestClientThatParts(t *testing.T) {
	r := start(t)
	w := r.raw()
	w.get(1, "/bytes/1")
	if got := w.outcome(); got != "status 200" {
		t.Fatalf("got %q", got)
	}
	w.get(3, "/hold")
	<-r.handler.holding
	_ = w.f.WriteGoAway(0, xhttp2.ErrCodeNo, nil)
	close(r.handler.hold)
	served := false
	for got := w.outcome(); got != "end"; got = w.outcome() {
		served = served || got == "status 200"
		if served {
			_ = w.c.(*net.TCPConn).CloseWrite()
		}
	}
	if !served {
		t.Error("what was under way was not served")
	}
}

func TestClientThatPartsAtOnce(t *testing.T) {
	r := start(t)
	w := r.raw()
	w.get(1, "/bytes/1")
	if got := w.outcome(); got != "status 200" {
		t.Fatalf("got %q", got)
	}
	_ = w.f.WriteGoAway(0, xhttp2.ErrCodeNo, nil)
	if got := w.outcome(); got != "goaway NO_ERROR" {
		t.Errorf("got %q", got)
	}
	if got := w.outcome(); got != "end" {
		t.Errorf("got %q", got)
	}
}

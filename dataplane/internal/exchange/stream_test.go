package exchange

import (
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// What Own leaves does not point into the buffers that the request was read into.
func TestOwn(t *testing.T) {
	buffer := []byte("GET /a?b h websocket id Name value")
	view := func(from, to int) string { return unsafe.String(&buffer[from], to-from) }
	var x Exchange
	req := &x.Request
	req.Method, req.Path, req.RawQuery, req.Host, req.Upgrade, x.ID = view(0, 3), view(4, 6), view(7, 8), view(9, 10), view(11, 20), view(21, 23)
	req.Header.Append(Field{Name: view(24, 28), Value: view(29, 34), LineStart: 24, LineEnd: 34})
	x.Own()
	clear(buffer)
	f := req.Header.Fields()[0]
	got := []string{req.Method, req.Path, req.RawQuery, req.Host, req.Upgrade, x.ID, f.Name, f.Value}
	for i, want := range []string{"GET", "/a", "b", "h", "websocket", "id", "Name", "value"} {
		if got[i] != want {
			t.Errorf("%q instead of %q", got[i], want)
		}
	}
	if f.LineEnd != 0 || req.Head != nil {
		t.Error("a line of the head is still pointed at")
	}
}

// A stream has no deadline but the time since something moved last.
func TestStreamClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x Exchange
		x.Start = time.Now()
		x.Deadline = x.Start.Add(time.Second)
		if x.StreamLeft() != 0 || x.StreamIdle() != 0 || !x.Until().Equal(x.Deadline) {
			t.Error("it is a stream before it has begun")
		}
		x.BeginStream(time.Minute)
		time.Sleep(50 * time.Second)
		if left := x.StreamLeft(); left != 10*time.Second || !x.Until().IsZero() {
			t.Errorf("%s is left, until %s", left, x.Until())
		}
		x.Moved()
		time.Sleep(61 * time.Second)
		if left := x.StreamLeft(); left != -time.Second {
			t.Errorf("%s is left", left)
		}
		x.Reset()
		if x.StreamIdle() != 0 {
			t.Error("the next exchange is a stream too")
		}
	})
}

// A call's deadline stays, and bounds how much longer nothing may move.
func TestCallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x Exchange
		x.Start = time.Now()
		x.BeginCall(time.Minute)
		time.Sleep(50 * time.Second)
		if left := x.StreamLeft(); left != 10*time.Second || !x.Until().IsZero() {
			t.Errorf("without a deadline %s is left, until %s", left, x.Until())
		}
		x.Moved()
		x.Deadline = x.Start.Add(70 * time.Second)
		if left := x.StreamLeft(); left != 20*time.Second || !x.Until().Equal(x.Deadline) {
			t.Errorf("%s is left, until %s", left, x.Until())
		}
		time.Sleep(21 * time.Second)
		if left := x.StreamLeft(); left != -time.Second {
			t.Errorf("%s is left", left)
		}
		x.Reset()
		x.Start = time.Now()
		x.Deadline = x.Start.Add(time.Second)
		if x.BeginStream(time.Minute); x.StreamLeft() != time.Minute || !x.Until().IsZero() {
			t.Error("a stream that comes after a call has its deadline")
		}
	})
}

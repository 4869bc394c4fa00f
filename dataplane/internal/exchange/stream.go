package exchange

import (
	"strings"
	"sync/atomic"
	"time"

	"gateway.internal/shared/match"
)

// Tunnel is one end of a connection, or of a stream, that has gone over to another protocol: bytes, in both directions,
// until both ends have said that they are through. One goroutine receives, one, perhaps another, sends; anybody may
// call Abort.
type Tunnel interface {
	// Receive waits for bytes, at most for a time. io.EOF: the peer sends nothing more. os.ErrDeadlineExceeded: nothing
	// came in that time. Every other error is the end of the tunnel. The part is valid until the next call; while it waits
	// there is no buffer.
	Receive(within time.Duration) ([]byte, error)
	// Send passes bytes on. It fails where the peer takes nothing for a time.
	Send(part []byte, within time.Duration) error
	// End tells the peer that nothing more comes; it may go on sending.
	End() error
	// Abort makes every waiting and later call fail at once, and the peer see that what it got is not all.
	Abort()
}

// stream is the clock of an exchange that goes on for as long as something moves.
type stream struct {
	idle  atomic.Int64 // the longest that nothing may move, in nanoseconds; 0: the exchange is no stream
	moved atomic.Int64 // when something moved last, in nanoseconds since Start
	bound atomic.Bool  // of a stream: Deadline stays in force
	// both tells that a response has begun whose request's body is still coming.
	both atomic.Bool
}

// clock returns the clock of streams, which branches share with their exchange.
func (x *Exchange) clock() *stream {
	if x.of != nil {
		return &x.of.stream
	}
	return &x.stream
}

// BeginStream takes the exchange's deadline away: from now on it may last for as long as something moves in either
// direction at least once in idle. Any of the exchange's goroutines may call this and the other methods of streams.
func (x *Exchange) BeginStream(idle time.Duration) {
	x.Moved()
	x.clock().bound.Store(false)
	x.clock().idle.Store(int64(idle))
}

// BeginCall is BeginStream for a call of gRPC, which ends with its deadline whatever moves: the time that a caller
// waits is its own affair.
func (x *Exchange) BeginCall(idle time.Duration) {
	x.Moved()
	x.clock().bound.Store(true)
	x.clock().idle.Store(int64(idle))
}

// BeginBoth says that the response has begun and the request's body is still coming: a pause of one direction is none
// as long as the other one moves.
func (x *Exchange) BeginBoth() {
	x.Moved()
	x.clock().both.Store(true)
}

// Both reports whether BeginBoth was called.
func (x *Exchange) Both() bool { return x.clock().both.Load() }

// PauseLeft returns how much longer a direction may pause that may do so for a time: of an exchange in which both
// directions are under way, since anything moved last, and no more than the exchange's deadline leaves; 0 or less: the
// time is over, or only one direction is under way.
func (x *Exchange) PauseLeft(within time.Duration) time.Duration {
	if !x.clock().both.Load() {
		return 0
	}
	now := time.Since(x.Start)
	left := within + time.Duration(x.clock().moved.Load()) - now
	if until := x.Ends(); !until.IsZero() {
		left = min(left, until.Sub(x.Start)-now)
	}
	return left
}

// Moved says that bytes went in either direction.
func (x *Exchange) Moved() { x.clock().moved.Store(int64(time.Since(x.Start))) }

// StreamIdle returns the longest that nothing may move; 0: the exchange is no stream.
func (x *Exchange) StreamIdle() time.Duration { return time.Duration(x.clock().idle.Load()) }

// StreamLeft returns how much longer nothing may move, of a call no more than its deadline leaves; 0 or less: the time
// is over, or the exchange is no stream.
func (x *Exchange) StreamLeft() time.Duration {
	idle := x.clock().idle.Load()
	if idle == 0 {
		return 0
	}
	now := time.Since(x.Start)
	left := time.Duration(idle+x.clock().moved.Load()) - now
	if until := x.Ends(); !until.IsZero() {
		left = min(left, until.Sub(x.Start)-now)
	}
	return left
}

// Ends returns when the exchange has to be over: Deadline, unless it is a stream that is no call. Zero: never.
func (x *Exchange) Ends() time.Time {
	if x.clock().idle.Load() != 0 && !x.clock().bound.Load() {
		return time.Time{}
	}
	return x.Deadline
}

// Until returns when what is under way at an endpoint has to be over: at Ends, or before that when BeginTry says so.
// The client has until Ends to send its request: another attempt may want it. Zero: never.
func (x *Exchange) Until() time.Time {
	until := x.Ends()
	if try := x.try.Load(); try != 0 {
		if at := x.Start.Add(time.Duration(try)); until.IsZero() || at.Before(until) {
			return at
		}
	}
	return until
}

// Own gives the request memory of its own, and drops what only the exchange's start needed: the buffers that it was
// read into may then be given back although the exchange goes on, perhaps for hours.
func (x *Exchange) Own() {
	req := &x.Request
	x.Params.Reset()
	x.Match = match.Request{}
	x.Forward = Forward{}
	x.Response.Header.Reset()
	x.Response.Head, x.Response.Reason = nil, ""
	req.Head = nil
	fields := req.Header.fields
	views := []*string{&req.Method, &req.Path, &req.RawQuery, &req.Host, &req.Upgrade, &x.ID}
	for i := range fields {
		fields[i].LineStart, fields[i].LineEnd = 0, 0
		views = append(views, &fields[i].Name, &fields[i].Value)
	}
	size := 0
	for _, v := range views {
		size += len(*v)
	}
	var b strings.Builder
	b.Grow(size)
	for _, v := range views {
		b.WriteString(*v)
	}
	all := b.String()
	for _, v := range views {
		n := len(*v)
		*v, all = all[:n], all[n:]
	}
}

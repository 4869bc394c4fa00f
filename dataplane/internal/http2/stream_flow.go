package http2

import (
	"errors"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// streamFlow is a stream as its connection sees it: the windows and what waits for them. One goroutine takes the body
// that comes, and one, perhaps the same, sends.
type streamFlow struct {
	c            *connection
	id           uint32
	clientStream *ClientStream    // that this is the stream of; nil for a client's
	trailer      *exchange.Header // of the message that comes
	opaque       bool             // the stream is a tunnel: nothing comes but DATA (RFC 9113 section 8.5)
	patient      time.Duration    // how long the peer may grant nothing
	since        time.Time        // when a client's request came; the reading goroutine's
	watch        exchange.Aborter // what ends with the stream; the connection's mutex protects it

	// The connection's mutex protects these.
	remoteEnded bool       // the peer has sent everything
	localEnded  bool       // we have
	answered    bool       // we have sent a header list
	reset       bool       // either side has broken off
	peerReset   bool       // the peer has: it may send nothing more
	resetWith   code       // why
	sendWindow  int64      // may go below zero (RFC 9113 section 6.9.2)
	read        bool       // the peer has granted some of it anew
	recv        recvWindow // of the body that comes
	declared    int64      // what Content-Length leaves to come; -1: not said
	in          []byte     // the part of the body that waits
	bodyErr     error      // why no more of the body comes
	limit       int64      // bytes of body that may come; negative: any

	out      []byte // the part of the body that was given out last
	readable chan struct{}
	writable chan struct{}
	takes    socket.Pace // how fast the peer opens the stream's window; the writing goroutine's
	timer    *time.Timer // of the reading goroutine
	patience *time.Timer // of the writing goroutine
}

func (f *streamFlow) init() {
	f.readable, f.writable = make(chan struct{}, 1), make(chan struct{}, 1)
	f.timer, f.patience = time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	f.timer.Stop()
	f.patience.Stop()
}

// open makes the flow that of a new stream. The mutex is held.
func (f *streamFlow) open(c *connection, id uint32, trailer *exchange.Header, patient time.Duration) {
	f.c, f.id, f.trailer, f.patient, f.opaque = c, id, trailer, patient, false
	f.remoteEnded, f.localEnded, f.answered, f.reset, f.peerReset, f.resetWith = false, false, false, false, false, codeNo
	f.sendWindow, f.read, f.declared = c.peerWindow, false, -1
	f.recv.reset(streamWindow)
	f.bodyErr, f.limit, f.watch, f.takes = nil, -1, nil, socket.Pace{}
	drain(f.readable)
	drain(f.writable)
}

// close gives everything back that the flow holds.
func (f *streamFlow) close() {
	give(f.in)
	give(f.out)
	f.in, f.out, f.c, f.trailer = nil, nil, nil, nil
}

var (
	errReset    = errors.New("the peer has reset the stream")
	errStalled  = errors.New("the peer takes nothing of what it is sent")
	errAnswered = errors.New("the peer has answered and wants no more of the request")
	errCut      = errors.New("the node ends the connection")
)

var errBodyTooLarge = &fault.Error{Code: fault.RequestTooLarge, Reason: "the body is larger than the policy allows"}

// errNoHead is of a response whose body comes before its head (RFC 9113 section 8.1).
var errNoHead = &fault.Error{Code: fault.UpstreamInvalid, Reason: "the service's response is malformed: its body comes before its head"}

// breakOff ends a stream from the client's side. The mutex is held.
func (f *streamFlow) breakOff(err error) {
	f.reset = true
	if f.bodyErr == nil && !f.remoteEnded {
		f.bodyErr = err
	}
	wake(f.readable)
	wake(f.writable)
	if f.watch != nil {
		f.watch.Abort()
	}
}

// receive takes in a DATA frame: of what is not kept for the exchange, the padding for one thing, the peer gets the
// credit back. The mutex is held.
func (f *streamFlow) receive(h *frameHead, body []byte) code {
	if !f.recv.receive(h.length) {
		return codeFlowControl
	}
	kept, why := f.accept(body, h.has(flagEndStream))
	f.recv.done(h.length - kept)
	f.grant()
	return why
}

// accept keeps a part of the body, the last one where end says so, and returns how much it has kept. The mutex is held.
func (f *streamFlow) accept(body []byte, end bool) (kept int, why code) {
	if f.clientStream != nil && !f.clientStream.headed {
		f.bodyErr = errNoHead
		return 0, codeProtocol
	}
	if f.declared >= 0 {
		if f.declared -= int64(len(body)); f.declared < 0 || end && f.declared > 0 {
			return 0, codeProtocol
		}
	}
	if len(body) > 0 && f.bodyErr == nil {
		f.keep(body)
		kept = len(body)
	}
	f.came(end)
	return kept, codeNo
}

// came says that something has come, and whether it was the end. The mutex is held.
func (f *streamFlow) came(end bool) {
	wake(f.readable)
	if end {
		f.remoteEnded = true
		wake(f.writable) // of a request that was answered, nobody wants more
	}
}

func (f *streamFlow) keep(body []byte) {
	switch {
	case f.in == nil:
		f.in = socket.Take(socket.BodySize)[:0]
	case len(f.in)+len(body) > cap(f.in):
		larger := append(socket.Take(socket.LargeSize)[:0], f.in...)
		give(f.in)
		f.in = larger
	}
	f.in = append(f.in, body...)
}

// pull takes what waits of the body, and lets the peer send as much anew.
func (f *streamFlow) pull() (part []byte, whole bool, err error) {
	told := false
	f.c.locked(func() { part, whole, told, err = f.take() })
	if told {
		f.c.flush()
	}
	return part, whole, err
}

// take is pull where the mutex is held. told tells that there is something to send.
func (f *streamFlow) take() (part []byte, whole, told bool, err error) {
	if len(f.in) == 0 {
		return nil, f.remoteEnded && f.bodyErr == nil, false, f.bodyErr
	}
	give(f.out)
	f.out, f.in = f.in, nil
	f.recv.done(len(f.out))
	if f.limit >= 0 {
		if f.limit -= int64(len(f.out)); f.limit < 0 {
			f.limit = 0
			f.bodyErr = errBodyTooLarge
			return nil, false, false, f.bodyErr
		}
	}
	return f.out, f.remoteEnded && f.bodyErr == nil, f.grant(), nil
}

// grant lets the peer send anew what the stream is done with, where more is wanted and it is enough to say so, which it
// reports. The mutex is held.
func (f *streamFlow) grant() bool {
	if f.remoteEnded || f.reset || f.bodyErr != nil {
		return false
	}
	n := f.recv.grant(f.recv.size / 2)
	if n > 0 {
		f.c.out.pending = appendWindowUpdate(f.c.out.buf(), f.id, n)
	}
	return n > 0
}

// sendBody sends a part of the body and, after the last, the trailers, which are asked for only then: before, they may
// be about to come.
func (f *streamFlow) sendBody(part []byte, last bool, trailersOf func() *exchange.Header) error {
	var trailer *exchange.Header
	if last {
		trailer = trailersOf()
	}
	trailers := last && trailer.Len() > 0
	if len(part) > 0 || last && !trailers {
		if err := f.sendData(part, last && !trailers); err != nil {
			return err
		}
	}
	if !trailers {
		return nil
	}
	room := socket.Take(socket.HeadSize)
	err := f.sendList(appendFields(room[:0], trailer), true)
	socket.Give(room) // the list may have grown out of it
	return err
}

// sendList appends a header list to what is sent.
func (f *streamFlow) sendList(block []byte, end bool) error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.broken(); err != nil {
		return err
	}
	f.appendList(block, end)
	return nil
}

// appendList appends a header list as HEADERS and, where it is long, CONTINUATION frames. The mutex is held.
func (f *streamFlow) appendList(block []byte, end bool) {
	c := f.c
	f.answered = true
	flags := uint8(0)
	if end {
		flags = flagEndStream
		f.localEnded = true
	}
	b := c.out.bufFor(len(block) + 1 + (len(block)/maxFrameBytes+1)*frameHeadBytes)
	kind := frameHeaders
	if !c.tableSized {
		// Our encoder keeps no table; saying so once satisfies whatever limit the peer sets (RFC 7541 section 4.2).
		c.tableSized = true
		block = append([]byte{0x20}, block...)
	}
	for {
		n := min(len(block), maxFrameBytes)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		b = append(appendFrameHead(b, n, kind, flags, f.id), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			break
		}
		kind, flags = frameContinuation, 0
	}
	c.out.pending = b
}

// broken returns why nothing more can be sent. The mutex is held.
func (f *streamFlow) broken() error {
	switch {
	case f.clientStream != nil && f.remoteEnded && !f.clientStream.extended:
		return errAnswered // whatever became of the stream, or the connection, afterwards
	case f.reset:
		return errReset
	case f.c.err != nil:
		return f.c.err
	}
	return f.c.mute
}

// offer sends a part of the body as far as that can be done without waiting, and after the last the trailers, and
// returns what is left of the part. Nothing is left where nothing more can be sent.
func (f *streamFlow) offer(part []byte, last bool, trailersOf func() *exchange.Header) (left []byte) {
	trailers := last && trailersOf().Len() > 0
	over := false
	f.c.locked(func() {
		if over = f.broken() != nil; !over && (len(part) > 0 || !trailers) {
			part, _ = f.put(part, last && !trailers)
		}
	})
	if over {
		return nil
	}
	if len(part) == 0 && trailers {
		_ = f.sendBody(nil, true, trailersOf)
	}
	return part
}

// put appends DATA frames as the peer's windows, and the room for what is pending, allow, and returns what is left. The
// mutex is held.
func (f *streamFlow) put(part []byte, end bool) (left []byte, all bool) {
	c := f.c
	for {
		n := int(min(int64(len(part)), f.sendWindow, maxFrameBytes))
		if c.sendWindow-int64(n) < c.reserve.kept {
			n = min(n, int(f.mayUse()))
		}
		n = max(n, 0) // the end alone needs no window (RFC 9113 section 6.9.1)
		if n == 0 && len(part) > 0 || len(c.out.pending) >= maxPending {
			return part, false
		}
		flags := uint8(0)
		if end && n == len(part) {
			flags = flagEndStream
			f.localEnded = true
		}
		c.out.pending = append(appendFrameHead(c.out.buf(), n, frameData, flags, f.id), part[:n]...)
		f.sendWindow -= int64(n)
		c.sendWindow -= int64(n)
		c.idle.earn(earnedByData)
		c.updates += updatesPerData
		if part = part[n:]; len(part) == 0 {
			return nil, true
		}
	}
}

// sendData appends DATA frames, and waits for windows and room.
func (f *streamFlow) sendData(part []byte, end bool) error {
	c := f.c
	var stuck time.Time
	for {
		var all bool
		var err error
		if part, all, err = f.putMore(part, end); all || err != nil {
			return err
		}
		c.flush()
		if err := f.waitToWrite(part, &stuck); err != nil {
			return err
		}
	}
}

// putMore is put where the stream has not been broken off.
func (f *streamFlow) putMore(part []byte, end bool) (left []byte, all bool, err error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.broken(); err != nil {
		return part, false, err
	}
	left, all = f.put(part, end)
	return left, all, nil
}

// waitToWrite waits until there may be a window or room. stuck is since when the stream's own window has been empty. A
// peer that grants nothing for too long, or until the exchange is to end, or less than it has to, loses the stream.
func (f *streamFlow) waitToWrite(part []byte, stuck *time.Time) error {
	c := f.c
	var own, all, waits bool
	var begun time.Time
	c.locked(func() {
		own = len(part) > 0 && f.sendWindow <= 0
		all = len(part) > 0 && !own && f.mayUse() <= 0
		full := len(c.out.pending) >= maxPending
		if waits = f.broken() == nil && (full || own || all); !waits {
			return
		}
		begun = time.Now()
		if full {
			c.out.waiting = append(c.out.waiting, f)
		}
		if all {
			c.starve(f, begun)
		}
	})
	if !waits {
		return nil
	}
	if !own || stuck.IsZero() {
		*stuck = begun // whoever waits for others begins anew with everything that moves
	}
	patient := max(f.patient-begun.Sub(*stuck), time.Nanosecond)
	wait := f.within(patient)
	f.patience.Reset(wait)
	var err error
	select {
	case <-f.writable:
		f.patience.Stop()
	case <-f.patience.C:
		if wait == patient || f.within(patient) <= time.Nanosecond { // otherwise the end of the exchange has been moved
			err = errStalled
		}
	}
	if !own && !all {
		return err
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	granted := 0
	if own {
		granted = int(min(int64(len(part)), max(f.sendWindow, 0)))
	}
	if granted > 0 {
		*stuck = time.Time{}
	}
	if all && !c.sate(f, now) || own && !f.takes.Add(now.Sub(begun), granted) {
		return errStalled
	}
	return err
}

// within shortens a wait to send so that it ends with the exchange, where the stream is one to a service.
func (f *streamFlow) within(d time.Duration) time.Duration {
	if f.clientStream == nil || f.clientStream.bounds == nil {
		return d
	}
	return until(time.Now(), d, f.clientStream.bounds.Until())
}

func drain(ch chan struct{}) {
	select {
	case <-ch:
	default:
	}
}

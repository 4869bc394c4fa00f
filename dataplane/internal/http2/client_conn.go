package http2

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// The limits of a connection to an endpoint that no setting changes.
const (
	// assumedStreams is how many requests an endpoint takes at once until it has said how many.
	assumedStreams = 100
	// maxResponseHead and maxResponseFields bound what a service may send before a body.
	maxResponseHead   = 256 << 10
	maxResponseFields = 256
	// maxInterim is how many 1xx responses may come before the final one.
	maxInterim = 16
	// clientWindow is how much of all responses of a connection may be on its way here. What waits for clients to take
	// it does not count: it is bounded by the windows of the streams, so that slow clients do not hold up the others.
	clientWindow = 128 * streamWindow
	// silence is how long an endpoint that owes answers may send nothing before it is asked whether it is there, and
	// pingPatience how long it may take to say so.
	silence      = 10 * time.Second
	pingPatience = 5 * time.Second
	// stalled is how long an endpoint may take nothing of what is sent.
	stalled = 30 * time.Second
	// lookAgain is how long nothing may come before it is looked whether the endpoint has ended the connection: an end
	// that came together with bytes is not announced (see socket.Conn.Each), and whoever waits for an answer would wait
	// in vain.
	lookAgain = 20 * time.Millisecond
	// unseen is how long there may be no stream before the next one begins with a look whether the endpoint has ended the
	// connection: a system call, where the reading goroutine has not been told yet.
	unseen = time.Millisecond
	// lastUsable is where the identifiers of streams are about to run out.
	lastUsable = 1 << 30
)

// ErrNotProcessed is of a request that the endpoint has not looked at, as it says itself: any request may be sent again
// (RFC 9113 section 8.7).
var ErrNotProcessed = errors.New("the endpoint has not processed the request")

var (
	errSilent  = errors.New("the endpoint has sent nothing for too long, not even an answer to a ping")
	errRetired = errors.New("the connection is not used any more")
)

// ClientConn is a connection to an endpoint, which many exchanges share. Its methods are safe for concurrent use.
type ClientConn struct {
	connection
	scheme  string
	running sync.WaitGroup // streams
	born    time.Time
	heard   atomic.Int64 // when something came last, in nanoseconds after born

	incoming exchange.Header // the reading goroutine's
	told     chan struct{}   // closed by it, see tell, when the endpoint's settings have come, or the connection is over
	tell     func()
	changed  bool // its: freed is to be called
	freed    func()

	// The mutex protects these.
	nextID     uint32
	maxStreams int       // what the endpoint allows
	extended   bool      // and it takes extended CONNECT
	active     int       // under way
	retired    bool      // no more streams begin
	lastTaken  uint32    // no stream above is processed
	idleSince  time.Time // while there are no streams
	owesSince  time.Time // when a stream began last while there were none
	asked      time.Time // when a ping was sent that nothing has come after; zero: none
	doubtful   bool      // nobody has looked yet whether the endpoint has ended the connection while there was no stream
}

// NewClientConn takes a connection over. scheme is "http" or "https"; strict refuses responses whose status is above
// 599. freed, which may be nil, is called on another goroutine when the endpoint has changed how many streams it takes,
// or the connection is over. panicked is told of what panics in the connection's goroutines, with which it ends; nil:
// such panics go on.
func NewClientConn(
	nc net.Conn, scheme string, strict bool, freed func(), panicked func(what, route string, v any),
) *ClientConn {
	c := &ClientConn{
		scheme: scheme, freed: freed, told: make(chan struct{}), born: time.Now(),
		nextID: 1, maxStreams: assumedStreams, lastTaken: maxWindow,
	}
	c.tell = sync.OnceFunc(func() { close(c.told) })
	c.idleSince = c.born
	c.panicked = panicked
	c.init(socket.New(nc), c, maxResponseHead, maxResponseFields)
	c.fields.strict = strict
	c.greeted, c.listens = true, true // only clients are to say the preface
	c.writeTimeout = stalled
	c.recv.reset(clientWindow)
	c.reserve.widen(initialWindow)
	c.arrivedFn = func() bool {
		now := time.Now()
		c.heard.Store(int64(now.Sub(c.born)))
		settled := c.settled
		goesOn := c.arrived()
		c.sock.ReadWithin(now, lookAgain)
		if !settled && c.settled {
			c.tell()
		}
		if c.changed {
			c.changed = false
			c.free()
		}
		return goesOn
	}
	b := append(c.out.buf(), preface...) // it goes out with the first request
	b = appendFrameHead(b, 18, frameSettings, 0, 0)
	b = appendSetting(b, settingEnablePush, 0)
	b = appendSetting(b, settingInitialWindowSize, streamWindow)
	b = appendSetting(b, settingMaxHeaderListSize, maxResponseHead)
	c.out.pending = appendWindowUpdate(b, 0, clientWindow-initialWindow)
	go c.read()
	return c
}

// takeIn takes in what comes.
func (c *ClientConn) takeIn() {
	defer func() {
		if v := recover(); v != nil {
			c.defect(v)
			c.ended = errDefect
		}
	}()
	c.rest()
	c.sock.ReadAlways() // the streams keep their own limits
	for c.ended == nil {
		if err := c.sock.Each(c.arrivedFn); err != nil {
			c.stopped(err)
		}
	}
}

// read takes in what comes until the connection is over.
func (c *ClientConn) read() {
	c.takeIn()
	c.conclude()
	c.running.Wait()
	c.sock.Abort()
	c.writers.Wait()
	c.locked(func() {
		c.out.pending = c.out.pending[:0]
		c.release()
	})
	_ = c.sock.Close()
}

// conclude tells both sides that the connection is over.
func (c *ClientConn) conclude() {
	defer c.rescue()
	var why code
	if errors.As(c.ended, &why) {
		c.sendLast(appendGoAway(nil, 0, why))
	}
	c.locked(func() { c.fail(c.ended) })
	c.tell()
	c.free()
}

func (c *ClientConn) free() {
	if c.freed != nil {
		c.freed()
	}
}

// stopped decides what an error of the reading goroutine's means.
func (c *ClientConn) stopped(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		c.ended = c.err
	case errors.Is(err, os.ErrDeadlineExceeded): // of lookAgain: each call of Each begins with a look
		c.sock.ReadAlways()
	case err == io.EOF:
		c.ended = io.ErrUnexpectedEOF // no body ends with its connection
	default:
		c.ended = err
	}
}

// MaxLoad is more than the load of any connection that has some of its window left.
const MaxLoad = 1 << 30

// load returns how many streams are under way. With a body to send, the load of a connection whose window is used up is
// MaxLoad more. The mutex is held.
func (c *ClientConn) load(body bool) int {
	if body && c.usedUp() {
		return MaxLoad + c.active
	}
	return c.active
}

// Begin returns a stream, or nil when the connection is over, has a load of limit, see Load, or carries as many streams
// as the endpoint allows. body tells that the stream is to send a body. Before it sends anything, Live has to be asked.
func (c *ClientConn) Begin(limit int, body bool) *ClientStream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.mute != nil || c.retired || c.active >= c.maxStreams || c.load(body) >= limit {
		return nil
	}
	if c.active == 0 {
		c.owesSince = time.Now()
		c.doubtful = c.doubtful || c.owesSince.Sub(c.idleSince) >= unseen
	}
	c.active++
	c.running.Add(1)
	if c.nextID >= lastUsable {
		c.retired = true
	}
	stream := clientStreams.Get().(*ClientStream)
	stream.begin(c, c.nextID > 1)
	stream.doubtful = c.doubtful
	return stream
}

// Load returns how many streams are under way; ok tells whether another one may begin. With a body to send, a
// connection whose window is used up has a load of MaxLoad or more.
func (c *ClientConn) Load(body bool) (n int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.load(body), c.err == nil && c.mute == nil && !c.retired && c.active < c.maxStreams
}

// Usable reports whether streams may still begin, now or when others have ended.
func (c *ClientConn) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err == nil && c.mute == nil && !c.retired
}

// Retire lets no more streams begin; the connection ends with the last that is under way.
func (c *ClientConn) Retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
	c.endIfUnused()
}

// endIfUnused ends a retired connection without streams. The mutex is held.
func (c *ClientConn) endIfUnused() {
	if c.retired && c.active == 0 {
		c.fail(errRetired)
	}
}

// Check has to be called every second or so. It reports whether the connection may still be used: it may not be when it
// is over, and ends when there was no stream on it for idle, or when an endpoint that owes answers is silent and does
// not answer a ping.
func (c *ClientConn) Check(now time.Time, idle time.Duration) bool {
	usable, dead := c.check(now, idle)
	if dead {
		c.kill(errSilent)
	}
	return usable
}

func (c *ClientConn) check(now time.Time, idle time.Duration) (usable, dead bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	heard := c.born.Add(time.Duration(c.heard.Load()))
	if heard.Before(c.owesSince) {
		heard = c.owesSince // that nothing came while it owed nothing is no silence
	}
	ping := false
	switch {
	case c.active == 0:
		if now.Sub(c.idleSince) > idle {
			c.retired = true
		}
		c.asked = time.Time{}
		c.endIfUnused()
	case heard.After(c.asked) && now.Sub(heard) > silence:
		c.asked, ping = now, true
	case !c.asked.IsZero() && heard.Before(c.asked) && now.Sub(c.asked) > pingPatience:
		dead = true
	}
	usable = c.err == nil && c.mute == nil && !c.retired && !dead
	if ping && c.err == nil {
		c.writers.Go(func() {
			defer c.rescue()
			c.send(append(appendFrameHead(nil, 8, framePing, 0, 0), make([]byte, 8)...))
		})
	}
	return usable, dead
}

// Close breaks off what is under way.
func (c *ClientConn) Close() { c.kill(errRetired) }

// opened implements side: the streams are ours; there is no server push.
func (c *ClientConn) opened(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return id%2 == 1 && id < c.nextID
}

// setting implements side.
func (c *ClientConn) setting(id uint16, value uint32) {
	switch id {
	case settingMaxConcurrentStreams:
		c.maxStreams = int(min(value, maxWindow))
		c.changed = true
	case settingEnableConnect:
		c.extended = c.extended || value == 1
	}
}

// brokenOff implements side: what an endpoint breaks off, we have asked it for.
func (c *ClientConn) brokenOff(*streamFlow) error { return nil }

// goAway implements side (RFC 9113 section 6.8).
func (c *ClientConn) goAway(last uint32, _ code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired, c.changed = true, true
	c.lastTaken = min(c.lastTaken, last)
	for id, f := range c.streams {
		if id > last && !f.clientStream.headed { // what has been answered was looked at, whatever is said now
			f.bodyErr = ErrNotProcessed
			f.breakOff(ErrNotProcessed)
		}
	}
	c.endIfUnused()
}

// list implements side: it takes in the head of a response, or its trailers.
func (c *ClientConn) list(id uint32, block []byte, end, _ bool) error {
	var opened, trailers bool
	c.locked(func() {
		opened = id%2 == 1 && id < c.nextID
		f := c.streams[id]
		trailers = f != nil && f.clientStream.headed
	})
	switch {
	case !opened:
		return codeProtocol
	case trailers:
		return c.trailers(id, block, end)
	}
	c.incoming.Reset()
	c.fields.begin(&c.incoming, ofResponse)
	if err := c.decode(block); err != nil {
		return err
	}
	malformed, err := c.takeHead(id, end)
	if malformed {
		return c.refuseStream(id, codeProtocol)
	}
	return err
}

// takeHead gives the head that has been decoded to its stream, and reports whether it is malformed.
func (c *ClientConn) takeHead(id uint32, end bool) (malformed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.streams[id]
	if f == nil || f.reset { // nobody waits for it any more
		return false, c.spendHeld()
	}
	reason := f.clientStream.head(&c.fields, end)
	if reason == "" {
		return false, nil
	}
	f.bodyErr = &fault.Error{Code: fault.UpstreamInvalid, Reason: "the service's response is malformed: " + reason}
	return true, nil
}

// timedOut is what waits end with.
var timedOut = os.ErrDeadlineExceeded

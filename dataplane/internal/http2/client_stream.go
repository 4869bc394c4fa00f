package http2

import (
	"errors"
	"io"
	"sync"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// ClientStream is one exchange with an endpoint. The exchange's goroutine owns it from Begin to Release; SendBody may
// run on another one meanwhile, and anybody may call Abort.
type ClientStream struct {
	streamFlow
	client   *ClientConn
	used     bool
	over     bool            // the response's body was taken to its end
	extended bool            // the stream is to carry another protocol (RFC 8441)
	hollow   bool            // the response has no body, whatever its length says
	doubtful bool            // Live has to look
	sentAt   exchange.Moment // since when the service is to answer; none while it is being sent a body

	trailers exchange.Header
	bounds   *exchange.Exchange // whose end is that of every wait to send, too

	// The client's mutex protects these.
	aborted bool
	method  string
	headed  bool // the final response's head has come
	status  int
	length  int64
	fields  exchange.Header
	interim []interim
	// interims counts them, also those that were passed on.
	interims int
}

// interim is a 1xx response that waits to be passed on.
type interim struct {
	status int
	fields exchange.Header
}

// clientStreams are used again.
var clientStreams = sync.Pool{New: func() any {
	s := &ClientStream{}
	s.init()
	return s
}}

// begin makes the stream one of a connection's. The mutex is held.
func (s *ClientStream) begin(c *ClientConn, used bool) {
	s.client, s.used, s.id, s.extended = c, used, 0, false
	s.over, s.hollow, s.aborted, s.headed = false, false, false, false
	s.status, s.length, s.method = 0, -1, ""
	s.interim, s.interims = s.interim[:0], 0
	s.sentAt.Clear()
	s.trailers.Reset()
	s.fields.Reset()
}

// head takes in a decoded header list of the response, and returns what is wrong with it. The mutex is held.
func (s *ClientStream) head(l *list, end bool) (malformed string) {
	switch {
	case l.tooLarge:
		return "its header fields are larger than 256 KiB, or more than 256"
	case l.malformed != "":
		return l.malformed
	case l.status == 0:
		return "there is no :status"
	case l.status == 101:
		return "it switches protocols, which HTTP/2 does not know"
	case l.status < 200:
		if s.interims++; end || s.interims > maxInterim {
			return "it ends with an interim response, or has too many of them"
		}
		s.interim = append(s.interim, interim{status: l.status})
		copyFields(&s.interim[len(s.interim)-1].fields, l.header)
		wake(s.readable)
		return ""
	}
	s.hollow = s.method == "HEAD" || l.status == 204 || l.status == 304
	if !s.hollow && !(s.extended && l.status < 300) {
		if end && l.length > 0 {
			return "it ends before its Content-Length"
		}
		s.declared, s.length = l.length, l.length
	}
	s.headed, s.status = true, l.status
	copyFields(&s.fields, l.header)
	s.came(end)
	return ""
}

func copyFields(to, from *exchange.Header) {
	for _, f := range from.Fields() {
		to.Append(f)
	}
}

// Used reports whether the connection has carried an exchange before.
func (s *ClientStream) Used() bool { return s.used }

// Live reports whether the endpoint has not ended the connection while there was no stream on it. What is sent on one
// that has ended is lost, and nobody could tell whether it was looked at: the connection takes no more streams then,
// and this one has to be released. It may be a system call, so it is asked where no mutex is held.
func (s *ClientStream) Live() bool {
	if !s.doubtful {
		return true
	}
	s.doubtful = false
	c := s.client
	gone := c.sock.Probe().PeerGone(false) // the stream keeps it open
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doubtful = gone; gone {
		c.retired = true
	}
	return !gone
}

// Send writes the request's head with the given first part of its body, as far as the service takes that at once, and
// returns what is left of the part for SendBody. Where that is nothing and whole tells that the part is all of the
// body, it also waits for the response's head, as Answer does.
func (s *ClientStream) Send(
	x *exchange.Exchange, part []byte, whole bool, timeout time.Duration,
) (left []byte, started bool, err error) {
	now := time.Now()
	s.sentAt.Set(x, now)
	if x.Request.Upgrade != "" {
		if err := s.extend(until(now, timeout, x.Until())); err != nil {
			return nil, false, err
		}
	}
	trailers := whole && x.Request.Trailers().Len() > 0
	end := whole && len(part) == 0 && !trailers && !s.extended
	room := socket.Take(socket.HeadSize)
	err = s.start(x, appendRequest(room[:0], x, s.client.scheme), end, timeout)
	socket.Give(room) // the head may have grown out of it
	if err != nil {
		return nil, false, s.cause(err)
	}
	if !end && !s.extended && (len(part) > 0 || whole) {
		left = s.offer(part, whole, x.Request.Trailers)
	}
	s.client.flush()
	if !whole || len(left) > 0 {
		if len(part) > 0 || !x.Request.Expects100 { // otherwise the client waits for a word of the service's
			s.sentAt.Clear()
		}
		return left, false, nil
	}
	// What became of the request is of no interest any more: the response tells, or why there is none.
	started, err = s.Answer(x, timeout)
	return nil, started, err
}

// start opens the stream with the request's head.
func (s *ClientStream) start(x *exchange.Exchange, block []byte, end bool, patient time.Duration) error {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.aborted:
		return timedOut
	case c.err != nil || c.mute != nil || c.nextID > c.lastTaken:
		return ErrNotProcessed
	}
	id := c.nextID
	c.nextID += 2
	s.open(&c.connection, id, &s.trailers, patient)
	s.clientStream, s.bounds, s.method = s, x, x.Request.Method
	c.idle.earn(earnedByExchange)
	c.streams[id] = &s.streamFlow
	s.appendList(block, end)
	return nil
}

// until shortens a wait so that it ends with the exchange's deadline.
func until(now time.Time, within time.Duration, deadline time.Time) time.Duration {
	if deadline.IsZero() {
		return within
	}
	return min(within, max(deadline.Sub(now), time.Nanosecond))
}

// cause returns why the stream has ended, where err is only that it has.
func (s *ClientStream) cause(err error) error {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	switch {
	case s.aborted:
		return timedOut
	case s.id != 0 && s.resetWith == codeRefusedStream && !s.headed:
		return ErrNotProcessed
	case errors.Is(err, errReset) && s.bodyErr != nil:
		return s.bodyErr
	case errors.Is(err, errStalled):
		return timedOut
	}
	return err
}

// await waits for something to come.
func (s *ClientStream) await(d time.Duration) error {
	s.timer.Reset(max(d, time.Nanosecond))
	select {
	case <-s.readable:
		s.timer.Stop()
		return nil
	case <-s.timer.C:
		return timedOut
	}
}

// Answer waits for the response's head and puts it into x.Response; 1xx responses go to x.Down. The timeout begins when
// the last part of the request was sent, or at once where the client waits for 100 (Continue).
func (s *ClientStream) Answer(x *exchange.Exchange, timeout time.Duration) (started bool, err error) {
	var since time.Time // the last interim response came, with which the service's time begins anew
	for {
		waiting, headed, err := s.arrived(&x.Response)
		if len(waiting) > 0 {
			started = true
			for i := range waiting {
				if err := x.Down.WriteInterim(waiting[i].status, &waiting[i].fields, nil); err != nil {
					return true, err
				}
			}
			since = time.Now()
			continue
		}
		switch {
		case headed:
			return true, nil
		case err != nil:
			return started, s.cause(err)
		}
		now := time.Now()
		left, _ := s.sentAt.Left(x, now, timeout, since)
		if err := s.await(until(now, left, x.Until())); err != nil {
			now = time.Now()
			left, sent := s.sentAt.Left(x, now, timeout, since)
			if end := x.Until(); sent && left <= 0 || !end.IsZero() && !now.Before(end) {
				return started, err
			}
		}
	}
}

// arrived takes the interim responses that have come, or else the final one's head, which it puts into a response.
// err is why there will be none.
func (s *ClientStream) arrived(res *exchange.Response) (waiting []interim, headed bool, err error) {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	if len(s.interim) > 0 {
		waiting, s.interim = s.interim, nil
		return waiting, false, nil
	}
	if s.headed {
		s.answer(res)
	}
	return nil, s.headed, s.bodyErr
}

// answer puts the head into a response. The mutex is held.
func (s *ClientStream) answer(res *exchange.Response) {
	res.Status, res.Reason, res.Head, res.ContentLength = s.status, "", nil, s.length
	copyFields(&res.Header, &s.fields)
	switch {
	case s.extended && s.status/100 == 2:
		res.Status, res.Tunnel, res.ContentLength = 101, true, 0
	case s.hollow:
		res.ContentLength, s.over = 0, true
	}
}

// BufferedBody returns what came of the body with the head, and whether that is all of it.
func (s *ClientStream) BufferedBody(x *exchange.Exchange, _ time.Duration) (part []byte, whole bool, err error) {
	if s.over {
		return nil, true, nil
	}
	part, err = s.next(x)
	return part, s.over, err
}

// NextBody waits for the next part of the response's body; io.EOF comes after the last, when trailers are known.
func (s *ClientStream) NextBody(x *exchange.Exchange, timeout time.Duration) ([]byte, error) {
	for {
		if s.over {
			return nil, io.EOF
		}
		part, err := s.next(x)
		if err != nil || len(part) > 0 {
			return part, err
		}
		if s.over {
			return nil, io.EOF
		}
		if err := s.await(until(time.Now(), timeout, x.Until())); err != nil {
			return nil, err
		}
	}
}

// next takes what has come of the body, and the trailers after it.
func (s *ClientStream) next(x *exchange.Exchange) ([]byte, error) {
	part, whole, err := s.pull()
	if err != nil {
		return nil, s.cause(err)
	}
	if s.over = whole; whole {
		copyFields(&x.Response.Trailer, &s.trailers)
	}
	return part, nil
}

// MoveBody does nothing: what comes in frames has to be read.
func (s *ClientStream) MoveBody(*exchange.Exchange, time.Duration) (int64, bool, error) {
	return 0, false, nil
}

// BodyOver reports whether the response's body has been taken to its end.
func (s *ClientStream) BodyOver() bool { return s.over }

// SendBody sends a further part of the request's body; last tells that it is the end.
func (s *ClientStream) SendBody(x *exchange.Exchange, part []byte, last bool, timeout time.Duration) error {
	s.sentAt.Clear()
	s.patient = timeout
	err := s.sendBody(part, last, x.Request.Trailers)
	s.client.flush()
	if last || err != nil {
		s.sentAt.Set(x, time.Now())
		wake(s.readable) // Answer waits for that long from now on
	}
	return err
}

// Sent does nothing: other streams of the connection do not mind a request that was not sent to its end.
func (s *ClientStream) Sent() {}

// Abort makes every waiting and later call of a method fail at once. Any goroutine may call it that has ended before
// Release.
func (s *ClientStream) Abort() {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	s.aborted = true
	if s.id == 0 || s.c == nil {
		return
	}
	s.cancel()
	s.bodyErr = timedOut
	wake(s.readable)
	wake(s.writable)
}

// cancel resets the stream, unless it has ended. The reset goes out with the next frames. The mutex is held.
func (s *ClientStream) cancel() {
	c := s.client
	if c.err != nil || s.reset || s.localEnded && s.remoteEnded {
		return
	}
	s.reset = true
	c.forget(s.id)
	c.out.pending = appendReset(c.out.buf(), s.id, codeCancel)
}

// Release ends the stream: what is left of the exchange is not wanted. The stream is another exchange's from then on.
func (s *ClientStream) Release(now time.Time) {
	c := s.client
	c.locked(func() {
		if s.id != 0 {
			delete(c.streams, s.id)
			s.cancel()
			s.close()
		}
		if c.active--; c.active == 0 {
			c.idleSince = now
		}
		c.endIfUnused()
	})
	c.flush()
	s.client, s.clientStream, s.bounds = nil, nil, nil
	clientStreams.Put(s)
	c.running.Done()
}

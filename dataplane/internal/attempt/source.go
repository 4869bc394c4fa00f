package attempt

import (
	"errors"
	"io"
	"os"
	"sync"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/shared/fault"
)

// keptBody is a request's body that several attempts may want. A goroutine reads it from the client, and what has come
// is kept, up to a limit. Where there is more, one attempt alone goes on with it.
type keptBody struct {
	x      *exchange.Exchange  // the client's
	down   exchange.Downstream // its side when the first attempt began: what stands before it later is for the response
	panics *telemetry.Panics
	limit  int
	first  []byte // what came with the head
	whole  bool   // that is all of it

	// client is held by whoever uses the client's side besides the goroutine that reads from it.
	client    sync.Mutex
	continued bool // the client was sent 100 (Continue)

	mu      sync.Mutex
	changed sync.Cond
	kept    []byte        // without what came with the head where that is all
	dropped int           // bytes of the body before kept
	err     error         // what comes after kept; io.EOF: nothing
	sources []*source     // of the attempts that are under way
	alone   *source       // the only one that gets more
	stopped bool          // nobody wants more
	ended   chan struct{} // closed when the goroutine has ended; nil: it has not begun
}

func newKeptBody(x *exchange.Exchange, first *Part, limit int, panics *telemetry.Panics) *keptBody {
	b := &keptBody{x: x, down: x.Down, panics: panics, limit: limit, first: first.Bytes, whole: first.Whole}
	b.changed.L = &b.mu
	if !b.whole { // reading on ends the part
		b.kept = append([]byte(nil), first.Bytes...)
		b.first = nil
	}
	return b
}

// gone reports whether the client is known to have broken off.
func (b *keptBody) gone() bool {
	b.client.Lock()
	defer b.client.Unlock()
	return b.down.Gone()
}

// begin starts the goroutine. The mutex is held.
func (b *keptBody) begin() {
	if b.ended == nil && !b.stopped {
		b.ended = make(chan struct{})
		go b.read()
	}
}

// read reads the body to its end, or until stop.
func (b *keptBody) read() {
	defer close(b.ended)
	defer func() {
		if v := recover(); v != nil {
			b.panics.Caught("the request's body", b.x.Route, v)
			b.mu.Lock()
			b.err = &fault.Error{Code: fault.Internal, Reason: "the request's body could not be passed on"}
			b.changed.Broadcast()
			b.mu.Unlock()
		}
	}()
	for {
		part, err := b.down.NextBody()
		if !b.add(part, err) {
			return
		}
	}
}

// add takes a part in, and reports whether another one is wanted.
func (b *keptBody) add(part []byte, err error) bool {
	canceled := b.room(len(part), err)
	for _, s := range canceled {
		s.cancel()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.changed.Broadcast()
	if err != nil {
		b.err = err
		return false
	}
	if b.alone != nil {
		for !b.stopped && !b.alone.hungry() {
			b.changed.Wait()
		}
		if b.dropped == 0 { // those that were canceled may still be sending what they have taken
			b.dropped, b.kept = len(b.kept), nil
		} else {
			b.dropped, b.kept = b.dropped+len(b.kept), b.kept[:0]
		}
	}
	if !b.stopped {
		b.kept = append(b.kept, part...)
	}
	return !b.stopped
}

// room decides which attempt goes on alone where n bytes more can't be kept: one that has been answered, or else the
// one that has sent most. It returns the others.
func (b *keptBody) room(n int, err error) (canceled []*source) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil || b.alone != nil || len(b.kept)+n <= b.limit {
		return nil
	}
	for _, s := range b.sources {
		if b.alone == nil || s.headed && !b.alone.headed || s.headed == b.alone.headed && s.at > b.alone.at {
			b.alone = s
		}
	}
	if b.alone == nil { // between two attempts
		b.alone = &source{body: b}
	}
	for _, s := range b.sources {
		if s != b.alone {
			canceled = append(canceled, s)
		}
	}
	return canceled
}

// stop ends the reading. When it returns, nobody reads from the client's connection.
func (b *keptBody) stop() {
	b.mu.Lock()
	ended := b.ended
	if over := b.whole || b.err != nil; !b.stopped && !over && ended != nil {
		b.down.CancelBody()
	}
	b.stopped = true
	b.changed.Broadcast()
	b.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// leave says that an attempt wants no more of the body.
func (b *keptBody) leave(s *source) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, one := range b.sources {
		if one == s {
			b.sources = append(b.sources[:i:i], b.sources[i+1:]...)
			break
		}
	}
}

// source is the client's side of an exchange as one attempt of several sees it: it has the request's body, and no way
// to answer the client. It is an [exchange.Downstream].
type source struct {
	body *keptBody
	copy *exchange.Exchange

	// The body's mutex protects these.
	at       int  // bytes of the body that were taken
	waits    bool // for more
	enough   bool // no more is wanted
	headed   bool // there is a response
	canceled bool // the client has left, or another attempt was preferred

	mu sync.Mutex
	by exchange.Aborter // is told that the attempt is canceled
	no bool             // it is
}

var errNotTheClient = errors.New("an attempt that has not won does not answer the client")

// start makes it that of an attempt on a copy of the exchange. Where that is another one than the first, it reports
// false when it may not have the body from its beginning any more.
func (s *source) start(b *keptBody, f *exchange.Exchange, another bool) bool {
	s.body, s.copy = b, f
	b.mu.Lock()
	defer b.mu.Unlock()
	if another && (b.alone != nil || b.stopped || len(b.kept) > b.limit || len(b.first) > b.limit) {
		return false
	}
	b.sources = append(b.sources, s)
	return true
}

// answered says that there is a response.
func (s *source) answered() {
	s.body.mu.Lock()
	s.headed = true
	s.body.mu.Unlock()
}

func (s *source) isCanceled() bool {
	s.body.mu.Lock()
	defer s.body.mu.Unlock()
	return s.canceled
}

// hungry reports whether all that has come was taken and sent. The body's mutex is held.
func (s *source) hungry() bool { return s.waits && s.at == s.body.dropped+len(s.body.kept) }

// cancelation cancels an attempt when the client leaves.
type cancelation struct{ of *source }

// Abort implements exchange.Aborter.
func (c cancelation) Abort() { c.of.cancel() }

// cancel ends the attempt: to it the client has gone.
func (s *source) cancel() {
	b := s.body
	b.mu.Lock()
	s.canceled = true
	b.changed.Broadcast()
	b.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.no = true
	if s.by != nil {
		s.by.Abort()
	}
}

// Watch implements exchange.Downstream.
func (s *source) Watch(a exchange.Aborter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by = a
	if a != nil && s.no {
		a.Abort()
	}
}

// Gone implements exchange.Downstream.
func (s *source) Gone() bool { return s.isCanceled() || s.body.gone() }

// BufferedBody implements exchange.Downstream.
func (s *source) BufferedBody() ([]byte, bool, error) {
	b := s.body
	if b.whole {
		s.trailers()
		return b.first, true, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.canceled { // its beginning may be gone
		return nil, false, os.ErrDeadlineExceeded
	}
	n := len(b.kept)
	s.at = n
	if b.err == io.EOF {
		s.trailers()
		return b.kept[:n:n], true, nil
	}
	return b.kept[:n:n], false, nil
}

// trailers takes the request's trailers over, once its body has come whole.
func (s *source) trailers() {
	to := &s.copy.Request.Trailer
	to.Reset()
	for _, f := range s.body.x.Request.Trailer.Fields() {
		to.Append(f)
	}
}

// NextBody implements exchange.Downstream.
func (s *source) NextBody() ([]byte, error) {
	b := s.body
	if b.whole {
		return nil, io.EOF
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin()
	for {
		switch have := b.dropped + len(b.kept); {
		case s.canceled, s.enough, b.stopped:
			return nil, os.ErrDeadlineExceeded
		case s.at < have:
			part := b.kept[s.at-b.dropped:]
			s.at = have
			return part[:len(part):len(part)], nil
		case b.err == io.EOF:
			s.trailers()
			return nil, io.EOF
		case b.err != nil:
			return nil, b.err
		}
		s.waits = true
		b.changed.Broadcast()
		b.changed.Wait()
		s.waits = false
	}
}

// CancelBody implements exchange.Downstream.
func (s *source) CancelBody() {
	b := s.body
	b.mu.Lock()
	defer b.mu.Unlock()
	s.enough = true
	b.changed.Broadcast()
}

// WriteInterim implements exchange.Downstream: the client is told once that its body is awaited. Other interim
// responses are not passed on, since the final one may be another attempt's.
func (s *source) WriteInterim(status int, header *exchange.Header, head []byte) error {
	if status != 100 {
		return nil
	}
	b := s.body
	b.client.Lock()
	defer b.client.Unlock()
	if b.continued {
		return nil
	}
	b.continued = true
	return b.down.WriteInterim(status, header, head)
}

// LimitBody implements exchange.Downstream: the client's side keeps the limit.
func (s *source) LimitBody(int64) {}

// WriteHead implements exchange.Downstream.
func (s *source) WriteHead(*exchange.Exchange, []byte, bool) error { return errNotTheClient }

// WriteBody implements exchange.Downstream.
func (s *source) WriteBody(*exchange.Exchange, []byte, bool) error { return errNotTheClient }

// Tunnel implements exchange.Downstream.
func (s *source) Tunnel(*exchange.Exchange) (exchange.Tunnel, error) { return nil, errNotTheClient }

// Abort implements exchange.Downstream.
func (s *source) Abort() {}

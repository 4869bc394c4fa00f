package http2

import (
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/shared/fault"
)

// headers takes the start of a header list in: a request's, or that of its trailers.
func (c *conn) headers(h *frameHead, payload []byte) error {
	if h.stream == 0 || h.stream%2 == 0 {
		return codeProtocol
	}
	fragment, err := unpad(h, payload)
	if err != nil {
		return codeProtocol
	}
	itself := false // depends on itself, in a scheme of priorities that nobody uses any more
	if h.has(flagPriority) {
		if len(fragment) < 5 {
			return codeFrameSize
		}
		itself = parseDependency(fragment) == h.stream
		fragment = fragment[5:]
	}
	if h.has(flagEndHeaders) {
		return c.wholeList(h.stream, fragment, h.has(flagEndStream), itself)
	}
	c.block = append(c.block[:0], fragment...)
	c.blockID, c.blockEnd, c.blockParts = h.stream, h.has(flagEndStream), 0
	return nil
}

func parseDependency(b []byte) uint32 {
	return (uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])) & maxWindow
}

func (c *conn) continuation(h *frameHead, payload []byte) error {
	if c.blockID == 0 {
		return codeProtocol
	}
	c.blockParts++
	if c.blockParts > maxContinuations || len(c.block)+len(payload) > c.server.limits.MaxHeadBytes {
		return codeEnhanceCalm
	}
	c.block = append(c.block, payload...)
	if !h.has(flagEndHeaders) {
		return nil
	}
	id := c.blockID
	c.blockID = 0
	err := c.wholeList(id, c.block, c.blockEnd, false)
	c.block = nil
	return err
}

// wholeList decodes a header list and begins or ends a request with it.
func (c *conn) wholeList(id uint32, block []byte, end, itself bool) error {
	if id <= c.lastID {
		return c.trailers(id, block, end)
	}
	c.lastID = id
	s := c.server.streams.Get().(*stream)
	c.list.begin(&s.Request.Header, false)
	if err := c.decode(block); err != nil {
		return err
	}
	why := codeNo
	switch {
	case c.leaving == 2:
		why = codeRefusedStream
	case c.list.malformed != "" || itself || !c.list.complete():
		why = codeProtocol
	case end && c.list.length > 0:
		why = codeProtocol
	}
	if why == codeNo {
		c.mu.Lock()
		if len(c.streams) >= maxExchanges {
			why = codeRefusedStream
		} else {
			s.open(c, id)
			s.remoteEnded = end
			s.declared = c.list.length
			c.streams[id] = s
		}
		c.mu.Unlock()
	}
	if why != codeNo {
		s.Exchange.Reset()
		c.server.streams.Put(s)
		return c.refuseStream(id, why)
	}
	s.request(&c.list, end)
	c.running.Add(1)
	go s.runFn()
	return nil
}

func (c *conn) decode(block []byte) error {
	if _, err := c.decoder.Write(block); err != nil {
		return codeCompression
	}
	if err := c.decoder.Close(); err != nil {
		return codeCompression
	}
	return nil
}

// complete reports whether a request's pseudo-header fields are all there (RFC 9113 section 8.3.1).
func (l *list) complete() bool {
	if l.tooLarge {
		return true // refused in a better way
	}
	if l.method == "CONNECT" {
		return !l.hasScheme && !l.hasPath && l.hasA
	}
	return l.hasMethod && l.hasScheme && l.hasPath && l.path != "" && (l.scheme == "http" || l.scheme == "https")
}

// trailers ends a request's body.
func (c *conn) trailers(id uint32, block []byte, end bool) error {
	c.mu.Lock()
	s := c.streams[id]
	ignored := s != nil && s.reset || s == nil && c.wasForgotten(id)
	open := s != nil && !s.reset && !s.remoteEnded
	c.mu.Unlock()
	var nowhere exchange.Header
	c.list.begin(&nowhere, true)
	if err := c.decode(block); err != nil {
		return err
	}
	switch {
	case ignored:
		return nil
	case s == nil:
		return codeStreamClosed
	case !open:
		return c.refuseStream(id, codeStreamClosed)
	case !end || c.list.malformed != "" || c.list.tooLarge:
		return c.refuseStream(id, codeProtocol)
	}
	c.mu.Lock()
	short := s.declared > 0
	if !short && !s.reset {
		for _, f := range nowhere.Fields() {
			if !f.Known.HopByHop() && f.Known != exchange.ContentLength {
				s.Request.Trailer.Append(f)
			}
		}
		s.remoteEnded = true
		wake(s.readable)
	}
	c.mu.Unlock()
	if short {
		return c.refuseStream(id, codeProtocol)
	}
	return nil
}

// request makes the exchange that of a decoded list.
func (s *stream) request(l *list, end bool) {
	x := &s.Exchange
	x.From(s.c.peer)
	x.Down, x.Shard = s, s.c.shard
	x.Start = time.Now()
	x.Now = x.Start
	req := &x.Request
	req.Version = exchange.HTTP2
	if l.tooLarge {
		s.refuse(&fault.Error{Code: fault.HeadersTooLarge, Reason: "the header fields are larger than the node's limits allow"})
		return
	}
	joinCookies(&req.Header)
	req.Host, req.Expects100, req.AcceptsTrailers = l.authority, l.expects, l.acceptsTrailers
	switch {
	case end:
		req.ContentLength = 0
	default:
		req.ContentLength = l.length
	}
	if err := http1.ReadTarget(req, l.method, l.path, s.c.server.limits.MaxTargetBytes); err != nil {
		s.refuse(err)
	}
}

func (s *stream) refuse(why *fault.Error) {
	s.Exchange.Fail(why.Code, why.Reason)
	s.Request.Header.Reset()
	s.Exchange.ID = ""
}

// run takes the exchange to its end.
func (s *stream) run() {
	c := s.c
	defer c.running.Done()
	c.server.handler.Serve(&s.Exchange)
	c.mu.Lock()
	delete(c.streams, s.id)
	frames := 0
	if c.err == nil && !s.reset {
		switch {
		case !s.localEnded:
			c.out.pending = appendReset(c.out.buf(), s.id, codeInternal)
			frames++
		case !s.remoteEnded:
			// The rest of the request is not wanted (RFC 9113 section 8.1).
			c.out.pending = appendReset(c.out.buf(), s.id, codeNo)
			frames++
		}
		if frames > 0 {
			c.forget(s.id)
		}
		c.resets = min(c.resets+1, maxResets)
		c.earn(10)
	}
	if len(s.in) > 0 { // what nobody consumed
		c.unacked += len(s.in)
		if c.grantConn() {
			frames++
		}
	}
	last := len(c.streams) == 0 && c.server.draining.Load()
	c.mu.Unlock()
	if frames > 0 {
		c.flush()
	}
	s.close()
	c.server.streams.Put(s)
	if last {
		c.sock.Interrupt()
	}
}

package decompress

import (
	"errors"
	"io"
	"sync"

	"gateway.internal/dataplane/internal/coding"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

var (
	errMalformed = &fault.Error{Code: fault.BadRequest, Reason: "the body is not what its Content-Encoding says"}
	errTruncated = &fault.Error{Code: fault.BadRequest, Reason: "the body ends before its Content-Encoding does"}
	errTooLarge  = &fault.Error{
		Code: fault.RequestTooLarge, Reason: "the body is larger than the policy allows when it is decoded",
	}
)

// outBytes is how much is decoded at once.
const outBytes = 32 << 10

var (
	outs  = sync.Pool{New: func() any { return new([outBytes]byte) }}
	downs = sync.Pool{New: func() any { return new(down) }}
)

// down is the client's side, as one would be that sends the body plain. Whoever reads the body owns all of it but
// Downstream.
type down struct {
	exchange.Downstream
	step    *step
	x       *exchange.Exchange
	codings [maxCodings]exchange.Coding // in the order in which they were applied
	n       int
	limit   int64 // of decoded bytes, as the policy says; negative: any

	part    []byte // of the encoded body, not decoded yet
	whole   bool   // there is no other part
	fed     int64  // bytes of the encoded body that were given to be decoded
	readErr error  // why there is no other part

	feed     feed
	stages   [maxCodings]stage // the last one gives what is plain
	begun    bool
	out      *[outBytes]byte // that the part given last is in
	boundErr *fault.Error    // which bound is broken
	err      error           // how the body has ended
}

// stage decodes one coding, and counts.
type stage struct {
	d       *down
	decoder coding.Decoder
	decoded int64
}

// LimitBody implements exchange.Downstream.
func (d *down) LimitBody(bytes int64) {
	d.limit = bytes
	d.Downstream.LimitBody(bytes)
}

// BufferedBody implements exchange.Downstream. A body that has come whole, and is not long when it is decoded, is
// decoded at once, and has a length again.
func (d *down) BufferedBody() ([]byte, bool, error) {
	part, whole, err := d.Downstream.BufferedBody()
	if err != nil {
		return nil, false, d.end(err)
	}
	d.part, d.whole = part, whole
	if !whole {
		return nil, false, nil
	}
	d.begin()
	filled := 0
	for filled < outBytes && err == nil {
		var n int
		n, err = d.read(d.out[filled:])
		filled += n
	}
	switch {
	case err == nil:
		return d.out[:filled], false, nil
	case err != io.EOF:
		return nil, false, d.end(err)
	}
	start := len(d.x.Texts) // it has to live until nobody may want to send it again
	d.x.Texts = append(d.x.Texts, d.out[:filled]...)
	_ = d.end(io.EOF)
	if d.x.Request.Trailer.Len() == 0 {
		d.x.Request.ContentLength = int64(filled)
	}
	return d.x.Texts[start:], true, nil
}

// NextBody implements exchange.Downstream.
func (d *down) NextBody() ([]byte, error) {
	if d.err != nil {
		return nil, d.err
	}
	d.begin()
	for {
		n, err := d.read(d.out[:])
		if err != nil {
			return nil, d.end(err)
		}
		if n > 0 {
			return d.out[:n], nil
		}
	}
}

// begin takes what decodes.
func (d *down) begin() {
	if d.begun {
		return
	}
	d.begun = true
	d.out = outs.Get().(*[outBytes]byte)
	d.feed.d = d
	from := io.Reader(&d.feed)
	for i := range d.n {
		c := d.codings[d.n-1-i]
		d.stages[i] = stage{d: d, decoder: coding.TakeDecoder(c, from)}
		from = &d.stages[i]
	}
	d.step.metrics.Message(d.codings[0])
}

// read decodes something. Errors are the client's fault, but io.EOF.
func (d *down) read(p []byte) (n int, err error) {
	defer func() {
		if recover() != nil { // of a decoder that does not know what to make of what it gets
			n, err, d.begun = 0, d.refuse(malformed, errMalformed), false
		}
	}()
	last := &d.stages[d.n-1]
	n, err = last.Read(p)
	if d.limit >= 0 && last.decoded > d.limit && d.boundErr == nil {
		d.boundErr = d.refuse(tooLarge, errTooLarge)
	}
	switch {
	case d.boundErr != nil:
		return 0, d.boundErr
	case err == nil:
		return n, nil
	case d.readErr != nil && d.readErr != io.EOF:
		return 0, d.readErr
	case err == io.EOF && n > 0:
		return n, nil // it says so again
	case err == io.EOF:
		return 0, io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return 0, d.refuse(malformed, errTruncated)
	}
	return 0, d.refuse(malformed, errMalformed)
}

func (d *down) refuse(why refusal, err *fault.Error) *fault.Error {
	d.step.metrics.refuse(why)
	return err
}

// end notes how the body has ended, and gives everything back, but what a part is in that may still be read.
func (d *down) end(err error) error {
	d.err = err
	if !d.begun {
		return err
	}
	d.begun = false
	d.step.metrics.Bytes(d.codings[0], int(d.stages[d.n-1].decoded), int(d.fed))
	for i := range d.n {
		coding.GiveDecoder(d.codings[d.n-1-i], d.stages[i].decoder)
		d.stages[i].decoder = nil
	}
	outs.Put(d.out)
	d.out, d.part = nil, nil
	return err
}

// Read implements io.Reader, for the next stage.
func (s *stage) Read(p []byte) (int, error) {
	n, err := s.decoder.Read(p)
	s.decoded += int64(n)
	d := s.d
	switch {
	case d.boundErr != nil:
	case s.decoded > d.step.maxBytes:
		d.boundErr = d.refuse(tooLarge, d.step.tooLarge)
	case s.decoded > freeBytes && s.decoded/d.step.maxRatio > d.fed:
		d.boundErr = d.refuse(tooDense, d.step.tooDense)
	}
	if d.boundErr != nil {
		return 0, d.boundErr
	}
	return n, err
}

// feed gives the first stage the encoded body.
type feed struct{ d *down }

// Read implements io.Reader. It waits for the client only where nothing is left.
func (f *feed) Read(p []byte) (int, error) {
	d := f.d
	for len(d.part) == 0 && d.readErr == nil {
		if d.whole {
			d.readErr = io.EOF
		} else {
			d.part, d.readErr = d.Downstream.NextBody()
		}
	}
	if len(d.part) == 0 {
		return 0, d.readErr
	}
	n := copy(p, d.part)
	d.part = d.part[n:]
	d.fed += int64(n)
	return n, nil
}

package compress

import (
	"sync"

	"gateway.internal/dataplane/internal/coding"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// down is the client's side, to which the response's body is written plain. What it writes goes out in the coding.
type down struct {
	exchange.Downstream
	step *step
	x    *exchange.Exchange

	coding  exchange.Coding
	encoder coding.Encoder // nil: everything passes as it is
	begun   bool           // the head has been sent
	headed  bool           // the response is one to HEAD: its body is only measured
	encoded int            // bytes, of what is counted next
	buffer  []byte         // while something is encoded
	filled  int            // bytes of buffer
}

var downs = sync.Pool{New: func() any { return new(down) }}

// stand makes x's response pass a step on its way to the client.
func stand(x *exchange.Exchange, s *step) {
	d := downs.Get().(*down)
	*d = down{Downstream: x.Down, step: s, x: x}
	x.Down = d
}

// leave ends that. d is not used any more, unless something else stands before it, which knows it.
func (d *down) leave() {
	d.release()
	if x := d.x; x.Down == exchange.Downstream(d) {
		x.Down = d.Downstream
		*d = down{}
		downs.Put(d)
	}
}

func (d *down) release() {
	if d.encoder != nil {
		coding.GiveEncoder(d.coding, d.encoder)
		d.encoder = nil
	}
}

// WriteHead implements exchange.Downstream.
func (d *down) WriteHead(x *exchange.Exchange, part []byte, last bool) error {
	next := d.Downstream
	c := d.step.decide(x, part, last)
	head := x.Request.Method == "HEAD"
	if c == exchange.Identity || head && !x.Response.Local {
		d.leave()
		return next.WriteHead(x, part, last)
	}
	d.step.metrics.Message(c)
	d.coding, d.encoder, d.headed = c, coding.TakeEncoder(c, d), head
	if len(part) == 0 && !last {
		d.begun = true
		return next.WriteHead(x, nil, false)
	}
	return d.send(part, last)
}

// WriteBody implements exchange.Downstream.
func (d *down) WriteBody(x *exchange.Exchange, part []byte, last bool) error {
	if d.encoder == nil {
		return d.Downstream.WriteBody(x, part, last)
	}
	return d.send(part, last)
}

// Abort implements exchange.Downstream.
func (d *down) Abort() {
	next := d.Downstream
	d.leave()
	next.Abort()
}

// send encodes a part. All of it comes out at once: whoever has sent it may send nothing more for long.
func (d *down) send(part []byte, last bool) error {
	size := socket.HeadSize
	if len(part) > size.Bytes() {
		size = socket.BodySize
	}
	buffer := socket.Take(size)
	defer socket.Give(buffer)
	d.buffer = buffer
	d.encoded = 0
	err := d.encode(part, last)
	d.step.metrics.Bytes(d.coding, len(part), d.encoded)
	d.buffer = nil
	if last || err != nil {
		d.leave()
	}
	return err
}

func (d *down) encode(part []byte, last bool) error {
	if _, err := d.encoder.Write(part); err != nil {
		return err
	}
	if !last {
		if err := d.encoder.Flush(); err != nil {
			return err
		}
		return d.emit(false)
	}
	if err := d.encoder.Close(); err != nil {
		return err
	}
	if d.headed {
		d.x.Response.ContentLength = int64(d.encoded)
	}
	return d.emit(true)
}

// Write implements io.Writer, for the encoder.
func (d *down) Write(b []byte) (int, error) {
	d.encoded += len(b)
	if d.headed {
		return len(b), nil
	}
	for rest := b; len(rest) > 0; {
		if d.filled == len(d.buffer) {
			if err := d.emit(false); err != nil {
				return 0, err
			}
		}
		n := copy(d.buffer[d.filled:], rest)
		d.filled += n
		rest = rest[n:]
	}
	return len(b), nil
}

// emit sends what has come out.
func (d *down) emit(last bool) error {
	b := d.buffer[:d.filled]
	d.filled = 0
	if d.begun {
		if len(b) == 0 && !last {
			return nil
		}
		return d.Downstream.WriteBody(d.x, b, last)
	}
	d.begun = true
	return d.Downstream.WriteHead(d.x, b, last)
}

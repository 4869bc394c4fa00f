package grpcweb

import "gateway.internal/dataplane/internal/exchange"

// Pass makes x, whose client and service both speak gRPC-Web, one that End can complete. It comes before the response.
func Pass(x *exchange.Exchange) { x.Down = &passed{Downstream: x.Down} }

// End completes a response that the service has not, with what Response.Trailer says. It fails where the client can't
// be told: within a message, or where the body is not what its media type says. x is one of Translate's or Pass's,
// and the head has been sent.
func End(x *exchange.Exchange) error {
	if d, ok := x.Down.(ender); ok {
		return d.end(x)
	}
	return errPart
}

type ender interface {
	end(x *exchange.Exchange) error
}

// passed is the client's side of a call that is passed on as it is.
type passed struct {
	exchange.Downstream
	form    exchange.RPC // of the response; NoRPC: nothing is known of its body
	sent    messages
	text    base64Text
	unclear bool // the body is not base64
}

// WriteHead implements exchange.Downstream.
func (d *passed) WriteHead(x *exchange.Exchange, part []byte, last bool) error {
	res := &x.Response
	if !res.Local && res.Header.Get("Content-Encoding") == "" {
		d.form = res.RPC()
	}
	d.follow(part)
	return d.Downstream.WriteHead(x, part, last)
}

// WriteBody implements exchange.Downstream.
func (d *passed) WriteBody(x *exchange.Exchange, part []byte, last bool) error {
	d.follow(part)
	return d.Downstream.WriteBody(x, part, last)
}

func (d *passed) follow(part []byte) {
	switch {
	case d.form == exchange.GRPCWeb:
		d.sent.follow(part)
	case d.form == exchange.GRPCWebText && !d.unclear:
		decoded, err := d.text.decode(part)
		d.sent.follow(decoded)
		d.unclear = err != nil
	}
}

// end implements ender.
func (d *passed) end(x *exchange.Exchange) error {
	if d.form <= exchange.GRPC || d.unclear || !d.text.complete() || !d.sent.complete() {
		return errPart
	}
	trailers := takeTrailers(&x.Response)
	if d.sent.ended() { // the service has said how the call ended, but not that this was all
		trailers = nil
	}
	return encode(trailers, d.form == exchange.GRPCWebText, true, func(b []byte, last bool) error {
		return d.Downstream.WriteBody(x, b, last)
	})
}

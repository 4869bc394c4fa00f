// Package grpcweb lets browsers speak gRPC: it stands between a gRPC-Web client (PROTOCOL-WEB of the gRPC project)
// and a service that speaks gRPC. Messages pass as they are, in base64 where the client wants text, and trailers
// become the last part of the body. Where the service speaks gRPC-Web itself, everything passes as it is, and the
// package knows how to complete a response that the service does not.
package grpcweb

import (
	"encoding/base64"
	"encoding/binary"
	"io"
	"strings"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// Translate makes x, whose client speaks gRPC-Web, a request of gRPC, and its response one of gRPC-Web. It comes before
// the body is read.
func Translate(x *exchange.Exchange) {
	d := &down{Downstream: x.Down, text: x.RPC == exchange.GRPCWebText}
	req := &x.Request
	sent, _ := req.Header.Known(exchange.ContentType)
	d.suffix = suffix(sent)
	req.Header.Set("Content-Type", "application/grpc"+d.suffix)
	req.Header.Del("Accept") // of gRPC-Web; gRPC has none
	req.Header.Del("X-Grpc-Web")
	req.AcceptsTrailers = true
	if d.text && req.ContentLength > 0 {
		req.ContentLength = -1 // decoded, it is another
	}
	x.Down = d
}

// suffix returns what names the messages' format, such as "+proto", without parameters.
func suffix(mediaType string) string {
	plus := strings.IndexByte(mediaType, '+')
	if plus < 0 {
		return ""
	}
	s, _, _ := strings.Cut(mediaType[plus:], ";")
	return strings.TrimSpace(s)
}

// down is the client's side, as a client of gRPC would be.
type down struct {
	exchange.Downstream
	text       bool
	suffix     string
	translates bool // the response is one of gRPC
	sent       messages
	request    base64Text
}

// errPart is of a response that ends within a message: what came after it would be taken for the rest.
var errPart = &fault.Error{Code: fault.UpstreamInvalid, Reason: "the response ends within a message"}

// BufferedBody implements exchange.Downstream.
func (d *down) BufferedBody() ([]byte, bool, error) {
	part, whole, err := d.Downstream.BufferedBody()
	if !d.text || err != nil {
		return part, whole, err
	}
	if part, err = d.request.decode(part); err == nil && whole && !d.request.complete() {
		err = errBase64
	}
	return part, whole, err
}

// NextBody implements exchange.Downstream.
func (d *down) NextBody() ([]byte, error) {
	for {
		part, err := d.Downstream.NextBody()
		if !d.text {
			return part, err
		}
		if err == io.EOF && !d.request.complete() {
			return nil, errBase64
		}
		if err != nil {
			return nil, err
		}
		if part, err = d.request.decode(part); err != nil || len(part) > 0 {
			return part, err
		}
	}
}

// WriteHead implements exchange.Downstream.
func (d *down) WriteHead(x *exchange.Exchange, part []byte, last bool) error {
	res := &x.Response
	sent, _ := res.Header.Known(exchange.ContentType)
	d.translates = !res.Local && strings.HasPrefix(sent, "application/grpc") && x.Request.Method == "POST"
	if !d.translates {
		return d.Downstream.WriteHead(x, part, last)
	}
	mediaType := x.RPC.ContentType()
	if s := suffix(sent); s != "" {
		mediaType = strings.TrimSuffix(mediaType, "+proto") + s
	}
	res.Header.Set("Content-Type", mediaType)
	res.ContentLength = -1
	if last {
		moveStatus(res)
	}
	return d.send(x, part, last, func(b []byte, last bool) error { return d.Downstream.WriteHead(x, b, last) })
}

// moveStatus makes trailers of the status in a head that is all of a response: scripts may not see every header field
// of another origin.
func moveStatus(res *exchange.Response) {
	for _, name := range []string{"grpc-status", "grpc-message", "grpc-status-details-bin"} {
		if v, ok := res.Header.Take(name); ok {
			res.Trailer.Add(name, v)
		}
	}
}

// WriteBody implements exchange.Downstream.
func (d *down) WriteBody(x *exchange.Exchange, part []byte, last bool) error {
	write := func(b []byte, last bool) error { return d.Downstream.WriteBody(x, b, last) }
	if !d.translates {
		return write(part, last)
	}
	return d.send(x, part, last, write)
}

// send gives a part, in text where the client wants it, and the trailers after the last, to write; what is more goes to
// WriteBody.
func (d *down) send(x *exchange.Exchange, part []byte, last bool, write func(b []byte, last bool) error) error {
	put := func(b []byte, last bool) error {
		err := write(b, last)
		write = func(b []byte, last bool) error { return d.Downstream.WriteBody(x, b, last) }
		return err
	}
	d.sent.follow(part)
	if len(part) > 0 || !last {
		if err := encode(part, d.text, false, put); err != nil || !last {
			return err
		}
	}
	if !d.sent.complete() {
		return errPart
	}
	return encode(takeTrailers(&x.Response), d.text, true, put)
}

// end implements ender.
func (d *down) end(x *exchange.Exchange) error { return d.WriteBody(x, nil, true) }

// encode gives b to put, in base64 where the client wants text.
func encode(b []byte, text, last bool, put func(b []byte, last bool) error) error {
	if !text || len(b) == 0 {
		return put(b, last)
	}
	buffer := socket.Take(socket.BodySize)
	defer socket.Give(buffer)
	piece := base64.StdEncoding.DecodedLen(len(buffer))
	for len(b) > 0 {
		n := min(len(b), piece)
		base64.StdEncoding.Encode(buffer, b[:n])
		b = b[n:]
		if err := put(buffer[:base64.StdEncoding.EncodedLen(n)], last && len(b) == 0); err != nil {
			return err
		}
	}
	return nil
}

// trailerFlag marks the part of a body that is the trailers.
const trailerFlag = 0x80

// takeTrailers returns a response's trailers as the last part of its body, and leaves none.
func takeTrailers(res *exchange.Response) []byte {
	b := appendTrailers(nil, res.Trailers())
	res.Trailer.Reset()
	return b
}

// appendTrailers appends trailers as a part of the body: a flag, the length and lines as in HTTP/1.
func appendTrailers(b []byte, h *exchange.Header) []byte {
	b = append(b, trailerFlag, 0, 0, 0, 0)
	for name, value := range h.All() {
		b = append(b, strings.ToLower(name)...)
		b = append(b, ": "...)
		b = append(b, value...)
		b = append(b, "\r\n"...)
	}
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-5))
	return b
}

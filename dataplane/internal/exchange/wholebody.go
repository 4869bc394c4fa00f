package exchange

import (
	"fmt"
	"io"

	"gateway.internal/shared/fault"
)

// ReadBody waits for the request's whole body, of at most a number of bytes, and returns it. The body goes on to be
// read from x.Down as if nobody had. It waits, is called before the body is read, and not where x is a fork. A longer
// body is *fault.Error with RequestTooLarge; other errors are the client's.
func (x *Exchange) ReadBody(most int) ([]byte, error) {
	tooLarge := &fault.Error{Code: fault.RequestTooLarge, Reason: fmt.Sprintf("the body is longer than %d bytes", most)}
	if x.Request.ContentLength > int64(most) {
		return nil, tooLarge
	}
	part, whole, err := x.Down.BufferedBody()
	body := append([]byte(nil), part...)
	if x.Request.Expects100 { // nobody else tells the client that its body is awaited
		x.Request.Expects100 = false
		if err == nil && !whole && len(part) == 0 {
			err = x.Down.WriteInterim(100, &Header{}, nil)
		}
	}
	for err == nil && !whole && len(body) <= most {
		if part, err = x.Down.NextBody(); err == io.EOF {
			err = nil
			break
		}
		body = append(body, part...)
	}
	switch {
	case err != nil:
		return nil, err
	case len(body) > most:
		return nil, tooLarge
	}
	x.Down = &readBody{x.Down, body}
	return body, nil
}

// readBody is the client's side once its request's body has been read.
type readBody struct {
	Downstream
	body []byte
}

// BufferedBody implements Downstream.
func (d *readBody) BufferedBody() ([]byte, bool, error) { return d.body, true, nil }

// NextBody implements Downstream.
func (d *readBody) NextBody() ([]byte, error) { return nil, io.EOF }

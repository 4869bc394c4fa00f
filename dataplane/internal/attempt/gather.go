package attempt

import (
	"fmt"
	"io"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// Gather waits for the request's whole body, of at most a number of bytes, before the first attempt begins: meanwhile
// no connection to the service is taken. Where the body is longer, it goes on as it comes if streams says so. Otherwise
// Gather reports false, and x has a response. It is not called in a loop, unless the body has come with the head.
func (a *Attempts) Gather(most int, streams bool) bool {
	x, first := a.Exchange, a.RequestPart()
	switch {
	case first.Err != nil:
		return true // Send tells it
	case x.Request.ContentLength > int64(most), len(first.Bytes) > most:
		return a.tooLong(most, streams)
	case first.Whole:
		return true
	}
	body := append([]byte(nil), first.Bytes...)
	if x.Request.Expects100 { // the service, which has not been asked, does not tell the client that its body is awaited
		x.Request.Expects100 = false
		if len(body) == 0 {
			first.Err = x.Down.WriteInterim(100, &exchange.Header{}, nil)
		}
	}
	for first.Err == nil && len(body) <= most {
		part, err := x.Down.NextBody()
		if err == io.EOF {
			first.Whole = true
			break
		}
		body, first.Err = append(body, part...), err
	}
	first.Bytes = body
	x.Tick()
	return first.Err != nil || len(body) <= most || a.tooLong(most, streams)
}

func (a *Attempts) tooLong(most int, streams bool) bool {
	if !streams {
		a.fail(&fault.Error{
			Code:   fault.RequestTooLarge,
			Reason: fmt.Sprintf("the body is longer than %d bytes, the most that the policy buffers", most),
		})
	}
	return streams
}

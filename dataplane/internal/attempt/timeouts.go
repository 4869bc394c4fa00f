package attempt

import (
	"errors"
	"strconv"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream"
)

// whichTimeout says which limit an attempt has met, as the client is told.
func (a *Attempts) whichTimeout(err error) string {
	x, now := a.Exchange, time.Now()
	switch {
	case !x.Deadline.IsZero() && !now.Before(x.Deadline):
		return "the request took longer than its timeout allows"
	case x.TryOver(now):
		return "the service did not answer within per_try_timeout"
	case errors.Is(err, upstream.ErrHandshakeTimeout):
		return "the TLS handshake with the service was not over within connect_timeout"
	case a.unconnected:
		return "no connection to the service could be opened within connect_timeout"
	case a.HeadTimeout > 0 && x.Response.Status == 0:
		return "the service did not answer in time: there was no response within response_header_timeout"
	}
	return "the service did not answer in time"
}

// tellTime makes the service see what is left of the exchange's time: by grpc-timeout where its caller speaks gRPC and
// a wait for a connection, an attempt before or a middleware has taken some of it, and by the field that the policy
// names.
func (a *Attempts) tellTime() {
	x := a.Exchange
	if x.RPC != exchange.NoRPC && !x.Deadline.IsZero() {
		if now := x.Tick(); now.Sub(x.Start) >= time.Millisecond {
			x.Request.SetRPCTimeout(x.Deadline.Sub(now))
		}
	}
	a.TellDeadline()
}

// TellDeadline sets the field that the policy names for what is left of the exchange's time, in milliseconds.
func (a *Attempts) TellDeadline() {
	x := a.Exchange
	if a.DeadlineHeader == "" {
		return
	}
	if until := x.Until(); !until.IsZero() {
		since := len(x.Texts)
		x.Texts = strconv.AppendInt(x.Texts, max(until.Sub(x.Now).Milliseconds(), 0), 10)
		x.Request.Header.Set(a.DeadlineHeader, x.Text(since))
	}
}

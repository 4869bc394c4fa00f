package attempt

import (
	"errors"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/grpcweb"
	"gateway.internal/shared/fault"
)

// endCall completes a response of gRPC that the service has not: its client is told why in the form that it is being
// answered in, by trailers or by a part of the body. It reports false where there is no such form, or no place for
// it.
func (a *Attempts) endCall(why string) bool {
	x, res := a.Exchange, &a.Exchange.Response
	if x.RPC == exchange.NoRPC || a.form == exchange.NoRPC {
		return false
	}
	if own := a.refused(); own != nil {
		res.Code, why = own.Code, own.Reason
	}
	res.Trailer.Reset()
	x.AddStatus(&res.Trailer, res.Code, why)
	if a.form == exchange.GRPC {
		return x.Down.WriteBody(x, nil, true) == nil
	}
	return grpcweb.End(x) == nil
}

// refused ends the upload of a call, and returns why its request was refused; nil: it was not. An upload that is
// refused breaks the call off itself, and is perhaps not over yet when that is seen.
func (a *Attempts) refused() (own *fault.Error) {
	if u := a.upload; u != nil {
		_ = a.stopUpload()
		_ = errors.As(u.err, &own)
	}
	return own
}

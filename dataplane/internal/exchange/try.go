package exchange

import "time"

// BeginTry gives the attempt that begins at a time no longer than this to a response's head. Until holds it until
// EndTry. It is of this exchange alone, not of its branches.
func (x *Exchange) BeginTry(begun time.Time, within time.Duration) {
	x.try.Store(max(int64(begun.Sub(x.Start)+within), 1))
}

// EndTry takes that limit away. Most exchanges have none: a store that others have to see costs more than a look.
func (x *Exchange) EndTry() {
	if x.try.Load() != 0 {
		x.try.Store(0)
	}
}

// TryOver reports whether the attempt has had its time, while the exchange has more.
func (x *Exchange) TryOver(now time.Time) bool {
	try := x.try.Load()
	return try != 0 && int64(now.Sub(x.Start)) >= try && (x.Deadline.IsZero() || now.Before(x.Deadline))
}

// DropResponse forgets a service's response that the client does not get.
func (x *Exchange) DropResponse() {
	res := &x.Response
	header, trailer := res.Header.emptied(), res.Trailer.emptied()
	*res = Response{Header: header, Trailer: trailer}
}

package exchange

// Affinity is what keeps an exchange at the endpoint that others of the same key go to. The zero value: it was not
// looked for.
type Affinity struct {
	// Known tells that it was looked for.
	Known bool
	// Keyed tells that the request has a key, and Hash is of it.
	Keyed bool
	Hash  uint64
	// SetCookie is the field Set-Cookie that the response has to have, so that the client has a key; empty: none.
	SetCookie string
}

// Affinity returns the exchange's.
func (x *Exchange) Affinity() *Affinity { return &x.affinity }

// Origin returns the exchange that this one is a fork or a branch of, or itself.
func (x *Exchange) Origin() *Exchange {
	if x.of != nil {
		return x.of
	}
	return x
}

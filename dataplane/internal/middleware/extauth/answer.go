package extauth

import (
	"maps"
	"slices"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// answer is what the service has decided. It is immutable: all requests that it counts for share it.
type answer struct {
	// passes lets the request go on, and failed tells that the service could not decide. Any other answer refuses.
	passes, failed bool
	// cut tells that something of it is lost, such as a field that can't be one: it is not kept.
	cut bool
	// bytes is about what the service has sent for it.
	bytes int

	// request is what a request that passes becomes, query what its query does, response what the response to it does, and
	// principal whom it comes from; nil: nobody has said.
	request   []change
	query     *query
	response  []change
	principal *exchange.Principal
	facts     []exchange.Fact

	// status, header and body are what a client gets whose request does not pass. The header of one that passes only
	// tells whether the answer may be kept.
	status int
	header exchange.Header
	body   []byte
}

// change is one of a header's fields.
type change struct {
	op     op
	name   string
	values []string
}

// op is what becomes of the field.
type op uint8

const (
	set         op = iota // these values take the place of what is there
	add                   // they follow what is there
	addIfAbsent           // they are added where the field is not there
	setIfThere            // they take the place of what is there, if something is
	remove
)

func (c *change) apply(h *exchange.Header) {
	switch c.op {
	case remove:
		h.Del(c.name)
		return
	case addIfAbsent, setIfThere:
		if _, there := h.Lookup(c.name); there != (c.op == setIfThere) {
			return
		}
	}
	values := c.values
	if c.op == set || c.op == setIfThere {
		h.Set(c.name, values[0])
		values = values[1:]
	}
	for _, v := range values {
		h.Add(c.name, v)
	}
}

// factsOf returns what the service says of the request, by the names that the settings have for it. values returns all
// that it says by its own name for something.
func (s *step) factsOf(values func(name string) []string) (all []exchange.Fact) {
	for _, name := range slices.Sorted(maps.Keys(s.facts)) {
		switch said := values(s.facts[name]); len(said) {
		case 0:
		case 1:
			all = append(all, exchange.FactKey[string](name).Fact(said[0]))
		default:
			all = append(all, exchange.FactKey[[]string](name).Fact(said))
		}
	}
	return all
}

// apply lets the request pass, or makes the answer the client's.
func (s *step) apply(x *exchange.Exchange, a *answer) exchange.Verdict {
	switch {
	case a.failed:
		s.count.failed.Add(1)
		if s.allows {
			s.drop(x)
			return exchange.Continue
		}
	case !a.passes:
		s.count.denied.Add(1)
	}
	if !a.passes {
		refuse(x, a)
		return exchange.Stop
	}
	s.count.allowed.Add(1)
	for i := range a.request {
		a.request[i].apply(&x.Request.Header)
	}
	if a.principal != nil {
		x.Principal = a.principal
	}
	for _, f := range a.facts {
		x.Put(f)
	}
	if a.query != nil {
		x.ChangeQuery(a.query.gone, a.query.set)
	}
	if len(a.response) > 0 {
		x.Put(s.passed.Fact(a))
	}
	return exchange.Continue
}

// refuse makes an answer the client's. Calls of gRPC get a status instead.
func refuse(x *exchange.Exchange, a *answer) {
	if x.RPC != exchange.NoRPC {
		code := fault.Forbidden
		switch {
		case a.status == 401:
			code = fault.Unauthenticated
		case a.status/100 == 5:
			code = fault.UpstreamUnavailable
		}
		x.Fail(code, "the service that decides about requests has refused this one")
		return
	}
	x.Answer(a.status, "", a.body)
	for name, value := range a.header.All() {
		known := exchange.KnownName(name)
		if known.Answered() || known == exchange.Date || known == exchange.Via {
			continue
		}
		x.Response.Header.Add(name, value)
	}
}

package compress

import (
	"strconv"

	"gateway.internal/dataplane/internal/coding"
	"gateway.internal/dataplane/internal/exchange"
)

// eligible reports whether a response may be encoded, whoever asks for it and however long it is.
func (s *step) eligible(x *exchange.Exchange) bool {
	res := &x.Response
	switch {
	case x.RPC != exchange.NoRPC, res.Tunnel:
		return false
	case res.Status < 200, res.Status == 204, res.Status == 205, res.Status == 206, res.Status == 304:
		return false
	}
	contentType, ok := res.Header.Known(exchange.ContentType)
	return ok && s.encodes(contentType) &&
		!has(&res.Header, "Content-Encoding", "") && !has(&res.Header, "Content-Range", "") &&
		!has(&res.Header, "Cache-Control", "no-transform") && !has(&x.Request.Header, "Cache-Control", "no-transform")
}

// has reports whether a header has a field, with an item where one is given.
func has(h *exchange.Header, name, item string) bool {
	fields := h.Fields()
	for i := range fields {
		f := &fields[i]
		if len(f.Name) == len(name) && exchange.EqualFold(f.Name, name) && (item == "" || exchange.ListHas(f.Value, item)) {
			return true
		}
	}
	return false
}

// decide makes the head of a response what it is to be, and returns the coding of the body. Of HEAD, whose body is
// not sent, it does the same as of GET.
func (s *step) decide(x *exchange.Exchange, part []byte, last bool) exchange.Coding {
	if x.Response.Status == 304 {
		s.tags.notModified(x, s)
		return exchange.Identity
	}
	if !s.eligible(x) {
		return exchange.Identity
	}
	n := length(x, part, last)
	if n == 0 || n > 0 && n < s.minBytes && x.Accepts.AcceptsIdentity() {
		return exchange.Identity
	}
	x.Vary("Accept-Encoding")
	c := x.Accepts.Choose(s.codings)
	if c == exchange.Identity {
		return c
	}
	h := &x.Response.Header
	h.Set("Content-Encoding", c.String())
	h.Del("Accept-Ranges") // they would be ranges of what was not sent
	coding.DropDigests(h)
	h.Drop(isLength)
	s.tags.weaken(x)
	x.Response.ContentLength = -1
	return c
}

func isLength(n exchange.Name) bool { return n == exchange.ContentLength }

// length returns the length of a body that is not encoded; -1: it is not known.
func length(x *exchange.Exchange, part []byte, last bool) int64 {
	res := &x.Response
	if x.Request.Method == "HEAD" && !res.Local {
		v, ok := res.Header.Known(exchange.ContentLength)
		if n, err := strconv.ParseInt(v, 10, 64); ok && err == nil {
			return n
		}
		return -1
	}
	if last {
		return int64(len(part))
	}
	return res.ContentLength
}

package extauth

import (
	"context"
	"slices"
	"strings"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/subrequest"
)

// askHTTP asks the service by a request, whose response is the answer.
func (s *step) askHTTP(ctx context.Context, x *exchange.Exchange, body []byte) (*answer, error) {
	r := &subrequest.Request{
		Method: x.Request.Method, Path: s.path, Body: body, MaxResponseBytes: maxAnswerBytes, Repeatable: true,
	}
	if r.Method == "CONNECT" {
		r.Method = "GET"
	}
	if r.Path == "" {
		r.Path, r.Query = x.Request.Path, x.Request.RawQuery
	}
	if r.Path == "" || r.Path[0] != '/' {
		r.Path = "/"
	}
	for _, name := range s.sent {
		for v := range x.Request.Header.Values(name) {
			r.Header.Add(name, v)
		}
	}
	r.Header.Set("X-Forwarded-Method", x.Request.Method)
	r.Header.Set("X-Forwarded-Uri", target(x))
	if body != nil {
		if v, ok := x.Request.Header.Known(exchange.ContentType); ok {
			r.Header.Set("Content-Type", v)
		}
	}
	res, err := s.service.Do(ctx, x, r)
	switch {
	case err == nil:
		return s.answerOf(res), nil
	case res == nil || x.ClientGone() || x.Refused() || res.Status/100 == 2 || res.Status/100 == 5:
		return nil, err
	}
	return cutOff(res), nil
}

// cutOff makes a refusal of a response whose body did not come as a whole: it says no, but not with half a page.
func cutOff(res *subrequest.Response) *answer {
	a := &answer{status: res.Status, cut: true}
	for name, value := range res.Header.All() {
		if !describesBody(name) {
			a.header.Add(name, value)
		}
	}
	return a
}

// describesBody reports whether a field says something of the body that comes with it.
func describesBody(name string) bool {
	for _, d := range []string{
		"Content-Type", "Content-Encoding", "Content-Language", "Content-Location", "Content-Disposition", "Content-Range",
		"Content-Digest", "Repr-Digest", "Digest", "Content-MD5", "ETag", "Last-Modified",
	} {
		if exchange.EqualFold(d, name) {
			return true
		}
	}
	return false
}

// target returns the path with the query, as the client has sent them.
func target(x *exchange.Exchange) string {
	if !x.Request.HasQuery {
		return x.Request.Path
	}
	return x.Request.Path + "?" + x.Request.RawQuery
}

// fieldBytes is what a field takes besides its texts, about.
const fieldBytes = 64

// answerOf reads a response: 2xx passes, 5xx can't say, any other is the client's.
func (s *step) answerOf(res *subrequest.Response) *answer {
	a := &answer{passes: res.Status/100 == 2, failed: res.Status/100 == 5, status: res.Status, header: res.Header}
	for name, value := range a.header.All() {
		a.bytes += len(name) + len(value) + fieldBytes
	}
	if !a.passes {
		a.body = res.Body
		a.bytes += len(a.body)
		return a
	}
	for _, name := range s.taken {
		c := change{op: remove, name: name}
		for v := range res.Header.Values(name) {
			c.op, c.values = set, append(c.values, v)
		}
		a.request = append(a.request, c)
	}
	a.principal = s.principalOf(&res.Header)
	a.facts = s.factsOf(func(field string) []string { return slices.Collect(res.Header.Values(field)) })
	return a
}

func (s *step) principalOf(h *exchange.Header) *exchange.Principal {
	if s.principal == nil {
		return nil
	}
	p := &exchange.Principal{Consumer: h.Get(s.principal.GetConsumer())}
	if name := s.principal.GetGroups(); name != "" {
		for v := range h.Values(name) {
			p.Groups = append(p.Groups, strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })...)
		}
	}
	if name := s.principal.GetScopes(); name != "" {
		for v := range h.Values(name) {
			p.Scopes = append(p.Scopes, strings.Fields(v)...)
		}
	}
	return p
}

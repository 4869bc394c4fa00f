// Package headers is the middleware type "headers": it changes header fields of requests and responses.
package headers

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// New returns the step for settings.
func New(settings proto.Message) (pipeline.Step, error) {
	s, ok := settings.(*middlewarev1.Headers)
	if !ok {
		return nil, fmt.Errorf("headers: settings are a %T", settings)
	}
	return &step{compile(s.GetRequest()), compile(s.GetResponse())}, nil
}

type step struct{ request, response changes }

// changes are slices, in a fixed order, since maps are slow to walk and have none.
type changes struct {
	remove   []string
	set, add []pair
}

type pair struct{ name, value string }

func compile(h *middlewarev1.HeaderChanges) changes {
	c := changes{remove: h.GetRemove()}
	for _, name := range slices.Sorted(maps.Keys(h.GetSet())) {
		c.set = append(c.set, pair{name, h.GetSet()[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(h.GetAdd())) {
		c.add = append(c.add, pair{name, h.GetAdd()[name]})
	}
	return c
}

func (c *changes) apply(h *exchange.Header) {
	for _, name := range c.remove {
		h.Del(name)
	}
	for i := range c.set {
		h.Set(c.set[i].name, c.set[i].value)
	}
	for i := range c.add {
		h.Add(c.add[i].name, c.add[i].value)
	}
}

func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	s.request.apply(&x.Request.Header)
	return exchange.Continue
}

func (s *step) Response(x *exchange.Exchange) { s.response.apply(&x.Response.Header) }

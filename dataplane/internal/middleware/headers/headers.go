// Package headers is the middleware type "headers": it changes header fields of requests and responses.
package headers

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/variables"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/template"
)

// New returns the step for settings.
func New(settings proto.Message, _ *pipeline.Environment) (pipeline.Step, error) {
	s, ok := settings.(*middlewarev1.Headers)
	if !ok {
		return nil, fmt.Errorf("headers: settings are a %T", settings)
	}
	request, err := compile(s.GetRequest(), template.InRequest)
	if err != nil {
		return nil, err
	}
	response, err := compile(s.GetResponse(), template.InResponse)
	if err != nil {
		return nil, err
	}
	return &step{request, response}, nil
}

type step struct{ request, response changes }

// changes are slices, in a fixed order, since maps are slow to walk and have none.
type changes struct {
	remove   []string
	set, add []pair
}

// pair is a field; text is its value where that has variables, and nil where it is value.
type pair struct {
	name, value string
	text        *variables.Text
}

func (p *pair) of(x *exchange.Exchange) string {
	if p.text == nil {
		return p.value
	}
	return p.text.Field(x)
}

func compile(h *middlewarev1.HeaderChanges, in template.Place) (changes, error) {
	c := changes{remove: h.GetRemove()}
	var err error
	if c.set, err = pairs(h.GetSet(), in); err != nil {
		return c, err
	}
	c.add, err = pairs(h.GetAdd(), in)
	return c, err
}

func pairs(fields map[string]string, in template.Place) ([]pair, error) {
	var list []pair
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		text, err := variables.Compile(fields[name], in)
		if err != nil {
			return nil, fmt.Errorf("headers: %s: %w", name, err)
		}
		p := pair{name: name, text: text}
		if literal, plain := text.Literal(); plain {
			p.value, p.text = literal, nil
		}
		list = append(list, p)
	}
	return list, nil
}

func (c *changes) apply(h *exchange.Header, x *exchange.Exchange) {
	for _, name := range c.remove {
		h.Del(name)
	}
	for i := range c.set {
		p := &c.set[i]
		if v := p.of(x); v != "" || p.text == nil {
			h.Set(p.name, v)
		} else {
			h.Del(p.name) // what the client says there is no better
		}
	}
	for i := range c.add {
		p := &c.add[i]
		if v := p.of(x); v != "" || p.text == nil {
			h.Add(p.name, v)
		}
	}
}

func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	s.request.apply(&x.Request.Header, x)
	return exchange.Continue
}

func (s *step) Response(x *exchange.Exchange) { s.response.apply(&x.Response.Header, x) }

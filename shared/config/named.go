package config

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// AsGiven returns a copy of a resource with its references as they were given: those that were names are names again,
// today's of the same resource.
func (c *Config) AsGiven(m Message) Message {
	m = proto.CloneOf(m)
	if named := namedOf(m); named != nil {
		for _, ref := range references(m) {
			if !slices.Contains(named, ref.field) {
				continue
			}
			if e := c.ByID(ref.kind, *ref.value); e != nil {
				*ref.value = e.Name()
			}
		}
		setNamed(m, nil)
	}
	return m
}

// namedOf returns the paths of the references that were given as names.
func namedOf(m Message) []string {
	r, ok := m.(interface {
		GetNamedReferences() *configv1.NamedReferences
	})
	if !ok {
		return nil
	}
	return r.GetNamedReferences().GetFields()
}

// setNamed replaces them; nil: none.
func setNamed(m Message, fields []string) {
	r := m.ProtoReflect()
	f := r.Descriptor().Fields().ByName("named_references")
	switch {
	case f == nil: // it has no references
	case len(fields) == 0:
		r.Clear(f)
	default:
		r.Set(f, protoreflect.ValueOfMessage((&configv1.NamedReferences{Fields: fields}).ProtoReflect()))
	}
}

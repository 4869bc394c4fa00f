package config

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// populate gives a message an empty one in each of its fields, and each list an element.
func populate(m protoreflect.Message) {
	for i := range m.Descriptor().Fields().Len() {
		switch f := m.Descriptor().Fields().Get(i); {
		case f.IsMap():
		case f.IsList():
			list := m.Mutable(f).List()
			list.Append(list.NewElement())
		case f.Message() != nil:
			m.Mutable(f)
		}
	}
}

// TestKindsAreDescribed: each kind has all that others rely on, and no two have the same of it.
func TestKindsAreDescribed(t *testing.T) {
	lists := (&configv1.Configuration{}).ProtoReflect().Descriptor().Fields()
	wires := map[streamv1.Kind]bool{streamv1.Kind_KIND_UNSPECIFIED: true}
	common := New(Policy).ProtoReflect().Descriptor().Fields()
	for _, k := range Kinds() {
		m := New(k)
		refers := slices.ContainsFunc(Kinds(), func(o Kind) bool { return k.IsApart() && (k.refers(o) || o.refers(k)) })
		if refers || k.IsApart() == slices.Contains(Together(), k) {
			t.Errorf("%s is apart from others that refer to it, or that it refers to", k)
		}
		for _, name := range []string{k.String(), k.Plural()} {
			if got, err := ParseKind(name); err != nil || got != k {
				t.Errorf("%q is read as %s; %v", name, got, err)
			}
		}
		if got, err := KindOf(k.Proto()); err != nil || got != k || wires[k.Proto()] || KindOfMessage(m) != k {
			t.Errorf("%s is sent as %s, and its message is of %s; %v", k, k.Proto(), KindOfMessage(m), err)
		}
		wires[k.Proto()] = true
		list := lists.ByName(protoreflect.Name(k.Plural()))
		if list == nil || !list.IsList() || list.Message() != m.ProtoReflect().Descriptor() {
			t.Errorf("a configuration has no list %s of %T", k.Plural(), m)
		}
		for _, name := range []protoreflect.Name{"id", "name", "created_at", "updated_at", "version", "labels", "environment"} {
			f := m.ProtoReflect().Descriptor().Fields().ByName(name)
			if f == nil || f.Number() != common.ByName(name).Number() || f.Kind() != common.ByName(name).Kind() {
				t.Errorf("%s has another %s than other kinds", k, name)
			}
		}
		for _, to := range describe(k).refersTo {
			if to >= k && (k != Middleware || to != Service) {
				t.Errorf("%s refers to %s, which is not before it", k, to)
			}
		}
		populate(m.ProtoReflect())
		describe(k).references(m, func(field string, to Kind, _ *string) {
			if !slices.Contains(describe(k).refersTo, to) {
				t.Errorf("%s.%s is a reference to %s, which it does not say", k, field, to)
			}
		})
	}
	if lists.Len() != len(Kinds()) || len(streamv1.Kind_name) != len(wires) {
		t.Errorf("there are %d kinds, %d lists in a configuration and %d in the stream", len(Kinds()), lists.Len(), len(wires)-1)
	}
}

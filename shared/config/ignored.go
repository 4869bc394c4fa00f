package config

import (
	"fmt"
	"strconv"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// givenByServer are the fields of resources, and of the messages in them, whose value the server gives.
var givenByServer = sync.OnceValue(func() map[protoreflect.FullName]bool {
	found, seen := map[protoreflect.FullName]bool{}, map[protoreflect.FullName]bool{}
	var walk func(d protoreflect.MessageDescriptor)
	walk = func(d protoreflect.MessageDescriptor) {
		if seen[d.FullName()] {
			return
		}
		seen[d.FullName()] = true
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			switch proto.GetExtension(f.Options(), configv1.E_Use).(configv1.FieldUse) {
			case configv1.FieldUse_FIELD_USE_READ_ONLY, configv1.FieldUse_FIELD_USE_INTERNAL:
				found[f.FullName()] = true
			}
			if f.Message() != nil {
				walk(f.Message())
			}
		}
	}
	for _, k := range Kinds() {
		walk(New(k).ProtoReflect().Descriptor())
	}
	return found
})

// ignore warns of what an edit says of fields that the server gives. What is, or was before, as the edit has it is no
// news: a resource may be put as it was shown.
func (p *planner) ignore(e Edit, before *Entry, after Message) {
	var old protoreflect.Message
	if before != nil {
		old = before.Message.ProtoReflect()
	}
	p.ignoreIn(e, "", e.Put.ProtoReflect(), old, after.ProtoReflect())
	if v := e.Put.GetVersion(); before == nil && v != 0 && v != after.GetVersion() {
		p.ignored.add(e.Kind, after.GetName(), e.Location, "version", strconv.FormatUint(uint64(v), 10),
			"is ignored: versions count from 1")
	}
}

func (p *planner) ignoreIn(e Edit, path string, given, before, after protoreflect.Message) {
	given.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := string(f.Name())
		if path != "" {
			at = path + "." + at
		}
		switch {
		case givenByServer()[f.FullName()]:
			same := func(m protoreflect.Message) bool {
				return m != nil && m.IsValid() && m.Has(f) &&
					m.Get(f).Equal(v)
			}
			if !same(before) && !same(after) {
				p.ignored.add(e.Kind, e.Put.GetName(), e.Location, at, valueText(f, v),
					"is ignored: it is given by the server")
			}
		case f.Message() == nil || f.IsMap():
		case f.IsList():
			for i := range v.List().Len() {
				var in protoreflect.Message
				if after.Get(f).List().Len() > i {
					in = after.Get(f).List().Get(i).Message()
				}
				p.ignoreIn(e, fmt.Sprintf("%s[%d]", at, i), v.List().Get(i).Message(), nil, in)
			}
		case f.Message().ParentFile().Package() != "google.protobuf":
			p.ignoreIn(e, at, v.Message(), nil, after.Get(f).Message())
		}
		return true
	})
}

func valueText(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	if f.Message() == nil {
		return v.String()
	}
	raw, err := protojson.Marshal(v.Message().Interface())
	if err != nil {
		return ""
	}
	if text, err := strconv.Unquote(string(raw)); err == nil {
		return text // a time
	}
	return string(raw)
}

// ClearGiven clears what the server gives in a resource, and its version. Endpoints lose the ids that are made of the
// service's.
func ClearGiven(m Message) {
	if s, ok := m.(*configv1.Service); ok {
		for _, e := range s.GetEndpoints() {
			if e.GetId() == madeID(s.GetId(), e) {
				e.Id = ""
			}
		}
	}
	clearGiven(m.ProtoReflect())
	r := m.ProtoReflect()
	r.Clear(r.Descriptor().Fields().ByName("version"))
}

func clearGiven(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case givenByServer()[f.FullName()]:
			m.Clear(f)
		case f.Message() == nil || f.IsMap():
		case f.IsList():
			for i := range v.List().Len() {
				clearGiven(v.List().Get(i).Message())
			}
		default:
			clearGiven(v.Message())
		}
		return true
	})
}

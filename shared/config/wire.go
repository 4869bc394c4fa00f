package config

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Fields of resources with these numbers are kept by control planes alone: nodes do not get them, and no hash covers
// them. The rule is one of numbers, so that builds that do not know such a field leave it out all the same.
const (
	firstInternal protowire.Number = 60
	lastInternal  protowire.Number = 69
	// configNumber is that of a middleware's config, which nodes get as its type's message.
	configNumber protowire.Number = 11
)

func isInternal(k Kind, n protowire.Number) bool {
	return n >= firstInternal && n <= lastInternal || k == Middleware && n == configNumber
}

// withoutInternal returns the bytes of a resource without those of internal fields. Where these come last the result is
// the front of raw, otherwise a copy.
func withoutInternal(k Kind, raw []byte) []byte {
	var kept []byte
	front := 0 // how much of raw is kept up to its first internal field
	for at := 0; at < len(raw); {
		number, _, n := protowire.ConsumeField(raw[at:])
		if n < 0 {
			return raw // it was serialised or read before
		}
		switch {
		case isInternal(k, number):
		case kept == nil && front == at:
			front += n
		default:
			if kept == nil {
				kept = append(make([]byte, 0, len(raw)), raw[:front]...)
			}
			kept = append(kept, raw[at:at+n]...)
		}
		at += n
	}
	if kept == nil {
		return raw[:front:front]
	}
	return kept
}

// marshalAny serialises an Any, whose value was serialised before. It has no maps, so that there is one form.
func marshalAny(settings *anypb.Any) []byte {
	raw, _ := proto.MarshalOptions{Deterministic: true}.Marshal(settings) // it can't fail: its text was read or made here
	return raw
}

// unknownFields returns the places of the fields of an entry that this build does not know, in order.
func unknownFields(e *Entry) []string {
	var found []string
	if m := e.Message.ProtoReflect(); hasUnknown(m) {
		found = unknownIn(m, "", found)
	}
	if e.Settings != nil && hasUnknown(e.Settings.ProtoReflect()) {
		found = unknownIn(e.Settings.ProtoReflect(), "config.", found)
	}
	slices.Sort(found)
	return found
}

// hasUnknown reports whether unknownIn finds something. It makes no texts, since hardly anything has any.
func hasUnknown(m protoreflect.Message) bool {
	found := len(m.GetUnknown()) > 0
	if !found {
		eachMessage(m, func(_ func() string, in protoreflect.Message) bool {
			found = hasUnknown(in)
			return !found
		})
	}
	return found
}

func unknownIn(m protoreflect.Message, path string, found []string) []string {
	for rest := m.GetUnknown(); len(rest) > 0; {
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			break
		}
		internal := path == "" && number >= firstInternal && number <= lastInternal
		if place := fmt.Sprintf("%sfield %d", path, number); !internal && !slices.Contains(found, place) {
			found = append(found, place)
		}
		rest = rest[n:]
	}
	eachMessage(m, func(place func() string, in protoreflect.Message) bool {
		found = unknownIn(in, path+place()+".", found)
		return true
	})
	return found
}

// eachMessage calls f with the messages that are in m, and what makes a text of their places, until it returns false.
func eachMessage(m protoreflect.Message, f func(place func() string, in protoreflect.Message) bool) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() == nil {
				return true
			}
			more := true
			v.Map().Range(func(k protoreflect.MapKey, in protoreflect.Value) bool {
				more = f(func() string { return string(fd.Name()) + "." + k.String() }, in.Message())
				return more
			})
			return more
		case fd.Message() == nil:
			return true
		case fd.IsList():
			for i := range v.List().Len() {
				if !f(func() string { return fmt.Sprintf("%s[%d]", fd.Name(), i) }, v.List().Get(i).Message()) {
					return false
				}
			}
			return true
		}
		return f(func() string { return string(fd.Name()) }, v.Message())
	})
}

package config

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
)

// What a file took from the environment may be a secret. The configuration has the value, since nodes need it, and
// beside it, in environment, the text that the file has. Whatever shows a resource shows that text.

// Redacted returns a resource as it may be shown: with what the file has in the place of what was taken from the
// environment, and without what is write-only; the resource itself where there is neither.
func Redacted[M Message](m M) M {
	if len(m.GetEnvironment()) == 0 && !hasWriteOnly(m) {
		return m
	}
	c := proto.CloneOf(any(m).(Message))
	EachText(c, func(path, value string) string {
		if text, ok := m.GetEnvironment()[path]; ok {
			return text
		}
		return value
	})
	ClearWriteOnly(c)
	return any(c).(M)
}

// texts returns the texts of a resource by path.
func texts(m Message) map[string]string {
	all := map[string]string{}
	EachText(m, func(path, value string) string {
		all[path] = value
		return value
	})
	return all
}

// keepEnvironment completes a resource that is put as it was shown: where it has the text it gets the value that is
// stored. It returns the paths that got one, and those for which there is none. What environment says of fields that
// are not there is dropped.
func keepEnvironment(m, before Message) (kept, unknown []string) {
	if len(m.GetEnvironment()) == 0 {
		return nil, nil
	}
	have, stored := texts(m), map[string]string{}
	if before != nil {
		for path, value := range texts(before) {
			if text, ok := before.GetEnvironment()[path]; ok && text == m.GetEnvironment()[path] {
				stored[path] = value
			}
		}
	}
	take := map[string]string{}
	for path, text := range m.GetEnvironment() {
		value, there := have[path]
		known, isKnown := stored[path]
		switch {
		case !there:
			delete(m.GetEnvironment(), path)
		case value == text && isKnown:
			take[path] = known
			kept = append(kept, path)
		case value == text:
			unknown = append(unknown, path)
		}
	}
	EachText(m, func(path, value string) string {
		if known, ok := take[path]; ok {
			return known
		}
		return value
	})
	slices.Sort(unknown)
	return kept, unknown
}

// RememberRedacted says in a resource that is put where it has the text of a file as it was shown: whoever leaves out,
// or changes, what environment has means the text, not another value, and not to see the value.
func RememberRedacted(m, before Message) {
	if len(before.GetEnvironment()) == 0 {
		return
	}
	r := m.ProtoReflect()
	f := r.Descriptor().Fields().ByName("environment")
	for path, value := range texts(m) {
		if text, ok := before.GetEnvironment()[path]; ok && text == value {
			r.Mutable(f).Map().Set(protoreflect.ValueOfString(path).MapKey(), protoreflect.ValueOfString(text))
		}
	}
}

// ForgetTyped takes out of a resource's environment what was given a value by other means than a file: what differs
// from the text and from what is stored. before may be nil.
func ForgetTyped(m, before Message) {
	if len(m.GetEnvironment()) == 0 {
		return
	}
	var stored, environment map[string]string
	if before != nil {
		stored, environment = texts(before), before.GetEnvironment()
	}
	for path, value := range texts(m) {
		text, ok := m.GetEnvironment()[path]
		if ok && value != text && (environment[path] != text || stored[path] != value) {
			delete(m.GetEnvironment(), path)
		}
	}
}

// FromEnvironment returns the paths at which two states of a resource show the same text and have different values.
func FromEnvironment(before, after Message) (changed []string) {
	if len(before.GetEnvironment()) == 0 || len(after.GetEnvironment()) == 0 {
		return nil
	}
	was, is := texts(before), texts(after)
	for path, text := range after.GetEnvironment() {
		if before.GetEnvironment()[path] == text && was[path] != is[path] {
			changed = append(changed, path)
		}
	}
	slices.Sort(changed)
	return changed
}

// EachText gives every text of a resource to f, with its path as problems have it ("hosts[0]", "config.set.X"), and
// puts what f returns in its place. Names, what the server gives, and what names other resources are none of them.
func EachText(m Message, f func(path, value string) string) {
	eachText("", m.ProtoReflect(), isPlainText, f)
}

// EveryText is EachText for all texts but those of environment.
func EveryText(m Message, f func(path, value string) string) {
	eachText("", m.ProtoReflect(), func(fd protoreflect.FieldDescriptor) bool { return fd.Name() != "environment" }, f)
}

// isPlainText reports whether a field may come from the environment and be shown as the text that says so.
func isPlainText(f protoreflect.FieldDescriptor) bool {
	switch f.Name() {
	case "id", "name", "environment", "service_id", "pipeline_id", "policy_id", "certificate_id", "middleware_ids":
		return false
	}
	return true
}

func eachText(path string, m protoreflect.Message, visits func(protoreflect.FieldDescriptor) bool,
	f func(path, value string) string,
) {
	if free, ok := m.Interface().(*structpb.Struct); ok {
		for k, v := range free.GetFields() {
			eachValue(path+"."+k, v, f)
		}
		return
	}
	if m.Descriptor().ParentFile().Package() == "google.protobuf" {
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := string(fd.Name())
		if path != "" {
			at = path + "." + at
		}
		if !visits(fd) {
			return true
		}
		switch isText := fd.Kind() == protoreflect.StringKind; {
		case fd.IsMap():
			if fd.MapValue().Kind() != protoreflect.StringKind {
				return true
			}
			var keys []protoreflect.MapKey
			v.Map().Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
				keys = append(keys, k)
				return true
			})
			for _, k := range keys {
				old := v.Map().Get(k).String()
				if next := f(at+"."+k.String(), old); next != old {
					v.Map().Set(k, protoreflect.ValueOfString(next))
				}
			}
		case fd.IsList():
			for i := range v.List().Len() {
				item, in := v.List().Get(i), fmt.Sprintf("%s[%d]", at, i)
				if fd.Kind() == protoreflect.MessageKind {
					eachText(in, item.Message(), visits, f)
				} else if isText {
					if next := f(in, item.String()); next != item.String() {
						v.List().Set(i, protoreflect.ValueOfString(next))
					}
				}
			}
		case fd.Kind() == protoreflect.MessageKind:
			eachText(at, v.Message(), visits, f)
		case isText:
			if next := f(at, v.String()); next != v.String() {
				m.Set(fd, protoreflect.ValueOfString(next))
			}
		}
		return true
	})
}

func eachValue(path string, v *structpb.Value, f func(path, value string) string) {
	switch kind := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		if next := f(path, kind.StringValue); next != kind.StringValue {
			v.Kind = &structpb.Value_StringValue{StringValue: next}
		}
	case *structpb.Value_StructValue:
		for k, item := range kind.StructValue.GetFields() {
			eachValue(path+"."+k, item, f)
		}
	case *structpb.Value_ListValue:
		for i, item := range kind.ListValue.GetValues() {
			eachValue(fmt.Sprintf("%s[%d]", path, i), item, f)
		}
	}
}

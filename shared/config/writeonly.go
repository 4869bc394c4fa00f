package config

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/credential"
	"gateway.internal/shared/middleware"
)

// Fields that are FIELD_USE_WRITE_ONLY, of resources and of the settings of middleware, are texts that requests give
// and nothing shows: replies, exports and differences don't have them, problems don't quote them. A resource that is
// put without one keeps what is stored, in lists that of the element with the same name. What is here finds them by the
// descriptors, so that a new field needs nothing but its option.

// Hidden stands for a write-only value in messages and differences.
const Hidden = "(hidden)"

// IsWriteOnly reports whether a field is write-only.
func IsWriteOnly(f protoreflect.FieldDescriptor) bool {
	return proto.GetExtension(f.Options(), configv1.E_Use) == configv1.FieldUse_FIELD_USE_WRITE_ONLY
}

// holdsWriteOnly remembers which messages have write-only fields, in themselves or in what they have.
var holdsWriteOnly sync.Map // protoreflect.FullName to bool

// HoldsWriteOnly reports whether messages may have write-only fields, in themselves or below.
func HoldsWriteOnly(d protoreflect.MessageDescriptor) bool {
	if known, ok := holdsWriteOnly.Load(d.FullName()); ok {
		return known.(bool)
	}
	holds := findsWriteOnly(d, map[protoreflect.FullName]bool{})
	holdsWriteOnly.Store(d.FullName(), holds)
	return holds
}

func findsWriteOnly(d protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if seen[d.FullName()] {
		return false
	}
	seen[d.FullName()] = true
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		below := f.Message()
		if f.IsMap() {
			below = f.MapValue().Message()
		}
		if IsWriteOnly(f) || below != nil && findsWriteOnly(below, seen) {
			return true
		}
	}
	return false
}

// writeOnlyField is a field that is write-only, or one with messages that have such fields below.
type writeOnlyField struct {
	protoreflect.FieldDescriptor
	name string
	is   bool // in itself
}

// writeOnlyFields remembers those of messages. Options of fields take long to read.
var writeOnlyFields sync.Map // protoreflect.FullName to []writeOnlyField

func writeOnlyFieldsOf(d protoreflect.MessageDescriptor) []writeOnlyField {
	if known, ok := writeOnlyFields.Load(d.FullName()); ok {
		return known.([]writeOnlyField)
	}
	var list []writeOnlyField
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		is := IsWriteOnly(f)
		if is || !f.IsMap() && f.Message() != nil && HoldsWriteOnly(f.Message()) {
			list = append(list, writeOnlyField{f, string(f.Name()), is})
		}
	}
	writeOnlyFields.Store(d.FullName(), list)
	return list
}

// writeOnlyNames are the names of all write-only fields.
var writeOnlyNames = sync.OnceValue(func() map[string]bool {
	names, seen := map[string]bool{}, map[protoreflect.FullName]bool{}
	var walk func(d protoreflect.MessageDescriptor)
	walk = func(d protoreflect.MessageDescriptor) {
		if seen[d.FullName()] {
			return
		}
		seen[d.FullName()] = true
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			if IsWriteOnly(f) {
				names[string(f.Name())] = true
			}
			if f.Message() != nil {
				walk(f.Message())
			}
		}
	}
	for _, k := range Kinds() {
		walk(New(k).ProtoReflect().Descriptor())
	}
	for _, name := range middleware.Names() {
		if t, ok := middleware.Lookup(name); ok {
			walk(t.New().ProtoReflect().Descriptor())
		}
	}
	return names
})

// IsWriteOnlyName reports whether a write-only field, of a resource or of the settings of a type, has a name.
func IsWriteOnlyName(name string) bool { return writeOnlyNames()[name] }

// writeOnlyValue is a place for a write-only value.
type writeOnlyValue struct {
	// path is as problems have it, and same that of the same thing in another state of the resource: elements of lists
	// are named there.
	path, same string
	value      string // "": it is absent
	set        func(value string)
}

// eachWriteOnly calls f with every place of a resource for a write-only value, be there one or not, as far as the
// messages that they are in are there. set changes it, in a resource that is not at rest; "" removes it.
func eachWriteOnly(m Message, f func(v writeOnlyValue)) {
	if mw, ok := m.(*configv1.Middleware); ok {
		if t, known := middleware.Lookup(mw.GetType()); known && mw.GetConfig() != nil {
			eachInStruct("config", "config", mw.GetConfig(), t.New().ProtoReflect().Descriptor(), f)
		}
		return
	}
	eachWriteOnlyIn(m.ProtoReflect(), f)
}

// eachWriteOnlyIn is eachWriteOnly for any message.
func eachWriteOnlyIn(m protoreflect.Message, f func(v writeOnlyValue)) { eachInMessage("", "", m, f) }

func eachInMessage(path, same string, m protoreflect.Message, f func(v writeOnlyValue)) {
	for _, field := range writeOnlyFieldsOf(m.Descriptor()) {
		fd := field.FieldDescriptor
		if !field.is && !m.Has(fd) {
			continue
		}
		at, as := under(path, field.name), under(same, field.name)
		switch {
		case field.is:
			v := writeOnlyValue{path: at, same: as, set: func(value string) { setText(m, fd, value) }}
			if m.Has(fd) {
				v.value = m.Get(fd).String()
			}
			f(v)
		case fd.IsList():
			list := m.Get(fd).List()
			for j := range list.Len() {
				in := list.Get(j).Message()
				eachInMessage(fmt.Sprintf("%s[%d]", at, j), fmt.Sprintf("%s[%s]", as, nameOr(textIn(in), j)), in, f)
			}
		default:
			eachInMessage(at, as, m.Get(fd).Message(), f)
		}
	}
}

func setText(m protoreflect.Message, fd protoreflect.FieldDescriptor, value string) {
	if value == "" {
		m.Clear(fd)
		return
	}
	m.Set(fd, protoreflect.ValueOfString(value))
}

// eachInStruct is eachInMessage for JSON that is to become a message.
func eachInStruct(path, same string, s *structpb.Struct, d protoreflect.MessageDescriptor, f func(v writeOnlyValue)) {
	if s == nil {
		return
	}
	for _, fd := range writeOnlyFieldsOf(d) {
		key := fd.name
		if _, is := s.GetFields()[key]; !is && s.GetFields()[fd.JSONName()] != nil {
			key = fd.JSONName()
		}
		at, as, there := under(path, key), under(same, fd.name), s.GetFields()[key]
		switch {
		case fd.is:
			f(writeOnlyValue{path: at, same: as, value: there.GetStringValue(), set: func(value string) {
				if value == "" {
					delete(s.GetFields(), key)
					return
				}
				if s.Fields == nil {
					s.Fields = map[string]*structpb.Value{}
				}
				s.Fields[key] = structpb.NewStringValue(value)
			}})
		case fd.IsList():
			for j, item := range there.GetListValue().GetValues() {
				in := item.GetStructValue()
				name := nameOr(func(n string) string { return in.GetFields()[n].GetStringValue() }, j)
				eachInStruct(fmt.Sprintf("%s[%d]", at, j), fmt.Sprintf("%s[%s]", as, name), in, fd.Message(), f)
			}
		default:
			eachInStruct(at, as, there.GetStructValue(), fd.Message(), f)
		}
	}
}

func under(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// nameOr returns what tells an element of a list from others, or its place where nothing does.
func nameOr(text func(field string) string, index int) string {
	for _, field := range []string{"name", "username", "id", "issuer", "url"} {
		if s := text(field); s != "" {
			return field + "=" + s
		}
	}
	return fmt.Sprint(index)
}

func textIn(m protoreflect.Message) func(field string) string {
	return func(field string) string {
		f := m.Descriptor().Fields().ByName(protoreflect.Name(field))
		if f == nil || f.Kind() != protoreflect.StringKind || f.IsList() {
			return ""
		}
		return m.Get(f).String()
	}
}

// keepWriteOnly completes a resource that is put by the write-only values that are stored, and by the texts that files
// have for them. It returns the paths of those. Settings of another type of middleware keep nothing.
func keepWriteOnly(m, stored Message) (kept []string) {
	if stored == nil || !sameType(m, stored) {
		return nil
	}
	known := map[string]writeOnlyValue{}
	eachWriteOnly(stored, func(v writeOnlyValue) {
		if v.value != "" {
			known[v.same] = v
		}
	})
	if len(known) == 0 {
		return nil
	}
	eachWriteOnly(m, func(v writeOnlyValue) {
		was, ok := known[v.same]
		if v.value != "" || !ok {
			return
		}
		v.set(was.value)
		kept = append(kept, v.path)
		if text, ok := stored.GetEnvironment()[was.path]; ok {
			r := m.ProtoReflect()
			environment := r.Mutable(r.Descriptor().Fields().ByName("environment")).Map()
			environment.Set(protoreflect.ValueOfString(v.path).MapKey(), protoreflect.ValueOfString(text))
		}
	})
	return kept
}

// sameType reports whether two states of a resource have the same type, where they are middleware.
func sameType(m, stored Message) bool {
	mw, is := m.(*configv1.Middleware)
	was, _ := stored.(*configv1.Middleware)
	return !is || mw.GetType() == was.GetType()
}

// redirected calls f with each path of a write-only value, of those that a resource has kept, that would be sent to
// somebody else than what is stored is: who may change where a secret goes need not know it, and must not get it so.
// because is the field that differs, "type" or the one with the URL.
func redirected(m, stored Message, kept []string, f func(path, because string)) {
	mw, is := m.(*configv1.Middleware)
	was, _ := stored.(*configv1.Middleware)
	if !is || was == nil || len(kept) == 0 {
		return
	}
	eachWriteOnly(m, func(v writeOnlyValue) {
		name := strings.TrimPrefix(v.path, "config.")
		to := middleware.SentTo(mw.GetType(), name)
		switch {
		case v.value == "" || !slices.Contains(kept, v.path):
		case !sameType(m, stored):
			f(v.path, "type")
		case to != "" && !proto.Equal(mw.GetConfig().GetFields()[to], was.GetConfig().GetFields()[to]):
			f(v.path, under("config", to))
		}
	})
}

// ClearWriteOnly clears the write-only values of a resource that is not at rest.
func ClearWriteOnly(m Message) {
	eachWriteOnly(m, func(v writeOnlyValue) {
		if v.value != "" {
			v.set("")
		}
	})
}

// hasWriteOnly reports whether a resource has a write-only value.
func hasWriteOnly(m Message) (has bool) {
	eachWriteOnly(m, func(v writeOnlyValue) { has = has || v.value != "" })
	return has
}

// WithHidden returns a copy of a resource with Hidden in the place of each write-only value, and with what the file has
// in the place of what was taken from the environment.
func WithHidden(m Message) Message {
	var hidden []string
	eachWriteOnly(m, func(v writeOnlyValue) {
		if v.value != "" {
			hidden = append(hidden, v.path)
		}
	})
	c := Redacted(m)
	if c == m || len(hidden) > 0 {
		c = proto.CloneOf(c)
	}
	if len(hidden) > 0 {
		eachWriteOnly(c, func(v writeOnlyValue) {
			if slices.Contains(hidden, v.path) {
				v.set(Hidden)
			}
		})
	}
	return c
}

// ChangedUnseen returns the paths at which two states of a resource show the same and have different values: those from
// the environment with the same text, and write-only ones.
func ChangedUnseen(before, after Message) (changed []string) {
	changed = FromEnvironment(before, after)
	was := map[string]string{}
	eachWriteOnly(before, func(v writeOnlyValue) { was[v.path] = v.value })
	eachWriteOnly(after, func(v writeOnlyValue) {
		if old := was[v.path]; old != "" && v.value != "" && old != v.value && !slices.Contains(changed, v.path) {
			changed = append(changed, v.path)
		}
	})
	slices.Sort(changed)
	return changed
}

// isHash reports whether a write-only value is stored as a hash, which can't be used in place of what it is of.
func isHash(value string) bool {
	return credential.IsStoredKey(value) || credential.IsStoredPassword(value)
}

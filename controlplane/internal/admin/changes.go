package admin

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"gateway.internal/controlplane/internal/catalog"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/file"
)

func changesOf(done *catalog.Committed, meta *adminv1.ReplyMeta) []*adminv1.Change {
	return show(done.Plan.Config, done.Plan.Config, done.Plan.Changes, meta)
}

// showing bounds what a reply shows of changes, so that there is a reply whatever was committed.
type showing struct {
	bytes   int // of changes with their fields
	changes int // with or without fields
}

// show describes changes within the bounds of all replies.
func show(before, after *config.Config, changes []config.Change, meta *adminv1.ReplyMeta) []*adminv1.Change {
	return showing{bytes: 16 << 20, changes: 50_000}.show(before, after, changes, meta)
}

// show describes changes field by field, with names instead of ids in references. It describes every change that a
// commit would keep: a reader who is shown nothing may rely on that. Where the reply would become too large, the last
// ones have no fields or are left out, which a warning in meta says.
func (limit showing) show(before, after *config.Config, changes []config.Change,
	meta *adminv1.ReplyMeta) []*adminv1.Change {
	changes = slices.SortedFunc(slices.Values(changes), func(a, b config.Change) int {
		return cmp.Or(cmp.Compare(a.Kind.String(), b.Kind.String()), cmp.Compare(a.Name(), b.Name()))
	})
	out := make([]*adminv1.Change, 0, min(len(changes), limit.changes))
	size, bare, left := 0, 0, 0
	for i, ch := range changes {
		if len(out) == limit.changes {
			left = len(changes) - i
			break
		}
		c := &adminv1.Change{Kind: ch.Kind.String(), Name: ch.Name(), Id: ch.ID()}
		switch {
		case ch.Before == nil:
			c.Action = adminv1.Change_ACTION_CREATED
		case ch.After == nil:
			c.Action = adminv1.Change_ACTION_DELETED
		default:
			c.Action = adminv1.Change_ACTION_UPDATED
			if m, n := ch.Messages(); size > limit.bytes && len(config.ChangedUnseen(m, n)) == 0 &&
				proto.Equal(named(before, m).Interface(), named(after, n).Interface()) &&
				proto.Equal(given(before, m).Interface(), given(after, n).Interface()) {
				continue // as below
			}
		}
		if size <= limit.bytes {
			c.Fields = differencesOf(before, after, ch)
			if len(c.GetFields()) == 0 && c.GetAction() == adminv1.Change_ACTION_UPDATED {
				continue // only its version differs
			}
			size += proto.Size(c)
		}
		if size > limit.bytes {
			c.Fields = nil
			bare++
		}
		out = append(out, c)
	}
	if bare+left > 0 {
		meta.Warnings = append(meta.Warnings, &adminv1.Problem{
			Message: fmt.Sprintf("the reply would be too large: of %d changes %d are named without their fields, and %d "+
				"are left out", len(changes), bare, left),
		})
	}
	return out
}

// differencesOf returns the fields in which the sides of a change differ.
func differencesOf(before, after *config.Config, ch config.Change) differences {
	m, n := ch.Messages()
	var a, b protoreflect.Message
	if m != nil {
		a = named(before, m)
	}
	if n != nil {
		b = named(after, n)
	}
	var d differences
	d.message("", a, b)
	if m == nil || n == nil {
		return d
	}
	if len(d) == 0 {
		d.message("", given(before, m), given(after, n))
	}
	for _, path := range config.ChangedUnseen(m, n) {
		if d.within(path) {
			continue
		}
		text := cmp.Or(n.GetEnvironment()[path], config.Hidden)
		d.add(path, structpb.NewStringValue(text), structpb.NewStringValue(text+" (another value)"))
	}
	return d
}

// named returns a copy of a resource with names for references, what stands for secrets and the texts of files for what
// they took from the environment, and without what every change sets.
func named(c *config.Config, m config.Message) protoreflect.Message {
	m = config.WithHidden(m)
	file.Names(c, m)
	return content(m)
}

// given is named with references as they were given: names in place of ids, or the other way round, may be all that
// changes.
func given(c *config.Config, m config.Message) protoreflect.Message {
	return content(c.AsGiven(config.WithHidden(m)))
}

// content clears what every change sets, and what says how a resource was given, and returns it.
func content(m config.Message) protoreflect.Message {
	r := m.ProtoReflect()
	for _, f := range []protoreflect.Name{
		"id", "created_at", "updated_at", "version", "named_references", "environment",
	} {
		if fd := r.Descriptor().Fields().ByName(f); fd != nil {
			r.Clear(fd)
		}
	}
	return r
}

// differences are the fields in which two messages differ, by path. Fields are compared by presence: a message that is
// empty is another thing than none. An absent side is nil.
type differences []*adminv1.FieldChange

// within reports whether there is a difference of what a path is in, which says all of it.
func (d *differences) within(path string) bool {
	return slices.ContainsFunc(*d, func(c *adminv1.FieldChange) bool {
		rest, in := strings.CutPrefix(path, c.GetPath())
		return in && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

func (d *differences) add(path string, before, after *structpb.Value) {
	*d = append(*d, &adminv1.FieldChange{Path: path, Before: before, After: after})
}

// message compares two messages of one type, of which one may be nil.
func (d *differences) message(path string, a, b protoreflect.Message) {
	some := a
	if a == nil {
		some = b
	}
	if isWellKnown(some.Descriptor()) {
		d.tree(path, messageValue(a), messageValue(b))
		return
	}
	start := len(*d)
	fields := some.Descriptor().Fields()
	order := make([]protoreflect.FieldDescriptor, fields.Len())
	for i := range order {
		order[i] = fields.Get(i)
	}
	slices.SortFunc(order, func(f, g protoreflect.FieldDescriptor) int { return cmp.Compare(f.Name(), g.Name()) })
	for _, f := range order {
		inA, inB := a != nil && a.Has(f), b != nil && b.Has(f)
		if inA || inB {
			d.field(below(path, string(f.Name())), f, fieldOf(a, f, inA), fieldOf(b, f, inB))
		}
	}
	switch {
	case len(*d) > start:
	case a == nil || b == nil:
		d.add(path, messageValue(a), messageValue(b))
	case !bytes.Equal(a.GetUnknown(), b.GetUnknown()):
		d.add(below(path, "(fields that this build does not know)"), nil, nil)
	}
}

func below(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// fieldOf returns a field's value, invalid where it is absent.
func fieldOf(m protoreflect.Message, f protoreflect.FieldDescriptor, present bool) protoreflect.Value {
	if !present {
		return protoreflect.Value{}
	}
	return m.Get(f)
}

// isWellKnown reports whether a message is one of protobuf's own, compared as the JSON that it stands for.
func isWellKnown(m protoreflect.MessageDescriptor) bool {
	return m.ParentFile().Package() == "google.protobuf"
}

func (d *differences) field(path string, f protoreflect.FieldDescriptor, a, b protoreflect.Value) {
	switch {
	case f.IsMap():
		d.mapField(path, f.MapValue(), a, b)
	case f.IsList():
		d.list(path, f, a, b)
	case f.Kind() == protoreflect.MessageKind:
		d.message(path, messageOf(a), messageOf(b))
	default:
		d.tree(path, scalarValue(f, a), scalarValue(f, b))
	}
}

func messageOf(v protoreflect.Value) protoreflect.Message {
	if !v.IsValid() {
		return nil
	}
	return v.Message()
}

func (d *differences) mapField(path string, f protoreflect.FieldDescriptor, a, b protoreflect.Value) {
	keys := map[string]protoreflect.MapKey{}
	for _, v := range []protoreflect.Value{a, b} {
		if v.IsValid() {
			v.Map().Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
				keys[k.String()] = k
				return true
			})
		}
	}
	get := func(v protoreflect.Value, k protoreflect.MapKey) protoreflect.Value {
		if !v.IsValid() {
			return protoreflect.Value{}
		}
		return v.Map().Get(k)
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		d.field(below(path, name), f, get(a, keys[name]), get(b, keys[name]))
	}
}

// list compares lists of one length element by element, and others as a whole.
func (d *differences) list(path string, f protoreflect.FieldDescriptor, a, b protoreflect.Value) {
	if !a.IsValid() || !b.IsValid() || a.List().Len() != b.List().Len() {
		d.add(path, listValue(f, a), listValue(f, b))
		return
	}
	for i := range a.List().Len() {
		at, x, y := fmt.Sprintf("%s[%d]", path, i), a.List().Get(i), b.List().Get(i)
		if f.Kind() == protoreflect.MessageKind {
			d.message(at, x.Message(), y.Message())
		} else {
			d.tree(at, scalarValue(f, x), scalarValue(f, y))
		}
	}
}

// tree compares JSON values. nil is absent, which is not null.
func (d *differences) tree(path string, a, b *structpb.Value) {
	x, y := a.GetStructValue(), b.GetStructValue()
	if (x != nil || a == nil) && (y != nil || b == nil) {
		start := len(*d)
		keys := maps.Clone(x.GetFields())
		if keys == nil {
			keys = map[string]*structpb.Value{}
		}
		maps.Copy(keys, y.GetFields())
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			d.tree(below(path, k), x.GetFields()[k], y.GetFields()[k])
		}
		if len(*d) == start && (x == nil) != (y == nil) {
			d.add(path, a, b)
		}
		return
	}
	if p, q := a.GetListValue().GetValues(), b.GetListValue().GetValues(); len(p) == len(q) && len(p) > 0 {
		for i := range p {
			d.tree(fmt.Sprintf("%s[%d]", path, i), p[i], q[i])
		}
		return
	}
	if a == nil || b == nil || !proto.Equal(a, b) {
		d.add(path, a, b)
	}
}

// messageValue returns a message as JSON, nil for none.
func messageValue(m protoreflect.Message) *structpb.Value {
	if m == nil {
		return nil
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m.Interface())
	if err != nil {
		return structpb.NewStringValue("(can't be shown: " + err.Error() + ")")
	}
	v := new(structpb.Value)
	if err := protojson.Unmarshal(raw, v); err != nil {
		return structpb.NewStringValue("(can't be shown: " + err.Error() + ")")
	}
	return v
}

// listValue returns a list as JSON, nil where it is absent.
func listValue(f protoreflect.FieldDescriptor, v protoreflect.Value) *structpb.Value {
	if !v.IsValid() {
		return nil
	}
	list := v.List()
	values := make([]*structpb.Value, list.Len())
	for i := range values {
		if f.Kind() == protoreflect.MessageKind {
			values[i] = messageValue(list.Get(i).Message())
		} else {
			values[i] = scalarValue(f, list.Get(i))
		}
	}
	return structpb.NewListValue(&structpb.ListValue{Values: values})
}

// scalarValue returns a value as protobuf's JSON has it, nil where it is absent.
func scalarValue(f protoreflect.FieldDescriptor, v protoreflect.Value) *structpb.Value {
	if !v.IsValid() {
		return nil
	}
	switch f.Kind() {
	case protoreflect.BoolKind:
		return structpb.NewBoolValue(v.Bool())
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return structpb.NewNumberValue(v.Float())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return structpb.NewNumberValue(float64(v.Int()))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return structpb.NewNumberValue(float64(v.Uint()))
	case protoreflect.EnumKind:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			return structpb.NewStringValue(string(e.Name()))
		}
		return structpb.NewNumberValue(float64(v.Enum()))
	case protoreflect.BytesKind:
		return structpb.NewStringValue(base64.StdEncoding.EncodeToString(v.Bytes()))
	}
	return structpb.NewStringValue(v.String()) // strings, and integers of 64 bits
}

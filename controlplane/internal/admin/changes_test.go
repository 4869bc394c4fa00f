package admin

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// fill sets some of a message's fields to drawn values.
func fill(t *rapid.T, m protoreflect.Message, depth int) {
	switch v := m.Interface().(type) {
	case *structpb.Struct:
		v.Fields = drawStruct(t, 2).GetStructValue().GetFields()
		return
	case *timestamppb.Timestamp:
		v.Seconds = rapid.Int64Range(0, 3).Draw(t, "seconds")
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if rapid.IntRange(0, 3).Draw(t, "has "+string(f.Name())) > 0 {
			continue
		}
		switch {
		case f.IsMap():
			for range rapid.IntRange(0, 2).Draw(t, "size") {
				key := protoreflect.ValueOfString(rapid.SampledFrom([]string{"a", "b", "a.b"}).Draw(t, "key")).MapKey()
				m.Mutable(f).Map().Set(key, drawScalar(t, f.MapValue()))
			}
		case f.IsList():
			list := m.Mutable(f).List()
			for range rapid.IntRange(0, 2).Draw(t, "length") {
				if f.Kind() != protoreflect.MessageKind {
					list.Append(drawScalar(t, f))
				} else if depth > 0 {
					fill(t, list.AppendMutable().Message(), depth-1)
				}
			}
		case f.Kind() == protoreflect.MessageKind:
			if next := m.Mutable(f).Message(); depth > 0 && rapid.Bool().Draw(t, "filled") {
				fill(t, next, depth-1)
			}
		default:
			m.Set(f, drawScalar(t, f))
		}
	}
}

func drawScalar(t *rapid.T, f protoreflect.FieldDescriptor) protoreflect.Value {
	n := rapid.IntRange(0, 2).Draw(t, string(f.Name()))
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n > 0)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(n) - 1)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(n) << 60)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(n) << 62)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n) / 2)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{byte(n)})
	}
	return protoreflect.ValueOfString(rapid.SampledFrom([]string{"", "x", "(hidden)", "null"}).Draw(t, "text"))
}

func drawStruct(t *rapid.T, depth int) *structpb.Value {
	kinds := 4
	if depth == 0 {
		kinds = 2
	}
	switch rapid.IntRange(0, kinds).Draw(t, "kind") {
	case 1:
		return structpb.NewNullValue()
	case 2:
		return structpb.NewStringValue(rapid.SampledFrom([]string{"", "x"}).Draw(t, "text"))
	case 3:
		list := &structpb.ListValue{}
		for range rapid.IntRange(0, 2).Draw(t, "length") {
			list.Values = append(list.Values, drawStruct(t, depth-1))
		}
		return structpb.NewListValue(list)
	case 4:
		s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
		for range rapid.IntRange(0, 2).Draw(t, "size") {
			s.Fields[rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key")] = drawStruct(t, depth-1)
		}
		return structpb.NewStructValue(s)
	}
	return structpb.NewBoolValue(true)
}

// edit changes one field somewhere in a message, perhaps to what it was.
func edit(t *rapid.T, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	f := fields.Get(rapid.IntRange(0, fields.Len()-1).Draw(t, "field"))
	isMessage := f.Kind() == protoreflect.MessageKind && !f.IsList() && !f.IsMap()
	if isMessage && !isWellKnown(f.Message()) && depth > 0 &&
		rapid.Bool().Draw(t, "inside") {
		edit(t, m.Mutable(f).Message(), depth-1)
		return
	}
	m.Clear(f)
	fill(t, m, 1)
}

// TestDifferencesAreAllDifferences holds what people are shown against what is committed: two messages that are not
// equal differ in some field.
func TestDifferencesAreAllDifferences(t *testing.T) {
	for _, kind := range []config.Message{
		&configv1.Service{}, &configv1.Route{}, &configv1.Middleware{}, &configv1.Pipeline{}, &configv1.Policy{}, &configv1.Consumer{}, &configv1.Certificate{},
	} {
		t.Run(string(kind.ProtoReflect().Descriptor().Name()), rapid.MakeCheck(func(t *rapid.T) {
			a := kind.ProtoReflect().New()
			fill(t, a, 3)
			b := proto.Clone(a.Interface()).ProtoReflect()
			for range rapid.IntRange(0, 2).Draw(t, "edits") {
				edit(t, b, 2)
			}
			var d differences
			d.message("", a, b)
			if differs := !proto.Equal(a.Interface(), b.Interface()); differs != (len(d) > 0) {
				t.Fatalf("differ: %v, and shown are %v\n%v\n%v", differs, d, a.Interface(), b.Interface())
			}
		}))
	}
}

// TestPresenceIsADifference applies settings that are empty, which turn something on.
func TestPresenceIsADifference(t *testing.T) {
	a := newAPI(t)
	a.must("POST", "/api/v1/config/services", `{"name": "s", "endpoints": [{"host": "127.0.0.1", "port": 9000}]}`)
	with := `{"services": [{"name": "s", "endpoints": [{"host": "127.0.0.1", "port": 9000}], "health_check_config": {}}]}`
	for _, step := range []struct{ name, body, want string }{
		{"added", with, `{"path":"health_check_config","after":{}}`},
		{"removed", `{"services": [{"name": "s", "endpoints": [{"host": "127.0.0.1", "port": 9000}]}]}`,
			`{"path":"health_check_config","before":{}`},
	} {
		t.Run(step.name, func(t *testing.T) {
			shown := a.must("POST", "/api/v1/config/diff", step.body)
			applied := a.must("POST", "/api/v1/config/apply", step.body)
			for _, r := range []*reply{shown, applied} {
				if !strings.Contains(strings.ReplaceAll(r.raw, " ", ""), step.want) {
					t.Errorf("got %s, want %s in it", r.raw, step.want)
				}
			}
		})
	}
}

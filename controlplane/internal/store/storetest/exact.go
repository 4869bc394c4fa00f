package storetest

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
)

// testExact stores resources whose every field has a random value, whatever fields the messages have, and expects each
// of them back, to the nanosecond, from Load and from Since. A field that this build does not know comes back too: a
// newer replica may have written it, and hashes cover it.
func testExact(t *testing.T, e Engine) {
	s := open(t, e)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	f := &filler{Rand: rand.New(rand.NewPCG(seed, 0))}
	w := newWriter(t, s)
	var written []config.Change
	for round := range 20 {
		changes := f.resources(t, round)
		r, err := s.Commit(t.Context(), w.head, func([]store.Revision) (*store.Draft, error) {
			draft := &store.Draft{Author: "ann", Message: f.text(), RollbackOf: f.Uint32(), AllowShrink: true, Changes: changes}
			f.Read(draft.Hash[:])
			return draft, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		back, err := s.Revision(t.Context(), r.Number)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r, back, bytesOf); d != "" {
			t.Fatalf("revision (-written +read)\n%s", d)
		}
		w.head.Number = r.Number
		written = append(written, changes...)
	}
	_, c, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, ch := range written {
		entry := c.ByID(ch.Kind, ch.ID())
		if entry == nil {
			t.Fatalf("%s %s is not there", ch.Kind, ch.Name())
		}
		if d := cmp.Diff(ch.After, entry, bytesOf); d != "" {
			t.Fatalf("%s (-written +read)\n%s", ch.Kind, d)
		}
	}
}

// bytesOf compares resources by the bytes that they were committed as, which are what hashes are of.
var bytesOf = cmp.Transformer("bytes", func(e *config.Entry) config.Stored {
	if e == nil {
		return config.Stored{}
	}
	return e.Stored()
})

// filler fills messages.
type filler struct {
	*rand.Rand
	made int
}

// resources returns the creation of one resource of each kind, each referring to those before it.
func (f *filler) resources(t *testing.T, round int) []config.Change {
	ids := map[config.Kind]string{}
	var changes []config.Change
	for _, k := range config.Kinds() {
		ids[k] = uuid.NewString()
		m := config.New(k)
		f.fill(m.ProtoReflect(), 0)
		switch m := m.(type) {
		case *configv1.Policy:
			m.Id, m.Name = ids[k], f.name(round)
		case *configv1.Certificate:
			m.Id, m.Name = ids[k], f.name(round)
		case *configv1.Consumer:
			m.Id, m.Name = ids[k], f.name(round)
		case *configv1.Middleware:
			m.Id, m.Name = ids[k], f.name(round)
			// The only settings that are read at all are those of a type that exists.
			m.Type, m.Config = "headers", &structpb.Struct{Fields: map[string]*structpb.Value{"request": structpb.NewStructValue(
				&structpb.Struct{Fields: map[string]*structpb.Value{"set": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"X-A": structpb.NewStringValue("ä <1> \\u0000")}})}},
			)}}
		case *configv1.Pipeline:
			m.Id, m.Name, m.MiddlewareIds = ids[k], f.name(round), []string{ids[config.Middleware]}
		case *configv1.Service:
			m.Id, m.Name, m.PipelineId, m.PolicyId = ids[k], f.name(round), ids[config.Pipeline], ids[config.Policy]
		case *configv1.Route:
			m.Id, m.Name, m.PipelineId, m.PolicyId = ids[k], f.name(round), ids[config.Pipeline], ids[config.Policy]
			m.ServiceId = ids[config.Service]
			for _, b := range m.GetBackends() {
				b.ServiceId = ids[config.Service]
			}
		}
		m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 5000, protowire.VarintType), f.Uint64()))
		changes = append(changes, config.Change{Kind: k, After: configtest.Entry(t, m)})
	}
	return changes
}

func (f *filler) name(round int) string {
	f.made++
	return fmt.Sprintf("n%d-%d", round, f.made)
}

// Read fills b.
func (f *filler) Read(b []byte) {
	for i := range b {
		b[i] = byte(f.Uint32())
	}
}

// text has what columns may stumble over. U+0000 is not in it: authors and messages can't have it.
func (f *filler) text() string {
	runes := []rune("aZ09 '\"\\%_{}[]<>&;:/\n\täß漢\U0001F600\uFFFD\u2028")
	out := make([]rune, 1+f.IntN(12))
	for i := range out {
		out[i] = runes[f.IntN(len(runes))]
	}
	return string(out)
}

// fill sets every field; of a oneof, the last that is drawn.
func (f *filler) fill(m protoreflect.Message, depth int) {
	if t, ok := m.Interface().(*timestamppb.Timestamp); ok {
		proto.Merge(t, timestamppb.New(time.Unix(f.Int64N(4e9), f.Int64N(1e9))))
		return
	}
	fields := m.Descriptor().Fields()
	for _, i := range f.Perm(fields.Len()) {
		field := fields.Get(i)
		switch {
		case depth > 6:
		case field.IsMap():
			for range 1 + f.IntN(3) {
				value := m.NewField(field).Map().NewValue()
				if field.MapValue().Message() != nil {
					f.fill(value.Message(), depth+1)
				} else {
					value = f.scalar(field.MapValue())
				}
				m.Mutable(field).Map().Set(f.scalar(field.MapKey()).MapKey(), value)
			}
		case field.IsList():
			list := m.Mutable(field).List()
			for range 1 + f.IntN(3) {
				if field.Message() != nil {
					f.fill(list.AppendMutable().Message(), depth+1)
				} else {
					list.Append(f.scalar(field))
				}
			}
		case field.Message() != nil:
			f.fill(m.Mutable(field).Message(), depth+1)
		default:
			m.Set(field, f.scalar(field))
		}
	}
}

func (f *filler) scalar(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(f.IntN(2) == 0)
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(f.IntN(values.Len())).Number())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(f.Uint32()))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(f.Uint64()))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(f.Uint32())
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(f.Uint64())
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(f.Float32())
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(f.Float64())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(f.text()))
	default:
		return protoreflect.ValueOfString(f.text())
	}
}

func stamp() *timestamppb.Timestamp { return timestamppb.New(time.Unix(1e9, 1)) }

// testNUL: not every column can hold the character U+0000. Resources keep it; authors and messages get a replacement,
// on every engine.
func testNUL(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	m := &configv1.Consumer{Id: uuid.NewString(), Name: "app", Labels: map[string]string{"a": "x\x00y", "b": `\u0000`}, Groups: []string{"\x00"}, CreatedAt: stamp(), UpdatedAt: stamp()}
	r, err := s.Commit(t.Context(), w.head, func([]store.Revision) (*store.Draft, error) {
		changes := []config.Change{{Kind: config.Consumer, After: configtest.Entry(t, m)}}
		return &store.Draft{Author: "a\x00", Message: "m\x00", Changes: changes}, nil
	})
	if err != nil || r.Author != "a\uFFFD" || r.Message != "m\uFFFD" {
		t.Fatalf("got %q, %q, %v", r.Author, r.Message, err)
	}
	_, c, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(config.Message(m), c.ByName(config.Consumer, "app").Message, protocmp.Transform()); d != "" {
		t.Errorf("(-written +read)\n%s", d)
	}
}

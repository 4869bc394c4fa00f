package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/reason"
	"gateway.internal/shared/suggest"
)

// mergePatch changes m as a JSON merge patch says (RFC 7386). path is where m stands in the resource, "" for the
// resource itself. As in protobuf's JSON a field may be said once, and one field of a oneof: which of two is meant
// nobody can tell.
func mergePatch(path string, m protoreflect.Message, patch *structpb.Struct) error {
	said := map[protoreflect.FullName]string{} // fields, and oneofs that get a value, by the member that says them
	for _, name := range slices.Sorted(maps.Keys(patch.GetFields())) {
		value, at := patch.GetFields()[name], below(path, name)
		f := fieldByJSON(m.Descriptor(), name)
		if f == nil {
			return unknownMember(at, name, m.Descriptor())
		}
		if other := said[f.FullName()]; other != "" {
			return invalid(at, "", fmt.Sprintf("is the same field as %q: say it once", other))
		}
		said[f.FullName()] = name
		if choice := f.ContainingOneof(); choice != nil && !isNull(value) {
			if other := said[choice.FullName()]; other != "" {
				return invalid(at, "", fmt.Sprintf("can't be set together with %q: there is one of them", other))
			}
			said[choice.FullName()] = name
		}
		var err error
		switch object := value.GetStructValue(); {
		case isNull(value):
			m.Clear(f)
		case f.IsMap() && object != nil:
			err = mergeMap(at, m, f, object)
		case f.Kind() == protoreflect.MessageKind && !f.IsList() && object != nil:
			next := m.Mutable(f).Message()
			if free, ok := next.Interface().(*structpb.Struct); ok {
				mergeStruct(free, object)
			} else {
				err = mergePatch(at, next, object)
			}
		default:
			err = replaceField(at, m, f, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func isNull(v *structpb.Value) bool {
	_, null := v.GetKind().(*structpb.Value_NullValue)
	return null
}

func fieldByJSON(d protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if f := d.Fields().ByName(protoreflect.Name(name)); f != nil {
		return f
	}
	return d.Fields().ByJSONName(name)
}

func unknownMember(at, name string, d protoreflect.MessageDescriptor) error {
	return invalid(at, "", "is no field here"+suggest.Clause(name, fieldsOf(d)))
}

// mergeMap takes entries over, and removes those that are null.
func mergeMap(at string, m protoreflect.Message, f protoreflect.FieldDescriptor, object *structpb.Struct) error {
	rest := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for key, v := range object.GetFields() {
		if isNull(v) {
			if m.Has(f) {
				m.Mutable(f).Map().Clear(protoreflect.ValueOfString(key).MapKey())
			}
		} else {
			rest.Fields[key] = v
		}
	}
	read, err := readField(at, m, f, structpb.NewStructValue(rest))
	if err != nil {
		return err
	}
	read.Get(f).Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		m.Mutable(f).Map().Set(k, v)
		return true
	})
	return nil
}

// mergeStruct merges free JSON, whose parts have no type.
func mergeStruct(s, patch *structpb.Struct) {
	if s.Fields == nil {
		s.Fields = map[string]*structpb.Value{}
	}
	for name, v := range patch.GetFields() {
		object := v.GetStructValue()
		switch {
		case isNull(v):
			delete(s.Fields, name)
		case object != nil:
			next := s.GetFields()[name].GetStructValue()
			if next == nil {
				next = &structpb.Struct{}
				s.Fields[name] = structpb.NewStructValue(next)
			}
			mergeStruct(next, object)
		default:
			s.Fields[name] = v
		}
	}
}

func replaceField(at string, m protoreflect.Message, f protoreflect.FieldDescriptor, value *structpb.Value) error {
	read, err := readField(at, m, f, value)
	switch {
	case err != nil:
		return err
	case read.Has(f):
		m.Set(f, read.Get(f))
	default: // a list without elements, a scalar of the value that none has
		m.Clear(f)
	}
	return nil
}

// readField reads one field's JSON by protobuf's rules, into an empty message of m's type.
func readField(at string, m protoreflect.Message, f protoreflect.FieldDescriptor, value *structpb.Value) (protoreflect.Message, error) {
	raw, err := protojson.Marshal(&structpb.Struct{Fields: map[string]*structpb.Value{string(f.Name()): value}})
	if err != nil {
		return nil, invalid(at, "", "can't be read: "+reason.Of(err))
	}
	read := m.New()
	if err := protojson.Unmarshal(raw, read.Interface()); err != nil {
		if config.IsWriteOnly(f) || f.Message() != nil && config.HoldsWriteOnly(f.Message()) {
			return nil, invalid(at, "", "has a wrong value, which is not shown: it may be a secret")
		}
		shown, _ := json.Marshal(value.AsInterface())
		return nil, invalid(at, string(shown), "has a wrong value: "+reason.WithoutPlace(err))
	}
	return read, nil
}

// patchRequest is what the seven patch requests have in common.
type patchRequest interface {
	renewal
	GetPatch() *structpb.Struct
}

// patch changes some of a resource's fields, or creates it.
func patch[M config.Message](ctx context.Context, s *Server, k config.Kind, r patchRequest) (M, *adminv1.ReplyMeta, error) {
	var none M
	if r.GetPatch() == nil {
		return none, nil, invalid("body", "", "is required")
	}
	version, err := patchVersion(k, r.GetPatch())
	if err != nil {
		return none, nil, err
	}
	if err := checkKept(k, r.GetPatch()); err != nil {
		return none, nil, err
	}
	return renew[M](ctx, s, k, r, version, func(old config.Message) (config.Message, error) {
		next := config.New(k)
		if old != nil {
			next = proto.CloneOf(old)
		}
		return next, mergePatch("", next.ProtoReflect(), r.GetPatch())
	})
}

// checkKept refuses to remove what every resource has: without it a resource means to keep what is stored, so that
// null, which says to remove it (RFC 7386), would be taken for the opposite.
func checkKept(k config.Kind, patch *structpb.Struct) error {
	d := config.New(k).ProtoReflect().Descriptor()
	for _, name := range slices.Sorted(maps.Keys(patch.GetFields())) {
		f := fieldByJSON(d, name)
		if f == nil || !isEmpty(patch.GetFields()[name]) {
			continue
		}
		if what := kept[f.Name()]; what != "" {
			return invalid(name, "", "can't be removed: "+what+"; leave the field out to keep the one that is stored")
		}
	}
	return nil
}

// kept are the fields that a resource never loses.
var kept = map[protoreflect.Name]string{
	"id": "a resource has an id", "name": "a resource has a name", "key_pem": "a certificate has a key",
}

func isEmpty(v *structpb.Value) bool {
	s, isText := v.GetKind().(*structpb.Value_StringValue)
	return isNull(v) || isText && s.StringValue == ""
}

// patchVersion returns the version that a patch demands, which protobuf's JSON may have as a string; 0: none.
func patchVersion(k config.Kind, patch *structpb.Struct) (uint32, error) {
	v := patch.GetFields()["version"]
	if v == nil || isNull(v) {
		return 0, nil
	}
	m := config.New(k).ProtoReflect()
	f := fieldByJSON(m.Descriptor(), "version")
	read, err := readField("version", m, f, v)
	if err != nil {
		return 0, err
	}
	return uint32(read.Get(f).Uint()), nil
}

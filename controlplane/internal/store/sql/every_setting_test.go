package sql

import (
	dbsql "database/sql"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// testEverySetting commits resources whose every field has a value of its own, and looks for each by its path.
func testEverySetting(t *testing.T, s *Store) {
	defer s.Close()
	settings := 0
	for round := range 3 { // of a oneof, another one is set in each
		f := &numbered{round: round}
		var all []config.Message
		ids := map[config.Kind]string{}
		for _, k := range config.Kinds() {
			m := config.New(k)
			f.fill(m.ProtoReflect())
			ids[k] = uuid.NewString()
			switch m := m.(type) {
			case *configv1.Certificate:
				m.Id, m.KeyPem = ids[k], ""
			case *configv1.Middleware:
				m.Id, m.Type, m.Config = ids[k], "headers", headersOf(t, "set", map[string]any{"X-A": "of the config"})
			case *configv1.Pipeline:
				m.Id, m.MiddlewareIds = ids[k], []string{ids[config.Middleware]}
			case *configv1.Service:
				m.Id, m.PipelineId, m.PolicyId = ids[k], ids[config.Pipeline], ids[config.Policy]
			case *configv1.Route:
				m.Id, m.ServiceId = ids[k], ids[config.Service]
				m.PipelineId, m.PolicyId = ids[config.Pipeline], ids[config.Policy]
				for _, b := range m.GetBackends() {
					b.ServiceId = ids[config.Service]
				}
			case *configv1.Policy:
				m.Id = ids[k]
			case *configv1.Consumer:
				m.Id = ids[k]
			}
			all = append(all, m)
		}
		commitAll(t, s, all...)
		for _, m := range all {
			settings += checkLeaves(t, s, m)
		}
	}
	if settings < 400 {
		t.Errorf("%d settings were looked for; there are more", settings)
	}
}

// checkLeaves asks the database for all values of a resource by their paths, and returns how many these are.
func checkLeaves(t *testing.T, s *Store, m config.Message) int {
	t.Helper()
	_, sqlite := s.dialect.(*embedded)
	var names, columns, want []string
	args := []any{m.GetId()}
	shown := map[string]bool{}
	eachLeaf(config.Redacted(m).ProtoReflect(), nil, func(path []string, _ string) {
		shown[strings.Join(path, ".")] = true
	})
	eachLeaf(m.ProtoReflect(), nil, func(path []string, value string) {
		if path[0] == "named_references" || !shown[strings.Join(path, ".")] {
			value = "" // only control planes know them, or nobody is shown them
		}
		names, want = append(names, strings.Join(path, ".")), append(want, value)
		if sqlite {
			args = append(args, pathOfSQLite(path))
			columns = append(columns, fmt.Sprintf("json_extract(resource, $%d)", len(args)))
		} else {
			args = append(args, path)
			columns = append(columns, fmt.Sprintf("resource #>> $%d", len(args)))
		}
	})
	got, into := make([]dbsql.NullString, len(want)), make([]any, len(want))
	for i := range got {
		into[i] = &got[i]
	}
	table := config.KindOfMessage(m).Plural()
	query := "SELECT " + strings.Join(columns, ", ") + " FROM " + table + " WHERE id = $1"
	if err := s.db.QueryRowContext(t.Context(), query, args...).Scan(into...); err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		if v.String != want[i] && !(sqlite && v.String == "1" && want[i] == "true") { // SQLite has no booleans
			t.Errorf("%s: %s is %q, want %q", table, names[i], v.String, want[i])
		}
	}
	return len(want)
}

func pathOfSQLite(path []string) string {
	out := "$"
	for _, p := range path {
		if _, err := strconv.Atoi(p); err == nil {
			out += "[" + p + "]"
		} else {
			out += `."` + p + `"`
		}
	}
	return out
}

// numbered fills messages with values of which no two are alike.
type numbered struct{ round, made int }

func (f *numbered) next() int { f.made++; return f.made }

func (f *numbered) fill(m protoreflect.Message) {
	switch v := m.Interface().(type) {
	case *timestamppb.Timestamp:
		v.Seconds = int64(1e9 + f.next())
		return
	case *structpb.Struct:
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if o := field.ContainingOneof(); o != nil && !o.IsSynthetic() && o.Fields().Get(f.round%o.Fields().Len()) != field {
			continue
		}
		switch {
		case field.IsMap():
			key := protoreflect.ValueOfString(fmt.Sprint("k", f.next())).MapKey()
			value := m.NewField(field).Map().NewValue()
			if field.MapValue().Message() != nil {
				f.fill(value.Message())
			} else {
				value = f.scalar(field.MapValue())
			}
			m.Mutable(field).Map().Set(key, value)
		case field.IsList():
			for list, n := m.Mutable(field).List(), 0; n < 2; n++ {
				if field.Message() != nil {
					f.fill(list.AppendMutable().Message())
				} else {
					list.Append(f.scalar(field))
				}
			}
		case field.Message() != nil:
			f.fill(m.Mutable(field).Message())
		default:
			m.Set(field, f.scalar(field))
		}
	}
}

func (f *numbered) scalar(field protoreflect.FieldDescriptor) protoreflect.Value {
	n := f.next()
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(n) << 32)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(n) << 32)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n) + 0.5)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fmt.Sprintf("of field %d of round %d", n, f.round))
	default:
		panic(fmt.Sprintf("say here what a value of %s is", field.FullName()))
	}
}

// eachLeaf calls f with the values that are in a message, as JSON's text, and their paths.
func eachLeaf(m protoreflect.Message, path []string, f func(path []string, value string)) {
	at := func(more ...string) []string { return append(append([]string{}, path...), more...) }
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := string(field.Name())
		leaf := func(field protoreflect.FieldDescriptor, v protoreflect.Value, path []string) {
			switch {
			case field.Message() == nil:
				f(path, v.String())
			case field.Message().FullName() == "google.protobuf.Timestamp":
				f(path, v.Message().Interface().(*timestamppb.Timestamp).AsTime().Format(time.RFC3339Nano))
			case field.Message().FullName() == "google.protobuf.Struct":
				f(append(path, "request", "set", "X-A"), "of the config")
			default:
				eachLeaf(v.Message(), path, f)
			}
		}
		switch {
		case field.IsMap():
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				leaf(field.MapValue(), v, at(name, key.String()))
				return true
			})
		case field.IsList():
			for i := range v.List().Len() {
				leaf(field, v.List().Get(i), at(name, strconv.Itoa(i)))
			}
		default:
			leaf(field, v, at(name))
		}
		return true
	})
}

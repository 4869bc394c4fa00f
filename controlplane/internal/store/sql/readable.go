package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// fillBatch is how many rows are filled in one transaction, which keeps writers out.
const fillBatch = 2000

// resourceJSON returns the column "resource": a resource without secrets, as JSON with the field names of files. What
// no JSON can be made of, which no valid resource has, is null.
func resourceJSON(shown config.Message) string {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(withoutInternal(shown))
	if err != nil {
		return "null"
	}
	return storable(raw)
}

// internalFields are the fields of each kind that only control planes know.
var internalFields = sync.OnceValue(func() map[config.Kind][]protoreflect.FieldDescriptor {
	found := map[config.Kind][]protoreflect.FieldDescriptor{}
	for _, k := range config.Kinds() {
		fields := config.New(k).ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			if proto.GetExtension(fields.Get(i).Options(), configv1.E_Use) == configv1.FieldUse_FIELD_USE_INTERNAL {
				found[k] = append(found[k], fields.Get(i))
			}
		}
	}
	return found
})

// withoutInternal returns a resource without its internal fields. It shares the others with m.
func withoutInternal(m config.Message) proto.Message {
	from := m.ProtoReflect()
	internal := internalFields()[config.KindOfMessage(m)]
	if !slices.ContainsFunc(internal, from.Has) {
		return m
	}
	out := from.New()
	from.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if !slices.Contains(internal, f) {
			out.Set(f, v)
		}
		return true
	})
	return out.Interface()
}

// fill writes the columns of the rows that another build has written, which are those without a resource as JSON.
// Replicas of that build may write more of them until they are upgraded; then these start, and fill what is left.
func (s *Store) fill(ctx context.Context) error {
	for _, k := range config.Kinds() {
		for more := true; more; {
			var err error
			if more, err = s.fillSome(ctx, k); err != nil {
				return s.fault(ctx, "fill "+k.Plural(), err)
			}
		}
	}
	return nil
}

// fillSome fills some rows of a kind, and reports whether there may be more.
func (s *Store) fillSome(ctx context.Context, k config.Kind) (more bool, err error) {
	t := tables()[k]
	w, err := beginWriting(ctx, s.db)
	if err != nil {
		return false, err
	}
	defer w.end()
	var there int
	switch err := w.tx.QueryRowContext(ctx, "SELECT 1 FROM "+k.Plural()+" WHERE resource IS NULL LIMIT 1").Scan(&there); {
	case errors.Is(err, dbsql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, err
	}
	if _, _, err := readHead(ctx, w.tx, s.dialect.lockHead()); err != nil {
		return false, err
	}
	var changes []config.Change
	q := fmt.Sprintf("SELECT body, %s FROM %s WHERE resource IS NULL LIMIT %d", t.settingsColumn(), k.Plural(), fillBatch)
	rows, err := w.tx.QueryContext(ctx, q)
	if err != nil {
		return false, err
	}
	err = s.eachEntry(ctx, rows, k, func(e *config.Entry) {
		changes = append(changes, config.Change{Kind: k, Before: e, After: e})
	})
	if err != nil {
		return false, err
	}
	if err := s.writeResources(ctx, w, changes); err != nil {
		return false, err
	}
	return len(changes) == fillBatch, w.tx.Commit()
}

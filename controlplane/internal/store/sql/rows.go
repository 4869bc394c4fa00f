package sql

import (
	"context"
	dbsql "database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// Each kind has a table with a column for everything that is queried or constrained, and the whole resource as its message in
// "body", so that nothing of it can be lost between a field and a column.

// table is where a kind is kept.
type table struct {
	name    string
	columns []string
	// row returns the values of the columns.
	row func(m config.Message) []any
	// children are the tables that hold a resource's lists.
	children []child
}

// child is a table of rows that belong to a resource and go with it.
type child struct {
	name    string
	columns []string
	rows    func(m config.Message) [][]any
}

var common = []string{"id", "name", "created_at", "updated_at", "version", "labels"}

func tables() map[config.Kind]table {
	return map[config.Kind]table{
		config.Policy: {"policies", []string{"timeout", "max_timeout", "max_request_bytes"}, func(m config.Message) []any {
			p := m.(*configv1.Policy)
			return []any{p.GetTimeout(), p.GetMaxTimeout(), p.MaxRequestBytes}
		}, nil},
		config.Certificate: {"certificates", []string{"hosts", "not_after"}, func(m config.Message) []any {
			c := m.(*configv1.Certificate)
			return []any{toJSON(c.GetHosts()), timeOf(c.GetNotAfter())}
		}, nil},
		config.Consumer: {"consumers", []string{"groups_in"}, func(m config.Message) []any {
			return []any{toJSON(m.(*configv1.Consumer).GetGroups())}
		}, nil},
		config.Middleware: {"middleware", []string{"type", "position", "enabled", "config"}, func(m config.Message) []any {
			w := m.(*configv1.Middleware)
			return []any{w.GetType(), int64(w.GetOrder()), w.GetEnabled(), toJSON(w.GetConfig().AsMap())}
		}, nil},
		config.Pipeline: {"pipelines", []string{"parallel", "timeout_ms", "is_global"}, func(m config.Message) []any {
			p := m.(*configv1.Pipeline)
			return []any{p.GetParallel(), int64(p.GetTimeoutMs()), p.GetGlobal()}
		}, []child{{"pipeline_middleware", []string{"pipeline_id", "seq", "middleware_id"}, func(m config.Message) [][]any {
			var rows [][]any
			for i, id := range m.(*configv1.Pipeline).GetMiddlewareIds() {
				rows = append(rows, []any{m.GetId(), int64(i), id})
			}
			return rows
		}}}},
		config.Service: {"services", []string{"protocol", "load_balancer_type", "pipeline_id", "policy_id"}, func(m config.Message) []any {
			s := m.(*configv1.Service)
			return []any{s.GetProtocol(), s.GetLoadBalancerType(), reference(s.GetPipelineId()), reference(s.GetPolicyId())}
		}, []child{{"service_endpoints", []string{"service_id", "seq", "host", "port", "weight"}, func(m config.Message) [][]any {
			var rows [][]any
			for i, e := range m.(*configv1.Service).GetEndpoints() {
				rows = append(rows, []any{m.GetId(), int64(i), e.GetHost(), int64(e.GetPort()), int64(config.Weight(e))})
			}
			return rows
		}}}},
		config.Route: {"routes", []string{"path", "methods", "hosts", "enabled", "priority", "pipeline_id", "policy_id"}, func(m config.Message) []any {
			r := m.(*configv1.Route)
			methods := r.GetMethods()
			if r.GetMethod() != "" {
				methods = []string{r.GetMethod()}
			}
			return []any{r.GetPath(), toJSON(methods), toJSON(r.GetHosts()), r.GetEnabled(), int64(r.GetPriority()), reference(r.GetPipelineId()), reference(r.GetPolicyId())}
		}, []child{{"route_backends", []string{"route_id", "seq", "service_id", "weight"}, backendRows}}},
	}
}

func backendRows(m config.Message) [][]any {
	r := m.(*configv1.Route)
	if id := r.GetServiceId(); id != "" {
		return [][]any{{m.GetId(), int64(0), id, int64(1)}}
	}
	var rows [][]any
	for i, b := range r.GetBackends() {
		weight := int64(1)
		if b.Weight != nil {
			weight = int64(b.GetWeight())
		}
		rows = append(rows, []any{m.GetId(), int64(i), b.GetServiceId(), weight})
	}
	return rows
}

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil || string(b) == "null" {
		return "[]"
	}
	return string(b)
}

func labelsJSON(m map[string]string) string {
	if len(m) == 0 {
		return "{}"
	}
	return toJSON(m)
}

func timeOf(t *timestamppb.Timestamp) any {
	if t == nil {
		return nil
	}
	return t.AsTime().UTC().Format(time.RFC3339Nano)
}

// reference is NULL for none, so that foreign keys hold.
func reference(id string) any {
	if id == "" {
		return nil
	}
	return id
}

// batchRows is how many rows one statement writes; both engines allow more parameters than that takes.
const batchRows = 400

// writeChanges brings the tables to what the changes lead to. Changed rows are removed and written anew: foreign keys are checked at
// the commit, and names may change places.
func writeChanges(ctx context.Context, tx *dbsql.Tx, changes []config.Change) error {
	all := tables()
	for _, k := range config.Kinds() {
		var gone []any
		for _, ch := range changes {
			if ch.Kind == k && ch.Before != nil {
				gone = append(gone, ch.ID())
			}
		}
		for part := range slices.Chunk(gone, batchRows) {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+all[k].name+" WHERE id IN "+placeholders(1, len(part)), part...); err != nil {
				return fmt.Errorf("remove %s: %w", k.Plural(), err)
			}
		}
	}
	for _, k := range config.Kinds() {
		if err := insert(ctx, tx, all[k], k, changes); err != nil {
			return fmt.Errorf("write %s: %w", k.Plural(), err)
		}
	}
	return nil
}

func insert(ctx context.Context, tx *dbsql.Tx, t table, k config.Kind, changes []config.Change) error {
	columns := slices.Concat(common, t.columns, []string{"body"})
	var rows [][]any
	below := make([][][]any, len(t.children))
	for _, ch := range changes {
		m := ch.After
		if ch.Kind != k || m == nil {
			continue
		}
		body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			return err
		}
		row := []any{m.GetId(), m.GetName(), timeOf(m.GetCreatedAt()), timeOf(m.GetUpdatedAt()), int64(m.GetVersion()), labelsJSON(m.GetLabels())}
		rows = append(rows, append(append(row, t.row(m)...), body))
		for i, c := range t.children {
			below[i] = append(below[i], c.rows(m)...)
		}
	}
	if err := insertRows(ctx, tx, t.name, columns, rows); err != nil {
		return err
	}
	for i, c := range t.children {
		if err := insertRows(ctx, tx, c.name, c.columns, below[i]); err != nil {
			return err
		}
	}
	return nil
}

func insertRows(ctx context.Context, tx *dbsql.Tx, table string, columns []string, rows [][]any) error {
	for part := range slices.Chunk(rows, batchRows) {
		var q strings.Builder
		q.WriteString("INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES ")
		args := make([]any, 0, len(part)*len(columns))
		for i, row := range part {
			if i > 0 {
				q.WriteString(", ")
			}
			q.WriteString(placeholders(len(args)+1, len(row)))
			args = append(args, row...)
		}
		if _, err := tx.ExecContext(ctx, q.String(), args...); err != nil {
			return err
		}
	}
	return nil
}

// placeholders returns "($n, $n+1, ...)".
func placeholders(first, n int) string {
	var b strings.Builder
	b.WriteByte('(')
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", first+i)
	}
	b.WriteByte(')')
	return b.String()
}

// readAll returns every resource as a creation, each kind after those that it refers to.
func readAll(ctx context.Context, tx *dbsql.Tx) ([]config.Change, error) {
	var changes []config.Change
	all := tables()
	for _, k := range config.Kinds() {
		rows, err := tx.QueryContext(ctx, "SELECT body FROM "+all[k].name)
		if err != nil {
			return nil, err
		}
		err = each(rows, func() error {
			var body dbsql.RawBytes
			if err := rows.Scan(&body); err != nil {
				return err
			}
			m := config.New(k)
			if err := proto.Unmarshal(body, m); err != nil {
				return fmt.Errorf("read %s: %w", k.Plural(), err)
			}
			changes = append(changes, config.Change{Kind: k, After: m})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return changes, nil
}

// each calls f for every row and closes rows.
func each(rows *dbsql.Rows, f func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := f(); err != nil {
			return err
		}
	}
	return rows.Err()
}

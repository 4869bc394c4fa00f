package sql

import (
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/match"
)

// Each kind has a table with a column for everything that is queried or constrained, the whole resource as its message
// in "body", so that nothing of it can be lost between a field and a column, and the same as JSON in "resource", for
// people and tools that read the database. The body has the bytes of the commit: hashes are of those, and a build that
// does not know all of the fields would serialise them in another order.
//
// What can be read as text has no secrets: it is made of the resource as the API shows it. Names and references are as
// they are, since they are constrained.

// table is where a kind is kept; its name is the kind's plural.
type table struct {
	columns []string
	// row returns the values of the columns of a resource, and of the same without secrets.
	row func(m, shown config.Message) []any
	// children are the tables that hold a resource's lists.
	children []child
	// settings says that the table has a column for a middleware's settings as they are serialised.
	settings bool
}

// child is a table of rows that belong to a resource and go with it.
type child struct {
	name    string
	columns []string
	rows    func(m, shown config.Message) [][]any
}

var common = []string{"id", "name", "created_at", "updated_at", "version", "labels"}

func tables() map[config.Kind]table {
	return map[config.Kind]table{
		config.Policy: {[]string{"timeout", "max_timeout", "max_request_bytes"}, func(_, shown config.Message) []any {
			p := shown.(*configv1.Policy)
			return []any{p.GetTimeout(), p.GetMaxTimeout(), p.MaxRequestBytes}
		}, nil, false},
		config.Certificate: {[]string{"hosts", "not_after"}, func(_, shown config.Message) []any {
			c := shown.(*configv1.Certificate)
			return []any{toJSON(c.GetHosts()), timeOf(c.GetNotAfter())}
		}, nil, false},
		config.Consumer: {[]string{"groups_in"}, func(_, shown config.Message) []any {
			return []any{toJSON(shown.(*configv1.Consumer).GetGroups())}
		}, nil, false},
		config.Middleware: {[]string{"type", "position", "enabled", "config"}, func(_, shown config.Message) []any {
			w := shown.(*configv1.Middleware)
			return []any{w.GetType(), int64(w.GetOrder()), w.GetEnabled(), toJSON(w.GetConfig().AsMap())}
		}, nil, true},
		config.Pipeline: {[]string{"parallel", "timeout_ms", "is_global"}, func(_, shown config.Message) []any {
			p := shown.(*configv1.Pipeline)
			return []any{p.GetParallel(), int64(p.GetTimeoutMs()), p.GetGlobal()}
		}, []child{{"pipeline_middleware", []string{"pipeline_id", "seq", "middleware_id"}, middlewareRows}}, false},
		config.Service: {[]string{"protocol", "load_balancer_type", "pipeline_id", "policy_id"}, func(
			m, shown config.Message,
		) []any {
			s, refs := shown.(*configv1.Service), m.(*configv1.Service)
			return []any{
				s.GetProtocol(), s.GetLoadBalancerType(), reference(refs.GetPipelineId()), reference(refs.GetPolicyId()),
			}
		}, []child{{
			"service_endpoints", []string{"service_id", "seq", "id", "host", "port", "weight"}, endpointRows,
		}}, false},
		config.Route: {[]string{
			"path", "methods", "hosts", "enabled", "priority", "service_id", "pipeline_id", "policy_id",
		}, func(m, shown config.Message) []any {
			r, refs := shown.(*configv1.Route), m.(*configv1.Route)
			methods := r.GetMethods()
			if r.GetMethod() != "" {
				methods = []string{r.GetMethod()}
			}
			return []any{
				indexed(r.GetPath()), toJSON(methods), toJSON(r.GetHosts()), r.GetEnabled(), int64(r.GetPriority()),
				reference(refs.GetServiceId()), reference(refs.GetPipelineId()), reference(refs.GetPolicyId()),
			}
		}, []child{{"route_backends", []string{"route_id", "seq", "service_id", "weight"}, backendRows}}, false},
	}
}

func middlewareRows(m, _ config.Message) [][]any {
	var rows [][]any
	for i, id := range m.(*configv1.Pipeline).GetMiddlewareIds() {
		rows = append(rows, []any{m.GetId(), int64(i), id})
	}
	return rows
}

func endpointRows(m, shown config.Message) [][]any {
	var rows [][]any
	for i, e := range m.(*configv1.Service).GetEndpoints() {
		host := shown.(*configv1.Service).GetEndpoints()[i].GetHost()
		id := withoutNUL(config.EndpointID(m.GetId(), e))
		rows = append(rows, []any{m.GetId(), int64(i), id, host, int64(e.GetPort()), int64(config.Weight(e))})
	}
	return rows
}

func backendRows(m, _ config.Message) [][]any {
	var rows [][]any
	for i, b := range m.(*configv1.Route).GetBackends() {
		rows = append(rows, []any{m.GetId(), int64(i), b.GetServiceId(), int64(config.BackendWeight(b))})
	}
	return rows
}

// toJSON returns a list or an object for a jsonb column, which can't hold U+0000; the body can.
func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil || string(b) == "null" {
		return "[]"
	}
	return storable(b)
}

// storable replaces U+0000 in JSON by U+FFFD.
func storable(b []byte) string {
	if !strings.Contains(string(b), nulEscape) {
		return string(b)
	}
	var out strings.Builder
	for i := 0; i < len(b); i++ {
		switch rest := b[i:]; {
		case strings.HasPrefix(string(rest[:min(len(rest), len(nulEscape))]), nulEscape):
			out.WriteString(`\ufffd`)
			i += len(nulEscape) - 1
		case b[i] == '\\': // what follows belongs to it
			out.Write(rest[:2])
			i++
		default:
			out.WriteByte(b[i])
		}
	}
	return out.String()
}

const nulEscape = `\u0000`

func labelsJSON(m map[string]string) string {
	if len(m) == 0 {
		return "{}"
	}
	return toJSON(m)
}

// indexed returns a path as an index of PostgreSQL can hold it: one that stands for a value of the environment has a
// length of its own.
func indexed(path string) string {
	if len(path) <= match.MaxPathLength {
		return path
	}
	return strings.ToValidUTF8(path[:match.MaxPathLength], "")
}

// timeOf is NULL for none.
func timeOf(t *timestamppb.Timestamp) any {
	if t == nil {
		return nil
	}
	return t.AsTime()
}

// reference is NULL for none, so that foreign keys hold.
func reference(id string) any {
	if id == "" {
		return nil
	}
	return id
}

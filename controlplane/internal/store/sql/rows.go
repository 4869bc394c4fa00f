package sql

import (
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// Each kind has a table with a column for everything that is queried or constrained, and the whole resource as its message in
// "body", so that nothing of it can be lost between a field and a column. The body has the bytes of the commit: hashes
// are of those, and a build that does not know all of the fields would serialise them in another order.

// table is where a kind is kept; its name is the kind's plural.
type table struct {
	columns []string
	// row returns the values of the columns.
	row func(m config.Message) []any
	// children are the tables that hold a resource's lists.
	children []child
	// settings says that the table has a column for a middleware's settings as they are serialised.
	settings bool
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
		config.Policy: {[]string{"timeout", "max_timeout", "max_request_bytes"}, func(m config.Message) []any {
			p := m.(*configv1.Policy)
			return []any{p.GetTimeout(), p.GetMaxTimeout(), p.MaxRequestBytes}
		}, nil, false},
		config.Certificate: {[]string{"hosts", "not_after"}, func(m config.Message) []any {
			c := m.(*configv1.Certificate)
			return []any{toJSON(c.GetHosts()), timeOf(c.GetNotAfter())}
		}, nil, false},
		config.Consumer: {[]string{"groups_in"}, func(m config.Message) []any {
			return []any{toJSON(m.(*configv1.Consumer).GetGroups())}
		}, nil, false},
		config.Middleware: {[]string{"type", "position", "enabled", "config"}, func(m config.Message) []any {
			w := m.(*configv1.Middleware)
			return []any{w.GetType(), int64(w.GetOrder()), w.GetEnabled(), toJSON(w.GetConfig().AsMap())}
		}, nil, true},
		config.Pipeline: {[]string{"parallel", "timeout_ms", "is_global"}, func(m config.Message) []any {
			p := m.(*configv1.Pipeline)
			return []any{p.GetParallel(), int64(p.GetTimeoutMs()), p.GetGlobal()}
		}, []child{{"pipeline_middleware", []string{"pipeline_id", "seq", "middleware_id"}, func(m config.Message) [][]any {
			var rows [][]any
			for i, id := range m.(*configv1.Pipeline).GetMiddlewareIds() {
				rows = append(rows, []any{m.GetId(), int64(i), id})
			}
			return rows
		}}}, false},
		config.Service: {[]string{"protocol", "load_balancer_type", "pipeline_id", "policy_id"}, func(m config.Message) []any {
			s := m.(*configv1.Service)
			return []any{s.GetProtocol(), s.GetLoadBalancerType(), reference(s.GetPipelineId()), reference(s.GetPolicyId())}
		}, []child{{"service_endpoints", []string{"service_id", "seq", "host", "port", "weight"}, func(m config.Message) [][]any {
			var rows [][]any
			for i, e := range m.(*configv1.Service).GetEndpoints() {
				rows = append(rows, []any{m.GetId(), int64(i), e.GetHost(), int64(e.GetPort()), int64(config.Weight(e))})
			}
			return rows
		}}}, false},
		config.Route: {[]string{
			"path", "methods", "hosts", "enabled", "priority", "pipeline_id", "policy_id",
		}, func(m config.Message) []any {
			r := m.(*configv1.Route)
			methods := r.GetMethods()
			if r.GetMethod() != "" {
				methods = []string{r.GetMethod()}
			}
			return []any{r.GetPath(), toJSON(methods), toJSON(r.GetHosts()), r.GetEnabled(), int64(r.GetPriority()), reference(r.GetPipelineId()), reference(r.GetPolicyId())}
		}, []child{{"route_backends", []string{"route_id", "seq", "service_id", "weight"}, backendRows}}, false},
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

// toJSON returns a list or an object for a jsonb column, which can't hold U+0000; the body can.
func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil || string(b) == "null" {
		return "[]"
	}
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

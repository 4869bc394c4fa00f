package admin

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// merged is RFC 7386, section 2, word for word.
func merged(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := target.(map[string]any)
	if !ok {
		t = map[string]any{}
	}
	for name, v := range p {
		if v == nil {
			delete(t, name)
		} else {
			t[name] = merged(t[name], v)
		}
	}
	return t
}

func tree(t *rapid.T, m proto.Message) map[string]any {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// withNulls makes some members of objects null.
func withNulls(t *rapid.T, v map[string]any) {
	for name, member := range v {
		if rapid.IntRange(0, 3).Draw(t, "null") == 0 {
			v[name] = nil
		} else if object, ok := member.(map[string]any); ok {
			withNulls(t, object)
		}
	}
}

// TestMergePatch holds what becomes of messages against what becomes of their JSON.
func TestMergePatch(t *testing.T) {
	for _, kind := range []config.Message{
		&configv1.Service{}, &configv1.Route{}, &configv1.Middleware{}, &configv1.Pipeline{}, &configv1.Policy{}, &configv1.Consumer{}, &configv1.Certificate{},
	} {
		t.Run(string(kind.ProtoReflect().Descriptor().Name()), rapid.MakeCheck(func(t *rapid.T) {
			a, b := kind.ProtoReflect().New(), kind.ProtoReflect().New()
			fill(t, a, 2)
			fill(t, b, 2)
			change := tree(t, b.Interface())
			withNulls(t, change)
			patch, err := structpb.NewStruct(change)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(merged(tree(t, a.Interface()), change))
			if err != nil {
				t.Fatal(err)
			}
			want := kind.ProtoReflect().New()
			if err := protojson.Unmarshal(raw, want.Interface()); err != nil {
				t.Skip(err) // two members of a oneof, of which messages can have one only
			}
			if err := mergePatch("", a, patch); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(a.Interface(), want.Interface()) {
				t.Fatalf("%v\nbecomes %v\nand not %v", patch, a.Interface(), want.Interface())
			}
		}))
	}
}

func TestPatch(t *testing.T) {
	const service = `{"name": "s", "labels": {"x": "1", "y": "2"}, "endpoints": [{"host": "127.0.0.1", "port": 9000}], "health_check_config": {"path": "/up", "interval": "2s"}}`
	for _, test := range []struct {
		name, patch string
		status      int
		want        string // in the reply, without blanks
		committed   bool
	}{
		{"nothing", `{}`, 200, `"labels":{"x":"1","y":"2"}`, false},
		{"a label removed", `{"labels": {"x": null}}`, 200, `"labels":{"y":"2"}`, true},
		{"a label added", `{"labels": {"z": "3"}}`, 200, `"labels":{"x":"1","y":"2","z":"3"}`, true},
		{"all labels removed", `{"labels": null}`, 200, `"labels":{}`, true},
		{"part of a message", `{"health_check_config": {"interval": null, "timeout": "1s"}}`, 200, `"path":"/up"`, true},
		{"a message removed", `{"health_check_config": null}`, 200, `"load_balancer_type":"round_robin","pipeline_id"`, true},
		{"an empty message", `{"connection_pool": {}}`, 200, `"connection_pool":{`, true},
		{"a list replaced", `{"endpoints": [{"host": "127.0.0.2", "port": 1}]}`, 200, `"host":"127.0.0.2"`, true},
		{"JSON's own names", `{"healthCheckConfig": {"path": "/down"}}`, 200, `"path":"/down"`, true},
		{"the version that is there", `{"version": 1, "protocol": "h2c"}`, 200, `"protocol":"h2c"`, true},
		{"another version", `{"version": 7, "protocol": "h2c"}`, 409, `VERSION_CONFLICT`, false},
		{"another version as a string", `{"version": "7", "protocol": "h2c"}`, 409, `VERSION_CONFLICT`, false},
		{"the version that is there as a string", `{"version": "1", "protocol": "h2c"}`, 200, `"protocol":"h2c"`, true},
		{"no version", `{"version": 1.5, "protocol": "h2c"}`, 400, `"field":"version"`, false},
		{"a version below 0", `{"version": -1, "protocol": "h2c"}`, 400, `"field":"version"`, false},
		{"a field by both of its names", `{"health_check_config": null, "healthCheckConfig": {"path": "/down"}}`, 400, `"field":"health_check_config"`, false},
		{"a field below by both of its names", `{"health_check_config": {"unhealthy_threshold": 2, "unhealthyThreshold": 3}}`, 400, `"field":"health_check_config.unhealthy_threshold"`, false},
		{"an unknown field", `{"protocoll": "h2c"}`, 400, `didyoumean\"protocol\"`, false},
		{"an unknown field below", `{"health_check_config": {"pth": "/x"}}`, 400, `"field":"health_check_config.pth"`, false},
		{"a wrong type", `{"endpoints": {"host": "127.0.0.2"}}`, 400, `"field":"endpoints"`, false},
		{"a wrong value", `{"connection_pool": {"max_connections": "many"}}`, 400, `"field":"connection_pool.max_connections"`, false},
		{"no name", `{"name": null, "protocol": "h2c"}`, 400, `"field":"name"`, false},
		{"an empty name", `{"name": ""}`, 400, `"field":"name"`, false},
		{"no id", `{"protocol": "h2c", "id": null}`, 400, `"field":"id"`, false},
		{"no object", `[]`, 400, `INVALID_ARGUMENT`, false},
		{"no body", ``, 200, `"labels":{"x":"1","y":"2"}`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAPI(t)
			a.must("POST", "/api/v1/config/services", service)
			r := a.call("PATCH", "/api/v1/config/services/s", test.patch)
			if r.status != test.status || !strings.Contains(strings.ReplaceAll(r.raw, " ", ""), test.want) {
				t.Errorf("got %d %s, want %d with %s", r.status, r.raw, test.status, test.want)
			}
			revisions := uint32(1)
			if test.committed {
				revisions = 2
			}
			if r := a.must("GET", "/api/v1/config/revisions", ""); uint32(r.Meta.Total) != revisions {
				t.Errorf("there are %d revisions", r.Meta.Total)
			}
		})
	}
}

// TestPatchOfOneof has routes' rewriting of paths, which is done in one of three ways.
func TestPatchOfOneof(t *testing.T) {
	for _, test := range []struct {
		name, patch string
		status      int
		want        string // in the reply, without blanks
	}{
		{"another way", `{"rewrite": {"path": "/x"}}`, 200, `"rewrite":{"path":"/x","host":"h.test"`},
		{"another way that is a message", `{"rewrite": {"regex": {"pattern": "a"}}}`, 200, `"rewrite":{"regex":{"pattern":"a"`},
		{"one way for another", `{"rewrite": {"prefix": null, "path": "/x"}}`, 200, `"rewrite":{"path":"/x","host":"h.test"`},
		{"one way removed that is not there", `{"rewrite": {"path": null}}`, 200, `"rewrite":{"prefix":"/b/","host":"h.test"`},
		{"two ways", `{"rewrite": {"path": "/x", "prefix": "/y"}}`, 400, `"field":"rewrite.prefix"`},
		{"two ways, one a message", `{"rewrite": {"regex": {}, "prefix": "/y"}}`, 400, `"field":"rewrite.regex"`},
		{"two ways in a list", `{"headers": [{"name": "a", "exact": "1", "present": true}]}`, 400, `"field":"headers"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAPI(t)
			a.must("POST", "/api/v1/config/services", `{"name": "s", "endpoints": [{"host": "127.0.0.1", "port": 9000}]}`)
			a.must("POST", "/api/v1/config/routes", `{"name": "r", "path": "/a/*", "service_id": "s", "rewrite": {"prefix": "/b/", "host": "h.test"}}`)
			r := a.call("PATCH", "/api/v1/config/routes/r", test.patch)
			if r.status != test.status || !strings.Contains(strings.ReplaceAll(r.raw, " ", ""), test.want) {
				t.Errorf("got %d %s, want %d with %s", r.status, r.raw, test.status, test.want)
			}
		})
	}
}

package extauth

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"gateway.internal/dataplane/internal/exchange"
	authv3 "gateway.internal/proto/gen/envoy/service/auth/v3"
)

func field(name, value string, action int32) *authv3.HeaderValueOption {
	return &authv3.HeaderValueOption{Header: &authv3.HeaderValue{Key: name, Value: value}, AppendAction: action}
}

// shown shows a header's fields.
func shown(h *exchange.Header) string {
	var b strings.Builder
	for name, value := range h.All() {
		b.WriteString(name + "=" + value + ";")
	}
	return b.String()
}

// TestRefusalsStayRefusals leaves out of a refusal what can't be said.
func TestRefusalsStayRefusals(t *testing.T) {
	good := field("X-A", "1", 0)
	for _, c := range []struct {
		name   string
		status int32
		fields []*authv3.HeaderValueOption
		want   int
		cut    bool
	}{
		{"what can be said", 401, []*authv3.HeaderValueOption{good}, 401, false},
		{"no status", 0, []*authv3.HeaderValueOption{good}, 403, false},
		{"a status that is none", 700, []*authv3.HeaderValueOption{good}, 403, true},
		{"an interim status", 101, []*authv3.HeaderValueOption{good}, 403, true},
		{"a negative status", -1, []*authv3.HeaderValueOption{good}, 403, true},
		{"a long value", 401, []*authv3.HeaderValueOption{field("X-B", strings.Repeat("x", 9<<10), 0), good}, 401, true},
		{"a line's end", 401, []*authv3.HeaderValueOption{field("X-B", "1\n", 0), good}, 401, true},
		{"a name that is none", 401, []*authv3.HeaderValueOption{field("X B", "1", 0), good}, 401, true},
		{"an unknown action", 401, []*authv3.HeaderValueOption{field("X-B", "1", 9), good}, 401, true},
	} {
		for _, allows := range []bool{false, true} {
			a, err := (&step{allows: allows}).decisionOf(&authv3.CheckResponse{
				Status: &authv3.Status{Code: 7},
				HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
					Status: &authv3.HttpStatus{Code: c.status}, Headers: c.fields, Body: "no",
				}},
			})
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			fields := shown(&a.header)
			if a.passes || a.failed || a.status != c.want || string(a.body) != "no" || fields != "X-A=1;" || a.cut != c.cut {
				t.Errorf("%s: %+v", c.name, a)
			}
		}
	}
}

// TestRepeatedFieldsOfRefusals has all values of a field reach the client, as with Envoy.
func TestRepeatedFieldsOfRefusals(t *testing.T) {
	first, second, old := field("Set-Cookie", "a=1", 0), field("Set-Cookie", "b=2", 0), field("Set-Cookie", "c=3", 0)
	old.Append = wrapperspb.Bool(false)
	a := &answer{}
	a.refusal(&authv3.DeniedHttpResponse{Headers: []*authv3.HeaderValueOption{
		first, second, old, field("X-A", "1", 0), field("X-A", "2", 2),
	}}, 403)
	if got := shown(&a.header); got != "Set-Cookie=a=1;Set-Cookie=b=2;Set-Cookie=c=3;X-A=2;" {
		t.Error(got)
	}
}

// TestPermissionsThatCannotBeSaid are errors, unless errors pass: then all the rest counts, and a field that can't be
// set takes the client's own away.
func TestPermissionsThatCannotBeSaid(t *testing.T) {
	for _, bad := range []*authv3.HeaderValueOption{field("X-User", "a\r\nb", 0), field("X-User", "a", 9)} {
		m := &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*authv3.HeaderValueOption{
				bad, field("X B", "1", 0), field("X-More", "\n", 1), field("X-A", "1", 0),
			},
			HeadersToRemove:      []string{"X-Gone"},
			ResponseHeadersToAdd: []*authv3.HeaderValueOption{field("X-C", "\x00", 0), field("X-D", "1", 0)},
		}}}
		if a, err := (&step{}).decisionOf(m); err == nil {
			t.Errorf("%+v", a)
		}
		a, err := (&step{allows: true, taken: []string{"X-Taken"}}).decisionOf(m)
		if err != nil || !a.passes || !a.cut {
			t.Fatalf("%+v, %v", a, err)
		}
		var request, response exchange.Header
		for _, name := range []string{"X-User", "X-Gone", "X-Taken", "X-More", "X-Other"} {
			request.Add(name, "client")
		}
		for i := range a.request {
			a.request[i].apply(&request)
		}
		for i := range a.response {
			a.response[i].apply(&response)
		}
		if got := shown(&request); got != "X-More=client;X-Other=client;X-A=1;" {
			t.Errorf("the request has %s", got)
		}
		if got := shown(&response); got != "X-D=1;" {
			t.Errorf("the response has %s", got)
		}
	}
}

package admin

import (
	"fmt"
	"strings"
	"testing"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// TestLimits lists those of policies and middleware, and asks nodes what is left of one.
func TestLimits(t *testing.T) {
	a := newAPI(t)
	const at = "/api/v1/limits"
	a.must("POST", "/api/v1/config/policies",
		`{"name":"p","rate_limits":[{"name":"client","limit":20,"key":["client_ip","route"]},{"name":"all","limit":5}]}`)
	a.must("POST", "/api/v1/config/middleware", `{"name":"all","type":"rate_limit","config":{"limit":100,"window":"1m"}}`)
	list := strings.ReplaceAll(fmt.Sprint(a.must("GET", at, "").raw), " ", "")
	for _, want := range []string{
		`"policy":"p"`, `"limit":"client"`, `"middleware":"all"`, `"window":"1m"`, `"requests":20`,
		`"key":["client_ip","route"]`, `"algorithm":"token_bucket"`, `"store":"local"`,
	} {
		if !strings.Contains(list, want) {
			t.Errorf("the list lacks %s: %s", want, list)
		}
	}
	n, err := a.server.fleet.Connect(&streamv1.Hello{NodeId: "n1", InstanceId: "i"}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, reset := range []bool{false, true} {
		answered := make(chan *streamv1.LimitDirective, 1)
		go func() {
			<-n.Directed()
			for _, d := range n.Directives() {
				if l := d.GetLimit(); l != nil {
					n.Report(&streamv1.Report{Limits: []*streamv1.LimitStatus{{Question: l.GetQuestion(), Left: 7,
						ResetMicros: 1500}}})
					answered <- l
				}
			}
		}()
		method, call := "GET", at+"/client?key=192.0.2.7&key=r"
		if reset {
			method, call = "POST", at+"/client/reset?key=192.0.2.7&key=r"
		}
		said := strings.ReplaceAll(fmt.Sprint(a.must(method, call, "").raw), " ", "")
		if !strings.Contains(said, `"node_id":"n1"`) || !strings.Contains(said, `"left":`) ||
			!strings.Contains(said, `"reset_ms":`) {
			t.Errorf("it says %s", said)
		}
		d := <-answered
		if d.GetPolicy() != "p" || d.GetLimit() != "client" || d.GetReset_() != reset ||
			fmt.Sprint(d.GetKey()) != "[192.0.2.7 r]" {
			t.Errorf("the node is asked %v", d)
		}
	}
	for _, c := range []struct{ call, code, message string }{
		{
			at + "/clients", "NOT_FOUND",
			`there is no limit "clients"; there are client of policy p, all of policy p, all of middleware all`,
		},
		{at + "/all", "INVALID_ARGUMENT", "is the name of several: give policy or middleware"},
		{at + "/client?key=a", "INVALID_ARGUMENT", "has 1 parts; the limit counts client_ip, route apart"},
		{at + "/client?key=a&key=" + strings.Repeat("b", 9000), "INVALID_ARGUMENT", "are allowed"},
	} {
		if r := a.call("GET", c.call, ""); r.Error.Code != c.code || !strings.Contains(r.Error.Message, c.message) {
			t.Errorf("%.60s: %s %s, want %s %s", c.call, r.Error.Code, r.Error.Message, c.code, c.message)
		}
	}
}

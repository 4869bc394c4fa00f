package headers

import (
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

func TestChanges(t *testing.T) {
	s, err := New(&middlewarev1.Headers{
		Request:  &middlewarev1.HeaderChanges{Set: map[string]string{"X-A": "new"}, Add: map[string]string{"X-B": "2"}, Remove: []string{"x-secret"}},
		Response: &middlewarev1.HeaderChanges{Remove: []string{"Server"}},
	}, nil)

	if err != nil {
		t.Fatal(err)
	}
	var x exchange.Exchange
	h := &x.Request.Header
	h.Add("X-a", "old")
	h.Add("X-A", "older")
	h.Add("X-B", "1")
	h.Add("X-Secret", "s")
	s.Request(&x)
	var got string
	for n, v := range h.All() {
		got += n + "=" + v + " "
	}
	if got != "X-A=new X-B=1 X-B=2 " {
		t.Errorf("got %s", got)
	}
	x.Response.Header.Add("server", "x")
	s.Response(&x)
	if x.Response.Header.Len() != 0 {
		t.Error("the response keeps Server")
	}
	if _, err := New(&middlewarev1.Cors{}, nil); err == nil {
		t.Error("took another type's settings")
	}
}

// A variable that has no value leaves no field, and nothing of what the client said there.
func TestVariables(t *testing.T) {
	s, err := New(&middlewarev1.Headers{
		Request:  &middlewarev1.HeaderChanges{Set: map[string]string{"X-Client": "${client.address}", "X-Subject": "${tls.client.subject}", "X-Plain": "$${a}"}, Add: map[string]string{"X-Consumer": "${consumer}"}},
		Response: &middlewarev1.HeaderChanges{Set: map[string]string{"X-Served": "${service} ${response.status}"}},
	}, nil)

	if err != nil {
		t.Fatal(err)
	}
	x := exchange.Exchange{}
	x.ClientText = "192.0.2.7"
	x.Service = "s"
	x.Request.Header.Add("X-Subject", "CN=forged")
	x.Request.Header.Add("X_Subject", "CN=forged")
	s.Request(&x)
	var got string
	for n, v := range x.Request.Header.All() {
		got += n + "=" + v + " "
	}
	if got != "X-Client=192.0.2.7 X-Plain=${a} " {
		t.Errorf("got %s", got)
	}
	x.Response.Status = 204
	s.Response(&x)
	if v := x.Response.Header.Get("X-Served"); v != "s 204" {
		t.Errorf("got %q", v)
	}
	if _, err := New(&middlewarev1.Headers{Request: &middlewarev1.HeaderChanges{Set: map[string]string{"X-A": "${nothing.known}"}}}, nil); err == nil {
		t.Error("took an unknown variable")
	}
}

func TestNoAllocation(t *testing.T) {
	s, _ := New(&middlewarev1.Headers{Request: &middlewarev1.HeaderChanges{Set: map[string]string{"X-A": "1", "X-C": "${client.address}"}, Remove: []string{"X-B"}}}, nil)
	x := exchange.Exchange{}
	x.ClientText = "192.0.2.7"
	if n := testing.AllocsPerRun(100, func() {
		x.Request.Header.Reset()
		x.Texts = x.Texts[:0]
		x.Request.Header.Add("X-B", "1")
		s.Request(&x)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

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
	})
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
	if _, err := New(&middlewarev1.Cors{}); err == nil {
		t.Error("took another type's settings")
	}
}

func TestNoAllocation(t *testing.T) {
	s, _ := New(&middlewarev1.Headers{Request: &middlewarev1.HeaderChanges{Set: map[string]string{"X-A": "1"}, Remove: []string{"X-B"}}})
	var x exchange.Exchange
	if n := testing.AllocsPerRun(100, func() {
		x.Request.Header.Reset()
		x.Request.Header.Add("X-B", "1")
		s.Request(&x)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

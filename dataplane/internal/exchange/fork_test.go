package exchange

import (
	"reflect"
	"testing"
)

// TestCopyOfARequest has all of it but its fields, whatever a request gets besides.
func TestCopyOfARequest(t *testing.T) {
	var src, got Request
	fill(reflect.ValueOf(&src).Elem(), 0)
	got.copyFrom(&src)
	got.Header, got.Trailer = src.Header, src.Trailer
	if !reflect.DeepEqual(got, src) {
		t.Errorf("%+v, want %+v", got, src)
	}
}

// TestCopiesWhileTrailersCome copies an exchange, for an attempt and for a step, while its request's trailers come: the
// race detector sees who reads them.
func TestCopiesWhileTrailersCome(t *testing.T) {
	var x, b Exchange
	var f Fork
	x.Request.Method, x.Request.Host = "POST", "a"
	x.Request.Header.Append(Field{Name: "x-a", Value: "1"})
	came := make(chan struct{})
	go func() {
		defer close(came)
		x.Request.Trailer.Append(Field{Name: "x-sum", Value: "1"})
	}()
	x.Branch(&b, nil)
	x.Fork(&f, t.Context())
	<-came
	for _, req := range []*Request{&b.Request, &f.X.Request} {
		if req.Method != "POST" || req.Host != "a" || req.Header.Len() != 1 || req.Trailer.Len() != 0 {
			t.Errorf("the copy: %+v", req)
		}
	}
}

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

// TestFieldsThatForksFindUndecided are the client's own: not those that were set before, nor those that a step of the
// same pipeline sets.
func TestFieldsThatForksFindUndecided(t *testing.T) {
	var x Exchange
	x.Request.Header.Set("x-before", "1")
	x.Request.Header.Add("X_Beside", "forged")
	x.Request.Header.Add("x-other", "forged")
	var first, second Fork
	x.Fork(&first, t.Context())
	x.Fork(&second, t.Context())
	first.X.Request.Header.Set("x-beside", "2")
	for _, name := range []string{"X-Before", "X-Beside", "X-Other"} {
		second.X.Request.Header.DelUndecided(name)
	}
	first.Join(&x)
	second.Join(&x)
	h := &x.Request.Header
	if h.Len() != 2 || h.Get("x-before") != "1" || h.Get("x-beside") != "2" {
		t.Errorf("%v", h.Fields())
	}
}

// TestPrincipalsOfForks come together as those of steps that follow one another do.
func TestPrincipalsOfForks(t *testing.T) {
	for _, c := range []struct {
		first, second, want string
		verdict             Verdict
	}{
		{"", "", "", Continue}, {"shop", "", "shop", Continue}, {"", "shop", "shop", Continue},
		{"shop", "other", "shop", Stop},
	} {
		var x Exchange
		x.Principal = &Principal{Groups: []string{"before"}}
		forks := make([]Fork, 2)
		for i, name := range []string{c.first, c.second} {
			x.Fork(&forks[i], t.Context())
			forks[i].X.Identify(&Principal{Consumer: name, Groups: []string{string(rune('a' + i))}})
		}
		v := forks[0].Join(&x)
		if v == Continue {
			v = forks[1].Join(&x)
		}
		if v != c.verdict || x.Principal.Consumer != c.want {
			t.Errorf("%q and %q: %v, as %+v", c.first, c.second, v, x.Principal)
		}
		if v == Continue && len(x.Principal.Groups) != 3 || v == Stop && x.Response.Status != 403 {
			t.Errorf("%q and %q: %d, as %+v", c.first, c.second, x.Response.Status, x.Principal)
		}
	}
}

package exchange

import (
	"reflect"
	"testing"
	"unsafe"

	"gateway.internal/shared/match"
)

// fill sets everything in v that is not set, unexported fields included, as far as values of its type can be made up.
func fill(v reflect.Value, depth int) {
	if !v.CanSet() {
		v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.String:
		v.SetString("left")
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), depth)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), depth)
		}
	case reflect.Pointer:
		if depth < 3 {
			v.Set(reflect.New(v.Type().Elem()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), depth+1)
		}
	}
}

// TestNothingIsLeft fills all that an exchange has and looks for it after Reset.
func TestNothingIsLeft(t *testing.T) {
	var x Exchange
	fill(reflect.ValueOf(&x).Elem(), 0)
	x.Params = match.Params{} // has tests of its own
	x.Down, x.ended = Downstream(nil), t.Context()
	x.Reset()
	for name, h := range map[string]*Header{
		"request": &x.Request.Header, "request trailer": &x.Request.Trailer,
		"response": &x.Response.Header, "response trailer": &x.Response.Trailer,
	} {
		if h.Len() != 0 || len(h.decided) != 0 || h.log != nil {
			t.Errorf("%s: %+v", name, *h)
		}
		if cap(h.fields) == 0 || cap(h.decided) == 0 {
			t.Errorf("%s: its memory is not kept", name)
		}
		*h = Header{}
	}
	left := reflect.ValueOf(&x.state).Elem()
	for i := range left.NumField() {
		if !left.Field(i).IsZero() {
			t.Errorf("%s is left: %v", left.Type().Field(i).Name, left.Field(i))
		}
	}
	if len(x.facts) != 0 || cap(x.facts) == 0 || x.facts[:1][0] != (Fact{}) {
		t.Errorf("of facts %v are left, or their memory is not kept", x.facts[:cap(x.facts)])
	}
	if len(x.Texts) != 0 || cap(x.Memory[0]) == 0 || cap(x.Memory[1]) == 0 || cap(x.ForwardedMemory) == 0 {
		t.Error("memory that is kept for the next exchange is not, or what it holds is")
	}
}

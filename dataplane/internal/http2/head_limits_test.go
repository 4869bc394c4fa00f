package http2

import (
	"fmt"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
)

// A head that is larger than allowed is refused as one request's: the connection goes on. Cookies count as the one
// field that they become.
func TestHeadsThatAreTooLarge(t *testing.T) {
	crumbs := func(n, size int) (fields []string) {
		for i := range n {
			fields = append(fields, "cookie", fmt.Sprintf("c%03d=%s", i, strings.Repeat("v", size)))
		}
		return fields
	}
	many := func(n int) (fields []string) {
		for i := range n {
			fields = append(fields, fmt.Sprint("x-", i), "v")
		}
		return fields
	}
	for _, c := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"as many fields as allowed, with the host", many(49), "200"},
		{"one more", many(50), "431"},
		{"many cookies, and as many other fields as allowed", append(many(48), crumbs(140, 10)...), "200"},
		{"as large as one field may be, in cookies", crumbs(1000, 50), "200"},
		{"more than that", crumbs(1200, 50), "431"},
		{"one large field", []string{"x", strings.Repeat("~", 64<<10)}, "431"},
		{"one field of more than is read", []string{"x", strings.Repeat("~", 3*64<<10)}, "goaway ENHANCE_YOUR_CALM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := start(t).talk()
			before := k.ask("POST", "/", false)
			id := k.next
			k.write(func(f *xhttp2.Framer) {
				k.next += 2
				block := k.fields(append([]string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/bytes/1"}, c.fields...)...)
				for first := true; len(block) > 0; first = false {
					part := block[:min(len(block), maxFrameBytes)]
					block = block[len(part):]
					if first {
						_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: part, EndHeaders: len(block) == 0, EndStream: true})
					} else {
						_ = f.WriteContinuation(id, len(block) == 0, part)
					}
				}
			})
			if got := k.outcome(id); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			k.finish(before)
			if got := k.outcome(before); got != "200" && !strings.HasPrefix(c.want, "goaway") {
				t.Errorf("another request of the connection: %s", got)
			}
		})
	}
}

// The crumbs of cookies become one field, in their order.
func TestCookiesBecomeOneField(t *testing.T) {
	r := start(t)
	w := r.raw()
	var want []string
	var fields []string
	for i := range 140 {
		want = append(want, fmt.Sprint("c=", i))
		fields = append(fields, "cookie", want[i])
	}
	w.get(1, "/", append(fields, "x", "1")...)
	for {
		f, err := w.f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := f.(*xhttp2.HeadersFrame); ok {
			if got := string(h.HeaderBlockFragment()); !strings.Contains(got, strings.Join(want, "; ")) {
				t.Errorf("%q", got)
			}
			return
		}
	}
}

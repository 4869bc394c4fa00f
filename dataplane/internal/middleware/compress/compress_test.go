package compress

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// client is the side that a step stands before.
type client struct {
	exchange.Downstream
	got     []byte
	parts   int
	last    bool
	aborted bool
	err     error
}

func (c *client) WriteHead(_ *exchange.Exchange, b []byte, last bool) error {
	return c.WriteBody(nil, b, last)
}

func (c *client) WriteBody(_ *exchange.Exchange, b []byte, last bool) error {
	if c.last {
		return errors.New("there is more after the end")
	}
	c.got, c.last = append(c.got, b...), last
	c.parts++
	return c.err
}

func (c *client) Abort() { c.aborted = true }

func newStep(t testing.TB, m *middlewarev1.Compress) *step {
	s, err := New(m, &pipeline.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	return s.(*step)
}

func response(s *step, accept, contentType string, c *client) *exchange.Exchange {
	x := &exchange.Exchange{}
	x.Down = c
	x.Request.Method = "GET"
	x.Request.Header.Add("Accept-Encoding", accept)
	s.Request(x)
	answer(x, contentType)
	return x
}

func answer(x *exchange.Exchange, contentType string) {
	x.Response.Header.Reset()
	x.Response.Status, x.Response.ContentLength = 200, -1
	x.Response.Header.Append(exchange.Field{Name: "Content-Type", Value: contentType, Known: exchange.ContentType})
}

func TestSettings(t *testing.T) {
	if _, err := New(&middlewarev1.Cors{}, &pipeline.Environment{}); err == nil {
		t.Error("took another type's settings")
	}
	if _, err := New(&middlewarev1.Compress{Algorithms: []string{"deflate"}}, &pipeline.Environment{}); err == nil {
		t.Error("took an unknown coding")
	}
	s := newStep(t, &middlewarev1.Compress{Algorithms: []string{"gzip", "br"}})
	c := &client{}
	x := response(s, "zstd, br, gzip", "text/plain", c)
	s.Response(x)
	if err := x.Down.WriteHead(x, make([]byte, 2000), true); err != nil || x.Response.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%v, %v", err, x.Response.Header.Fields())
	}
}

func TestTypes(t *testing.T) {
	standard := newStep(t, &middlewarev1.Compress{})
	own := newStep(t, &middlewarev1.Compress{Types: []string{"image/svg+xml", "application/*+json", "text/*"}})
	any := newStep(t, &middlewarev1.Compress{Types: []string{"*/*"}})
	for contentType, want := range map[string][3]bool{
		"text/html; charset=utf-8":        {true, true, true},
		"TEXT/CSS":                        {true, true, true},
		"application/json":                {true, false, true},
		"application/problem+json":        {true, true, true},
		"application/+json":               {true, true, true},
		"application/json+a":              {false, false, true},
		"image/svg+xml":                   {true, true, true},
		"image/png":                       {false, false, true},
		"video/mp4":                       {false, false, true},
		"application/gzip":                {false, false, true},
		"application/grpc":                {false, false, false},
		"application/grpc-web-text+proto": {false, false, false},
		"text":                            {false, false, false},
		"":                                {false, false, false},
	} {
		if got := [3]bool{standard.encodes(contentType), own.encodes(contentType), any.encodes(contentType)}; got != want {
			t.Errorf("%q: %v", contentType, got)
		}
	}
}

// A long body is not encoded where other connections wait for it, but one that is not encoded at all may go on there.
func TestLongWork(t *testing.T) {
	s := newStep(t, &middlewarev1.Compress{})
	for _, c := range []struct {
		accept, contentType string
		bytes               int
		want                bool
	}{
		{"gzip", "text/plain", maxInLoop + 1, true}, {"gzip", "text/plain", maxInLoop, false},
		{"", "text/plain", 60_000, false}, {"gzip", "image/png", 60_000, false},
	} {
		if got := s.WorksOn(response(s, c.accept, c.contentType, &client{}), c.bytes); got != c.want {
			t.Errorf("%v: %v", c, got)
		}
	}
}

// What stands between is gone as soon as it has nothing to do: the rest of such a body may then be moved inside the
// kernel.
func TestStandsNoLongerThanItHasTo(t *testing.T) {
	s := newStep(t, &middlewarev1.Compress{})
	broken := errors.New("broken")
	for name, run := range map[string]func(x *exchange.Exchange, c *client) error{
		"not encoded": func(x *exchange.Exchange, _ *client) error {
			x.Response.Header.Set("Cache-Control", "no-transform")
			return x.Down.WriteHead(x, nil, false)
		},
		"whole": func(x *exchange.Exchange, _ *client) error { return x.Down.WriteHead(x, make([]byte, 9000), true) },
		"ended": func(x *exchange.Exchange, _ *client) error {
			err := x.Down.WriteHead(x, nil, false)
			return errors.Join(err, x.Down.WriteBody(x, []byte("a"), false), x.Down.WriteBody(x, nil, true))
		},
		"aborted": func(x *exchange.Exchange, c *client) error {
			err := x.Down.WriteHead(x, []byte("a"), false)
			if x.Down.Abort(); !c.aborted {
				return errors.New("the client was not told")
			}
			return err
		},
		"client gone": func(x *exchange.Exchange, c *client) error {
			c.err = broken
			if err := x.Down.WriteHead(x, []byte("a"), false); err != broken {
				return fmt.Errorf("got %w", err)
			}
			return nil
		},
	} {
		c := &client{}
		x := response(s, "gzip", "text/plain", c)
		s.Response(x)
		if _, is := x.Down.(*down); !is {
			t.Fatalf("%s: nothing stands there", name)
		}
		if err := run(x, c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if x.Down != exchange.Downstream(c) {
			t.Errorf("%s: it still stands there", name)
		}
	}
}

// Every part comes out by itself, in one piece where it fits.
func TestParts(t *testing.T) {
	s := newStep(t, &middlewarev1.Compress{})
	for _, accept := range []string{"gzip", "br", "zstd"} {
		c := &client{}
		x := response(s, accept, "text/plain", c)
		s.Response(x)
		if err := x.Down.WriteHead(x, nil, false); err != nil || c.parts != 1 || len(c.got) > 0 {
			t.Fatalf("%s: the head: %v, %d parts, %d bytes", accept, err, c.parts, len(c.got))
		}
		for i := range 5 {
			before := len(c.got)
			if err := x.Down.WriteBody(x, fmt.Appendf(nil, "part %d", i), false); err != nil || c.parts != i+2 || len(c.got) == before {
				t.Fatalf("%s: part %d: %v, %d parts, %d bytes", accept, i, err, c.parts, len(c.got)-before)
			}
		}
		if err := x.Down.WriteBody(x, nil, true); err != nil || !c.last {
			t.Errorf("%s: the end: %v", accept, err)
		}
	}
}

func TestTags(t *testing.T) {
	s := newStep(t, &middlewarev1.Compress{})
	s.tags.remember(`"strong"`, strong)
	s.tags.remember(`"weak"`, weak)
	for sent, want := range map[string]string{
		`"a"`:                      `"a"`,
		`W/"a"`:                    `W/"a", "a"`,
		`W/"strong"`:               `"strong"`,
		`W/"weak"`:                 `W/"weak"`,
		`W/"weak",W/"strong" , ""`: `W/"weak", "strong", ""`,
		`W/"a,b", "c"`:             `W/"a,b", "a,b", "c"`,
		`*`:                        `*`,
		`W/"a`:                     `W/"a`,
		`W/"a", b`:                 `W/"a", b`,
		`w/"a", W/"b"`:             `w/"a", W/"b"`,
		"":                         "",
	} {
		var x exchange.Exchange
		x.Request.Method = "GET"
		x.Request.Header.Add("If-None-Match", sent)
		s.Request(&x)
		if got := x.Request.Header.Get("If-None-Match"); got != want {
			t.Errorf("%s: %s, want %s", sent, got, want)
		}
		x.Request.Header.Reset()
		x.Request.Method = "PUT"
		x.Request.Header.Add("If-None-Match", sent)
		s.Request(&x)
		if got := x.Request.Header.Get("If-None-Match"); got != sent {
			t.Errorf("PUT %s: %s", sent, got)
		}
	}
}

// FuzzTags sends any If-None-Match. Whatever becomes of it, a service that compares weakly sees the same tags.
func FuzzTags(f *testing.F) {
	for _, s := range []string{`W/"a", "b"`, `W/"a,W/"`, `,, W/"" ,`, `W/"a"W/"b"`, `"a" W/"b"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		s := newStep(t, &middlewarev1.Compress{})
		s.tags.remember(`"a"`, strong)
		s.tags.remember(`"b"`, weak)
		var x exchange.Exchange
		x.Request.Method = "GET"
		x.Request.Header.Add("If-None-Match", sent)
		s.Request(&x)
		got := x.Request.Header.Get("If-None-Match")
		if len(got) > 2*len(sent)+2*maxTranslated {
			t.Errorf("%q became %q", sent, got)
		}
		seen := func(list string) map[string]bool {
			all := map[string]bool{}
			for i, part := range bytes.Split([]byte(list), []byte(`"`)) {
				if i%2 == 1 {
					all[string(part)] = true
				}
			}
			return all
		}
		if a, b := seen(sent), seen(got); fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%q became %q", sent, got)
		}
	})
}

package decompress

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"gateway.internal/dataplane/internal/coding"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
)

// client is the side that a step stands before: it gives the body in parts, the first of which has come with the head.
type client struct {
	exchange.Downstream
	parts [][]byte
	err   error // at the end; nil: io.EOF
	limit int64
}

func (c *client) LimitBody(bytes int64) { c.limit = bytes }

func (c *client) BufferedBody() ([]byte, bool, error) {
	if len(c.parts) == 0 {
		return nil, c.err == nil, nil
	}
	part := c.parts[0]
	c.parts = c.parts[1:]
	return part, len(c.parts) == 0 && c.err == nil, nil
}

func (c *client) NextBody() ([]byte, error) {
	if len(c.parts) == 0 {
		if c.err != nil {
			return nil, c.err
		}
		return nil, io.EOF
	}
	part := c.parts[0]
	c.parts = c.parts[1:]
	return part, nil
}

func encode(c exchange.Coding, b []byte) []byte {
	var out bytes.Buffer
	e := coding.TakeEncoder(c, &out)
	_, _ = e.Write(b)
	_ = e.Close()
	coding.GiveEncoder(c, e)
	return out.Bytes()
}

func newStep(t testing.TB, m *middlewarev1.Decompress) *step {
	s, err := New(m, &pipeline.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	return s.(*step)
}

// readAll reads x's body as the proxy does.
func readAll(x *exchange.Exchange) (all []byte, err error) {
	part, whole, err := x.Down.BufferedBody()
	all = append(all, part...)
	for !whole && err == nil {
		part, err = x.Down.NextBody()
		all = append(all, part...)
	}
	if err == io.EOF {
		err = nil
	}
	return all, err
}

func request(encoding string, c *client) *exchange.Exchange {
	x := &exchange.Exchange{}
	x.Down = c
	x.BodyLimit = -1
	x.Request.Method, x.Request.ContentLength = "POST", -1
	x.Request.Header.Add("Content-Encoding", encoding)
	return x
}

func TestSettings(t *testing.T) {
	if _, err := New(&middlewarev1.Cors{}, &pipeline.Environment{}); err == nil {
		t.Error("took another type's settings")
	}
	if _, err := New(&middlewarev1.Decompress{Algorithms: []string{"deflate"}}, &pipeline.Environment{}); err == nil {
		t.Error("took an unknown coding")
	}
	// A coding that is not in the list goes to the service as it is.
	x := request("br", &client{})
	newStep(t, &middlewarev1.Decompress{Algorithms: []string{"gzip"}}).Request(x)
	if x.Request.Header.Get("Content-Encoding") != "br" {
		t.Error("br was decoded")
	}
}

// Calls of gRPC have codings of their own, upgrades have no body, and a body that is too large as it is, is refused
// as it is.
func TestRequestsThatAreLeftAlone(t *testing.T) {
	for name, change := range map[string]func(x *exchange.Exchange){
		"gRPC":      func(x *exchange.Exchange) { x.RPC = exchange.GRPC },
		"upgrade":   func(x *exchange.Exchange) { x.Request.Upgrade = exchange.WebSocket },
		"too large": func(x *exchange.Exchange) { x.BodyLimit, x.Request.ContentLength = 9, 10 },
	} {
		c := &client{}
		x := request("gzip", c)
		change(x)
		v := newStep(t, &middlewarev1.Decompress{}).Request(x)
		encoding := x.Request.Header.Get("Content-Encoding")
		if v != exchange.Continue || x.Down != exchange.Downstream(c) || encoding != "gzip" {
			t.Errorf("%s: %v, %T, %q", name, v, x.Down, encoding)
		}
	}
}

// What goes wrong on the client's side is told as it is, and stays.
func TestErrorsOfTheClient(t *testing.T) {
	broken := errors.New("broken off")
	within := encode(exchange.Gzip, []byte("some text"))[:15]
	for name, parts := range map[string][][]byte{"at once": nil, "within": {within}} {
		x := request("gzip", &client{parts: parts, err: broken})
		newStep(t, &middlewarev1.Decompress{}).Request(x)
		if _, err := readAll(x); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := x.Down.NextBody(); !errors.Is(err, broken) {
			t.Errorf("%s, again: %v", name, err)
		}
	}
}

// A limit that comes after the step holds for both forms of the body.
func TestLaterLimit(t *testing.T) {
	c := &client{parts: [][]byte{encode(exchange.Gzip, make([]byte, 1000))}}
	x := request("gzip", c)
	newStep(t, &middlewarev1.Decompress{}).Request(x)
	x.Down.LimitBody(999)
	var own *fault.Error
	if _, err := readAll(x); !errors.As(err, &own) || own.Code != fault.RequestTooLarge || c.limit != 999 {
		t.Errorf("%v, limit %d", err, c.limit)
	}
}

// A decoder that fails in its own way costs one request, not the process.
func TestPanickingDecoder(t *testing.T) {
	x := request("gzip", &client{parts: [][]byte{encode(exchange.Gzip, []byte("text")), nil}})
	newStep(t, &middlewarev1.Decompress{}).Request(x)
	d := x.Down.(*down)
	_, _, _ = d.BufferedBody()
	d.begin()
	d.stages[0].decoder = nil
	var own *fault.Error
	if _, err := d.NextBody(); !errors.As(err, &own) || own.Code != fault.BadRequest {
		t.Error(err)
	}
}

// An exchange that ends before its body does gives everything back, once.
func TestEndsWithinTheBody(t *testing.T) {
	b := encode(exchange.Gzip, bytes.Repeat([]byte("some text. "), 30_000))
	c := &client{parts: [][]byte{b[:len(b)/2], b[len(b)/2:]}}
	x := request("gzip", c)
	s := newStep(t, &middlewarev1.Decompress{MaxRatio: 10_000})
	s.Request(x)
	d := x.Down.(*down)
	_, _, _ = d.BufferedBody()
	if part, err := d.NextBody(); err != nil || len(part) == 0 {
		t.Fatal(len(part), err)
	}
	for range 2 {
		s.End(x, nil)
		if x.Down != exchange.Downstream(c) || d.out != nil || d.stages[0].decoder != nil {
			t.Errorf("%T stands there, %v, %v", x.Down, d.out != nil, d.stages[0].decoder)
		}
	}
}

// FuzzBody sends anything in two parts as a body in one or two codings. It comes out as the decoders read it, or with
// an error of the client's, within the bounds.
func FuzzBody(f *testing.F) {
	text := bytes.Repeat([]byte("some text. "), 30)
	for i, c := range []exchange.Coding{exchange.Gzip, exchange.Brotli, exchange.Zstd} {
		b := encode(c, text)
		for _, sent := range [][]byte{
			b, encode(c, b), b[:len(b)/2], append(bytes.Clone(b), "behind"...), append(bytes.Clone(b), b...),
			encode(c, make([]byte, 300_000)), encode(c, encode(c, make([]byte, 300_000))), nil,
		} {
			f.Add(sent, 7, uint8(i))
			f.Add(sent, 7, uint8(i|4|i<<3))
		}
	}
	names := []string{"gzip", "br", "zstd", "identity"}
	f.Fuzz(func(t *testing.T, sent []byte, at int, which uint8) {
		at = max(0, min(at, len(sent)))
		encoding := names[which&3]
		if which&4 != 0 {
			encoding += ", " + names[which>>3&3]
		}
		s := newStep(t, &middlewarev1.Decompress{MaxBytes: 200_000, MaxRatio: 50})
		x := request(encoding, &client{parts: [][]byte{sent[:at], sent[at:]}})
		if s.Request(x) == exchange.Stop {
			t.Fatal("stopped")
		}
		got, err := readAll(x)
		var own *fault.Error
		if err != nil && (!errors.As(err, &own) || own.Code != fault.BadRequest && own.Code != fault.RequestTooLarge) {
			t.Fatalf("%s: %v", encoding, err)
		}
		if len(got) > 200_000+outBytes || len(got) > freeBytes+outBytes+50*len(sent) {
			t.Errorf("%s: %d bytes of %d", encoding, len(got), len(sent))
		}
		// The same in one part is the same.
		again := request(encoding, &client{parts: [][]byte{sent}})
		s.Request(again)
		if other, otherErr := readAll(again); (err == nil) != (otherErr == nil) || err == nil && !bytes.Equal(got, other) {
			t.Errorf("%s: %d bytes, %v; in one part %d bytes, %v", encoding, len(got), err, len(other), otherErr)
		}
	})
}

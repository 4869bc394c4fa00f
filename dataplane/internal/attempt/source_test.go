package attempt

import (
	"io"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
)

// replaced is a client's side that a step has put in the place of another one, for the response.
type replaced struct {
	exchange.Downstream
	t *testing.T
}

func (r replaced) NextBody() ([]byte, error) {
	r.t.Error("the request's body is read from it")
	return nil, io.EOF
}

func (r replaced) Gone() bool {
	r.t.Error("it is asked whether the client has gone")
	return false
}

func (s *sender) Gone() bool { return false }

// TestStepAmongAttempts has a step put something before the client's side while attempts are under way: the request's
// body still comes from where it came.
func TestStepAmongAttempts(t *testing.T) {
	x := &exchange.Exchange{}
	x.Down = &sender{bytes: []byte("body")}
	b := newKeptBody(x, &Part{}, 100, nil)
	var s source
	s.start(b, &exchange.Exchange{})
	x.Down = replaced{x.Down, t}
	part, err := s.NextBody()
	if string(part) != "body" || err != nil {
		t.Errorf("%q, %v", part, err)
	}
	if _, err := s.NextBody(); err != io.EOF {
		t.Errorf("after the body: %v", err)
	}
	if s.Gone() {
		t.Error("the client has gone")
	}
	b.stop()
}

// TestTrailersOfAWholeBody gives each attempt the trailers of a body that came with its head.
func TestTrailersOfAWholeBody(t *testing.T) {
	x := &exchange.Exchange{}
	x.Down = &sender{}
	x.Request.Trailer.Append(exchange.Field{Name: "x-sum", Value: "1"})
	b := newKeptBody(x, &Part{Bytes: []byte("body"), Whole: true}, 100, nil)
	for range 2 {
		f := &exchange.Exchange{}
		var s source
		s.start(b, f)
		x.Branch(f, &s)
		if part, whole, err := s.BufferedBody(); string(part) != "body" || !whole || err != nil {
			t.Errorf("%q, %t, %v", part, whole, err)
		}
		if n := f.Request.Trailer.Len(); n != 1 {
			t.Errorf("%d trailers", n)
		}
	}
}

package attempt

import (
	"io"
	"log/slog"
	"sync"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
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
	s.start(b, &exchange.Exchange{}, false)
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
		s.start(b, f, false)
		x.Branch(f, &s)
		if part, whole, err := s.BufferedBody(); string(part) != "body" || !whole || err != nil {
			t.Errorf("%q, %t, %v", part, whole, err)
		}
		if n := f.Request.Trailer.Len(); n != 1 {
			t.Errorf("%d trailers", n)
		}
	}
}

// TestBodyOutgrowsItsLimit has more of the body come than is kept just as another attempt begins: there is none then,
// and one that had begun does not take what is left of the body for its beginning.
func TestBodyOutgrowsItsLimit(t *testing.T) {
	services := upstream.NewRegistry(slog.New(slog.DiscardHandler))
	defer services.Close()
	at := []*configv1.Endpoint{{Host: "127.0.0.1", Port: 1}}
	services.Apply(map[string]upstream.Definition{"1": {Service: &configv1.Service{Name: "s", Endpoints: at}}}, nil)
	x := &exchange.Exchange{}
	x.Down = &watching{}
	a := &Attempts{Exchange: x, Service: services.Get("1")}
	b := newKeptBody(x, &Part{}, 4, nil)
	g := &Group{of: a, body: b, ended: make(chan *Candidate, maxCandidates), count: &a.Service.Attempts}
	a.group = g
	first, second := &Candidate{}, &Candidate{}
	first.source.start(b, &exchange.Exchange{}, false)
	second.source.start(b, &exchange.Exchange{}, false)
	b.add([]byte("abcd"), nil)
	first.source.at, first.source.waits = 4, true // it has sent all that
	g.all = append(g.all, first)
	copies = sync.Pool{New: func() any {
		b.add([]byte("tail"), nil)
		return new(exchange.Exchange)
	}}
	defer func() { copies = sync.Pool{New: func() any { return new(exchange.Exchange) }} }()
	if g.Start() {
		t.Error("another attempt has begun")
		g.work.Wait()
	}
	if part, whole, err := second.source.BufferedBody(); err == nil {
		t.Errorf("one that is canceled has %q, whole: %t", part, whole)
	}
	if n := g.count.TooLarge.Load(); n != 1 {
		t.Errorf("%d were refused for the length of the body", n)
	}
}

// watching is a client that stays.
type watching struct{ sender }

func (*watching) Watch(exchange.Aborter) {}

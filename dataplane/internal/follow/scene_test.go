package follow

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// pipe is a stream in memory: the test is the control plane. Closing down ends it.
type pipe struct {
	ctx     context.Context
	address string
	up      chan *streamv1.StreamRequest
	down    chan *streamv1.StreamResponse
	end     chan error
}

func (p *pipe) Send(m *streamv1.StreamRequest) error {
	select {
	case p.up <- m:
		return nil
	case <-p.ctx.Done():
		return io.EOF
	}
}

func (p *pipe) Recv() (*streamv1.StreamResponse, error) {
	select {
	case m := <-p.down:
		return m, nil
	case err := <-p.end:
		return nil, err
	case <-p.ctx.Done():
		return nil, p.ctx.Err()
	}
}

// scene runs a follower whose streams the test serves, in virtual time.
type scene struct {
	t       *testing.T
	node    *nodeDouble
	log     *logged
	streams chan *pipe

	mu      sync.Mutex
	refusal error // of all that is dialled
	dialled []attempt
}

type attempt struct {
	address string
	at      time.Time
}

// control makes the control planes refuse with an error, or take part again, and returns what was dialled until now.
func (s *scene) control(refusal error) []attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = refusal
	dialled := s.dialled
	s.dialled = nil
	return dialled
}

func (s *scene) dial(address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialled = append(s.dialled, attempt{address, time.Now()})
	return s.refusal
}

func play(t *testing.T, dir string, set Settings, script func(s *scene)) {
	t.Helper()
	playRefused(t, dir, set, nil, script)
}

// playRefused is play where all control planes refuse from the start.
func playRefused(t *testing.T, dir string, set Settings, refusal error, script func(s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{t: t, node: &nodeDouble{}, log: &logged{}, streams: make(chan *pipe), refusal: refusal}
		set.DataDir = dir
		if set.Addresses == nil {
			set.Addresses = []string{"one"}
		}
		f, err := NewFollower(set, s.log.logger(), s.node)
		if err != nil {
			t.Fatal(err)
		}
		f.dial = func(ctx context.Context, address string) (stream, func(error) error, func(), error) {
			if err := s.dial(address); err != nil {
				return nil, nil, nil, err
			}
			p := &pipe{ctx, address, make(chan *streamv1.StreamRequest), make(chan *streamv1.StreamResponse), make(chan error)}
			select {
			case s.streams <- p:
			case <-ctx.Done():
			}
			return p, func(err error) error { return err }, func() {}, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { f.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		script(s)
	})
}

// hello takes the next stream and its first message.
func (s *scene) hello() (*pipe, *streamv1.Hello) {
	p := <-s.streams
	return p, (<-p.up).GetHello()
}

// answer sends a message and returns its answer.
func (p *pipe) answer(messages ...*streamv1.StreamResponse) *streamv1.Result {
	for _, m := range messages {
		p.down <- m
	}
	return p.result()
}

func (p *pipe) result() *streamv1.Result {
	for {
		if r := (<-p.up).GetResult(); r != nil {
			return r
		}
	}
}

// chunks cuts an update into messages of one resource each.
func chunks(m *streamv1.StreamResponse) []*streamv1.StreamResponse {
	u := m.GetUpdate()
	var list []*streamv1.Update
	for _, r := range u.GetUpserts() {
		list = append(list, &streamv1.Update{Upserts: []*streamv1.Resource{r}})
	}
	for _, r := range u.GetRemovals() {
		list = append(list, &streamv1.Update{Removals: []*streamv1.ResourceRef{r}})
	}
	out := make([]*streamv1.StreamResponse, len(list))
	for i, c := range list {
		c.Epoch, c.Revision, c.BaseRevision, c.Hash, c.AllowShrink = u.GetEpoch(), u.GetRevision(), u.GetBaseRevision(), u.GetHash(), u.GetAllowShrink()
		c.Chunk, c.Chunks = uint32(i+1), uint32(len(list))
		out[i] = &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: c}}
	}
	return out
}

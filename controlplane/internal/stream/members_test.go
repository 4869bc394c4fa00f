package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/discovery"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/backoff"
	"gateway.internal/shared/config"
	"gateway.internal/shared/endpoints"
)

// member is a node of a life: it takes updates as data planes do, and comes again whenever its stream ends.
type member struct {
	id   string
	at   int // its control plane
	stop func()

	mu        sync.Mutex
	epoch     string
	revision  uint32
	config    *config.Config
	version   uint64 // of the endpoints
	endpoints endpoints.Sets
	fresh     bool     // it asks for everything
	wrong     []string // what it was sent and does not fit
}

// connect has it follow another control plane.
func (m *member) connect(address string, at int) {
	m.stop()
	m.at = at
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() {
		retry := backoff.Exponential{Least: 2 * time.Millisecond, Most: 50 * time.Millisecond}
		for goesOn := true; goesOn; goesOn = retry.Wait(ctx, nil) {
			_ = m.follow(ctx, address) // it comes again, as nodes do
		}
	})
	m.stop = func() { cancel(); following.Wait() }
}

// follow returns why it ended.
func (m *member) follow(ctx context.Context, address string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "bearer "+token)
	s, err := streamv1.NewSnapshotServiceClient(conn).Stream(ctx)
	if err != nil {
		return err
	}
	if err := s.Send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Hello{Hello: m.hello()}}); err != nil {
		return err
	}
	for {
		update, err := s.Recv()
		if err != nil {
			return err
		}
		if update.GetDirective() != nil {
			continue
		}
		r, err := m.take(update)
		if err != nil {
			return err
		}
		if err := s.Send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Result{Result: r}}); err != nil {
			return err
		}
	}
}

func (m *member) hello() *streamv1.Hello {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &streamv1.Hello{NodeId: m.id, InstanceId: "i", Epoch: m.epoch, Revision: m.revision}
	if !m.fresh {
		conf, found := m.config.Hash(), m.endpoints.Hash()
		h.Hash, h.EndpointsVersion, h.EndpointsHash = conf[:], m.version, found[:]
	}
	return h
}

// take takes an update over. After an error it asks for everything.
func (m *member) take(r *streamv1.StreamResponse) (*streamv1.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	result := &streamv1.Result{Outcome: streamv1.Result_OUTCOME_APPLIED}
	var err error
	if u := r.GetUpdate(); u != nil {
		result.Epoch, result.Revision = u.GetEpoch(), u.GetRevision()
		err = m.takeUpdate(u)
	} else {
		result.EndpointsVersion = r.GetEndpoints().GetVersion()
		err = m.takeEndpoints(r.GetEndpoints())
	}
	if err != nil {
		m.fresh, m.wrong = true, append(m.wrong, err.Error())
	}
	return result, err
}

func (m *member) takeUpdate(u *streamv1.Update) error {
	base := m.config
	switch {
	case u.GetChunks() != 1:
		return errors.New("an update in chunks")
	case u.GetEpoch() == m.epoch && u.GetRevision() < m.revision:
		return fmt.Errorf("revision %d, and it runs %d", u.GetRevision(), m.revision)
	case u.GetBaseRevision() == 0:
		base, m.fresh = config.Empty(), false
	case u.GetEpoch() != m.epoch || u.GetBaseRevision() != m.revision:
		return fmt.Errorf("a change of %d of %s, and it runs %d of %s", u.GetBaseRevision(), u.GetEpoch(), m.revision, m.epoch)
	}
	var entries []*config.Entry
	for _, r := range u.GetUpserts() {
		e, err := config.Decode(r)
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	next, err := base.WithEntries(entries, u.GetRemovals())
	if err != nil {
		return err
	}
	if hash := next.Hash(); !bytes.Equal(hash[:], u.GetHash()) {
		return fmt.Errorf("revision %d leads to another content than it says", u.GetRevision())
	}
	m.config, m.epoch, m.revision = next, u.GetEpoch(), u.GetRevision()
	return nil
}

func (m *member) takeEndpoints(u *streamv1.EndpointsUpdate) error {
	if u.GetBaseVersion() != 0 && u.GetBaseVersion() != m.version {
		return fmt.Errorf("a change of endpoints version %d, and it has %d", u.GetBaseVersion(), m.version)
	}
	next, err := m.endpoints.With(u)
	if err != nil {
		return err
	}
	m.endpoints, m.version = next, u.GetVersion()
	return nil
}

// runs returns why it does not run a version.
func (m *member) runs(v *catalog.Version) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.epoch != v.Epoch || m.revision != v.Revision || m.config.Hash() != v.Config.Hash() {
		return fmt.Errorf("it runs revision %d of %s, not %d of %s", m.revision, m.epoch, v.Revision, v.Epoch)
	}
	return nil
}

func (m *member) found() endpoints.Sets {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.endpoints
}

func (m *member) problems() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wrong
}

// registry is what sources follow.
type registry struct {
	mu        sync.Mutex
	instances map[string][]string // by question; never changed in place
	sources   []*registrySource
}

func newRegistry() *registry { return &registry{instances: map[string][]string{}} }

// set says what instances there are for these questions.
func (r *registry) set(instances map[string][]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := maps.Clone(r.instances)
	maps.Copy(next, instances)
	r.instances = next
	for _, s := range r.sources {
		s.poke()
	}
}

func (r *registry) source(cut bool) *registrySource {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &registrySource{registry: r, news: make(chan struct{}, 1), cut: cut}
	r.sources = append(r.sources, s)
	return s
}

func (r *registry) all() map[string][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.instances
}

// registrySource follows a registry, unless it is cut off.
type registrySource struct {
	registry *registry
	news     chan struct{}

	mu      sync.Mutex
	cut     bool
	queries map[string]discovery.Query
	known   map[string][]string // what the registry had when it was last seen; nil: it was not
}

func (s *registrySource) poke() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *registrySource) isCut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut
}

func (s *registrySource) cutOff(cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = cut
	s.poke()
}

// Name implements discovery.Source.
func (s *registrySource) Name() string { return "etcd" }

// Question implements discovery.Source.
func (s *registrySource) Question(q discovery.Query) string {
	return q.Discovery.GetEtcd().GetService()
}

// Follow implements discovery.Source.
func (s *registrySource) Follow(queries map[string]discovery.Query) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries = queries
	s.poke()
}

// Run implements discovery.Source.
func (s *registrySource) Run(ctx context.Context, to *discovery.Report) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.news:
		}
		if s.isCut() {
			to.Down(errors.New("cut off"))
		} else {
			to.Up()
		}
		if answers := s.answers(); answers != nil {
			to.Found(answers)
		}
	}
}

// answers returns those that it knows, nil where it has not seen the registry.
func (s *registrySource) answers() map[discovery.Query][]*configv1.Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cut {
		s.known = s.registry.all()
	}
	if s.known == nil {
		return nil
	}
	answers := map[discovery.Query][]*configv1.Endpoint{}
	for _, q := range s.queries {
		list := []*configv1.Endpoint{}
		for _, host := range s.known[s.Question(q)] {
			list = append(list, &configv1.Endpoint{Host: host, Port: 80})
		}
		answers[q] = list
	}
	return answers
}

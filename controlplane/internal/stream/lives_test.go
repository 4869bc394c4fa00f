package stream

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/internal/store/sql"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/endpoints"
	"gateway.internal/shared/waittest"
)

var lives = flag.Int("lives", 3, "how many lives TestLives has")

// TestLives has two control planes on one store, a registry and three nodes go through what may happen to them, at
// random: services that ask for something else, come and go; instances that come and go; a control plane that is cut
// off from the registry, or ends and begins again; nodes that go to the other one; new epochs; a history that is
// pruned. In the end all know the same, and so do those that begin again while the registry is empty.
func TestLives(t *testing.T) {
	for seed := range uint64(*lives) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := newLife(t, seed)
			defer func() {
				if t.Failed() {
					t.Log(strings.Join(l.steps, "\n"))
				}
			}()
			for range 10 + l.random.IntN(20) {
				l.step()
			}
			l.end()
		})
	}
}

// life is what a life is made of.
type life struct {
	t        *testing.T
	random   *rand.Rand
	store    store.Store
	registry *registry
	planes   [2]*plane
	sources  [2]*registrySource
	nodes    []*member
	steps    []string
}

func newLife(t *testing.T, seed uint64) *life {
	t.Helper()
	s, err := sql.Open(t.Context(), "embedded:"+filepath.Join(t.TempDir(), "g.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	l := &life{t: t, random: rand.New(rand.NewPCG(seed, 1)), store: s, registry: newRegistry()}
	for i := range l.planes {
		l.start(i, false)
	}
	for i := range 3 {
		n := &member{id: fmt.Sprint("n", i), config: config.Empty(), stop: func() {}}
		l.nodes = append(l.nodes, n)
		n.connect(l.planes[i%2].address, i%2)
		t.Cleanup(func() { n.stop() })
	}
	return l
}

// start starts a control plane, to which the nodes of the one before it go.
func (l *life) start(i int, cut bool) {
	l.sources[i] = l.registry.source(cut)
	l.planes[i] = startPlane(l.t, l.store, l.sources[i])
	for _, n := range l.nodes {
		if n.at == i {
			n.connect(l.planes[i].address, i)
		}
	}
}

func (l *life) say(format string, args ...any) {
	l.steps = append(l.steps, fmt.Sprintf(format, args...))
}

func (l *life) one(of ...string) string { return of[l.random.IntN(len(of))] }

func (l *life) service() string { return l.one("s1", "s2", "s3") }

func (l *life) question() string { return l.one("a", "b", "c") }

// step lets one thing happen.
func (l *life) step() {
	i := l.random.IntN(2)
	switch l.random.IntN(14) {
	case 0, 1, 2:
		name, question, empty := l.service(), l.question(), l.random.IntN(4) == 0
		l.say("%s asks for %s, may be empty: %t, by %d", name, question, empty, i)
		source := &configv1.Discovery_Etcd{Etcd: &configv1.EtcdDiscovery{Service: question}}
		l.commit(i, &configv1.Service{Name: name, Discovery: &configv1.Discovery{AllowEmpty: empty, Source: source}})
	case 3:
		name := l.service()
		l.say("%s has an endpoint, by %d", name, i)
		l.commit(i, &configv1.Service{Name: name, Endpoints: []*configv1.Endpoint{{Host: "h", Port: 1}}})
	case 4:
		name := l.service()
		l.say("%s is deleted, by %d", name, i)
		l.edit(i, func(v *catalog.Version) []config.Edit {
			if v.Config.ByName(config.Service, name) == nil {
				return nil
			}
			return []config.Edit{{Kind: config.Service, Delete: name}}
		})
	case 5, 6, 7:
		question, instances := l.question(), []string(nil)
		for host := range l.random.IntN(4) {
			instances = append(instances, fmt.Sprintf("10.0.%d.%d", l.random.IntN(2), host))
		}
		l.say("the registry has %v for %s", instances, question)
		l.registry.set(map[string][]string{question: instances})
	case 8:
		cut := !l.sources[i].isCut()
		l.say("%d is cut off: %t", i, cut)
		l.sources[i].cutOff(cut)
	case 9:
		l.say("%d begins again", i)
		l.planes[i].stop()
		l.start(i, l.sources[i].isCut())
	case 10:
		n := l.nodes[l.random.IntN(len(l.nodes))]
		l.say("%s goes to %d", n.id, i)
		n.connect(l.planes[i].address, i)
	case 11:
		l.say("a new epoch")
		if err := l.store.BeginEpoch(l.t.Context(), l.planes[i].catalog.Current().Epoch); err != nil {
			l.t.Fatal(err)
		}
	case 12:
		l.say("the history is pruned")
		if _, err := l.store.Prune(l.t.Context(), store.Keep{Newest: 1}, false); err != nil {
			l.t.Fatal(err)
		}
	default:
		l.say("all nodes catch up")
		l.await("the nodes' configuration", l.sameConfiguration)
	}
}

// commit puts a service.
func (l *life) commit(i int, s *configv1.Service) {
	l.edit(i, func(*catalog.Version) []config.Edit { return []config.Edit{{Kind: config.Service, Put: s}} })
}

// edit commits, and repeats that where it comes just when another epoch began.
func (l *life) edit(i int, edits func(*catalog.Version) []config.Edit) {
	l.t.Helper()
	l.await("a commit", func() error {
		_, err := l.planes[i].catalog.Commit(l.t.Context(), catalog.CommitRequest{AllowShrink: true,
			Edits: func(v *catalog.Version) ([]config.Edit, error) { return edits(v), nil }})
		return err
	})
}

func (l *life) await(what string, reached func() error) {
	l.t.Helper()
	waittest.UntilNil(l.t, what, reached)
}

// end lets everybody come to rest, and begin again once more.
func (l *life) end() {
	for _, s := range l.sources {
		s.cutOff(false)
	}
	l.await("the nodes to know what their control planes do", l.nodesAgree)
	l.registry.set(map[string][]string{"a": {"10.9.9.1"}, "b": {"10.9.9.2"}, "c": {"10.9.9.3"}})
	l.await("the control planes and the store to agree", l.planesAgree)
	l.await("the nodes to know what is registered", l.nodesAgree)
	for _, p := range l.planes {
		p.stop()
	}
	l.registry.set(map[string][]string{"a": nil, "b": nil, "c": nil})
	for i := range l.planes {
		l.start(i, false)
	}
	l.await("the control planes to know what the store does", l.planesAgree)
	l.await("the nodes to know what control planes do that began again", l.nodesAgree)
	for _, n := range l.nodes {
		if wrong := n.problems(); len(wrong) > 0 {
			l.t.Errorf("%s was sent what does not fit: %v", n.id, wrong)
		}
	}
}

func (l *life) sameConfiguration() error {
	first := l.planes[0].catalog.Current()
	for _, n := range l.nodes {
		v := l.planes[n.at].catalog.Current()
		if v.Epoch != first.Epoch || v.Revision != first.Revision {
			return fmt.Errorf("one control plane has revision %d of %s, the other %d of %s", first.Revision, first.Epoch,
				v.Revision, v.Epoch)
		}
		if err := n.runs(v); err != nil {
			return fmt.Errorf("%s: %w", n.id, err)
		}
	}
	return nil
}

// nodesAgree returns what nodes do not have as their control planes do.
func (l *life) nodesAgree() error {
	if err := l.sameConfiguration(); err != nil {
		return err
	}
	for _, n := range l.nodes {
		v, e := l.planes[n.at].catalog.Current(), l.planes[n.at].catalog.Endpoints()
		asks := false
		for s := range v.Config.All(config.Service) {
			asks = asks || s.Message.(*configv1.Service).GetDiscovery() != nil
		}
		if got := n.found(); (asks || e.Version != 0) && got.Hash() != e.Hash() {
			return fmt.Errorf("%s at %d has %v, not %v (version %d)", n.id, n.at, got.Services, e.Services, e.Version)
		}
	}
	return nil
}

// planesAgree returns what control planes do not have as the store does.
func (l *life) planesAgree() error {
	known, err := l.store.Discovered(l.t.Context())
	if err != nil {
		return err
	}
	var kept []*streamv1.ServiceEndpoints
	for _, d := range known {
		kept = append(kept, &streamv1.ServiceEndpoints{ServiceId: d.ServiceID, Endpoints: d.Endpoints})
	}
	want, _, _ := endpoints.Sets{}.Put(kept, nil)
	var wrong []error
	for i, p := range l.planes {
		if got := p.catalog.Endpoints(); got.Hash() != want.Hash() {
			wrong = append(wrong, fmt.Errorf("%d has %v, the store %v", i, got.Services, want.Services))
		}
	}
	return errors.Join(wrong...)
}

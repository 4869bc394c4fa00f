package discovery

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// unreachable is a source whose registry is away.
type unreachable struct{}

func (unreachable) Name() string            { return "etcd" }
func (unreachable) Question(q Query) string { return q.ServiceName }
func (unreachable) Follow(map[string]Query) {}
func (unreachable) Run(ctx context.Context, to *Report) {
	to.Down(errors.New("away"))
	<-ctx.Done()
}

// TestTakesOverWhatOthersFind: a control plane whose registry is away has what another one finds of a service that is
// new, where that is what the service asks for, and leaves alone what is kept of services that it does not know.
func TestTakesOverWhatOthersFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := timestamppb.Now()
		m := &memory{known: map[string]store.Discovered{}, services: []*configv1.Service{{
			Id: "s", Name: "users", Version: 1, CreatedAt: now, UpdatedAt: now,
			Discovery: &configv1.Discovery{Source: &configv1.Discovery_Etcd{Etcd: &configv1.EtcdDiscovery{}}},
		}}}
		log := slog.New(slog.DiscardHandler)
		c := catalog.New(m, log)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() { _ = c.Run(ctx) })
		running.Go(func() { _ = Run(ctx, c, m, []Source{unreachable{}}, prometheus.NewRegistry(), log) })
		synctest.Wait() // what was kept before has been read
		for _, test := range []struct {
			id, question string
			want         int
		}{{"unknown", "etcd users", 0}, {"s", "etcd others", 0}, {"s", "etcd users", 1}} {
			found := store.Discovered{ServiceID: test.id, Question: test.question,
				Endpoints: []*configv1.Endpoint{{Host: "10.0.0.1", Port: 80}}}
			if err := m.KeepDiscovered(ctx, []store.Discovered{found}, nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(takeOverInterval)
			synctest.Wait()
			if got := c.Endpoints().Services["s"].GetEndpoints(); len(got) != test.want {
				t.Errorf("another one has found %v, this one has %v", found, got)
			}
		}
		if ids := m.ids(); !slices.Equal(ids, []string{"s", "unknown"}) {
			t.Errorf("%v are kept", ids)
		}
	})
}

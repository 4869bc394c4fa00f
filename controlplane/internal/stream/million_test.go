package stream

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/catalog"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// BenchmarkMillionConsumers measures what a million small consumers take of the control plane, and what one more costs.
func BenchmarkMillionConsumers(b *testing.B) {
	const n = 1_000_000
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, now := heap(), timestamppb.Now()
	changes := make([]config.Change, n)
	for i := range changes {
		stamp := timestamppb.New(now.AsTime())
		m := &configv1.Consumer{Id: uuid.NewString(), Name: fmt.Sprintf("consumer-%06d", i), CreatedAt: stamp,
			UpdatedAt: stamp, Version: 1, Groups: []string{"partners", "eu"}}
		e, err := config.NewEntry(m)
		if err != nil {
			b.Fatal(err)
		}
		changes[i] = config.Change{Kind: config.Consumer, After: e}
	}
	begun := time.Now()
	conf, err := config.Empty().With(changes)
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(begun)
	clear(changes)
	b.Logf("%d bytes for each, put together in %v", (heap()-before)/n, took)
	v := &catalog.Version{Epoch: "e", Revision: 1, Config: conf}
	plan := func(i int) *catalog.Version {
		edits := []config.Edit{consumer(fmt.Sprint("one-", i))}
		p, err := conf.Plan(edits, config.PlanOptions{Now: time.Now(), NewID: uuid.NewString})
		if err != nil {
			b.Fatal(err)
		}
		return &catalog.Version{Epoch: "e", Revision: 2, Config: p.Config}
	}
	size := func(d delivery) (sum int) {
		for _, m := range d {
			sum += len(m)
		}
		return sum
	}
	begun = time.Now()
	whole, err := makeWholeSet(config.Consumer, v)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("all of them are %d bytes in %d chunks, made in %v", size(whole), len(whole), time.Since(begun))
	b.Run("one more", func(b *testing.B) {
		i, bytes := 0, 0
		for b.Loop() {
			i++
			next := plan(i)
			d, err := makeSet(config.Consumer, v, next)
			if err != nil {
				b.Fatal(err)
			}
			u, err := makeUpdate(v, next, config.Apart(), false, false)
			if err != nil {
				b.Fatal(err)
			}
			bytes = size(d) + size(u)
		}
		b.ReportMetric(float64(bytes), "wire-B")
	})
}

package consumer

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkMillion measures what a million small consumers take, to load and to keep, what one change costs, and what a
// lookup does.
func BenchmarkMillion(b *testing.B) {
	const n = 1_000_000
	before := heap()
	d := (&Set{}).Draft()
	var took time.Duration
	for i := range n {
		r := resource(b, fmt.Sprintf("consumer-%06d", i))
		begun := time.Now()
		if err := d.Put(r); err != nil {
			b.Fatal(err)
		}
		took += time.Since(begun)
	}
	s := d.Set()
	b.Logf("%d bytes for each consumer, loaded in %v", (heap()-before)/n, took)
	b.Run("change", func(b *testing.B) {
		r := resource(b, "another")
		b.ReportAllocs()
		for b.Loop() {
			d := s.Draft()
			if err := d.Put(r); err != nil {
				b.Fatal(err)
			}
			if d.Set().Len() != n+1 {
				b.Fatal("not put")
			}
		}
	})
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if s.ByName("consumer-123456") == nil {
				b.Fatal("not there")
			}
		}
	})
}

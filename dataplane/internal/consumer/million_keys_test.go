package consumer

import (
	"fmt"
	"testing"
	"time"

	"gateway.internal/shared/credential"
)

// BenchmarkMillionKeys measures what a key takes beside its consumer, among a million of them, what a new key costs,
// and what a lookup does.
func BenchmarkMillionKeys(b *testing.B) {
	const n = 1_000_000
	load := func(withKeys bool) (*Set, uint64, time.Duration) {
		before := heap()
		d := (&Set{}).Draft()
		var took time.Duration
		for i := range n {
			m := withKey(fmt.Sprintf("consumer-%06d", i), fmt.Sprintf("a-key-of-a-million-%d", i))
			if !withKeys {
				m.Credentials = nil
			}
			r := encoded(b, m)
			begun := time.Now()
			if err := d.Put(r); err != nil {
				b.Fatal(err)
			}
			took += time.Since(begun)
		}
		s := d.Set()
		return s, (heap() - before) / n, took
	}
	bare, plain, _ := load(false)
	if bare.Len() != n {
		b.Fatal("not all")
	}
	bare = nil // its memory is to go
	s, with, took := load(true)
	b.Logf("%d bytes for each key (%d for a consumer with one, %d without), loaded in %v", with-plain, with, plain, took)
	b.Run("change", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d := s.Draft()
			if err := d.Put(encoded(b, withKey("another", "a-key-of-another-one"))); err != nil {
				b.Fatal(err)
			}
			if d.Set().Keys() != n+1 {
				b.Fatal("not put")
			}
		}
	})
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i = (i + 7919) % n
			var text [32]byte
			key := fmt.Appendf(text[:0], "a-key-of-a-million-%d", i)
			h := credential.HashKey(string(key))
			if s.ByKey(&h).Consumer() == nil {
				b.Fatal("not there")
			}
		}
	})
}

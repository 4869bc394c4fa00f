package telemetry

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"sync/atomic"

	"gateway.internal/shared/fault"
)

// totals are a route's counters, all shards added up.
type totals struct {
	methods [len(methods)]methodTotals
	faults  map[fault.Code]uint64
}

type methodTotals struct {
	statuses                        map[int]uint64
	duration, upstream              [len(bounds) + 1]uint64
	durationNanos, upstreamNs       uint64
	size                            [len(sizeBounds) + 1]uint64
	sizeBytes, count, upstreamCount uint64
}

func (t *Route) totals() (sum totals, seen bool) {
	cells := t.cells.Load()
	if cells == nil {
		return sum, false
	}
	sum.faults = map[fault.Code]uint64{}
	for i := range *cells {
		c := &(*cells)[i]
		c.faults.Range(func(k, v any) bool {
			sum.faults[k.(fault.Code)] += v.(*atomic.Uint64).Load()
			return true
		})
		for mi := range c.byMethod {
			if m := c.byMethod[mi].Load(); m != nil {
				sum.methods[mi].add(m)
			}
		}
	}
	return sum, true
}

// join adds what others have counted.
func (sum *totals) join(o *totals) {
	for code, n := range o.faults {
		sum.faults[code] += n
	}
	for i := range sum.methods {
		a, b := &sum.methods[i], &o.methods[i]
		if b.statuses == nil {
			continue
		}
		if a.statuses == nil {
			a.statuses = map[int]uint64{}
		}
		for status, n := range b.statuses {
			a.statuses[status] += n
		}
		for j := range a.duration {
			a.duration[j] += b.duration[j]
			a.upstream[j] += b.upstream[j]
		}
		for j := range a.size {
			a.size[j] += b.size[j]
		}
		a.durationNanos += b.durationNanos
		a.upstreamNs += b.upstreamNs
		a.sizeBytes += b.sizeBytes
		a.count += b.count
		a.upstreamCount += b.upstreamCount
	}
}

func (s *methodTotals) add(m *methodCell) {
	if s.statuses == nil {
		s.statuses = map[int]uint64{}
	}
	for class := range m.statuses {
		if p := m.statuses[class].Load(); p != nil {
			for i := range p {
				if n := p[i].Load(); n > 0 {
					s.statuses[(class+1)*100+i] += n
				}
			}
		}
	}
	for i := range m.duration {
		n := m.duration[i].Load()
		s.duration[i] += n
		s.count += n
		n = m.upstream[i].Load()
		s.upstream[i] += n
		s.upstreamCount += n
	}
	for i := range m.size {
		s.size[i] += m.size[i].Load()
	}
	s.durationNanos += m.durationNanos.Load()
	s.upstreamNs += m.upstreamNanos.Load()
	s.sizeBytes += m.sizeBytes.Load()
}

func (r *Registry) sorted() []*Route {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list()
}

// list is sorted with the mutex held.
func (r *Registry) list() []*Route {
	r.sweep()
	return slices.SortedFunc(maps.Values(r.routes), func(a, b *Route) int {
		return cmp.Or(cmp.Compare(a.key.Route, b.key.Route), cmp.Compare(a.key.Service, b.key.Service), cmp.Compare(a.key.RouteID, b.key.RouteID))
	})
}

// series returns the counters by their labels, in order.
func (r *Registry) series() iter.Seq2[labels, *totals] {
	past := map[labels]*totals{}
	r.mu.Lock() // for both: what is in the list is not yet in what is past
	list := r.list()
	for l, sum := range r.past {
		copied := totals{faults: map[fault.Code]uint64{}}
		copied.join(sum)
		past[l] = &copied
	}
	r.mu.Unlock()
	return func(yield func(labels, *totals) bool) {
		for i := 0; i < len(list); {
			l := list[i].key.labels()
			sum := past[l]
			for ; i < len(list) && list[i].key.labels() == l; i++ {
				one, seen := list[i].totals()
				switch {
				case !seen:
				case sum == nil:
					sum = &one
				default:
					sum.join(&one)
				}
			}
			if sum != nil && !yield(l, sum) {
				return
			}
		}
	}
}

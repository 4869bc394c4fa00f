package telemetry

import "sync/atomic"

// Version is a snapshot that exchanges are served by: reports say apart what each has served. Versions are told apart
// by their addresses, since a node may go back to a revision.
type Version struct {
	// Epoch and Revision are those of its configuration.
	Epoch    string
	Revision uint32

	number uint64 // later ones have higher ones; 0 is noVersion's
}

// noVersion is for exchanges that began before the first snapshot, and for those of a node that tells nobody.
var noVersion = &Version{}

// NewVersion returns a version that comes after all others.
func (r *Registry) NewVersion(epoch string, revision uint32) *Version {
	return &Version{epoch, revision, r.versions.Add(1)}
}

// traffic is what a route has served by one version.
type traffic struct {
	version *Version
	// last is the newest version that is counted here: a later one where there were too many to tell apart.
	last  atomic.Pointer[Version]
	cells []trafficCell
	older *traffic // under the route's mu
}

// trafficCell is one shard. What nearly all exchanges are counted by comes first: it is in one cache line.
type trafficCell struct {
	nanos    atomic.Uint64
	duration [len(bounds) + 1]atomic.Uint64
	errors   atomic.Uint64
	_        [56]byte // to the next cache line
}

// maxTraffic bounds how many versions a route tells apart at once: while a node can't report, later ones are counted
// with the last one.
const maxTraffic = 64

// count adds an exchange to what its version has served, in the cell of a shard, below shards.
func (t *Route) count(shard uint32, d *Done, bucket int) {
	v := d.Version
	if v == nil {
		v = noVersion
	}
	now := t.traffic.Load()
	if now == nil || now.last.Load() != v {
		now = t.trafficOf(v)
	}
	c := &now.cells[shard]
	if d.Status >= 500 {
		c.errors.Add(1)
	}
	c.nanos.Add(uint64(max(d.Duration, 0)))
	c.duration[bucket].Add(1) // at last: what is seen of an exchange before is told with this
}

// trafficOf finds or makes what a version has served. The newest version's comes first, where count finds it at once;
// of the exchanges that began by an older one there are only few.
func (t *Route) trafficOf(v *Version) *traffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.traffic.Load()
	n := 0
	for one := first; one != nil; one = one.older {
		if one.version == v || one.last.Load() == v {
			return one
		}
		n++
	}
	late := first != nil && first.last.Load().number > v.number
	if n >= maxTraffic {
		if !late {
			first.last.Store(v) // so that count finds it at once
		}
		return first
	}
	made := &traffic{version: v, cells: make([]trafficCell, t.shards), older: first}
	made.last.Store(v)
	if late {
		made.older, first.older = first.older, made
	} else {
		t.traffic.Store(made)
	}
	return made
}

// served returns what the route has served, by version.
func (t *Route) served() []*traffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*traffic
	for one := t.traffic.Load(); one != nil; one = one.older {
		all = append(all, one)
	}
	return all
}

// forget lets go of what a version has served.
func (t *Route) forget(gone *traffic) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.traffic.Load()
	if first == gone {
		t.traffic.Store(gone.older)
		return
	}
	for one := first; one != nil; one = one.older {
		if one.older == gone {
			one.older = gone.older
			return
		}
	}
}

// sums are cells added up.
type sums struct {
	duration                [len(bounds) + 1]uint64
	requests, nanos, errors uint64
}

// sum reads requests before what else is counted of them, so that this is never behind.
func (one *traffic) sum() (s sums) {
	for i := range one.cells {
		c := &one.cells[i]
		for b := range c.duration {
			n := c.duration[b].Load()
			s.duration[b] += n
			s.requests += n
		}
		s.nanos += c.nanos.Load()
		s.errors += c.errors.Load()
	}
	return s
}

package fleet

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

const (
	// maxRevisions is of how many revisions it is kept what they have served, and maxNodeRevisions of each node: those
	// that were reported last.
	maxRevisions     = 32
	maxNodeRevisions = 4
	// maxRoutes bounds the routes of which that is kept apart for all revisions together, and maxRevisionRoutes those of
	// one: others count in the sum only.
	maxRoutes         = 50_000
	maxRevisionRoutes = 10_000
)

// revision names a revision.
type revision struct {
	epoch  string
	number uint32
}

// served is a sum of traffic.
type served struct{ requests, errors, micros uint64 }

func (s *served) add(t *streamv1.RouteTraffic) {
	s.requests += t.GetRequests()
	s.errors += t.GetErrors()
	s.micros += t.GetDurationMicros()
}

func (s served) errorRatio() float64 {
	if s.requests == 0 {
		return 0
	}
	return float64(s.errors) / float64(s.requests)
}

func (s served) meanMs() float64 {
	if s.requests == 0 {
		return 0
	}
	return float64(s.micros) / float64(s.requests) / 1000
}

// traffic is what has been served by one revision.
type traffic struct {
	served
	at     time.Time
	routes map[string]*served // by route id
	others uint64             // requests of routes that are not among routes
}

// ofRevision returns whose traffic this is. Builds before this one do not tell: it counts for what the node runs.
func ofRevision(r *streamv1.Report, t *streamv1.RouteTraffic) revision {
	if t.Revision == nil {
		return revision{r.GetEpoch(), r.GetRevision()}
	}
	return revision{cmp.Or(t.GetEpoch(), r.GetEpoch()), t.GetRevision()}
}

// serve counts what a node reports; the caller holds mu.
func (f *Fleet) serve(n *node, r *streamv1.Report, now time.Time) {
	for _, t := range r.GetRoutes() {
		if t.GetRequests() == 0 {
			continue
		}
		rev := ofRevision(r, t)
		if t.Revision == nil && rev.epoch == "" {
			rev.epoch = n.epoch
		}
		f.serveRevision(rev, t, now)
		if n.served == nil {
			n.served = map[revision]*traffic{}
		}
		own := n.served[rev]
		if own == nil {
			own = &traffic{}
			n.served[rev] = own
			dropOldest(n.served, maxNodeRevisions, rev)
		}
		own.add(t)
		own.at = now
	}
}

func (f *Fleet) serveRevision(rev revision, t *streamv1.RouteTraffic, now time.Time) {
	all := f.served[rev]
	if all == nil {
		all = &traffic{routes: map[string]*served{}}
		f.served[rev] = all
		if gone := dropOldest(f.served, maxRevisions, rev); gone != nil {
			f.routes -= len(gone.routes)
		}
	}
	all.add(t)
	all.at = now
	route := all.routes[t.GetRouteId()]
	if route == nil {
		if len(all.routes) >= maxRevisionRoutes || !f.roomForRoute(rev) {
			all.others += t.GetRequests()
			return
		}
		route = &served{}
		all.routes[t.GetRouteId()] = route
		f.routes++
	}
	route.add(t)
}

// roomForRoute makes room for one more route of a revision: the routes of that which was reported longest ago go.
func (f *Fleet) roomForRoute(of revision) bool {
	if f.routes < maxRoutes {
		return true
	}
	var oldest *traffic
	for rev, t := range f.served {
		if rev != of && len(t.routes) > 0 && (oldest == nil || t.at.Before(oldest.at)) {
			oldest = t
		}
	}
	if oldest == nil {
		return false
	}
	f.routes -= len(oldest.routes)
	for _, r := range oldest.routes {
		oldest.others += r.requests
	}
	oldest.routes = map[string]*served{}
	return true
}

// dropOldest drops the revision that was reported longest ago, but not one, where there are too many.
func dropOldest(all map[revision]*traffic, most int, not revision) (gone *traffic) {
	if len(all) <= most {
		return nil
	}
	var which revision
	for rev, t := range all {
		if rev != not && (gone == nil || t.at.Before(gone.at)) {
			which, gone = rev, t
		}
	}
	delete(all, which)
	return gone
}

// view returns traffic as it is shown, without routes.
func (t *traffic) view(number uint32) *adminv1.RevisionTraffic {
	return &adminv1.RevisionTraffic{Revision: number, Requests: t.requests, Errors: t.errors, ErrorRatio: t.errorRatio(),
		MeanMs: t.meanMs(), LastAt: timestamppb.New(t.at)}
}

// servedView returns what a node has served, the latest revision first; the caller holds mu.
func (n *node) servedView() (list []*adminv1.RevisionTraffic) {
	for _, rev := range slices.SortedFunc(maps.Keys(n.served), func(a, b revision) int {
		return cmp.Or(n.served[b].at.Compare(n.served[a].at), cmp.Compare(b.number, a.number))
	}) {
		list = append(list, n.served[rev].view(rev.number))
	}
	return list
}

// Served returns what nodes have served by a revision since this control plane started, by route; nothing where none is
// known.
func (f *Fleet) Served(epoch string, number uint32) *adminv1.RevisionTraffic {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.served[revision{epoch, number}]
	if t == nil {
		return &adminv1.RevisionTraffic{Revision: number}
	}
	v := t.view(number)
	v.OtherRequests = t.others
	for id, r := range t.routes {
		v.Routes = append(v.Routes, &adminv1.RouteTraffic{RouteId: id, Requests: r.requests, Errors: r.errors,
			ErrorRatio: r.errorRatio(), MeanMs: r.meanMs()})
	}
	slices.SortFunc(v.GetRoutes(), func(a, b *adminv1.RouteTraffic) int {
		return cmp.Or(cmp.Compare(b.GetRequests(), a.GetRequests()), cmp.Compare(a.GetRouteId(), b.GetRouteId()))
	})
	return v
}

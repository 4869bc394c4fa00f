package upstream

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/dataplane/internal/upstream/outlier"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// maxUses is how many endpoints' uses one report has; others are in the next.
const maxUses = 1000

// useKey is what control planes know an endpoint by.
type useKey struct {
	service, host string
	port          uint32
}

// use is how an endpoint is used. One that is at several addresses is ejected while all of them are.
type use struct {
	inFlight  int64
	ejections uint64
	until     time.Time // zero: it is not ejected
	reason    outlier.Reason
}

// Uses returns how endpoints are used, where that has changed since it was told last; all tells to return it of every
// endpoint that is used or was ejected. It is called by one goroutine at a time.
func (r *Registry) Uses(all bool) (changed []*streamv1.EndpointUse) {
	now := r.uses()
	if all {
		r.told = nil
	}
	told := make(map[useKey]use, len(r.told))
	for key, last := range r.told {
		if _, is := now[key]; is {
			told[key] = last
		} else if len(changed) < maxUses {
			changed = append(changed, &streamv1.EndpointUse{ServiceId: key.service, Host: key.host, Port: key.port, Gone: true})
		} else {
			told[key] = last
		}
	}
	for key, u := range now {
		if told[key] == u || len(changed) >= maxUses { // of an idle one nothing is told
			continue
		}
		told[key] = u
		m := &streamv1.EndpointUse{
			ServiceId: key.service, Host: key.host, Port: key.port, InFlight: uint64(max(u.inFlight, 0)), Ejections: u.ejections,
		}
		if !u.until.IsZero() {
			m.EjectedUntil = timestamppb.New(u.until)
		}
		if u.ejections > 0 {
			m.EjectionReason = u.reason.String()
		}
		changed = append(changed, m)
	}
	r.told = told
	return changed
}

// uses returns how all endpoints are used.
func (r *Registry) uses() map[useKey]use {
	r.mu.Lock()
	var hosts []*outlier.Host
	var keys []useKey
	uses := map[useKey]use{}
	for _, s := range r.services {
		for _, e := range s.current.Load().endpoints {
			key := useKey{s.ID, e.Host, e.Port}
			u := uses[key]
			u.inFlight += e.State.InFlight()
			uses[key] = u
			hosts, keys = append(hosts, &e.outlier), append(keys, key)
		}
	}
	r.mu.Unlock()
	met := make(map[useKey]bool, len(uses))
	r.outliers.Look(hosts, func(i int, e outlier.Ejection) {
		u := uses[keys[i]]
		if u.ejections += e.Count; e.Count > 0 {
			u.reason = e.Reason
		}
		switch first := !met[keys[i]]; {
		case first:
			u.until = e.Until
		case e.Until.IsZero() || u.until.IsZero():
			u.until = time.Time{}
		case e.Until.Before(u.until):
			u.until = e.Until
		}
		met[keys[i]] = true
		uses[keys[i]] = u
	})
	return uses
}

package balance

import (
	"sync/atomic"
	"testing"
)

// The usable ones are listed anew when Healthy has changed, and not for a further reason against an endpoint.
func TestAnEndpointTakesRequestsWhenNoReasonIsLeft(t *testing.T) {
	var changes atomic.Uint64
	s := &State{}
	s.changes.Store(&changes)
	for _, step := range []struct {
		what             string
		reason           Reason
		is               bool
		changed, healthy bool
	}{
		{"a reason that is not there goes", Ejected, false, false, true},
		{"the first comes", Ejected, true, true, false},
		{"it comes again", Ejected, true, false, false},
		{"another comes", ChecksFailed, true, false, false},
		{"the first goes", Ejected, false, false, false},
		{"the last goes", ChecksFailed, false, true, true},
		{"two come", Draining | Ejected, true, true, false},
		{"both go", Draining | Ejected, false, true, true},
	} {
		before := changes.Load()
		changed := s.Set(step.reason, step.is)
		if changed != step.changed || s.Healthy() != step.healthy || (changes.Load() != before) != step.changed {
			t.Errorf("%s: changed %v (counted %v), healthy %v, reasons %b",
				step.what, changed, changes.Load() != before, s.Healthy(), s.Reasons())
		}
		if has := s.Reasons().Has(step.reason); has != step.is {
			t.Errorf("%s: the reasons are %b", step.what, s.Reasons())
		}
	}
}

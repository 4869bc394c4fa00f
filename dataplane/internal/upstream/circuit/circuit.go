// Package circuit keeps requests from a service that fails, and lets a few of them try it again after a while. It knows
// results and times, and neither requests nor endpoints.
package circuit

import (
	"time"

	"gateway.internal/dataplane/internal/upstream/outcome"
)

// Circuit decides whether a service is asked. It is safe for concurrent use; Admit and the methods of permits take no
// lock and do not allocate while it is closed.
type Circuit interface {
	// Admit asks for a place for one attempt, which p has where the verdict is Admitted: its Ended is called then, once,
	// with what came of the attempt, and its Leave after that.
	Admit(now time.Time, p *Permit) Verdict
	// RetryAfter is how long a client that was not admitted is to wait, at least a second.
	RetryAfter(now time.Time) time.Duration

	ended(*Permit, *outcome.Result)
	leave(*Permit)
}

// Verdict is what a circuit decides.
type Verdict uint8

const (
	// Admitted lets the attempt begin.
	Admitted Verdict = iota
	// Open refuses it: the service fails, or what tries it again is under way.
	Open
	// Full refuses it: as many as max_concurrent are under way, and as many as max_pending wait.
	Full
)

// Permit is an attempt's place in a circuit. The zero value has none. A copy takes its place; only one of them is used.
type Permit struct {
	of         Circuit
	generation uint64
	probe      bool
}

// Held reports whether there is a place.
func (p *Permit) Held() bool { return p.of != nil }

// Ended tells the circuit what came of the attempt. Further calls do nothing until another permit has taken its place.
func (p *Permit) Ended(r *outcome.Result) {
	if p.of != nil {
		p.of.ended(p, r)
	}
}

// Leave gives the place back, after Ended.
func (p *Permit) Leave() {
	if p.of != nil {
		p.of.leave(p)
		*p = Permit{}
	}
}

package attempt

import (
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/config"
)

// DefaultKeptBytes is how much of a request's body is kept for further attempts where a plan does not say.
const DefaultKeptBytes = 64 << 10

// Plan says how many attempts an exchange may have besides those that a connection's end makes necessary, and when they
// begin. It is immutable. The zero value allows one.
type Plan struct {
	// Most is how many attempts there may be, at once or one after the other; below 2: one.
	Most int
	// Delay is how long after one's beginning the next one begins while there is no good response, beside those that are
	// under way. After one that has failed, or whose response is not good, the next one begins at once.
	Delay time.Duration
	// KeptBytes is how long a request's body may be to be sent more than once, in bytes; 0: DefaultKeptBytes. A request
	// with a longer one has one attempt; where that is not known before, those that have sent less of it than another are
	// canceled when it is.
	KeptBytes int
	// AnyMethod allows requests whose method is not idempotent (RFC 9110 section 9.2.2).
	AnyMethod bool
	// Good reports whether a response is what the client is to get; nil: each is. One that is not is what it gets where
	// there is no other.
	Good func(*exchange.Response) bool
	// Retries are what a policy says instead of all that is above; nil: nothing. See PlanOf.
	Retries *config.Retries
}

// PlanOf returns the plan for what a policy says of hedges; nil: there are none.
func PlanOf(r *config.Retries) *Plan {
	if r == nil || !r.Hedges() {
		return nil
	}
	return &Plan{Most: r.HedgeAttempts + r.Attempts - 1, Retries: r}
}

func (p *Plan) kept() int {
	if p.Retries != nil {
		return p.Retries.KeptBytes
	}
	if p.KeptBytes == 0 {
		return DefaultKeptBytes
	}
	return p.KeptBytes
}

// Several reports whether there may be more than one attempt. Such exchanges are served where they may wait, not in a
// loop: each attempt has a goroutine, and a copy of the exchange.
func (a *Attempts) Several() bool {
	p := a.Plan
	if p == nil || p.Most < 2 {
		return false
	}
	req := &a.Exchange.Request
	if r := p.Retries; r != nil {
		return a.hedgeDelay() > 0 && a.repeats(r) && req.Upgrade == "" && req.ContentLength <= int64(r.KeptBytes)
	}
	again := p.AnyMethod || a.Repeatable || repeatable(req.Method)
	return again && req.Upgrade == "" && req.ContentLength <= int64(p.kept())
}

// race carries the plan out: the first good response is the client's, and the other attempts are canceled.
func (a *Attempts) race() bool {
	g := a.Group(a.Plan.kept())
	if g == nil {
		return false
	}
	defer g.End()
	if a.Plan.Retries != nil {
		return a.hedge(g)
	}
	timer := time.NewTimer(a.Plan.Delay)
	defer timer.Stop()
	g.Start()
	for g.Running() > 0 {
		select {
		case <-timer.C:
			if g.Begun() < a.Plan.Most && g.Start() {
				timer.Reset(a.Plan.Delay)
			}
		case c := <-g.Ended():
			switch {
			case g.Judged(c) && (a.Plan.Good == nil || a.Plan.Good(c.Response())):
				g.Win(c)
				return true
			case g.Begun() < a.Plan.Most && g.Start():
				timer.Reset(a.Plan.Delay)
			}
		}
	}
	return g.Settle()
}

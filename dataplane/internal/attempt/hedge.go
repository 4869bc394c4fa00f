package attempt

import (
	"time"

	"gateway.internal/dataplane/internal/upstream/circuit"
)

// hedgeDelay returns how long there is no response before another attempt begins; 0: that is not known yet.
func (a *Attempts) hedgeDelay() time.Duration {
	r := a.Retries
	if r.HedgeQuantile > 0 {
		if d := a.Service.Retries.Latencies.Within(a.Exchange.Now, r.HedgeQuantile); d > 0 {
			return max(d, time.Millisecond)
		}
	}
	return r.HedgeDelay
}

// learn takes in how long the endpoint took to answer, or has taken without an answer, where the policy hedges by that.
func (a *Attempts) learn(now time.Time) {
	if a.Retries != nil && a.Retries.HedgeQuantile > 0 {
		a.Service.Retries.Latencies.Add(now, now.Sub(a.Begun))
	}
}

// Several reports whether there may be more than one attempt at once. Such exchanges are served where they may wait,
// not in a loop: each attempt has a goroutine, and a copy of the exchange.
func (a *Attempts) Several() bool {
	r := a.Retries
	if r == nil || a.ofGroup || !r.Hedges() {
		return false
	}
	req := &a.Exchange.Request
	return a.hedgeDelay() > 0 && a.repeats() && req.Upgrade == "" && req.ContentLength <= int64(r.KeptBytes)
}

// hedge makes the attempts: after a delay without a response another endpoint gets the request as well, and where no
// attempt is under way any more and none was good, there is a retry as without hedges. The first good response is the
// client's.
func (a *Attempts) hedge() bool {
	shared, r := &a.Service.Retries, a.Retries
	g := a.Group(r.KeptBytes)
	if g == nil {
		return false
	}
	defer g.End()
	ctx, stop := a.Exchange.Context()
	defer stop()
	over := ctx.Done()
	delay := a.hedgeDelay()
	due, pause := time.NewTimer(delay), time.NewTimer(time.Hour)
	defer due.Stop()
	pause.Stop()
	defer pause.Stop()
	hedges, won, waiting := 0, 0, false
	defer func() {
		shared.HedgesWon.Add(uint64(won))
		shared.HedgesLost.Add(uint64(hedges - won))
	}()
	g.Start()
	for g.Running() > 0 || waiting {
		select {
		case <-due.C:
			if !waiting && hedges+1 < r.HedgeAttempts && a.planHedge() && g.Start() {
				hedges++
				g.all[len(g.all)-1].hedge = true
				due.Reset(delay)
			}
		case <-pause.C:
			waiting = false
			if a.Exchange.Tick(); g.Start() {
				due.Reset(delay)
			}
		case <-over:
			over, waiting = nil, false
		case c := <-g.Ended():
			answered := g.Judged(c)
			why, unseen, least := c.failedFor, c.unseen, time.Duration(0)
			if answered {
				if why = c.reasonOf(c.Response()); why == 0 {
					if c.hedge {
						won = 1
					}
					g.Win(c)
					return true
				}
				unseen, least = false, c.retryAfter()
				c.tell(c.Answered)
			}
			if g.Running() > 0 || waiting || why == 0 || !a.allows(why, unseen) {
				continue
			}
			if wait, ok := a.plan(why, least, answered && c.Response().Status == 429, g.place()); ok {
				a.giveWay(wait)
				waiting = true
				pause.Reset(wait)
			}
		}
	}
	return g.Settle()
}

// planHedge chooses an endpoint that has not got the request yet, and reports false where there is none, or the budget
// or the circuit does not allow it.
func (a *Attempts) planHedge() bool {
	x, r, shared := a.Exchange, a.Retries, &a.Service.Retries
	to := a.Service.Pick(x, &a.tried)
	if to == nil || a.tried.Has(to) {
		return false
	}
	x.Tick()
	if a.Service.AdmitAtOnce(x, &a.nextPermit) != circuit.Admitted { // the attempts under way are not left to wait
		return false
	}
	if !shared.Budget.Take(x.Now, r.BudgetPercent, r.MinPerSecond) {
		shared.Exhausted.Add(1)
		a.nextPermit.Leave()
		return false
	}
	a.next = to
	return true
}

package proxy

import "gateway.internal/dataplane/internal/exchange"

// inject does to the request what the backend's fault says. One that is late waits in a goroutine of its own.
func (t *transaction) inject() phase {
	x, f := t.x, t.backend.Fault
	if !t.faulted {
		t.faulted, t.injected = true, f.Draw(x, t.p.chance.fraction)
	}
	if t.injected.Delay > 0 {
		if x.InLoop {
			return later
		}
		x.Sleep(t.injected.Delay)
	}
	if t.injected.Abort {
		f.Abort(x)
		t.verdict = exchange.Stop
		if x.InLoop && t.backend.Chain.Works() && t.answerBytes() > longAnswer {
			return later
		}
	}
	return ready
}

package upstream

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream/circuit"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// setCircuit makes the circuit what the settings say. What it knows stays, as far as they have not changed.
func (s *Service) setCircuit(set *config.Circuit) {
	old := s.circuit.Load()
	if set == nil {
		s.circuit.Store(nil)
		return
	}
	var before circuit.Circuit
	if old != nil {
		before = *old
	}
	next := circuit.New(set, before, time.Now())
	if next != before {
		next.Tell(s.circuitChanged)
		s.circuit.Store(&next)
	}
}

// circuitChanged logs a transition.
func (s *Service) circuitChanged(c circuit.Change) {
	level := slog.LevelInfo
	if c.To == circuit.Opened {
		level = slog.LevelWarn
	}
	s.log.Log(context.Background(), level, "a circuit has changed its state",
		"service", s.Name(), "from", c.From.String(), "to", c.To.String(), "reason", string(c.Reason))
}

// Admit asks the service's circuit whether an attempt may begin, and takes a place in it then. An attempt that has one
// keeps it. Where it would have to wait for one it does, unless it is in a loop: the verdict is Busy then.
func (s *Service) Admit(x *exchange.Exchange, p *circuit.Permit) circuit.Verdict {
	c := s.circuit.Load()
	if c == nil || p.Held() {
		return circuit.Admitted
	}
	verdict := (*c).Admit(x.Now, x.Shard, p)
	if verdict == circuit.Busy && !x.InLoop {
		return s.waitForPlace(x, (*c).(circuit.Queuing), p)
	}
	return verdict
}

// AdmitAtOnce is Admit for an attempt that does not wait for a place: the verdict is Busy then.
func (s *Service) AdmitAtOnce(x *exchange.Exchange, p *circuit.Permit) circuit.Verdict {
	c := s.circuit.Load()
	if c == nil || p.Held() {
		return circuit.Admitted
	}
	return (*c).Admit(x.Now, x.Shard, p)
}

// AdmitAfter is AdmitAtOnce for an attempt that follows one that has ended and may hold a place, which passes on to it
// then. held may be nil.
func (s *Service) AdmitAfter(x *exchange.Exchange, held, p *circuit.Permit) circuit.Verdict {
	if c := s.circuit.Load(); c != nil && !p.Held() && held.Passes() {
		if verdict, same := held.Pass(*c, x.Now, p); same {
			return verdict
		}
	}
	return s.AdmitAtOnce(x, p)
}

// waitForPlace waits for a place in a circuit, for the time in which a connection has to be opened at most.
func (s *Service) waitForPlace(x *exchange.Exchange, c circuit.Queuing, p *circuit.Permit) circuit.Verdict {
	w := circuit.NewWaiter()
	switch c.Queue(w) {
	case circuit.Full:
		return circuit.Full
	case circuit.Busy:
		x.Watch(w)
		defer x.Unwatch(w)
		wait := s.current.Load().settings.Pool.ConnectTimeout
		if until := x.Deadline; !until.IsZero() { // an attempt before may have had its time, but the exchange has more
			wait = min(wait, max(time.Until(until), time.Nanosecond))
		}
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-w.Done:
		case <-timer.C:
		}
		if !c.Unqueue(w) {
			return circuit.Full
		}
	}
	return c.Enter(x.Tick(), x.Shard, p)
}

// Refuse makes the circuit's verdict the response.
func (s *Service) Refuse(x *exchange.Exchange, why circuit.Verdict) {
	reason := "the service fails, and is not asked for a while"
	if why == circuit.Full {
		reason = "as many requests to the service as its circuit allows are under way"
		if set := s.current.Load().settings.Circuit; set != nil && set.Adaptive.MaxLimit > 0 {
			reason = "as many requests to the service are under way as it answers without delay"
		}
	}
	x.Fail(fault.CircuitOpen, reason)
	if c := s.circuit.Load(); c != nil && x.RPC == exchange.NoRPC {
		after := time.Second
		if why == circuit.Open {
			after = (*c).RetryAfter(x.Now)
		}
		x.Response.Header.Add("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
}

// Circuit returns the service's circuit, or nil.
func (s *Service) Circuit() circuit.Circuit {
	if c := s.circuit.Load(); c != nil {
		return *c
	}
	return nil
}

var (
	circuitDesc = prometheus.NewDesc("gateway_circuit_breaker_state",
		"The service's circuit on this node: 0 closed, 1 open (by itself or by hand), 2 half-open.", []string{"service"}, nil)
	circuitChangesDesc = prometheus.NewDesc("gateway_circuit_breaker_transitions_total",
		"Changes of the circuit's state, by the state that it came to.", []string{"service", "to"}, nil)
	circuitRejectedDesc = prometheus.NewDesc("gateway_circuit_breaker_rejected_total",
		"Requests and retries that the circuit has kept from the service.", []string{"service"}, nil)
	circuitTimesDesc = prometheus.NewDesc("gateway_circuit_breaker_response_seconds",
		"The time within which a share of the service's latest responses came, where its circuit is of the type hystrix.",
		[]string{"service", "quantile"}, nil)
	circuitLimitDesc = prometheus.NewDesc("gateway_circuit_concurrency_limit",
		"Requests to the service that this node may have under way now, where its circuit limits that.",
		[]string{"service"}, nil)
	circuitMinRTTDesc = prometheus.NewDesc("gateway_circuit_min_rtt_seconds",
		"Time of a response of the service with next to no load, by which the adaptive limit goes; absent until it is known.",
		[]string{"service"}, nil)
)

// collectCircuit emits what the service's circuit does, if there is one.
func (s *Service) collectCircuit(ch chan<- prometheus.Metric, service string) {
	c := s.Circuit()
	if c == nil {
		return
	}
	status := c.Status(time.Now())
	state := map[circuit.State]float64{circuit.Opened: 1, circuit.HalfOpen: 2, circuit.Forced: 1}[status.State]
	ch <- prometheus.MustNewConstMetric(circuitDesc, prometheus.GaugeValue, state, service)
	ch <- prometheus.MustNewConstMetric(circuitRejectedDesc, prometheus.CounterValue, float64(status.Rejected), service)
	if status.Limit > 0 {
		ch <- prometheus.MustNewConstMetric(circuitLimitDesc, prometheus.GaugeValue, float64(status.Limit), service)
	}
	if status.MinRTT > 0 {
		ch <- prometheus.MustNewConstMetric(circuitMinRTTDesc, prometheus.GaugeValue, status.MinRTT.Seconds(), service)
	}
	for to, n := range status.To {
		ch <- prometheus.MustNewConstMetric(
			circuitChangesDesc, prometheus.CounterValue, float64(n), service, circuit.State(to).String())
	}
	for quantile, within := range map[string]time.Duration{"0.5": status.P50, "0.95": status.P95, "0.99": status.P99} {
		if within > 0 {
			ch <- prometheus.MustNewConstMetric(circuitTimesDesc, prometheus.GaugeValue, within.Seconds(), service, quantile)
		}
	}
}

package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/fleet"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/suggest"
)

// circuits serves the circuits of the nodes.
type circuits struct {
	adminv1.UnimplementedHealthServiceServer
	*Server
}

// The least and the longest time for which a circuit may be forced open.
const (
	leastForced = time.Second
	mostForced  = 720 * time.Hour
)

// ListCircuitBreakers returns the circuits of the services that have one.
func (s circuits) ListCircuitBreakers(
	_ context.Context, r *adminv1.ListCircuitBreakersRequest,
) (*adminv1.ListCircuitBreakersResponse, error) {
	v, err := s.version()
	if err != nil {
		return nil, err
	}
	services := withCircuit(v)
	if r.GetService() != "" {
		one, err := s.serviceOf(v, r.GetService())
		if err != nil {
			return nil, err
		}
		services = []*configv1.Service{one}
	}
	part, meta, err := cut(services, r, v.Revision)
	if err != nil {
		return nil, err
	}
	reply := &adminv1.ListCircuitBreakersResponse{Meta: meta}
	for _, one := range part {
		reply.CircuitBreakers = append(reply.CircuitBreakers, s.circuit(one))
	}
	return reply, nil
}

// withCircuit returns the services that have a circuit, by name.
func withCircuit(v *catalog.Version) (list []*configv1.Service) {
	for _, e := range v.Config.Sorted(config.Service) {
		if m, ok := e.Message.(*configv1.Service); ok && m.GetCircuitBreakerConfig() != nil {
			list = append(list, m)
		}
	}
	return list
}

var circuitStates = map[streamv1.CircuitStatus_State]string{
	streamv1.CircuitStatus_STATE_CLOSED: "closed", streamv1.CircuitStatus_STATE_HALF_OPEN: "half-open",
	streamv1.CircuitStatus_STATE_OPEN: "open", streamv1.CircuitStatus_STATE_FORCED_OPEN: "forced-open",
}

// severity is the order of states, from that which lets all requests through to that which lets none through for
// longest.
var severity = []string{"", "closed", "half-open", "open", "forced-open"}

// circuit returns what nodes have said of a service's circuit.
func (s *Server) circuit(service *configv1.Service) *adminv1.CircuitBreaker {
	nodes, forced, is := s.fleet.Circuits(service.GetId())
	c := &adminv1.CircuitBreaker{ServiceId: service.GetId(), Service: service.GetName(), ForcedOpen: is}
	if is && !forced.Until.IsZero() {
		c.ForcedUntil = timestamppb.New(forced.Until)
	}
	for id, n := range nodes {
		one := &adminv1.NodeCircuit{
			NodeId: id, State: circuitStates[n.GetState()], Since: n.GetSince(), Until: n.GetUntil(),
			Requests: n.GetRequests(), Failed: n.GetFailed(), Slow: n.GetSlow(), Rejected: n.GetRejected(),
			Concurrent: n.GetConcurrent(), Pending: n.GetPending(), Limit: n.GetLimit(),
			MinRttMs: milliseconds(n.GetMinRttMicros()), P50Ms: milliseconds(n.GetP50Micros()),
			P95Ms: milliseconds(n.GetP95Micros()), P99Ms: milliseconds(n.GetP99Micros()),
		}
		c.Nodes = append(c.Nodes, one)
		if slices.Index(severity, one.GetState()) > slices.Index(severity, c.GetState()) {
			c.State = one.GetState()
		}
	}
	slices.SortFunc(c.Nodes, func(a, b *adminv1.NodeCircuit) int { return cmp.Compare(a.GetNodeId(), b.GetNodeId()) })
	return c
}

func milliseconds(micros uint64) float64 { return float64(micros) / 1000 }

// maxNamed is how many services an error names.
const maxNamed = 20

// serviceOf returns a service that has a circuit, by id or name.
func (s circuits) serviceOf(v *catalog.Version, name string) (*configv1.Service, error) {
	e := v.Config.Lookup(config.Service, name)
	if e != nil {
		if m, ok := e.Message.(*configv1.Service); ok && m.GetCircuitBreakerConfig() != nil {
			return m, nil
		}
	}
	var names []string
	for _, one := range withCircuit(v) {
		names = append(names, one.GetName())
	}
	there := "no service has a circuit_breaker_config"
	if len(names) > 0 {
		there = "services with a circuit are " + strings.Join(names[:min(len(names), maxNamed)], ", ")
		if more := len(names) - maxNamed; more > 0 {
			there += fmt.Sprintf(" and %d more", more)
		}
	}
	if e != nil {
		return nil, invalid("service", e.Name(), "has no circuit_breaker_config, and so no circuit; "+there)
	}
	if hint := suggest.Hint(name, slices.Values(names)); hint != "" {
		there = strings.TrimPrefix(hint, "; ") + " " + strings.ToUpper(there[:1]) + there[1:]
	}
	return nil, failure(fault.NotFound, fmt.Sprintf("there is no service %q; %s", name, there))
}

// ResetCircuitBreaker closes a service's circuit.
func (s circuits) ResetCircuitBreaker(
	ctx context.Context, r *adminv1.ResetCircuitBreakerRequest,
) (*adminv1.ResetCircuitBreakerResponse, error) {
	v, err := s.version()
	if err != nil {
		return nil, err
	}
	service, err := s.serviceOf(v, r.GetService())
	if err != nil {
		return nil, err
	}
	if err := checkScope(ctx, service); err != nil {
		return nil, err
	}
	nodes := s.fleet.ResetCircuit(service.GetId())
	s.log.InfoContext(ctx, "a circuit was reset", "author", author(ctx), "message", message(ctx),
		"service", service.GetName(), "nodes", nodes)
	return &adminv1.ResetCircuitBreakerResponse{
		Change: changeOf(service, nodes), Meta: &adminv1.ReplyMeta{Revision: v.Revision},
	}, nil
}

// ForceOpenCircuitBreaker opens a service's circuit by hand.
func (s circuits) ForceOpenCircuitBreaker(
	ctx context.Context, r *adminv1.ForceOpenCircuitBreakerRequest,
) (*adminv1.ForceOpenCircuitBreakerResponse, error) {
	v, err := s.version()
	if err != nil {
		return nil, err
	}
	service, err := s.serviceOf(v, r.GetService())
	if err != nil {
		return nil, err
	}
	if err := checkScope(ctx, service); err != nil {
		return nil, err
	}
	var forced fleet.Forced
	if text := r.GetDuration(); text != "" {
		d, err := config.ParseDuration(text)
		if err != nil {
			return nil, invalid("duration", text, err.Error())
		}
		if d < leastForced || d > mostForced {
			return nil, invalid("duration", text,
				"has to be from 1s to 720h; without it the circuit stays open until it is reset")
		}
		forced.Until = time.Now().Add(d)
	}
	nodes, ok := s.fleet.ForceOpen(service.GetId(), forced)
	if !ok {
		return nil, failure(fault.InvalidArgument,
			fmt.Sprintf("%d circuits are forced open, the most there may be: reset some first", fleet.MaxForced))
	}
	s.log.WarnContext(ctx, "a circuit was forced open", "author", author(ctx), "message", message(ctx),
		"service", service.GetName(), "duration", r.GetDuration(), "nodes", nodes)
	return &adminv1.ForceOpenCircuitBreakerResponse{
		Change: changeOf(service, nodes), Meta: &adminv1.ReplyMeta{Revision: v.Revision},
	}, nil
}

func changeOf(service *configv1.Service, nodes int) *adminv1.CircuitChange {
	return &adminv1.CircuitChange{ServiceId: service.GetId(), Service: service.GetName(), Nodes: uint32(nodes)}
}

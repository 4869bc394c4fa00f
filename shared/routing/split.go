package routing

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/keyhash"
	"gateway.internal/shared/match"
)

// Split shares the traffic of a route among its services: first to those whose conditions a request meets, then by
// weight.
type Split struct {
	// Shares are in the order of the route's backends; at least one. That of a redirect or of a direct response has no
	// service.
	Shares []Share
	// Total is the sum of the weights, above 0.
	Total uint32
	// Sticky leads requests of one client to the same share; nil: it is left to chance.
	Sticky *Sticky
	// ByConsumer tells that the consumer has to be known before a share is chosen.
	ByConsumer bool
	// Vary has the names of the request's header fields that conditions look at, so that a response depends on them,
	// whichever share it is of. What follows from shares in percent, or from the client, is not among them.
	Vary []string

	conditional bool // a share has conditions
}

// Share is one service's part.
type Share struct {
	// ServiceID is the service's; empty: none.
	ServiceID string
	// Weight is its part of the total.
	Weight uint32

	conditions *match.Conditions // nil: none
	seed       uint64            // of its service's name
}

// Choice is the share of a request.
type Choice struct {
	// Share is its index.
	Share int
	// ID is what the client is to be known by from now on; 0: nothing has to be told to it.
	ID ClientID
}

// Choose returns the share of a request. random returns a number from 0 and below n.
func (s *Split) Choose(q *match.Request, c *Client, random func(n uint32) uint32) Choice {
	if len(s.Shares) == 1 {
		return Choice{}
	}
	if s.conditional {
		for i := range s.Shares {
			if m := s.Shares[i].conditions; m != nil && m.Hold(q, c.Consumer, c.Groups) {
				return Choice{Share: i}
			}
		}
	}
	if s.Sticky == nil {
		return Choice{Share: s.draw(random(s.Total))}
	}
	if key, ok := s.Sticky.key(q, c); ok {
		return Choice{Share: s.of(key)}
	}
	if s.Sticky.cookie.Name == "" {
		return Choice{Share: s.draw(random(s.Total))}
	}
	id := newClientID(random)
	var text [16]byte
	return Choice{s.of(keyhash.Text(string(id.appendText(text[:0])))), id}
}

// draw returns the share that a random number picks, by its index. n is from 0 and below Total.
func (s *Split) draw(n uint32) int {
	for i := range s.Shares {
		w := s.Shares[i].Weight
		if n < w {
			return i
		}
		n -= w
	}
	return 0
}

// Probability returns how likely a share is to be picked where no conditions are met, from 0 to 1.
func (s *Split) Probability(share int) float64 {
	return float64(s.Shares[share].Weight) / float64(s.Total)
}

func (c *Compiler) split(msg *configv1.Route) (Split, error) {
	s := Split{Sticky: newSticky(msg.GetSticky())}
	s.ByConsumer = s.Sticky != nil && s.Sticky.consumer
	if len(msg.GetBackends()) == 0 || msg.GetServiceId() != "" {
		if id := msg.GetServiceId(); id != "" && c.Service(id) == nil {
			return s, fmt.Errorf("there is no service %s", id)
		}
		s.Shares, s.Total = []Share{{ServiceID: msg.GetServiceId(), Weight: 1}}, 1
		return s, nil
	}
	var weights, percents []uint64
	for i, b := range msg.GetBackends() {
		service := c.Service(b.GetServiceId())
		if service == nil {
			return s, fmt.Errorf("there is no service %s", b.GetServiceId())
		}
		conditions, errs := match.ParseConditions(fmt.Sprintf("backends[%d].match", i), b.GetMatch())
		if len(errs) > 0 {
			return s, fmt.Errorf("%s %s", errs[0].Field, errs[0].Message)
		}
		s.conditional = s.conditional || conditions != nil
		if conditions != nil {
			s.ByConsumer = s.ByConsumer || conditions.ByConsumer()
			s.vary(conditions.Fields())
		}
		s.Shares = append(s.Shares, Share{
			ServiceID: b.GetServiceId(), conditions: conditions, seed: keyhash.Text(service.GetName()),
		})
		weights = append(weights, uint64(config.BackendWeight(b)))
		percents = append(percents, uint64(math.Round(b.GetMatch().GetPercent()*1000)))
	}
	return s, s.weigh(weights, percents)
}

// vary takes the names of fields in, each once.
func (s *Split) vary(names []string) {
	for _, n := range names {
		if !slices.ContainsFunc(s.Vary, func(have string) bool { return strings.EqualFold(have, n) }) {
			s.Vary = append(s.Vary, n)
		}
	}
}

// weigh makes weights of the shares of weights and shares of thousandths of a percent, which go before those.
func (s *Split) weigh(weights, percents []uint64) error {
	const all = 100_000
	var sum, taken, divisor uint64
	for i := range weights {
		sum, taken = sum+weights[i], taken+percents[i]
	}
	if taken > all || sum == 0 && taken < all {
		return errors.New("backends: the weights and percentages leave requests without a backend")
	}
	if taken == 0 {
		for i, w := range weights {
			s.Shares[i].Weight = uint32(w)
		}
		s.Total = uint32(sum)
		return nil
	}
	parts := make([]uint64, len(weights))
	for i := range parts {
		parts[i] = percents[i]*max(sum, 1) + (all-taken)*weights[i]
		divisor = gcd(parts[i], divisor)
	}
	// 64 backends of the largest weight come to more than 32 bits: they lose what nobody can see.
	divisor = max(divisor, all*max(sum, 1)/(math.MaxUint32-uint64(len(parts)))+1)
	for i, p := range parts {
		s.Shares[i].Weight = uint32((p + divisor - 1) / divisor)
		s.Total += s.Shares[i].Weight
	}
	return nil
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Mirror sends a share of a route's requests to another service as well.
type Mirror struct {
	// ServiceID is the service's that gets the copies.
	ServiceID string
	// Percent is how many of a hundred requests are copied: above 0, up to 100.
	Percent float64
	// MaxBodyBytes is the longest body of a request that is copied.
	MaxBodyBytes int64
}

// defaultMirrorBytes is the longest body that is copied where a mirror does not say so.
const defaultMirrorBytes = 64 << 10

func mirrorOf(m *configv1.Mirror) *Mirror {
	if m == nil {
		return nil
	}
	r := &Mirror{ServiceID: m.GetServiceId(), Percent: 100, MaxBodyBytes: defaultMirrorBytes}
	if m.Percent != nil {
		r.Percent = m.GetPercent()
	}
	if m.MaxBodyBytes != nil {
		r.MaxBodyBytes = int64(m.GetMaxBodyBytes())
	}
	return r
}

// Takes reports whether a request is one of the share that is copied, for a random number from 0 and below 1.
func (m *Mirror) Takes(random float64) bool { return random*100 < m.Percent }

package routing

import (
	"fmt"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// Split shares the traffic of a route among its services by weight.
type Split struct {
	// Shares are in the order of the route's backends; at least one. That of a redirect or of a direct response has no
	// service.
	Shares []Share
	// Total is the sum of the weights, above 0.
	Total uint32
}

// Share is one service's part.
type Share struct {
	// ServiceID is the service's; empty: none.
	ServiceID string
	// Weight is its part of the total.
	Weight uint32
}

// Choose returns the share that a random number picks, by its index. n is from 0 and below Total.
func (s *Split) Choose(n uint32) int {
	for i := range s.Shares {
		w := s.Shares[i].Weight
		if n < w {
			return i
		}
		n -= w
	}
	return 0
}

// Probability returns how likely a share is to be picked, from 0 to 1.
func (s *Split) Probability(share int) float64 {
	return float64(s.Shares[share].Weight) / float64(s.Total)
}

func (c *Compiler) split(msg *configv1.Route) (Split, error) {
	var s Split
	add := func(id string, weight uint32) error {
		if id != "" && c.Service(id) == nil {
			return fmt.Errorf("there is no service %s", id)
		}
		s.Shares = append(s.Shares, Share{id, weight})
		s.Total += weight
		return nil
	}
	if len(msg.GetBackends()) == 0 || msg.GetServiceId() != "" {
		return s, add(msg.GetServiceId(), 1)
	}
	for _, b := range msg.GetBackends() {
		weight := uint32(1)
		if b.Weight != nil {
			weight = b.GetWeight()
		}
		if err := add(b.GetServiceId(), weight); err != nil {
			return s, err
		}
	}
	return s, nil
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

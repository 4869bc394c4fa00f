package fleet

import (
	"strconv"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// subject is what a directive is about. Of those about the same the last one counts.
type subject string

const sizeOfFleet subject = "fleet size"

func circuitOf(serviceID string) subject { return subject("circuit " + serviceID) }

// checksOf is the subject of the nth directive to check endpoints. Each is about other endpoints, so that as many wait
// as all that are remembered may need.
func checksOf(n int) subject { return subject("checks " + strconv.Itoa(n%(maxSeen/maxLooks))) }

// questionOf is the subject of a question about a limit: one for each that may be under way.
func questionOf(number uint64) subject {
	return subject("question " + strconv.FormatUint(number%maxQuestions, 10))
}

// directives are those that have not been sent to a node: how things are to be, and not how they came to be so. So as
// many wait for a node that takes nothing as there are subjects. The fleet's mutex protects them.
type directives struct {
	list []*streamv1.Directive
	at   map[subject]int // in list
}

func (d *directives) put(about subject, m *streamv1.Directive) {
	if i, waits := d.at[about]; waits {
		d.list[i] = m
		return
	}
	if d.at == nil {
		d.at = map[subject]int{}
	}
	d.at[about] = len(d.list)
	d.list = append(d.list, m)
}

// direct has a directive sent to all nodes, and returns how many that are; the caller holds mu.
func (f *Fleet) direct(about subject, d *streamv1.Directive) (nodes int) {
	for _, n := range f.nodes {
		if n.session != nil {
			n.session.direct(about, d)
			nodes++
		}
	}
	return nodes
}

// direct has a directive sent to the node, instead of one about the same that waits; the caller holds the fleet's mu.
func (s *Session) direct(about subject, d *streamv1.Directive) {
	s.directives.put(about, d)
	select {
	case s.directed <- struct{}{}:
	default:
	}
}

// Directed has something in it when there are directives for the node.
func (s *Session) Directed() <-chan struct{} { return s.directed }

// HasDirectives reports whether there are some that have not been sent.
func (s *Session) HasDirectives() bool {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	return len(s.directives.list) > 0
}

// Directives returns those that have not been sent, in their order, and takes them for sent.
func (s *Session) Directives() []*streamv1.Directive {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	list := s.directives.list
	s.directives = directives{}
	return list
}

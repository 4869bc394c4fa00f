package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// Priority says who goes first where a node has too much to do. The zero value is PriorityNormal.
type Priority uint8

// The priorities.
const (
	PriorityNormal Priority = iota
	PriorityLow
	PriorityHigh
	PriorityCritical
	// Priorities is their number.
	Priorities
)

var priorityNames = [Priorities]string{"normal", "low", "high", "critical"}

// String returns the name, as configurations have it.
func (p Priority) String() string { return priorityNames[p] }

// rank is larger for those that go first.
func (p Priority) rank() uint8 { return [Priorities]uint8{1, 0, 2, 3}[p] }

// Before returns the one of two that goes first.
func (p Priority) Before(o Priority) Priority {
	if o.rank() > p.rank() {
		return o
	}
	return p
}

// priorityOr reads a priority that was validated; empty: other.
func priorityOr(name string, other Priority) Priority {
	if i := slices.Index(priorityNames[:], name); i >= 0 {
		return Priority(i)
	}
	return other
}

// GroupPriorities are priorities by the groups of consumers; nil: none.
type GroupPriorities map[string]Priority

func groupPrioritiesOf(m map[string]string, other GroupPriorities) GroupPriorities {
	if len(m) == 0 {
		return other
	}
	g := GroupPriorities{}
	for group, name := range m {
		g[group] = priorityOr(name, PriorityNormal)
	}
	return g
}

// Of returns the priority of a consumer of some groups, which is other where none of them has one.
func (g GroupPriorities) Of(groups []string, other Priority) Priority {
	found := false
	for _, name := range groups {
		p, there := g[name]
		switch {
		case !there:
		case !found:
			found, other = true, p
		default:
			other = other.Before(p)
		}
	}
	return other
}

// First returns the priority that goes first of all that consumers may have, and of another.
func (g GroupPriorities) First(other Priority) Priority {
	for _, p := range g {
		other = other.Before(p)
	}
	return other
}

// PriorityOf returns the priority of a route's requests, whose policies come to these limits.
func PriorityOf(r *configv1.Route, l *Limits) Priority {
	if IsChallenge(r) {
		return PriorityCritical // a certificate that is not renewed costs all clients of its hosts
	}
	return priorityOr(r.GetRequestPriority(), l.Priority)
}

// maxGroupPriorities is the most groups that a policy may give a priority.
const maxGroupPriorities = 64

// priority checks who goes first.
func (c *checker) priority(field, value string) {
	c.oneOf(field, value, "critical", "high", "normal", "low")
}

func (c *checker) priorities(m *configv1.Policy) {
	c.priority("request_priority", m.GetRequestPriority())
	if n := len(m.GetGroupPriorities()); n > maxGroupPriorities {
		c.fail("group_priorities", "", "has %d entries; %d are allowed", n, maxGroupPriorities)
	}
	for _, group := range slices.Sorted(maps.Keys(m.GetGroupPriorities())) {
		field := fmt.Sprintf("group_priorities.%s", strings.ReplaceAll(group, "\n", " "))
		if !ValidName(group) {
			c.fail(field, group, "has to be the name of a group, of a-z, 0-9, \".\", \"_\" and \"-\"")
		}
		if m.GetGroupPriorities()[group] == "" {
			c.fail(field, "", "has to be one of critical, high, normal, low")
		}
		c.priority(field, m.GetGroupPriorities()[group])
	}
}

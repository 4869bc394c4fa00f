// Package via says that a request has passed a node, in the field Via, and finds out how often it has passed it before
// (RFC 9110 section 7.6.3). It does not know how the field is sent.
package via

import (
	"fmt"
	"hash/fnv"
	"strings"

	"gateway.internal/dataplane/internal/exchange"
)

// DefaultMaxVisits is how often a request may pass a node that was told nothing else. Once is the rule, twice is a
// service of the node's that is asked through it by another one; what goes round in circles is ended before it costs
// much.
const DefaultMaxVisits = 5

// MaxVisits is the largest number of visits that can be set: each makes the field longer.
const MaxVisits = 100

// maxPseudonym is the longest pseudonym in bytes.
const maxPseudonym = 64

// Settings are a node's.
type Settings struct {
	// Pseudonym names the node to all others that a request passes. Nodes with the same one count each other's visits as
	// their own.
	Pseudonym string
	// MaxVisits is how often a request may pass the node; from 1 to MaxVisits.
	MaxVisits int
}

// Check reports what is wrong with settings.
func (s Settings) Check() error {
	if s.Pseudonym == "" || len(s.Pseudonym) > maxPseudonym || strings.ContainsFunc(s.Pseudonym, notInPseudonym) {
		return fmt.Errorf("%q is no pseudonym: has to be 1 to %d letters, digits and -._", s.Pseudonym, maxPseudonym)
	}
	if s.MaxVisits < 1 || s.MaxVisits > MaxVisits {
		return fmt.Errorf("%d visits: has to be from 1 to %d", s.MaxVisits, MaxVisits)
	}
	return nil
}

func notInPseudonym(r rune) bool {
	return (r|0x20 < 'a' || r|0x20 > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
}

// PseudonymOf returns a pseudonym that tells the node with a name from others, but not its name.
func PseudonymOf(name string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return fmt.Sprintf("gateway-%08x", h.Sum32())
}

// Node is a node as requests see it that pass. It is immutable.
type Node struct {
	set   Settings
	texts [3]string // by version
}

// New returns the node of settings that Check has passed.
func New(s Settings) *Node {
	n := &Node{set: s}
	for v, protocol := range map[exchange.Version]string{exchange.HTTP10: "1.0 ", exchange.HTTP11: "1.1 ", exchange.HTTP2: "2.0 "} {
		n.texts[v] = protocol + s.Pseudonym
	}
	return n
}

// Text returns what the node adds to the field for a request that came in a version of HTTP.
func (n *Node) Text(v exchange.Version) string { return n.texts[v] }

// Loops reports whether a request has passed the node as often as it may.
func (n *Node) Loops(h *exchange.Header) bool {
	visits := 0
	fields := h.Fields()
	for i := range fields {
		if fields[i].Known == exchange.Via {
			visits += n.visits(fields[i].Value)
		}
	}
	return visits >= n.set.MaxVisits
}

// visits counts the node's entries in a field's value. Commas in comments count as those between entries do: a comment
// that a client has not closed must not hide what comes behind it.
//
//	Via = #( received-protocol RWS received-by [ RWS comment ] )
func (n *Node) visits(value string) (count int) {
	for value != "" {
		var entry string
		entry, value, _ = strings.Cut(value, ",")
		entry = strings.TrimLeft(entry, " \t")
		protocol := strings.IndexAny(entry, " \t")
		if protocol < 0 {
			continue
		}
		by := strings.TrimLeft(entry[protocol:], " \t")
		if end := strings.IndexAny(by, " \t("); end >= 0 {
			by = by[:end]
		}
		if exchange.EqualFold(by, n.set.Pseudonym) {
			count++
		}
	}
	return count
}

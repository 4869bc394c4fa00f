// Package consumer has the client applications as a node holds them: immutable sets, found by key without a lock, of
// which a change copies nothing but the way to what changed. A million small ones take about 250 MB. It does not know
// how they reach the node.
package consumer

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"

	"gateway.internal/dataplane/internal/exchange"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// Consumer is one client application. It is immutable.
type Consumer struct {
	body     string // as it was committed
	id, name string // parts of body
	groups   *[]string
	rare     *rare // nil: nothing of it
	// seen has what exchanges say of it, by scheme. It is made when that is first asked for: most of a million are not.
	seen atomic.Pointer[seen]
}

// seen is a list with one principal for each scheme.
type seen struct {
	exchange.Principal
	next *seen
}

// rare is what hardly any consumer has.
type rare struct {
	unknown []string
	secrets bool
}

// ID returns the resource's id.
func (c *Consumer) ID() string { return c.id }

// Name returns the name.
func (c *Consumer) Name() string { return c.name }

// Groups returns the names of the groups that it belongs to, which are not to be changed.
func (c *Consumer) Groups() []string {
	if c.groups == nil {
		return nil
	}
	return *c.groups
}

// Principal returns what an exchange says of a request that comes from the consumer, with credentials of a scheme:
// always the same one, which is not to be changed.
func (c *Consumer) Principal(scheme string) *exchange.Principal {
	for {
		first := c.seen.Load()
		for s := first; s != nil; s = s.next {
			if s.Scheme == scheme {
				return &s.Principal
			}
		}
		c.seen.CompareAndSwap(first, &seen{
			exchange.Principal{Consumer: c.name, Groups: c.Groups(), Scheme: scheme}, first,
		})
	}
}

// Unknown returns the places of fields that this build does not know; nil: it knows all.
func (c *Consumer) Unknown() []string {
	if c.rare == nil {
		return nil
	}
	return c.rare.unknown
}

// hasSecrets reports whether it has what must not stay on disk once it is gone.
func (c *Consumer) hasSecrets() bool { return c.rare != nil && c.rare.secrets }

// Size returns about how many bytes its resource takes on the wire.
func (c *Consumer) Size() int { return len(c.body) + len(c.id) + 48 }

// Resource returns the consumer as it came, byte by byte.
func (c *Consumer) Resource() *streamv1.Resource {
	hash := c.hash()
	return &streamv1.Resource{Kind: config.Consumer.Proto(), Id: c.id, Hash: hash[:], Body: []byte(c.body)}
}

// hash is computed anew where it is needed: a million times 32 bytes would be kept for the few that go.
func (c *Consumer) hash() [32]byte { return config.HashOfBody(config.Consumer, c.id, []byte(c.body)) }

// read reads a resource, and verifies its hash. same returns one list for all that are equal.
func read(r *streamv1.Resource, same func([]string) *[]string) (*Consumer, [32]byte, error) {
	e, err := config.Decode(r)
	if err != nil {
		return nil, [32]byte{}, err
	}
	m, ok := e.Message.(*configv1.Consumer)
	if !ok {
		return nil, [32]byte{}, fmt.Errorf("%s %s: it came among consumers", e.Kind, e.ID())
	}
	c := &Consumer{body: string(r.GetBody()), groups: same(m.GetGroups())}
	c.id, c.name = partOf(c.body, idNumber, m.GetId()), partOf(c.body, nameNumber, m.GetName())
	if secrets := hasSecrets(m); secrets || e.Unknown() != nil {
		c.rare = &rare{e.Unknown(), secrets}
	}
	return c, e.Hash(), nil
}

// hasSecrets reports whether a consumer has secrets that are of use to whoever reads them; hashes are not.
func hasSecrets(m *configv1.Consumer) bool {
	if len(m.GetEnvironment()) > 0 {
		return true
	}
	return m.GetCredentials() != nil &&
		slices.ContainsFunc(config.Secrets(m), func(s config.Secret) bool { return !s.Hashed })
}

const (
	idNumber   protowire.Number = 1
	nameNumber protowire.Number = 2
)

// partOf returns the part of a message's bytes that is the text of a field, so that it takes no memory of its own.
func partOf(body string, field protowire.Number, text string) string {
	at := 0
	for raw := []byte(body); at < len(raw); {
		number, _, n := protowire.ConsumeField(raw[at:])
		if n < 0 {
			break
		}
		if end := at + n; number == field && strings.HasSuffix(body[at:end], text) {
			return body[end-len(text) : end]
		}
		at += n
	}
	return strings.Clone(text)
}

// lists has one of each list of groups: consumers have few different ones. It is not safe for concurrent use.
type lists map[string]*[]string

// maxLists bounds how many are remembered.
const maxLists = 10_000

func (l lists) same(list []string) *[]string {
	if len(list) == 0 {
		return nil
	}
	key := strings.Join(list, "\x00")
	if known := l[key]; known != nil && slices.Equal(*known, list) {
		return known
	}
	if len(l) >= maxLists {
		clear(l)
	}
	l[key] = &list
	return &list
}

// Package tokencache keeps what is known of tokens, within a number of bytes. A look-up takes no lock and allocates
// nothing. It does not know what makes what it keeps invalid: that is for whoever gets it to see.
package tokencache

import (
	"strings"

	"github.com/maypok86/otter/v2"
)

// DefaultMaxBytes is how much a cache holds where nothing else is said.
const DefaultMaxBytes = 32 << 20

// entryBytes is about what an entry takes besides its token and its value.
const entryBytes = 256

// Cache keeps values by token. The ones that are used least make room. It is safe for concurrent use.
type Cache[V any] struct {
	entries *otter.Cache[string, entry[V]]
}

type entry[V any] struct {
	value V
	bytes uint32
}

// New returns a cache that holds a number of bytes; 0: DefaultMaxBytes.
func New[V any](maxBytes int) *Cache[V] {
	if maxBytes == 0 {
		maxBytes = DefaultMaxBytes
	}
	return &Cache[V]{otter.Must(&otter.Options[string, entry[V]]{
		MaximumWeight: uint64(maxBytes),
		Weigher:       func(_ string, e entry[V]) uint32 { return e.bytes },
	})}
}

// Get returns what is kept of a token.
func (c *Cache[V]) Get(token string) (v V, found bool) {
	e, found := c.entries.GetIfPresent(token)
	return e.value, found
}

// Put keeps a value of about a number of bytes. The cache has a copy of the token.
func (c *Cache[V]) Put(token string, v V, bytes int) {
	c.entries.Set(strings.Clone(token), entry[V]{v, uint32(len(token) + bytes + entryBytes)})
}

// Drop forgets a token.
func (c *Cache[V]) Drop(token string) { c.entries.Invalidate(token) }

// Len returns about how many tokens are kept.
func (c *Cache[V]) Len() int { return c.entries.EstimatedSize() }

// Close implements io.Closer.
func (c *Cache[V]) Close() error {
	c.entries.InvalidateAll()
	c.entries.StopAllGoroutines()
	return nil
}

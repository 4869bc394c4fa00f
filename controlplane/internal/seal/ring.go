// Package seal encrypts what a store keeps of secrets, by AES-256-GCM (NIST SP 800-38D) with random nonces. What is
// kept is encrypted with a data key; data keys are kept beside it, each wrapped by a key that is not. So that key can
// be replaced by another one without touching what is encrypted. It knows no store.
package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"

	"gateway.internal/shared/secretkey"
)

// magic is what sealed bytes begin with. No message of protobuf does: its first byte would be of field 0.
const magic = "\x00gw\x01"

const headBytes = len(magic) + 8

// UnknownKeyError is of bytes that are sealed by a data key that the ring does not have: another process has made it.
type UnknownKeyError struct {
	// ID is the data key's.
	ID int64
}

// Error implements error.
func (e *UnknownKeyError) Error() string {
	return fmt.Sprintf("it is encrypted with the data key %d, which is not known", e.ID)
}

var (
	// ErrNoKey is of sealed bytes where there is no key at all.
	ErrNoKey = errors.New("it is encrypted, and no key was given: --encryption-key-file or GATEWAY_ENCRYPTION_KEY has " +
		"to be what it was encrypted with")
	// ErrBroken is of sealed bytes that are not what was sealed, or not for this place.
	ErrBroken = errors.New("it is encrypted, and not what was encrypted: the bytes were changed")
)

// WrappedError is of a data key that none of the keys can unwrap.
type WrappedError struct {
	// ID is the data key's, By the name of the key that has wrapped it, and Have those that are there.
	ID   int64
	By   string
	Have []string
}

// Error implements error.
func (e *WrappedError) Error() string {
	return fmt.Sprintf("the data key %d is wrapped by the key %s, and there is %v: --encryption-key-file or "+
		"GATEWAY_ENCRYPTION_KEY has to have that key too", e.ID, e.By, e.Have)
}

// Ring has the keys of a store. It is safe for concurrent use. A nil ring seals nothing.
type Ring struct {
	keys []secretkey.Key
	data atomic.Pointer[dataKeys]
}

// dataKeys is immutable.
type dataKeys struct {
	by     map[int64]cipher.AEAD
	newest int64
}

// NewRing returns a ring that has no data keys yet. The first of the keys wraps.
func NewRing(keys []secretkey.Key) *Ring {
	r := &Ring{keys: keys}
	r.data.Store(&dataKeys{})
	return r
}

// Current names the key that wraps.
func (r *Ring) Current() string { return r.keys[0].ID() }

// Make makes a data key with an id, and returns it wrapped. It is used once it was added.
func (r *Ring) Make(id int64) ([]byte, error) {
	raw := make([]byte, secretkey.Bytes)
	if _, err := rand.Read(raw); err != nil {
		return nil, err
	}
	return wrap(r.keys[0], id, raw)
}

// Add adds a data key that was wrapped by a key of a name. The one with the greatest id seals. Where another key than
// the current one has wrapped it, it comes back wrapped by the current one; else nil.
func (r *Ring) Add(id int64, by string, wrapped []byte) (rewrapped []byte, err error) {
	var have []string
	for _, k := range r.keys {
		have = append(have, k.ID())
		if k.ID() != by {
			continue
		}
		raw, err := unwrap(k, id, wrapped)
		if err != nil {
			return nil, fmt.Errorf("data key %d: %w", id, ErrBroken)
		}
		aead, err := secretkey.GCM(raw)
		if err != nil {
			return nil, err
		}
		r.put(id, aead)
		if k.ID() != r.keys[0].ID() {
			return wrap(r.keys[0], id, raw)
		}
		return nil, nil
	}
	return nil, &WrappedError{id, by, have}
}

// Empty returns a ring with the same keys and no data keys.
func (r *Ring) Empty() *Ring { return NewRing(r.keys) }

// Keep takes over one data key of another ring, and reports whether that has it.
func (r *Ring) Keep(other *Ring, id int64) bool {
	aead := other.data.Load().by[id]
	if aead != nil {
		r.put(id, aead)
	}
	return aead != nil
}

func (r *Ring) put(id int64, aead cipher.AEAD) {
	old := r.data.Load()
	next := &dataKeys{maps.Clone(old.by), max(old.newest, id)}
	if next.by == nil {
		next.by = map[int64]cipher.AEAD{}
	}
	next.by[id] = aead
	r.data.Store(next)
}

// Become takes over the data keys of another ring, and forgets its own.
func (r *Ring) Become(other *Ring) { r.data.Store(other.data.Load()) }

// Newest returns the id of the data key that seals; 0: there is none.
func (r *Ring) Newest() int64 { return r.data.Load().newest }

// Seal encrypts bytes for a place: they can be opened for that one only. A nil ring returns them as they are, and so
// are nil bytes.
func (r *Ring) Seal(plain []byte, place string) []byte {
	if r == nil || plain == nil {
		return plain
	}
	d := r.data.Load()
	out := make([]byte, 0, headBytes+len(plain)+28)
	out = append(out, magic...)
	out = binary.BigEndian.AppendUint64(out, uint64(d.newest))
	return d.by[d.newest].Seal(out, nil, plain, []byte(place)) //nolint:gosec // the cipher draws a nonce itself
}

// SealedBy returns the id of the data key that bytes are sealed by; 0: they are not sealed.
func SealedBy(b []byte) int64 {
	if len(b) < headBytes || string(b[:len(magic)]) != magic {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b[len(magic):]))
}

// Open returns what was sealed for a place, and other bytes as they are.
func (r *Ring) Open(b []byte, place string) ([]byte, error) {
	id := SealedBy(b)
	switch {
	case id == 0:
		return b, nil
	case r == nil:
		return nil, ErrNoKey
	}
	aead := r.data.Load().by[id]
	if aead == nil {
		return nil, &UnknownKeyError{id}
	}
	plain, err := aead.Open(nil, nil, b[headBytes:], []byte(place))
	if err != nil {
		return nil, ErrBroken
	}
	if plain == nil {
		plain = []byte{}
	}
	return plain, nil
}

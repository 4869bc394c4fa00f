package hmacauth

import (
	"crypto/sha256"
	"sync"
	"time"
)

// nonces are those of signatures that counted, as long as these could count once more. It is safe for concurrent use.
// Only who has a secret can put something into it.
type nonces struct {
	mu       sync.Mutex
	new, old map[nonce]struct{} // of this period and the one before
	turned   time.Time          // when the period began
}

// nonce is a hash of a signature's id and nonce.
type nonce [16]byte

func newNonces() (*nonces, error) { return &nonces{new: map[nonce]struct{}{}}, nil }

// Close implements io.Closer.
func (n *nonces) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.new, n.old = map[nonce]struct{}{}, nil
	return nil
}

// used is what is known of a nonce.
type used uint8

const (
	fresh used = iota
	replayed
	full // nothing more can be remembered
)

// use says what is known of a nonce, and remembers it for a period at least. Of all at most most are remembered.
func (n *nonces) use(id, text string, now time.Time, period time.Duration, most int) used {
	var b [512]byte
	raw := append(b[:0], id...)
	raw = append(raw, '"') // which neither has
	raw = append(raw, text...)
	sum := sha256.Sum256(raw)
	k := nonce(sum[:16])
	n.mu.Lock()
	defer n.mu.Unlock()
	switch since := now.Sub(n.turned); {
	case since >= 2*period:
		n.old, n.new, n.turned = nil, map[nonce]struct{}{}, now
	case since >= period:
		n.old, n.new, n.turned = n.new, map[nonce]struct{}{}, now
	}
	if _, is := n.new[k]; is {
		return replayed
	}
	if _, is := n.old[k]; is {
		return replayed
	}
	if len(n.new)+len(n.old) >= most {
		return full
	}
	n.new[k] = struct{}{}
	return fresh
}

package hmacauth

import (
	"crypto/sha256"
	"strings"
	"sync"
	"time"
)

// nonces are those of signatures that counted, as long as these could count once more. It is safe for concurrent use.
// Only consumers can put something into it. None can fill it for others: see [nonces.use].
type nonces struct {
	mu       sync.Mutex
	new, old period
	turned   time.Time // when the period of new began
}

// period has the nonces of a stretch of time.
type period struct {
	seen map[nonce]struct{}
	held map[string]int // how many of them by consumer
}

func newPeriod() period { return period{map[nonce]struct{}{}, map[string]int{}} }

// nonce is a hash of a signature's id and nonce.
type nonce [16]byte

func newNonces() (*nonces, error) { return &nonces{new: newPeriod()}, nil }

// Close implements io.Closer.
func (n *nonces) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.new, n.old = newPeriod(), period{}
	return nil
}

// used is what is known of a nonce.
type used uint8

const (
	fresh used = iota
	replayed
	full // no more can be remembered of the consumer
)

// use says what is known of a nonce, and remembers it for a period at least. Of all at most most are remembered. Of one
// consumer they are as many as what is free then (Choudhury and Hahne, "Dynamic Queue Length Thresholds", 1998): half
// where the others have none, a third each where two take all they can get. So there is room for every other one.
func (n *nonces) use(consumer, id, text string, now time.Time, length time.Duration, most int) used {
	var b [512]byte
	raw := append(b[:0], id...)
	raw = append(raw, '"') // which neither has
	raw = append(raw, text...)
	sum := sha256.Sum256(raw)
	k := nonce(sum[:16])
	n.mu.Lock()
	defer n.mu.Unlock()
	switch since := now.Sub(n.turned); {
	case since >= 2*length:
		n.old, n.new, n.turned = period{}, newPeriod(), now
	case since >= length:
		n.old, n.new, n.turned = n.new, newPeriod(), now
	}
	if _, is := n.new.seen[k]; is {
		return replayed
	}
	if _, is := n.old.seen[k]; is {
		return replayed
	}
	if held := n.new.held[consumer] + n.old.held[consumer]; held >= most-len(n.new.seen)-len(n.old.seen) {
		return full
	}
	n.new.seen[k] = struct{}{}
	if _, is := n.new.held[consumer]; !is {
		consumer = strings.Clone(consumer) // which is a part of what may go before
	}
	n.new.held[consumer]++
	return fresh
}

package http2

import "time"

// tokenBucket bounds how often a peer may do what costs us something and brings nobody anything. It fills with
// time, up to most, and with what is earned meanwhile. The connection's mutex protects it.
type tokenBucket struct {
	left, most int
	rate       int // a second
	at         time.Time
}

func newTokenBucket(most, rate int) tokenBucket {
	return tokenBucket{left: most, most: most, rate: rate}
}

// spend takes one, and reports false where none is left.
func (b *tokenBucket) spend(now time.Time) bool {
	if b.at.IsZero() {
		b.at = now
	}
	if n := int(min(now.Sub(b.at), time.Hour) * time.Duration(b.rate) / time.Second); n > 0 {
		b.earn(n)
		b.at = now
	}
	if b.left <= 0 {
		return false
	}
	b.left--
	return true
}

// earn adds some.
func (b *tokenBucket) earn(n int) { b.left = min(b.left+n, b.most) }

// spend counts a frame that achieves nothing. A peer that sends too many of them is told to calm down.
func (c *connection) spend() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spendHeld()
}

// spendHeld is spend where the mutex is held.
func (c *connection) spendHeld() error {
	if !c.idle.spend(c.clock()) {
		return codeEnhanceCalm
	}
	return nil
}

// clock returns when the frames came that are being taken in. It is the reading goroutine's.
func (c *connection) clock() time.Time {
	if c.now.IsZero() {
		c.now = time.Now()
	}
	return c.now
}

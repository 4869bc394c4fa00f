package socket

// Spare is memory that a loop has at hand: taking it and giving it back costs a few instructions, where a pool that all
// goroutines share costs tens of nanoseconds, several times for a request. Only what the loop calls may use it. What it
// has no room for, or does not have, comes from the pools and goes there, so that memory may be taken in one way and
// given back in the other.
type Spare struct {
	// Local is the codec's own.
	Local any

	heads   [spareHeads][]byte
	bodies  [spareBodies][]byte
	nHeads  int
	nBodies int
}

// spareHeads and spareBodies are how many buffers a loop has at hand at most: 1.6 MiB together.
const (
	spareHeads  = 32
	spareBodies = 16
)

// Take does what the function Take does.
func (s *Spare) Take(size Size) []byte {
	switch {
	case size == HeadSize && s.nHeads > 0:
		s.nHeads--
		InUse.Add(1)
		return s.heads[s.nHeads]
	case size == BodySize && s.nBodies > 0:
		s.nBodies--
		InUse.Add(1)
		return s.bodies[s.nBodies]
	}
	return Take(size)
}

// Give does what the function Give does.
func (s *Spare) Give(b []byte) {
	switch {
	case cap(b) == headBytes && s.nHeads < spareHeads:
		s.heads[s.nHeads] = b[:headBytes]
		s.nHeads++
		InUse.Add(-1)
	case cap(b) == bodyBytes && s.nBodies < spareBodies:
		s.bodies[s.nBodies] = b[:bodyBytes]
		s.nBodies++
		InUse.Add(-1)
	default:
		Give(b)
	}
}

// Spare returns the memory that the loop has at hand.
func (l *Loop) Spare() *Spare { return &l.spare }

// ReceiveIn is Receive on the goroutine of a loop.
func (c *Conn) ReceiveIn(l *Loop) (bool, error) {
	c.spare = &l.spare
	got, err := c.Receive()
	c.spare = nil
	return got, err
}

// ReleaseIn is Release on the goroutine of a loop.
func (c *Conn) ReleaseIn(l *Loop) {
	if c.r == c.w && c.buf != nil {
		l.spare.Give(c.buf)
		c.buf, c.r, c.w = nil, 0, 0
	}
}

package socket

import (
	"errors"
	"net"
	"time"
)

// Pace watches how many bytes a peer sends or takes while it is waited for. Time in which nobody waits does not count:
// a client whose service is slow is not slow itself. The zero value lets everybody through.
type Pace struct {
	// Least is the smallest number of bytes a second; 0: any.
	Least int64
	// Over is how much waiting the number is averaged over.
	Over time.Duration

	waited time.Duration
	bytes  int64
}

// Add counts a wait and the bytes that came of it, and reports whether the peer is fast enough.
func (p *Pace) Add(waited time.Duration, n int) bool {
	if p.Least <= 0 {
		return true
	}
	p.waited += waited
	p.bytes += int64(n)
	if p.waited < p.Over {
		return true
	}
	enough := float64(p.bytes) >= float64(p.Least)*p.waited.Seconds()
	p.waited, p.bytes = 0, 0
	return enough
}

// ErrTooSlow is of a write to a peer that takes less than it has to.
var ErrTooSlow = errors.New("the peer takes less than the least number of bytes a second")

// SetWritePace makes writes fail with ErrTooSlow when the peer is slower. Then the time of WriteWithin is that in which
// the peer takes nothing: it begins anew with everything that is taken.
func (c *Conn) SetWritePace(p Pace) { c.pace = p }

// onePiece is how much is written at once to a peer that is waited for, where what it takes can't be seen otherwise.
const onePiece = 4 << 10

// writePaced writes with a look at the peer's pace.
func (c *Conn) writePaced(to net.Conn, p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		begun := time.Now()
		c.WriteWithin(begun, c.writeFor)
		n, err := to.Write(p[sent:min(sent+onePiece, len(p))])
		sent += n
		if err != nil {
			return sent, err
		}
		if !c.pace.Add(time.Since(begun), n) {
			return sent, ErrTooSlow
		}
	}
	return sent, nil
}

package balance

import (
	"math/bits"
)

// rotation spreads by weight where a schedule would be too long to be worked out. Targets have shares of a circle, by
// weight, and every pick goes on by a fixed step, which is nearly the golden ratio of it and has no divisor in common
// with its length: so every place is come to just once in a round, and in any part of a round a target gets its share
// of the picks but for a few. A pick is one atomic addition and a search among the few targets that share a part of the
// circle.
type rotation struct {
	base
	shares        // of each target
	length uint64 // of the circle: the sum of weights
	step   uint64
	next   ticket // of picks
}

// newRotation divides weights by their greatest common divisor. At least one is above 0.
func newRotation(in *group, divisor uint32, previous Strategy) *rotation {
	targets := in.targets
	r, ends := &rotation{base: base{group: in}}, make([]uint64, len(targets))
	for i, t := range targets {
		r.length += uint64(t.Weight / divisor)
		ends[i] = r.length
	}
	r.shares = sharesOf(ends)
	r.step = stepOf(r.length)
	r.spare.watch(in, false)
	r.spare.turn.n.Store(spareOf(previous, in))
	at := in.begin
	if s := schedulerOf(previous); s != nil {
		at = s.at()
	}
	r.next.n.Store(mulMod(scale(at, r.length), inverse(r.step, r.length), r.length))
	return r
}

// Pick implements Strategy.
func (r *rotation) Pick(c Choice) int {
	i := r.find(mulMod(r.next.take()%r.length, r.step, r.length))
	if s := r.targets[i].State; c.allows(s) && r.spare.accepts(s, c.Now) {
		return i
	}
	return r.spare.pick(c)
}

// debts implements scheduler: they are small against what a round gives to each target, and not worked out.
func (r *rotation) debts() []float64 { return nil }

// at implements scheduler.
func (r *rotation) at() uint64 {
	at, _ := bits.Div64(mulMod(r.next.n.Load()%r.length, r.step, r.length), 0, r.length)
	return at
}

// stepOf returns a number without a divisor in common with length, near the golden ratio of it. Of some candidates it
// takes the one whose quotient with length has the smallest sum of partial quotients as a continued fraction, which
// bounds how uneven its multiples are.
func stepOf(length uint64) uint64 {
	ideal, _ := bits.Mul64(golden, length)
	best, least := uint64(1), ^uint64(0)
	for d, tried := uint64(0), 0; tried < 32 && d < ideal; d++ {
		for _, step := range []uint64{ideal - d, ideal + d} {
			if step >= length || gcd(step, length) != 1 {
				continue
			}
			tried++
			if sum := partialQuotients(length, step); sum < least {
				best, least = step, sum
			}
		}
	}
	return best
}

func partialQuotients(a, b uint64) (sum uint64) {
	for b != 0 {
		sum += a / b
		a, b = b, a%b
	}
	return sum
}

// inverse returns what a is to be multiplied by to be 1 modulo m. They have no divisor in common.
func inverse(a, m uint64) uint64 {
	r0, r1, t0, t1 := int64(m), int64(a), int64(0), int64(1)
	for r1 != 0 {
		q := r0 / r1
		r0, r1 = r1, r0-q*r1
		t0, t1 = t1, t0-q*t1
	}
	if t0 < 0 {
		t0 += int64(m)
	}
	return uint64(t0)
}

func mulMod(a, b, m uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if hi == 0 {
		return lo % m
	}
	return bits.Rem64(hi, lo, m)
}

package balance

import "math/bits"

// shares are consecutive parts of a length, in units of weight. The zero value has none.
type shares struct {
	ends  []uint64 // of each share
	guide []uint32 // the first share that ends behind the beginning of each section of the length
	shift int      // a section is 1<<shift long: there are about as many sections as shares
}

// sharesOf returns shares by their ends, of which the last is above 0.
func sharesOf(ends []uint64) shares {
	length := ends[len(ends)-1]
	s := shares{ends: ends, shift: max(0, bits.Len64(length/uint64(len(ends)))-1)}
	for begin, i := uint64(0), 0; begin < length+1<<s.shift; begin += 1 << s.shift {
		for i < len(ends)-1 && ends[i] <= begin {
			i++
		}
		s.guide = append(s.guide, uint32(i))
	}
	return s
}

// find returns which share a place below the length is in. It searches among the few that have a part of the place's
// section, instead of all (BenchmarkFind).
func (s *shares) find(place uint64) int {
	section := place >> s.shift
	i, last := int(s.guide[section]), int(s.guide[section+1])
	for last-i > 8 {
		if middle := (i + last) / 2; s.ends[middle] <= place {
			i = middle + 1
		} else {
			last = middle
		}
	}
	for s.ends[i] <= place {
		i++
	}
	return i
}

package pathnorm

// segments applies the settings for whole segments to b, a path whose escapes have been settled, in place. cut tells
// that b has kept escapes of slashes or backslashes.
func (r *Rules) segments(b []byte, cut bool) (out []byte, refused string) {
	w := 1 // what is done is b[:w], which ends with a slash until the last segment is there
	for i := 1; i <= len(b); {
		end := i
		for end < len(b) && b[end] != '/' {
			end++
		}
		segment, last := b[i:end], end == len(b)
		i = end + 1
		if semicolon := index(segment, ';'); semicolon >= 0 {
			switch r.set.Parameters {
			case Refuse:
				return b, reasonParameters
			case Normalise:
				segment = segment[:semicolon]
			}
		}
		if len(segment) == 0 && !last {
			switch r.set.EmptySegments {
			case Refuse:
				return b, reasonEmpty
			case Normalise:
				continue
			}
		}
		if r.set.DotSegments != Keep {
			switch dots, doubtful := dotSegment(segment, cut); {
			case dots == 0:
			case doubtful || r.set.DotSegments == Refuse:
				return b, reasonDots
			case dots == 1:
				continue
			case w == 1:
				return b, reasonAboveRoot
			default:
				for w--; b[w-1] != '/'; w-- {
				}
				continue
			}
		}
		w += copy(b[w:], segment)
		if !last {
			b[w] = '/'
			w++
		}
	}
	return b[:w], ""
}

func index(b []byte, c byte) int {
	for i := range b {
		if b[i] == c {
			return i
		}
	}
	return -1
}

// dotSegment returns how many dots a segment has when it has nothing else and they are one or two, and 0 otherwise.
// doubtful tells that it is a dot segment only to services that take parameters off, or that read escaped slashes
// (which cut says are there) as slashes.
func dotSegment(segment []byte, cut bool) (dots int, doubtful bool) {
	for len(segment) > 0 {
		n, rest := leadingDots(segment)
		if n > 0 && n <= 2 {
			switch {
			case len(rest) == 0:
				return n, doubtful
			case rest[0] == ';' || isEscape(rest, ';') || isEscape(rest, '/') || isEscape(rest, '\\'):
				return n, true
			}
		}
		if !cut {
			return 0, false
		}
		// Another part of the segment may be one, after an escaped slash.
		for len(rest) > 0 && !isEscape(rest, '/') && !isEscape(rest, '\\') {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			return 0, false
		}
		segment, doubtful = rest[3:], true
	}
	return 0, false
}

// leadingDots counts the dots, plain or escaped, at the start of a segment.
func leadingDots(segment []byte) (n int, rest []byte) {
	for ; ; n++ {
		switch {
		case len(segment) > 0 && segment[0] == '.':
			segment = segment[1:]
		case isEscape(segment, '.'):
			segment = segment[3:]
		default:
			return n, segment
		}
	}
}

// isEscape reports whether b starts with the escape of c.
func isEscape(b []byte, c byte) bool {
	if len(b) < 3 || b[0] != '%' {
		return false
	}
	hi, ok1 := unhex(b[1])
	lo, ok2 := unhex(b[2])
	return ok1 && ok2 && hi<<4|lo == c
}

package http1

import (
	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

const (
	// maxChunkLine is the longest line that gives a chunk's size, extensions included, in bytes.
	maxChunkLine = 256
	// maxChunkDigits is the largest number of digits of a chunk's size. More are leading zeros, which only serve to
	// confuse.
	maxChunkDigits = 16
	// maxTrailerBytes is the largest trailer section in bytes.
	maxTrailerBytes = 8 << 10
)

var (
	errChunkSize  = bad("a chunk's size is not a hexadecimal number followed by CRLF")
	errChunkExt   = bad("a chunk's extension is not ; NAME [= VALUE]")
	errChunkLine  = bad("a chunk's size line is too long")
	errChunkEnd   = bad("a chunk is not followed by CRLF")
	errTrailer    = bad("a trailer field is malformed")
	errTrailerBig = &refusal{Code: fault.HeadersTooLarge, Reason: "the trailer section is too large"}
)

// chunks decodes the chunked transfer coding (RFC 9112 section 7.1) in place, from any cut of its bytes.
// The zero value is at the start of a client's body.
type chunks struct {
	state chunkState
	// lenient reads size lines of services whose extension breaks the grammar, or that have blanks at their end: there
	// is one way to understand them. faulty tells that there was one.
	lenient, faulty bool
	left            uint64 // of the current chunk
	line            int    // bytes of the current size line so far
	digit           int    // how many digits the size line has
	trail           []byte // the trailer section so far
}

type chunkState uint8

const (
	// The size line, extensions included, up to its LF (RFC 9112 section 7.1.1).
	chunkSize     chunkState = iota
	chunkBlank               // BWS before the ";" of an extension
	chunkExt                 // a name has to come, perhaps after BWS
	chunkName                // in a name
	chunkNameEnd             // BWS after a name
	chunkValue               // a value has to come, perhaps after BWS
	chunkToken               // in a value that is a token
	chunkQuoted              // in a quoted string
	chunkEscape              // after its backslash
	chunkQuoteEnd            // behind it
	chunkAnything            // in an extension that breaks the grammar
	chunkSizeLF
	// What follows it.
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer
	chunkDone
)

// next decodes the start of b. It returns a run of body bytes (which may be empty), and how many bytes of b are used
// up. done tells that the body is over; when it is not and used == len(b), more bytes are needed.
func (c *chunks) next(b []byte) (body []byte, used int, done bool, err *refusal) {
	for used < len(b) {
		ch := b[used]
		switch c.state {
		default:
			used++
			if err := c.sizeByte(ch); err != nil {
				return nil, used, false, err
			}
		case chunkData:
			n := int(min(c.left, uint64(len(b)-used)))
			body = b[used : used+n]
			used += n
			if c.left -= uint64(n); c.left == 0 {
				c.state = chunkDataCR
			}
			return body, used, false, nil
		case chunkDataCR:
			if ch != '\r' {
				return nil, used, false, errChunkEnd
			}
			used++
			c.state = chunkDataLF
		case chunkDataLF:
			if ch != '\n' {
				return nil, used, false, errChunkEnd
			}
			used++
			c.state, c.line, c.digit, c.left = chunkSize, 0, 0, 0
		case chunkTrailer:
			used++
			if len(c.trail) >= maxTrailerBytes {
				return nil, used, false, errTrailerBig
			}
			c.trail = append(c.trail, ch)
			if ch == '\n' && c.trailerOver() {
				c.state = chunkDone
				return nil, used, true, nil
			}
		case chunkDone:
			return nil, used, true, nil
		}
	}
	return nil, used, c.state == chunkDone, nil
}

// sizeByte takes one byte of a line such as `1a;name="value"` CRLF in.
func (c *chunks) sizeByte(ch byte) *refusal {
	if c.line++; c.line > maxChunkLine {
		return errChunkLine
	}
	switch {
	case c.state == chunkSize && codec.Chars[ch]&codec.CharHex != 0:
		if c.digit++; c.left >= 1<<59 || c.digit > maxChunkDigits {
			return errChunkSize
		}
		c.left = c.left<<4 | uint64(unhex(ch))
	case c.state == chunkSizeLF:
		if ch != '\n' {
			return errChunkSize
		}
		if c.left == 0 {
			c.state, c.trail = chunkTrailer, c.trail[:0]
		} else {
			c.state = chunkData
		}
	case c.digit == 0:
		return errChunkSize
	case ch == '\r' && c.mayEnd():
		c.state = chunkSizeLF
	default:
		return c.extension(ch)
	}
	return nil
}

// mayEnd reports whether the size line may end where it is.
func (c *chunks) mayEnd() bool {
	switch c.state {
	case chunkSize, chunkName, chunkToken, chunkQuoteEnd, chunkAnything:
		return true
	}
	c.faulty = true // or refused
	return c.lenient
}

// extension takes one byte of an extension in. What extensions say is ignored, as it has to be where it is not
// understood; but a line that is none by the grammar may be another line to somebody else.
//
//	chunk-ext = *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )
func (c *chunks) extension(ch byte) *refusal {
	isBlank, isToken := ch == ' ' || ch == '\t', codec.Chars[ch]&codec.CharToken != 0
	switch c.state {
	case chunkSize, chunkBlank, chunkQuoteEnd:
		switch {
		case ch == ';':
			c.state = chunkExt
			return nil
		case isBlank:
			c.state = chunkBlank
			return nil
		case c.state == chunkSize || c.state == chunkBlank:
			return errChunkSize
		}
	case chunkExt:
		if isToken {
			c.state = chunkName
		}
		if isToken || isBlank {
			return nil
		}
	case chunkName, chunkNameEnd:
		switch {
		case isToken && c.state == chunkName:
			return nil
		case isBlank:
			c.state = chunkNameEnd
			return nil
		case ch == '=':
			c.state = chunkValue
			return nil
		case ch == ';':
			c.state = chunkExt
			return nil
		}
	case chunkValue:
		switch {
		case isToken:
			c.state = chunkToken
			return nil
		case ch == '"':
			c.state = chunkQuoted
			return nil
		case isBlank:
			return nil
		}
	case chunkToken:
		switch {
		case isToken:
			return nil
		case ch == ';':
			c.state = chunkExt
			return nil
		case isBlank:
			c.state = chunkBlank
			return nil
		}
	case chunkQuoted, chunkEscape:
		switch {
		case codec.Chars[ch]&codec.CharVisible == 0:
		case c.state == chunkEscape:
			c.state = chunkQuoted
			return nil
		case ch == '\\':
			c.state = chunkEscape
			return nil
		case ch == '"':
			c.state = chunkQuoteEnd
			return nil
		default:
			return nil
		}
	}
	if !c.lenient || codec.Chars[ch]&codec.CharVisible == 0 {
		return errChunkExt
	}
	c.state, c.faulty = chunkAnything, true
	return nil
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// trailerOver reports whether the trailer section ends with an empty line.
func (c *chunks) trailerOver() bool {
	n := len(c.trail)
	return n == 2 && c.trail[0] == '\r' || n >= 4 && string(c.trail[n-4:]) == "\r\n\r\n" ||
		n == 1 || n >= 2 && c.trail[n-2] == '\n'
}

// trailers parses the trailer section into h. Fields that frame or route a message are dropped, as they must not stand
// there (RFC 9110 section 6.5.1).
func (c *chunks) trailers(h *exchange.Header, maxFields int) *refusal {
	if len(c.trail) <= 2 {
		if string(c.trail) != "\r\n" {
			return errTrailer
		}
		return nil
	}
	var all exchange.Header
	var fr framing
	if err := parseFields(c.trail, 0, &all, maxFields, &fr); err != nil {
		return errTrailer
	}
	for _, f := range all.Fields() {
		switch {
		case f.Odd && exchange.Lookalike(f.Name):
			return errTrailer
		case !f.InTrailers():
			continue
		}
		f.LineStart, f.LineEnd = 0, 0
		h.Append(f)
	}
	return nil
}

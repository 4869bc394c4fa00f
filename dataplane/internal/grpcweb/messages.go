package grpcweb

import (
	"encoding/base64"
	"encoding/binary"

	"gateway.internal/shared/fault"
)

// messages follows the parts of a body, which are messages with five bytes before each: a flag and the length.
type messages struct {
	head  [5]byte
	nHead int
	left  uint32 // of the message that the last head was of
}

func (m *messages) follow(part []byte) {
	for len(part) > 0 {
		if m.left > 0 {
			n := min(uint64(m.left), uint64(len(part)))
			m.left -= uint32(n)
			part = part[n:]
			continue
		}
		n := copy(m.head[m.nHead:], part)
		part = part[n:]
		if m.nHead += n; m.nHead == len(m.head) {
			m.nHead, m.left = 0, binary.BigEndian.Uint32(m.head[1:])
		}
	}
}

// complete reports whether the last message has come to its end.
func (m *messages) complete() bool { return m.nHead == 0 && m.left == 0 }

// ended reports whether that were the trailers.
func (m *messages) ended() bool { return m.complete() && m.head[0]&trailerFlag != 0 }

var errBase64 = &fault.Error{
	Code: fault.BadRequest, Reason: "the body is not base64, as application/grpc-web-text has to be",
}

// base64Text decodes base64 that comes in parts.
type base64Text struct {
	rest  [4]byte // that is not whole yet
	nRest int
	part  []byte // decoded
}

// decode decodes as many groups of four characters as are whole. Padding may stand after every message. What it
// returns is valid until the next call.
func (d *base64Text) decode(text []byte) ([]byte, error) {
	d.part = d.part[:0]
	for len(text) > 0 {
		n := copy(d.rest[d.nRest:], text)
		d.nRest += n
		text = text[n:]
		if d.nRest < len(d.rest) {
			break
		}
		d.nRest = 0
		var three [3]byte
		m, err := base64.StdEncoding.Decode(three[:], d.rest[:])
		if err != nil {
			return nil, errBase64
		}
		d.part = append(d.part, three[:m]...)
	}
	return d.part, nil
}

// complete reports whether all of the text has been decoded.
func (d *base64Text) complete() bool { return d.nRest == 0 }

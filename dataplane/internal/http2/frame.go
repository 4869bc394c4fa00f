// Package http2 speaks HTTP/2 with clients (RFC 9113): frames are read in place, each stream's exchange runs in a
// goroutine of its own, and what all streams of a connection have to say goes out together. Header lists are decoded by
// the hpack library. Like http1 it does not know where a request goes; the two are one to every later step.
package http2

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// frameType is a type of RFC 9113 section 6.
type frameType uint8

const (
	frameData         frameType = 0x0
	frameHeaders      frameType = 0x1
	framePriority     frameType = 0x2
	frameReset        frameType = 0x3
	frameSettings     frameType = 0x4
	framePushPromise  frameType = 0x5
	framePing         frameType = 0x6
	frameGoAway       frameType = 0x7
	frameWindowUpdate frameType = 0x8
	frameContinuation frameType = 0x9
)

// The flags; their meaning depends on the type.
const (
	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// code is an error code of RFC 9113 section 7. As an error it ends the connection.
type code uint32

const (
	codeNo             code = 0x0
	codeProtocol       code = 0x1
	codeInternal       code = 0x2
	codeFlowControl    code = 0x3
	codeStreamClosed   code = 0x5
	codeFrameSize      code = 0x6
	codeRefusedStream  code = 0x7
	codeCancel         code = 0x8
	codeCompression    code = 0x9
	codeEnhanceCalm    code = 0xb
	codeHTTP11Required code = 0xd
)

// Error implements error.
func (c code) Error() string { return fmt.Sprintf("HTTP/2 connection error %#x", uint32(c)) }

// The settings of RFC 9113 section 6.5.2.
const (
	settingHeaderTableSize      = 0x1
	settingEnablePush           = 0x2
	settingMaxConcurrentStreams = 0x3
	settingInitialWindowSize    = 0x4
	settingMaxFrameSize         = 0x5
	settingMaxHeaderListSize    = 0x6
	settingEnableConnect        = 0x8 // RFC 8441
)

const (
	frameHeadBytes = 9
	// maxFrameBytes is the largest payload that is accepted and sent: what every peer has to accept.
	maxFrameBytes = 16 << 10
	maxWindow     = 1<<31 - 1
	// initialWindow is every window's size until somebody says otherwise.
	initialWindow = 65535
)

// preface is what a client says first (RFC 9113 section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// frameHead is the start of a frame.
type frameHead struct {
	length int
	kind   frameType
	flags  uint8
	stream uint32
}

func (h *frameHead) has(flag uint8) bool { return h.flags&flag != 0 }

func parseFrameHead(b []byte) frameHead {
	return frameHead{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]), kind: frameType(b[3]), flags: b[4],
		stream: binary.BigEndian.Uint32(b[5:9]) & maxWindow,
	}
}

func appendFrameHead(b []byte, length int, kind frameType, flags uint8, stream uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), byte(kind), flags)
	return binary.BigEndian.AppendUint32(b, stream)
}

func appendReset(b []byte, stream uint32, c code) []byte {
	b = appendFrameHead(b, 4, frameReset, 0, stream)
	return binary.BigEndian.AppendUint32(b, uint32(c))
}

func appendWindowUpdate(b []byte, stream, n uint32) []byte {
	b = appendFrameHead(b, 4, frameWindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(b, n)
}

func appendGoAway(b []byte, last uint32, c code) []byte {
	b = appendFrameHead(b, 8, frameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	return binary.BigEndian.AppendUint32(b, uint32(c))
}

func appendSetting(b []byte, id uint16, value uint32) []byte {
	b = binary.BigEndian.AppendUint16(b, id)
	return binary.BigEndian.AppendUint32(b, value)
}

var errPadding = errors.New("the padding is longer than the frame")

// unpad takes the padding off a payload (RFC 9113 section 6.1).
func unpad(h *frameHead, payload []byte) ([]byte, error) {
	if !h.has(flagPadded) {
		return payload, nil
	}
	if len(payload) == 0 || int(payload[0]) >= len(payload) {
		return nil, errPadding
	}
	return payload[1 : len(payload)-int(payload[0])], nil
}

package socket

import (
	"sync"

	"gateway.internal/dataplane/internal/inuse"
)

// Size is a class of buffers. A connection takes the smallest that its next read is likely to fill.
type Size uint8

const (
	// HeadSize is for heads and small bodies.
	HeadSize Size = iota
	// BodySize is for bodies on the way through.
	BodySize
	// LargeSize is for bodies that are known to be large.
	LargeSize
)

// Bytes returns the number of bytes of a buffer of this class.
func (s Size) Bytes() int {
	switch s {
	case HeadSize:
		return headBytes
	case BodySize:
		return bodyBytes
	default:
		return largeBytes
	}
}

const (
	// headBytes is not a power of two, but a class of the allocator's whose members begin at many places of a page and
	// of the cache: with 16 KiB the first lines of all buffers would compete for the same few sets, and those are the
	// lines that are used.
	headBytes  = 19072
	bodyBytes  = 64 << 10
	largeBytes = 256 << 10
)

// The pools hold array pointers, so that neither taking a buffer nor giving it back allocates.
var (
	headPool  = sync.Pool{New: func() any { return new([headBytes]byte) }}
	bodyPool  = sync.Pool{New: func() any { return new([bodyBytes]byte) }}
	largePool = sync.Pool{New: func() any { return new([largeBytes]byte) }}
)

// InUse counts the buffers that were taken and not given back.
var InUse inuse.Counter

// Take returns a buffer of a class, with arbitrary content.
func Take(s Size) []byte {
	InUse.Add(1)
	switch s {
	case HeadSize:
		return headPool.Get().(*[headBytes]byte)[:]
	case BodySize:
		return bodyPool.Get().(*[bodyBytes]byte)[:]
	default:
		return largePool.Get().(*[largeBytes]byte)[:]
	}
}

// Give returns a buffer that Take gave out. One that came from elsewhere is left to the garbage collector.
func Give(b []byte) {
	switch cap(b) {
	case headBytes:
		InUse.Add(-1)
		headPool.Put((*[headBytes]byte)(b[:headBytes]))
	case bodyBytes:
		InUse.Add(-1)
		bodyPool.Put((*[bodyBytes]byte)(b[:bodyBytes]))
	case largeBytes:
		InUse.Add(-1)
		largePool.Put((*[largeBytes]byte)(b[:largeBytes]))
	}
}

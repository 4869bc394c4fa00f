package http1

import (
	"math/bits"
	"unsafe"

	"gateway.internal/dataplane/internal/codec"
)

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// endOfVisible returns the index of the first byte that may not stand in a field value, from i on; len(b) when
// there is none. It looks at eight bytes at once: BenchmarkParseRequest shows a third less time than by table.
func endOfVisible(b []byte, i int) int {
	for i+8 <= len(b) {
		v := *(*uint64)(unsafe.Pointer(&b[i])) // eight bytes are there
		// A byte below 0x20, or 0x7f: the usual "has less" and "has value" tricks, which may also mark bytes above a
		// real hit but never miss one; the byte loop then decides.
		low := (v - ones*0x20) & ^v & highs
		x := v ^ ones*0x7f
		del := (x - ones) & ^x & highs
		if hit := low | del; hit != 0 {
			j := i + bits.TrailingZeros64(hit)/8
			if b[j] != '\t' {
				return j
			}
			i = j + 1
			continue
		}
		i += 8
	}
	for ; i < len(b); i++ {
		if codec.Chars[b[i]]&codec.CharVisible == 0 {
			return i
		}
	}
	return i
}

// octets is view the other way round; they are only to be read.
func octets(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// view makes a string that shares b's memory.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

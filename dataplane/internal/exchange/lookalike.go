package exchange

import (
	"strings"
	"unsafe"

	"gateway.internal/shared/fault"
)

// ErrLookalike is a request with a field whose name is a lookalike. It is made once so that an attack costs no allocation.
var ErrLookalike = &fault.Error{Code: fault.BadRequest, Reason: "a field name differs only by underscores from one that the gateway goes by"}

// maxKnownName is the length of the longest known name.
const maxKnownName = len("Proxy-Authorization")

// Lookalike reports whether a name is a known one, but for underscores. Services that follow CGI (RFC 3875 section 4.1.18) can't tell the two
// apart, so that what the gateway says by the one could be forged by the other.
func Lookalike(name string) bool {
	if len(name) > maxKnownName || strings.IndexByte(name, '_') < 0 {
		return false
	}
	var plain [maxKnownName]byte
	for i := range len(name) {
		if plain[i] = name[i]; plain[i] == '_' {
			plain[i] = '-'
		}
	}
	return KnownName(unsafe.String(&plain[0], len(name))) != Unknown
}

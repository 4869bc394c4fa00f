package exchange

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"unsafe"
)

// RequestIDRule says whose X-Request-Id becomes the exchange's id.
type RequestIDRule uint8

// The rules; the zero value is AnyRequestID.
const (
	// AnyRequestID accepts every client's, where it is sane.
	AnyRequestID RequestIDRule = iota
	// TrustedRequestID accepts that of trusted proxies.
	TrustedRequestID
	// OwnRequestID accepts none.
	OwnRequestID
)

var requestIDRules = [...]string{"any", "trusted", "none"}

// String returns the rule's name.
func (r RequestIDRule) String() string { return requestIDRules[r] }

// Set makes it the rule of a name. With Type it makes this a flag's value.
func (r *RequestIDRule) Set(name string) error {
	for i, n := range requestIDRules {
		if n == name {
			*r = RequestIDRule(i)
			return nil
		}
	}
	return fmt.Errorf("has to be %s", strings.Join(requestIDRules[:], ", "))
}

// Type names the kind of value that a flag takes.
func (r *RequestIDRule) Type() string { return "choice" }

// maxRequestID is the longest id that is accepted, in bytes.
const maxRequestID = 128

// SetID makes the request's id the client's X-Request-Id where the rule lets it and it is sane, which is 1 to 128
// visible ASCII characters without quotes and the like, and a random one of 128 bits otherwise.
func (x *Exchange) SetID(rule RequestIDRule) {
	if rule == AnyRequestID || rule == TrustedRequestID && x.Peer != nil && x.Peer.Trusted {
		if id, ok := x.Request.Header.Known(XRequestID); ok && saneID(id) {
			x.ID = id
			return
		}
	}
	const digits = "0123456789abcdef"
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range 16 {
		x.id[i], x.id[16+i] = digits[hi&15], digits[lo&15]
		hi, lo = hi>>4, lo>>4
	}
	x.ID = unsafe.String(&x.id[0], len(x.id))
}

func saneID(id string) bool {
	for i := range len(id) {
		c := id[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && strings.IndexByte("-_.:/+=", c) < 0 {
			return false
		}
	}
	return id != "" && len(id) <= maxRequestID
}

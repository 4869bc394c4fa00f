package exchange

import (
	"fmt"
	"strings"
	"unsafe"

	"gateway.internal/shared/fault"
)

// A field name is odd when it has other characters than letters, digits and "-". Services that follow CGI (RFC 3875
// section 4.1.18) make a variable such as HTTP_X_USER of a name, for which most take "_" for "-", and some every other
// character: they can't tell X_User, or X.User, from X-User. So an odd name might say what the gateway, or a
// middleware, says by the plain one, or has removed.

// folded maps an octet of a field name to what services may take it for: letters to lower case, all but letters and
// digits to "-".
var folded = func() (t [256]byte) {
	for c := range 256 {
		switch b := byte(c); {
		case b >= 'A' && b <= 'Z':
			t[c] = b | 0x20
		case b >= 'a' && b <= 'z', b >= '0' && b <= '9':
			t[c] = b
		default:
			t[c] = '-'
		}
	}
	return t
}()

// SameField reports whether services may take two field names for the same: without case, and with "-" for all but
// letters and digits.
func SameField(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if folded[a[i]] != folded[b[i]] {
			return false
		}
	}
	return true
}

// OddName reports whether a field name has other characters than letters, digits and "-".
func OddName(name string) bool {
	for i := range len(name) {
		if c := name[i]; c != '-' && folded[c] == '-' {
			return true
		}
	}
	return false
}

// ErrLookalike is a request with a field whose name is a lookalike. It is made once so that an attack costs no
// allocation.
var ErrLookalike = &fault.Error{Code: fault.BadRequest, Reason: "a field name differs only by its punctuation from one that the gateway goes by"}

// maxKnownName is the length of the longest known name.
const maxKnownName = len("Proxy-Authorization")

// Lookalike reports whether a name is not a known one, but may be taken for it.
func Lookalike(name string) bool {
	if len(name) > maxKnownName || !OddName(name) {
		return false
	}
	var plain [maxKnownName]byte
	for i := range len(name) {
		plain[i] = folded[name[i]]
	}
	return KnownName(unsafe.String(&plain[0], len(name))) != Unknown
}

// NameRule says what becomes of a request's fields with odd names, before middleware and the service see the request.
type NameRule uint8

// The rules; the zero value is DropOddNames.
const (
	// DropOddNames takes the fields out, as nginx does.
	DropOddNames NameRule = iota
	// RefuseOddNames answers with 400.
	RefuseOddNames
	// KeepOddNames passes them on.
	KeepOddNames
)

var nameRules = [...]string{"drop", "refuse", "keep"}

// String returns the rule's name.
func (r NameRule) String() string { return nameRules[r] }

// Set makes it the rule of a name. With Type it makes this a flag's value.
func (r *NameRule) Set(name string) error {
	for i, n := range nameRules {
		if n == name {
			*r = NameRule(i)
			return nil
		}
	}
	return fmt.Errorf("has to be %s", strings.Join(nameRules[:], ", "))
}

// Type names the kind of value that a flag takes.
func (r *NameRule) Type() string { return "choice" }

// ErrOddName is a request that RefuseOddNames refuses.
var ErrOddName = &fault.Error{Code: fault.BadRequest, Reason: "a field name has other characters than letters, digits and -"}

// ApplyNames applies a rule to the request's header, and, as far as it can still be applied to them, to its trailers.
// It reports why the request is refused; nil: it is not.
func (r *Request) ApplyNames(rule NameRule) *fault.Error {
	if r.KeepsOddNames = rule == KeepOddNames; r.KeepsOddNames {
		return nil
	}
	odd := false
	for i := range r.Header.fields {
		odd = odd || r.Header.fields[i].Odd
	}
	switch {
	case !odd:
		return nil
	case rule == RefuseOddNames:
		return ErrOddName
	}
	kept := r.Header.fields[:0]
	for _, f := range r.Header.fields {
		if !f.Odd {
			kept = append(kept, f)
		}
	}
	r.Header.fields = kept
	return nil
}

// Trailers returns the trailer fields that the service may get, once the body has been read to its end: none that
// middleware has set or removed in the header, nor, unless they are kept, such with odd names.
func (r *Request) Trailers() *Header {
	if fields := r.Trailer.fields; len(fields) > 0 {
		r.Trailer.settle(&r.Header, r.KeepsOddNames)
	}
	return &r.Trailer
}

// Trailers returns the trailer fields that the client may get, once the body has been read to its end: none that
// middleware has set or removed in the header.
func (r *Response) Trailers() *Header {
	if len(r.Trailer.fields) > 0 && len(r.Header.decided) > 0 {
		r.Trailer.settle(&r.Header, true)
	}
	return &r.Trailer
}

// settle takes the fields out that were decided on in a header, and those with odd names.
func (h *Header) settle(header *Header, keepsOdd bool) {
	kept := h.fields[:0]
	for _, f := range h.fields {
		if (keepsOdd || !f.Odd) && !header.Decides(f.Name) {
			kept = append(kept, f)
		}
	}
	h.fields = kept
}

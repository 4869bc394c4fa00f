package exchange

import "strings"

// Coding is a content coding (RFC 9110 section 8.4.1).
type Coding uint8

// The content codings that are known; the zero value is none.
const (
	Identity Coding = iota
	Gzip
	Brotli
	Zstd
)

// Codings is how many there are, Identity among them.
const Codings = 4

var codingNames = [Codings]string{"identity", "gzip", "br", "zstd"}

// String returns the name, as Content-Encoding has it.
func (c Coding) String() string { return codingNames[c] }

// CodingOf returns the content coding of a name, without regard to case.
func CodingOf(name string) (c Coding, known bool) {
	for i, n := range codingNames {
		if EqualFold(n, name) {
			return Coding(i), true
		}
	}
	if EqualFold(name, "x-gzip") { // RFC 9110 section 8.4.1.3
		return Gzip, true
	}
	return Identity, false
}

// AcceptedCodings is how much a client likes each content coding, as Accept-Encoding says. The zero value accepts
// Identity alone.
type AcceptedCodings struct {
	weights [Codings]int16 // in thousandths, and refused
}

// refused is the weight of a coding that the client does not accept. It is not 0, so that the zero value accepts
// Identity.
const refused = -1

// AcceptedCodings reads Accept-Encoding (RFC 9110 section 12.5.3). A client that does not send the field accepts
// everything, but says nothing of what it understands: Identity is what it gets. A name that is there twice counts
// the first time; a weight that is none is 0.
func (h *Header) AcceptedCodings() AcceptedCodings {
	const unsaid = -2
	weights, any := [Codings]int16{unsaid, unsaid, unsaid, unsaid}, int16(unsaid)
	sent := false
	for i := range h.fields {
		f := &h.fields[i]
		if len(f.Name) != len("Accept-Encoding") || !EqualFold(f.Name, "Accept-Encoding") {
			continue
		}
		sent = true
		for rest, more := f.Value, true; more; {
			var item string
			item, rest, more = strings.Cut(rest, ",")
			name, parameters, _ := strings.Cut(item, ";")
			name = strings.Trim(name, " \t")
			at := &any
			if name != "*" {
				c, known := CodingOf(name)
				if !known {
					continue
				}
				at = &weights[c]
			}
			if *at == unsaid {
				*at = int16(Weight(parameters))
			}
		}
	}
	if !sent {
		return AcceptedCodings{}
	}
	for i := range weights {
		w := &weights[i]
		switch {
		case *w == unsaid && Coding(i) == Identity && any != 0:
			*w = 0 // acceptable, but nothing that the client has named
		case *w == unsaid:
			*w = max(any, 0)
			fallthrough
		default:
			if *w == 0 {
				*w = refused
			}
		}
	}
	return AcceptedCodings{weights}
}

// Choose returns which of some codings the client likes best; of several that it likes equally well, the one that
// stands first. Identity: it accepts none of them, or likes Identity more.
func (a *AcceptedCodings) Choose(among []Coding) Coding {
	best, most := Identity, max(a.weights[Identity], 0)
	for _, c := range among {
		if w := a.weights[c]; w > 0 && (w > most || best == Identity && w == most) {
			best, most = c, w
		}
	}
	return best
}

// AcceptsIdentity reports whether the client takes what has no content coding.
func (a *AcceptedCodings) AcceptsIdentity() bool { return a.weights[Identity] != refused }

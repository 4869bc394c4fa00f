package coding

import "gateway.internal/dataplane/internal/exchange"

// DropDigests takes those fields out of a header, and of the trailers that belong to it, that are a sum over a body
// in its content coding: Content-MD5 (RFC 2616), Digest (RFC 3230), Content-Digest and Repr-Digest (RFC 9530). They
// are wrong once the coding is another.
func DropDigests(h *exchange.Header) {
	h.Del("Content-MD5")
	h.Del("Digest")
	h.Del("Content-Digest")
	h.Del("Repr-Digest")
}

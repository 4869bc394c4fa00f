package codec

import "strings"

// Character classes of RFC 9110 section 5.6.2 and RFC 3986, as bits of one table.
const (
	CharToken   uint8 = 1 << iota // tchar
	CharTarget                    // what a request target may hold: visible ASCII but "#"; see ReadTarget
	CharHost                      // what a Host may hold: unreserved, sub-delims, ":", "[", "]", "%"
	CharHex                       // HEXDIG
	CharDigit                     // DIGIT
	CharVisible                   // VCHAR, SP, HTAB and obs-text: what a field value may hold
	CharPlain                     // letters, digits and "-": tokens that nobody mistakes for another; see exchange.NameRule
)

// Chars has the classes of every byte. It is not changed.
var Chars = func() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		digit := b >= '0' && b <= '9'
		alpha := b|0x20 >= 'a' && b|0x20 <= 'z'
		if digit || alpha || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0 {
			t[c] |= CharToken
		}
		if b > ' ' && b < 0x7f && b != '#' {
			t[c] |= CharTarget
		}
		if digit || alpha || strings.IndexByte("-._~!$&'()*+,;=:[]%", b) >= 0 {
			t[c] |= CharHost
		}
		if digit || b|0x20 >= 'a' && b|0x20 <= 'f' {
			t[c] |= CharHex
		}
		if digit || alpha || b == '-' {
			t[c] |= CharPlain
		}
		if digit {
			t[c] |= CharDigit
		}
		if b >= 0x20 && b != 0x7f || b == '\t' {
			t[c] |= CharVisible
		}
	}
	return t
}()

// AllOf reports whether every byte of s is of a class.
func AllOf(s string, class uint8) bool {
	for i := range len(s) {
		if Chars[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

package pathnorm

import (
	"unicode/utf8"
	"unsafe"
)

// Rules are compiled settings. They are immutable and safe for concurrent use.
type Rules struct {
	// plain are the bytes that need no look, wherever they stand.
	plain [256]bool
	set   Settings
	// opened tells that an escaped ";" begins parameters, as a plain one does: to services that decode paths before they
	// leave parameters out.
	opened bool
	// lax are those of Meant; nil: the rules are such themselves.
	lax *Rules
}

// Compile makes rules of settings that Check has passed.
func Compile(s Settings) *Rules {
	r := compile(s)
	r.lax = compile(s.loose())
	return r
}

func compile(s Settings) *Rules {
	r := &Rules{set: s}
	for c := range 256 {
		switch b := byte(c); b {
		case '%', '/', '.':
		case ';':
			r.plain[b] = s.Parameters == Keep
		default:
			r.plain[b] = mayStand(b)
		}
	}
	return r
}

// mayStand reports whether a byte may stand in a path (RFC 3986 section 3.3). The four that browsers send although it
// does not name them are taken too: the WHATWG's URL standard has them in no set of what is escaped in paths, or had
// not for long.
func mayStand(c byte) bool {
	if unreserved(c) {
		return true
	}
	switch c {
	case '!', '$', '&', '\'', '(', ')', '*', '+', ',', ';', '=', ':', '@', '/', '[', ']', '|', '^':
		return true
	}
	return false
}

func unreserved(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// The reasons to refuse a path.
const (
	reasonForm       = "the path does not start with /"
	reasonCharacter  = "the path has a character that has to be escaped"
	reasonEscape     = "the path has a % that two hexadecimal digits do not follow"
	reasonDots       = "the path has dot segments"
	reasonAboveRoot  = "the path has dot segments that lead above its root"
	reasonEmpty      = "the path has slashes side by side"
	reasonSlash      = "the path has an encoded slash"
	reasonBackslash  = "the path has an encoded backslash"
	reasonNUL        = "the path has an encoded NUL"
	reasonControl    = "the path has an encoded control character"
	reasonUTF8       = "the path is not UTF-8"
	reasonUnneeded   = "the path has escapes that are not needed"
	reasonCase       = "the path has escapes in lower case"
	reasonParameters = "the path has parameters"
)

// Apply returns the path as it is to be matched and forwarded, or the reason why it is refused. The result is path
// itself, which costs one pass, or a view of memory, which starts as the caller's and may have grown: it is returned
// for the next call, and the result is valid until then. Applied again, the rules change nothing.
func (r *Rules) Apply(path string, memory []byte) (result string, grown []byte, refused string) {
	if path == "" || path[0] != '/' {
		return "", memory, reasonForm
	}
	afterSlash := true
	for i := 1; i < len(path); i++ {
		c := path[i]
		if r.plain[c] {
			afterSlash = false
			continue
		}
		switch {
		case c == '/' && (!afterSlash || r.set.EmptySegments == Keep):
			afterSlash = true
		case c == '.' && !afterSlash:
		default:
			return r.rewrite(path, memory)
		}
	}
	return path, memory, ""
}

// Meant returns the path that is probably meant by one that Apply refuses, to find out whom it was for, and nothing
// else. It takes the place of Apply otherwise.
func (r *Rules) Meant(path string, memory []byte) (result string, grown []byte, refused string) {
	return r.lax.Apply(path, memory)
}

// Settings returns what the rules were made of.
func (r *Rules) Settings() Settings { return r.set }

const hexDigits = "0123456789ABCDEF"

func (r *Rules) rewrite(path string, memory []byte) (string, []byte, string) {
	b, cutAt, refused := r.escapes(path, memory[:0])
	if refused == "" {
		b, refused = r.segments(b, cutAt)
	}
	if refused != "" {
		return "", b, refused
	}
	if string(b) == path {
		return path, b, ""
	}
	return unsafe.String(unsafe.SliceData(b), len(b)), b, ""
}

// escapes appends path to b with the settings for single characters applied. cut tells that escaped slashes or
// backslashes were kept, at which some services cut the path into segments.
func (r *Rules) escapes(path string, b []byte) (out []byte, cut bool, refused string) {
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c != '%' && (c != '\\' || r.set.Unescaped == Refuse) {
			switch {
			case mayStand(c):
				b = append(b, c)
			case r.set.Unescaped == Refuse || c <= ' ' || c >= 0x7f || c == '?' || c == '#':
				return b, false, reasonCharacter
			case r.set.Unescaped == Normalise:
				b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
			default:
				b = append(b, c)
			}
			continue
		}
		escape, skip := "%5C", 0 // a plain backslash is what its escape is: services may take either for a slash
		if c == '%' {
			escape, skip = path[i:], 2
		}
		v, ok := escaped(escape)
		if !ok {
			return b, false, reasonEscape
		}
		action, reason, normal := Keep, "", v
		switch {
		case v == 0:
			action, reason = r.set.EncodedNUL, reasonNUL
		case v < 0x20 || v == 0x7f:
			action, reason = r.set.EncodedControl, reasonControl
		case v == '/':
			action, reason = r.set.EncodedSlash, reasonSlash
			cut = cut || action == Keep
		case v == '\\':
			action, reason, normal = r.set.EncodedBackslash, reasonBackslash, '/'
			cut = cut || action == Keep
		case v == ';' && r.opened:
			action = Normalise
		case unreserved(v):
			action, reason = r.set.UnneededEscapes, reasonUnneeded
		case v >= utf8.RuneSelf && r.set.InvalidUTF8 == Refuse:
			n, ok := encodedRune(path[i:])
			if !ok {
				return b, false, reasonUTF8
			}
			for ; n > 1; n-- {
				if b, ok = r.keep(b, path[i:i+3]); !ok {
					return b, false, reasonCase
				}
				i += 3
			}
			escape = path[i:]
		}
		switch action {
		case Refuse:
			return b, false, reason
		case Normalise:
			b = append(b, normal)
		case Keep:
			if b, ok = r.keep(b, escape[:3]); !ok {
				return b, false, reasonCase
			}
		}
		i += skip
	}
	return b, cut, ""
}

// keep appends an escape, in upper case where the settings say so. It reports false where they refuse lower case.
func (r *Rules) keep(b []byte, escape string) ([]byte, bool) {
	if r.set.EscapeCase == Keep {
		return append(b, escape...), true
	}
	hi, lo := upper(escape[1]), upper(escape[2])
	if r.set.EscapeCase == Refuse && (hi != escape[1] || lo != escape[2]) {
		return b, false
	}
	return append(b, '%', hi, lo), true
}

func upper(c byte) byte {
	if c >= 'a' {
		return c - 0x20
	}
	return c
}

// escaped returns the byte that the escape at the start of s stands for.
func escaped(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	hi, ok1 := unhex(s[1])
	lo, ok2 := unhex(s[2])
	return hi<<4 | lo, ok1 && ok2
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// encodedRune reports whether s starts with the escapes of one character in UTF-8, and of how many bytes.
func encodedRune(s string) (n int, ok bool) {
	var text [utf8.UTFMax]byte
	for n < len(text) {
		v, ok := escaped(s[3*n:])
		if !ok {
			break
		}
		text[n] = v
		n++
	}
	_, size := utf8.DecodeRune(text[:n])
	return size, size > 1
}

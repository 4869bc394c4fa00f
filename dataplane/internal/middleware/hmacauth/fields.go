package hmacauth

import (
	"strings"
)

// The fields Signature-Input and Signature are dictionaries of structured fields (RFC 8941). What is read here is the
// part of that grammar which RFC 9421 uses: inner lists of strings with parameters, and byte sequences. Whatever else
// there is makes a field unreadable, and the request one with a wrong signature.

// The limits of what is read.
const (
	maxSignatures = 8
	maxCovered    = 64
	maxParameters = 16
)

// parameter is one of a component or a signature. Its value is as it was written, which is its one form, but that a
// string has no quotes.
type parameter struct {
	name, value string
	isString    bool
}

// component is one part of a request that a signature covers. It has no parameters: those that RFC 9421 defines are not
// understood.
type component string

// input is what a member of Signature-Input says.
type input struct {
	label      string
	components [maxCovered]component
	covered    int
	parameters [maxParameters]parameter
	given      int
}

// reader reads a field's value. It allocates nothing.
type reader struct {
	s string
	i int
}

func (r *reader) more() bool { return r.i < len(r.s) }

func (r *reader) peek() byte {
	if r.i < len(r.s) {
		return r.s[r.i]
	}
	return 0
}

func (r *reader) take(c byte) bool {
	if r.peek() != c || !r.more() {
		return false
	}
	r.i++
	return true
}

func (r *reader) spaces(also byte) {
	for r.more() && (r.s[r.i] == ' ' || also != 0 && r.s[r.i] == also) {
		r.i++
	}
}

// key reads one (RFC 8941 section 3.1.2).
func (r *reader) key() (string, bool) {
	from := r.i
	for r.more() {
		c := r.s[r.i]
		first := c >= 'a' && c <= 'z' || c == '*'
		if !first && (r.i == from || (c < '0' || c > '9') && c != '_' && c != '-' && c != '.') {
			break
		}
		r.i++
	}
	return r.s[from:r.i], r.i > from
}

// text reads a string without escapes: no name or id that is understood has any.
func (r *reader) text() (string, bool) {
	if !r.take('"') {
		return "", false
	}
	from := r.i
	for r.more() {
		switch c := r.s[r.i]; {
		case c == '"':
			r.i++
			return r.s[from : r.i-1], true
		case c == '\\' || c < 0x20 || c > 0x7e:
			return "", false
		}
		r.i++
	}
	return "", false
}

// bare reads an integer or a token: what is written is its form.
func (r *reader) bare() (string, bool) {
	from := r.i
	for r.more() && strings.IndexByte(" ;,()\"\t", r.s[r.i]) < 0 && r.s[r.i] > 0x20 && r.s[r.i] < 0x7f {
		r.i++
	}
	return r.s[from:r.i], r.i > from
}

// signatureInput reads the member of a dictionary that has a label, or the only one where that is empty. found is false
// where there is none; ok is false for what can't be read, and for several where one is wanted.
func signatureInput(value, label string, in *input) (found, ok bool) {
	r := reader{s: value}
	for n := 0; ; n++ {
		r.spaces('\t')
		var one input
		name, isKey := r.key()
		if !isKey || n == maxSignatures || !r.take('=') || !r.innerList(&one) {
			return found, false
		}
		one.label = name
		if label == "" || label == name {
			if found {
				return found, false
			}
			found, *in = true, one
		}
		if more, ok := r.next(); !more {
			return found, ok
		}
	}
}

// next goes on to the next member of a dictionary.
func (r *reader) next() (more, ok bool) {
	r.spaces('\t')
	if !r.more() {
		return false, true
	}
	if !r.take(',') {
		return false, false
	}
	r.spaces('\t')
	return r.more(), r.more()
}

// innerList reads the components and the parameters of a signature.
func (r *reader) innerList(in *input) bool {
	if !r.take('(') {
		return false
	}
	for {
		r.spaces(0)
		if r.take(')') {
			break
		}
		name, isText := r.text()
		if !isText || name == "" || in.covered == maxCovered || r.peek() != ' ' && r.peek() != ')' {
			return false
		}
		in.components[in.covered] = component(name)
		in.covered++
	}
	for r.take(';') {
		r.spaces(0)
		name, isKey := r.key()
		if !isKey || in.given == maxParameters || !r.take('=') {
			return false
		}
		p := parameter{name: name, isString: r.peek() == '"'}
		var ok bool
		if p.isString {
			p.value, ok = r.text()
		} else {
			p.value, ok = r.bare()
		}
		if !ok {
			return false
		}
		for _, other := range in.parameters[:in.given] {
			if other.name == name {
				return false // of two, others may look at the other one
			}
		}
		in.parameters[in.given] = p
		in.given++
	}
	return true
}

// byteSequence returns the member of a dictionary of byte sequences that has a label, still in base64.
func byteSequence(value, label string) (encoded string, ok bool) {
	r := reader{s: value}
	found := false
	for n := 0; ; n++ {
		r.spaces('\t')
		name, isKey := r.key()
		if !isKey || n == maxSignatures || !r.take('=') || !r.take(':') {
			return "", false
		}
		from := r.i
		for r.more() && r.peek() != ':' {
			r.i++
		}
		part := r.s[from:r.i]
		if !r.take(':') {
			return "", false
		}
		if name == label {
			if found {
				return "", false
			}
			encoded, found = part, true
		}
		if more, ok := r.next(); !more {
			return encoded, ok && found
		}
	}
}

// parameter returns one of the signature.
func (in *input) parameter(name string) (p parameter, there bool) {
	for _, p := range in.parameters[:in.given] {
		if p.name == name {
			return p, true
		}
	}
	return p, false
}

// covers reports whether a component is one of the signature's.
func (in *input) covers(name string) bool {
	for _, c := range in.components[:in.covered] {
		if string(c) == name {
			return true
		}
	}
	return false
}

// appendParams writes the inner list as RFC 9421 section 2.3 has it in the signature base.
func (in *input) appendParams(b []byte) []byte {
	b = append(b, '(')
	for i, c := range in.components[:in.covered] {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, '"')
		b = append(b, c...)
		b = append(b, '"')
	}
	b = append(b, ')')
	for _, p := range in.parameters[:in.given] {
		b = append(b, ';')
		b = append(b, p.name...)
		b = append(b, '=')
		if p.isString {
			b = append(b, '"')
		}
		b = append(b, p.value...)
		if p.isString {
			b = append(b, '"')
		}
	}
	return b
}

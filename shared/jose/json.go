package jose

import (
	"encoding/json"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep objects and lists of a token may be in each other.
const maxDepth = 16

// errJSON is all that is said of a text that is no JSON: what it has instead is the client's.
var errJSON = errors.New("is no valid JSON")

var (
	errDuplicate = errors.New("has a member twice")
	errDepth     = errors.New("is nested too deep")
)

// ParseObject reads a JSON object (RFC 8259) as encoding/json does into a map, but that numbers are json.Number, and
// that it refuses what readers understand in different ways: members that are there twice, half of a surrogate pair,
// and text that is not UTF-8.
func ParseObject(data []byte) (map[string]any, error) {
	p := parser{data: data}
	p.space()
	if p.peek() != '{' {
		return nil, errJSON
	}
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at != len(p.data) {
		return nil, errJSON
	}
	return v.(map[string]any), nil
}

// parser reads data from a position on.
type parser struct {
	data []byte
	at   int
}

// peek returns the next byte; 0: there is none.
func (p *parser) peek() byte {
	if p.at < len(p.data) {
		return p.data[p.at]
	}
	return 0
}

func (p *parser) space() {
	for p.at < len(p.data) {
		switch p.data[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// takes reports whether c comes next, and goes on behind it.
func (p *parser) takes(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.at++
	return true
}

func (p *parser) value(depth int) (any, error) {
	switch c := p.peek(); {
	case c == '{':
		return p.object(depth + 1)
	case c == '[':
		return p.list(depth + 1)
	case c == '"':
		return p.text()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	default:
		return p.word()
	}
}

func (p *parser) word() (any, error) {
	for _, w := range [...]struct {
		text  string
		value any
	}{{"true", true}, {"false", false}, {"null", nil}} {
		if len(p.data)-p.at >= len(w.text) && string(p.data[p.at:p.at+len(w.text)]) == w.text {
			p.at += len(w.text)
			return w.value, nil
		}
	}
	return nil, errJSON
}

func (p *parser) object(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	p.at++
	m := map[string]any{}
	if p.space(); p.takes('}') {
		return m, nil
	}
	for {
		p.space()
		if p.peek() != '"' {
			return nil, errJSON
		}
		name, err := p.text()
		if err != nil {
			return nil, err
		}
		if _, there := m[name]; there {
			return nil, errDuplicate
		}
		if p.space(); !p.takes(':') {
			return nil, errJSON
		}
		p.space()
		if m[name], err = p.value(depth); err != nil {
			return nil, err
		}
		p.space()
		switch {
		case p.takes(','):
		case p.takes('}'):
			return m, nil
		default:
			return nil, errJSON
		}
	}
}

func (p *parser) list(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	p.at++
	l := []any{}
	if p.space(); p.takes(']') {
		return l, nil
	}
	for {
		p.space()
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		l = append(l, v)
		p.space()
		switch {
		case p.takes(','):
		case p.takes(']'):
			return l, nil
		default:
			return nil, errJSON
		}
	}
}

// number keeps the text: a float64 has not all integers.
func (p *parser) number() (any, error) {
	from := p.at
	p.takes('-')
	if !p.takes('0') && !p.digits() {
		return nil, errJSON
	}
	if p.takes('.') && !p.digits() {
		return nil, errJSON
	}
	if p.takes('e') || p.takes('E') {
		if !p.takes('+') {
			p.takes('-')
		}
		if !p.digits() {
			return nil, errJSON
		}
	}
	return json.Number(p.data[from:p.at]), nil
}

// digits goes behind all digits that come next, and reports whether there are some.
func (p *parser) digits() bool {
	from := p.at
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.at++
	}
	return p.at > from
}

func (p *parser) text() (string, error) {
	p.at++
	from := p.at
	for i := from; i < len(p.data); i++ {
		switch c := p.data[i]; {
		case c == '"':
			p.at = i + 1
			if part := p.data[from:i]; utf8.Valid(part) {
				return string(part), nil
			}
			return "", errJSON
		case c == '\\':
			return p.escaped(from, i)
		case c < 0x20:
			return "", errJSON
		}
	}
	return "", errJSON
}

// escaped reads a text that has its first escape at a position.
func (p *parser) escaped(from, at int) (string, error) {
	b := append([]byte(nil), p.data[from:at]...)
	p.at = at
	for p.at < len(p.data) {
		c := p.data[p.at]
		p.at++
		switch {
		case c == '"':
			if !utf8.Valid(b) {
				return "", errJSON
			}
			return string(b), nil
		case c < 0x20:
			return "", errJSON
		case c != '\\':
			b = append(b, c)
			continue
		}
		r, ok := p.escape()
		if !ok {
			return "", errJSON
		}
		b = utf8.AppendRune(b, r)
	}
	return "", errJSON
}

// escape reads what follows a backslash.
func (p *parser) escape() (r rune, ok bool) {
	c := p.peek()
	p.at++
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		if r, ok = p.hex(); !ok || !utf16.IsSurrogate(r) {
			return r, ok
		}
		if !p.takes('\\') || !p.takes('u') {
			return 0, false
		}
		second, ok := p.hex()
		if r = utf16.DecodeRune(r, second); !ok || r == utf8.RuneError {
			return 0, false
		}
		return r, true
	}
	return 0, false
}

func (p *parser) hex() (r rune, ok bool) {
	if len(p.data)-p.at < 4 {
		return 0, false
	}
	for _, c := range p.data[p.at : p.at+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	p.at += 4
	return r, true
}

// Floats makes the numbers of a value that ParseObject has made float64, as encoding/json has them, in place.
func Floats(v any) any {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		if err != nil { // it is too large
			return v.String()
		}
		return f
	case map[string]any:
		for name, member := range v {
			if changed := Floats(member); changesKind(member) {
				v[name] = changed
			}
		}
	case []any:
		for i := range v {
			v[i] = Floats(v[i])
		}
	}
	return v
}

// changesKind reports whether Floats puts another value in the place of one.
func changesKind(v any) bool {
	_, is := v.(json.Number)
	return is
}

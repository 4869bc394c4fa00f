package match

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gateway.internal/shared/reason"
)

func (p *parser) path(path string) {
	switch {
	case path == "":
		p.fail("path", path, `is required: "/exact", "/prefix/*", "/users/{id}" or "~regex"`)
	case len(path) > MaxPathLength:
		p.fail("path", strings.ToValidUTF8(path[:40], "")+"...", "is longer than %d bytes", MaxPathLength)
	case path[0] == '~':
		p.regexPath(path[1:])
	case path[0] != '/':
		p.fail("path", path, `has to start with "/" or "~"`)
	default:
		p.plainPath(path)
	}
}

func (p *parser) regexPath(expr string) {
	p.rule.form = Regex
	re, err := compileAnchored(expr)
	if err == nil && p.rule.fold {
		re, err = compileAnchored("(?i:" + strings.TrimPrefix(expr, "^") + ")")
	}
	if err != nil {
		p.fail("path", "~"+expr, "is no RE2 regular expression: %s", reason.Of(err))
		return
	}
	p.rule.regex = re
	for _, name := range re.SubexpNames()[1:] {
		if name == "" {
			continue
		}
		if p.addParam(name, "~"+expr) {
			continue
		}
		return
	}
	literal := ""
	if unanchored, err := regexp.Compile(strings.TrimPrefix(expr, "^")); err == nil {
		literal, _ = unanchored.LiteralPrefix()
	}
	if p.rule.fold {
		literal = lowerASCII(literal)
	}
	p.rule.literal = literal
	if end := strings.LastIndexByte(literal, '/'); end > 0 && literal[0] == '/' {
		for s := range strings.SplitSeq(literal[1:end], "/") {
			if len(p.rule.segments) == MaxSegments {
				break
			}
			p.rule.segments = append(p.rule.segments, segment{literal: s})
		}
	}
}

// compileAnchored anchors an expression at both ends without changing what its alternatives mean.
func compileAnchored(expr string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(expr); err != nil {
		return nil, err
	}
	expr = strings.TrimPrefix(expr, "^")
	return regexp.Compile(`^(?:` + expr + `)$`)
}

func (p *parser) plainPath(path string) {
	path = plainEscapes(path)
	if p.rule.fold {
		path = p.lowerPlain(path)
	}
	rest := path[1:]
	prefix := rest == "*" || strings.HasSuffix(rest, "/*")
	if prefix {
		rest = strings.TrimSuffix(strings.TrimSuffix(rest, "*"), "/")
	}
	ok := true
	if !prefix || rest != "" {
		for s := range strings.SplitSeq(rest, "/") {
			ok = p.segment(s, path) && ok
		}
	}
	if len(p.rule.segments) > MaxSegments {
		p.fail("path", path, "has more than %d segments", MaxSegments)
		p.rule.segments = p.rule.segments[:MaxSegments]
	}
	switch {
	case prefix:
		p.rule.form = Prefix
	case len(p.rule.params) > 0:
		p.rule.form = Parameter
	default:
		p.rule.form, p.rule.path = Exact, path
	}
}

// lowerPlain makes the letters of a path lower case but for the names of parameters.
func (p *parser) lowerPlain(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if !strings.HasPrefix(s, "{") {
			segments[i] = lowerASCII(s)
		}
	}
	return strings.Join(segments, "/")
}

func (p *parser) segment(s, path string) bool {
	if strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}") && len(s) > 2 {
		p.rule.segments = append(p.rule.segments, segment{param: true})
		return p.addParam(s[1:len(s)-1], path)
	}
	p.rule.segments = append(p.rule.segments, segment{literal: s})
	switch {
	case s == "." || s == "..":
		p.fail("path", path, "has the segment %q, which requests never have", s)
		return false
	case strings.ContainsAny(s, "{}"):
		p.fail("path", path, "has the segment %q; a parameter is a whole segment such as {id}", s)
		return false
	case strings.Contains(s, "*"):
		p.fail("path", path, `has a "*" that is not the last segment; use a {parameter} for one segment`)
		return false
	}
	for i, c := range s {
		if c <= 0x20 || c >= 0x7f || strings.ContainsRune(`"<>\`+"`?#", c) {
			_, n := utf8.DecodeRuneInString(s[i:])
			p.fail("path", path, "has the character %q, which a path may only have percent-encoded: %s", c,
				url.PathEscape(s[i:i+n]))
			return false
		}
		if s[i] == '%' && (i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2])) {
			p.fail("path", path, `has a "%%" that two hexadecimal digits do not follow`)
			return false
		}
	}
	return true
}

// plainEscapes brings the escapes of a pattern into the form that nodes give those of requests, in which they mean the
// same (RFC 3986 section 6.2.2): none for letters, digits and "-._~", and upper case for the others.
func plainEscapes(path string) string {
	if strings.IndexByte(path, '%') < 0 {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
			b.WriteByte(path[i])
			continue
		}
		digits := strings.ToUpper(path[i+1 : i+3])
		n, _ := strconv.ParseUint(digits, 16, 8)
		if c := byte(n); c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteString(digits)
		}
		i += 2
	}
	return b.String()
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func (p *parser) addParam(name, path string) bool {
	for i, c := range name {
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			p.fail("path", path, "has the parameter name %q, which is not [A-Za-z_][A-Za-z0-9_]*", name)
			return false
		}
	}
	for _, other := range p.rule.params {
		if other == name {
			p.fail("path", path, "has the parameter %q twice", name)
			return false
		}
	}
	if len(p.rule.params) == MaxParams {
		p.fail("path", path, "has more than %d parameters", MaxParams)
		return false
	}
	p.rule.params = append(p.rule.params, name)
	return true
}

package credential

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// attributes are the attribute types that have a name (RFC 4514 section 3, RFC 2985 for EMAILADDRESS, and what X.520
// and most tools call the rest).
var attributes = map[string]string{
	"2.5.4.3": "CN", "2.5.4.5": "SERIALNUMBER", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "STREET",
	"2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.17": "POSTALCODE", "0.9.2342.19200300.100.1.25": "DC",
	"0.9.2342.19200300.100.1.1": "UID", "1.2.840.113549.1.9.1": "EMAILADDRESS",
}

// errSubject says what a subject looks like.
var errSubject = errors.New(`is no distinguished name such as "CN=billing,O=Example" (RFC 4514, most specific part ` +
	`first, as "openssl x509 -noout -subject -nameopt RFC2253" prints it)`)

// MaxSubjectBytes is the longest subject.
const MaxSubjectBytes = 1024

// Subject writes the subject of a certificate as RFC 4514 has it, most specific part first: always the same text for
// the same name.
func Subject(name pkix.RDNSequence) string {
	var parts []string
	for _, set := range slices.Backward(name) {
		var one []string
		for _, a := range set {
			oid := a.Type.String()
			typ, known := attributes[oid]
			if !known {
				typ = oid
			}
			one = append(one, typ+"="+valueOf(a.Value))
		}
		slices.Sort(one)
		parts = append(parts, strings.Join(one, "+"))
	}
	return strings.Join(parts, ",")
}

// valueOf writes a value; what is no text as its DER form.
func valueOf(v any) string {
	if s, ok := v.(string); ok && utf8.ValidString(s) {
		return escaped(s)
	}
	der, err := asn1.Marshal(v)
	if err != nil {
		return "#"
	}
	return "#" + hex.EncodeToString(der)
}

// escaped is a value as RFC 4514 section 2.4 has it.
func escaped(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\%02x`, r)
			continue
		case strings.ContainsRune(`"+,;<>\=`, r), r == '#' && i == 0, r == ' ' && (i == 0 || i == len(s)-1):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// ParseSubject reads a distinguished name and writes it as Subject does. The case of types does not matter, nor do
// spaces around "=", "," and "+".
func ParseSubject(s string) (string, error) {
	if s == "" || len(s) > MaxSubjectBytes || !utf8.ValidString(s) {
		return "", errSubject
	}
	var parts []string
	for _, set := range split(s, ',') {
		var one []string
		for _, a := range split(set, '+') {
			typ, value, ok := strings.Cut(a, "=")
			typ = strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(typ)), "OID.")
			if name, known := attributes[typ]; known {
				typ = name
			}
			value, err := plainValue(strings.TrimLeft(value, " "))
			if !ok || !isType(typ) || err != nil {
				return "", errSubject
			}
			one = append(one, typ+"="+value)
		}
		slices.Sort(one)
		parts = append(parts, strings.Join(one, "+"))
	}
	return strings.Join(parts, ","), nil
}

func isType(s string) bool {
	for _, name := range attributes {
		if s == name {
			return true
		}
	}
	return s != "" && s[0] >= '0' && s[0] <= '9' && strings.Trim(s, "0123456789.") == "" && strings.Contains(s, ".")
}

// split cuts at a separator that no backslash stands in front of.
func split(s string, at byte) (parts []string) {
	from := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case at:
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	return append(parts, s[min(from, len(s)):])
}

// plainValue reads a value, without the spaces that follow it, and writes it in the one form that it has.
func plainValue(s string) (string, error) {
	if digits, isHex := strings.CutPrefix(s, "#"); isHex {
		raw, err := hex.DecodeString(strings.TrimRight(digits, " "))
		if err != nil || len(raw) == 0 {
			return "", errSubject
		}
		return "#" + hex.EncodeToString(raw), nil
	}
	var b []byte
	end := 0 // what spaces after it are no part of the value
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c != '\\':
			if strings.IndexByte(`"<>;`, c) >= 0 {
				return "", errSubject
			}
			if b = append(b, c); c != ' ' {
				end = len(b)
			}
		case i+1 < len(s) && strings.IndexByte(`"+,;<>\= #`, s[i+1]) >= 0:
			i++
			b = append(b, s[i])
			end = len(b)
		case i+2 < len(s):
			raw, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil {
				return "", errSubject
			}
			i += 2
			b = append(b, raw...)
			end = len(b)
		default:
			return "", errSubject
		}
	}
	if end == 0 || !utf8.Valid(b[:end]) {
		return "", errSubject
	}
	return escaped(string(b[:end])), nil
}

// ParseFingerprint reads a SHA-256 fingerprint and writes it as 64 lower-case hexadecimal digits.
func ParseFingerprint(s string) (string, error) {
	plain := strings.ToLower(s)
	if strings.Count(plain, ":") == 31 {
		for i, part := range strings.Split(plain, ":") {
			if len(part) != 2 {
				return "", fmt.Errorf("has a part %d that is no byte in hexadecimal", i+1)
			}
		}
		plain = strings.ReplaceAll(plain, ":", "")
	}
	if raw, err := hex.DecodeString(plain); err != nil || len(raw) != 32 {
		return "", errors.New(`has to be the SHA-256 of a certificate, 64 hexadecimal digits as "openssl x509 -noout ` +
			`-fingerprint -sha256" prints them`)
	}
	return plain, nil
}

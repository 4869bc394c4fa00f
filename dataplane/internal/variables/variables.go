// Package variables gives texts with variables their values, from an exchange. What variables there are is shared with
// the control plane, in template.
package variables

import (
	"strconv"
	"unsafe"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/template"
)

// MaxField is the longest value that a field with variables may have, in bytes; a longer one counts for empty.
const MaxField = 8 << 10

// Text is a compiled text. It is immutable; the zero value is empty.
type Text struct {
	parts []template.Part
}

// Compile reads a text for a place.
func Compile(text string, in template.Place) (*Text, error) {
	parts, err := template.Parse(text, in)
	if err != nil {
		return nil, err
	}
	return &Text{parts}, nil
}

// Literal returns the text where it has no variables.
func (t *Text) Literal() (string, bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].Variable == template.None:
		return t.parts[0].Literal, true
	}
	return "", false
}

// Field returns the text as a field value, without blanks at its ends; empty where all its variables are and nothing
// else is in it, and where it is longer than MaxField. It lives as long as the exchange. It does not allocate once the
// exchange's memory has grown.
func (t *Text) Field(x *exchange.Exchange) string {
	start := len(x.Texts)
	x.Texts = t.Append(x.Texts, x, nil)
	b := x.Texts[start:]
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && blank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	if len(b) > MaxField {
		return ""
	}
	for i, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			b[i] = '?' // whatever the source lets through
		}
	}
	return unsafe.String(unsafe.SliceData(b), len(b))
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// Append appends the text; escape, unless it is nil, appends the values of variables as they have to stand there.
func (t *Text) Append(b []byte, x *exchange.Exchange, escape func(b []byte, value string) []byte) []byte {
	for i := range t.parts {
		p := &t.parts[i]
		if p.Variable == template.None {
			b = append(b, p.Literal...)
			continue
		}
		b = appendValue(b, x, p, escape)
	}
	return b
}

func appendValue(b []byte, x *exchange.Exchange, p *template.Part, escape func(b []byte, value string) []byte) []byte {
	switch p.Variable {
	case template.ClientPort:
		if port := x.Client.Port(); port != 0 {
			b = strconv.AppendUint(b, uint64(port), 10)
		}
		return b
	case template.ResponseStatus:
		return strconv.AppendInt(b, int64(x.Response.Status), 10)
	case template.Fact:
		if f, found := x.Fact(p.Argument); found && escape == nil {
			return f.Append(b)
		} else if found {
			return escape(b, f.Text())
		}
		return b
	}
	value := valueOf(x, p)
	if escape != nil {
		return escape(b, value)
	}
	return append(b, value...)
}

func valueOf(x *exchange.Exchange, p *template.Part) string {
	switch p.Variable {
	case template.ClientAddress:
		return x.ClientText
	case template.Consumer:
		return x.Consumer()
	case template.Endpoint:
		return x.Endpoint
	case template.ErrorCode:
		return string(x.Response.Code)
	case template.ErrorMessage:
		return x.Response.Message
	case template.PathParameter:
		v, _ := x.Params.Get(p.Argument)
		return v
	case template.RequestHeader:
		return x.Request.Header.Get(p.Argument)
	case template.RequestHost:
		return x.Request.Host
	case template.RequestID:
		return x.ID
	case template.RequestMethod:
		return x.Request.Method
	case template.RequestPath:
		return x.Request.Path
	case template.RequestQuery:
		return x.Request.RawQuery
	case template.RequestScheme:
		return x.Scheme
	case template.RequestVersion:
		return x.Request.Version.String()
	case template.Route:
		return x.Route
	case template.Service:
		return x.Service
	case template.TLSCipher:
		return x.TLS.CipherText()
	case template.TLSClientFingerprint:
		return x.TLS.Facts().Fingerprint
	case template.TLSClientIssuer:
		return x.TLS.Facts().Issuer
	case template.TLSClientSAN:
		return x.TLS.Facts().SAN
	case template.TLSClientSerial:
		return x.TLS.Facts().Serial
	case template.TLSClientSubject:
		return x.TLS.Facts().Subject
	case template.TLSServerName:
		return x.TLS.Name()
	case template.TLSVersion:
		return x.TLS.VersionText()
	}
	return ""
}

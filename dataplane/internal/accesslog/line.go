package accesslog

import (
	"strconv"
	"time"
	"unicode/utf8"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/terminal"
)

// Record is what is logged of an exchange that ended.
type Record struct {
	// Exchange is the exchange.
	Exchange *exchange.Exchange
	// Revision is the one that served it; 0: none did.
	Revision uint32
	// Duration is from the head to the response's last byte; Upstream is the part that the service took to answer, 0 when
	// it was not asked.
	Duration, Upstream time.Duration
	// ResponseBytes is the size of the response's body.
	ResponseBytes int64
	// Attempts is how many endpoints were asked, or tried to be.
	Attempts int
	// RequestBytes is how much the client sent after it had gone over to another protocol.
	RequestBytes int64
}

// clock keeps the text of the current second.
type clock struct {
	second int64
	text   [len("2006-01-02T15:04:05")]byte
}

// append appends a time in UTC with milliseconds (RFC 3339).
func (c *clock) append(b []byte, t time.Time) []byte {
	if s := t.Unix(); s != c.second {
		c.second = s
		t.UTC().AppendFormat(c.text[:0], "2006-01-02T15:04:05")
	}
	ms := t.Nanosecond() / int(time.Millisecond)
	b = append(b, c.text[:]...)
	return append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

// The longest that a field may be, in bytes of the line; what is longer is cut.
const (
	maxPath  = 2048
	maxField = 512
	// maxFacts is how many facts of one exchange are logged.
	maxFacts = 32
)

// appendLine appends a line of JSON. Fields that are empty are left out.
func appendLine(b []byte, r *Record, c *clock, query bool) []byte {
	x := r.Exchange
	req := &x.Request
	b = append(b, `{"time":"`...)
	b = c.append(b, x.Start)
	b = append(b, `","client":"`...)
	b = append(b, x.ClientText...)
	b = append(b, '"')
	b = appendText(b, "method", req.Method, maxField)
	b = appendText(b, "host", req.Host, maxField)
	b = appendText(b, "path", req.Path, maxPath)
	if query && req.HasQuery {
		b = appendText(b, "query", req.RawQuery, maxPath)
	}
	b = append(b, `,"protocol":"`...)
	b = append(b, req.Version.String()...)
	b = append(b, `","status":`...)
	b = strconv.AppendInt(b, int64(x.Response.Status), 10)
	b = append(b, `,"bytes":`...)
	b = strconv.AppendInt(b, r.ResponseBytes, 10)
	if r.RequestBytes > 0 {
		b = append(b, `,"bytes_received":`...)
		b = strconv.AppendInt(b, r.RequestBytes, 10)
	}
	b = append(b, `,"duration_us":`...)
	b = strconv.AppendInt(b, r.Duration.Microseconds(), 10)
	if r.Upstream > 0 {
		b = append(b, `,"upstream_us":`...)
		b = strconv.AppendInt(b, r.Upstream.Microseconds(), 10)
	}
	b = appendText(b, "code", string(x.Response.Code), maxField)
	b = appendText(b, "route", x.Route, maxField)
	b = appendText(b, "service", x.Service, maxField)
	b = appendText(b, "endpoint", x.Endpoint, maxField)
	if r.Attempts > 1 {
		b = append(b, `,"attempts":`...)
		b = strconv.AppendInt(b, int64(r.Attempts), 10)
	}
	if r.Revision > 0 {
		b = append(b, `,"revision":`...)
		b = strconv.AppendUint(b, uint64(r.Revision), 10)
	}
	b = appendText(b, "request_id", x.ID, maxField)
	b = appendText(b, "consumer", x.Consumer(), maxField)
	b = appendFacts(b, x)
	if x.TLS != nil {
		b = appendText(b, "server_name", x.TLS.ServerName, maxField)
	}
	b = appendText(b, "referer", req.Header.Get("Referer"), maxField)
	b = appendText(b, "user_agent", req.Header.Get("User-Agent"), maxField)
	return append(b, "}\n"...)
}

// appendFacts appends what steps have found out, unless it is nothing.
func appendFacts(b []byte, x *exchange.Exchange) []byte {
	start, n := len(b), 0
	b = append(b, `,"facts":{`...)
	for f := range x.Facts {
		if n == maxFacts {
			break
		}
		before := len(b)
		b = appendText(b, f.Name, f.Text(), maxField)
		if n == 0 && len(b) > before { // without the "," before it
			b = append(b[:before], b[before+1:]...)
		}
		if len(b) > before {
			n++
		}
	}
	if n == 0 {
		return b[:start]
	}
	return append(b, '}')
}

const digits = "0123456789abcdef"

// appendText appends a member, unless its value is empty. What was sent by clients can't break out of its string, and
// no terminal that shows the line obeys it.
func appendText(b []byte, name, value string, longest int) []byte {
	if value == "" {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	if len(value) > longest {
		value = value[:longest]
	}
	from := 0
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(value[i:])
			switch {
			case r == utf8.RuneError:
			case terminal.Obeys(r): // all of these have four digits or less
				b = append(b, value[from:i]...)
				b = append(b, '\\', 'u', digits[r>>12], digits[r>>8&15], digits[r>>4&15], digits[r&15])
				from = i + n
				fallthrough
			default:
				i += n - 1
				continue
			}
		}
		b = append(b, value[from:i]...)
		from = i + 1
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < utf8.RuneSelf:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			b = append(b, `\ufffd`...)
		}
	}
	b = append(b, value[from:]...)
	return append(b, '"')
}

package compress

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"gateway.internal/dataplane/internal/exchange"
)

// An encoded response is another representation than the plain one, with other bytes, so it can't have the same
// strong entity tag (RFC 9110 section 8.8.3). It gets the tag as a weak one: W/"a" for "a". If-None-Match then comes
// with W/"a". A service that compares as RFC 9110 section 13.1.2 says knows that for its own "a". Many others compare
// texts, of the field or of each item of it; they know what they have sent. What that was is remembered, of as many
// tags as there is room for. Of a tag that is not remembered both forms are sent.

// tags remembers in which form the service has sent entity tags. It may forget one, and, very rarely, take one for
// another.
type tags struct {
	seed  maphash.Seed
	slots [1024]atomic.Uint32 // a part of the tag's sum, and its form; 0: none
}

// form is how the service has sent a tag.
type form uint32

const (
	unknown form = iota
	strong
	weak
	forms = 3 // bits of a slot
)

func newTags() (*tags, error) { return &tags{seed: maphash.MakeSeed()}, nil }

// Close implements io.Closer: there is nothing to close.
func (*tags) Close() error { return nil }

// slot returns where an opaque tag's form is, and the part of its sum that is there.
func (t *tags) slot(opaque string) (*atomic.Uint32, uint32) {
	sum := maphash.String(t.seed, opaque)
	return &t.slots[sum%uint64(len(t.slots))], uint32(sum>>32) &^ forms
}

func (t *tags) remember(opaque string, f form) {
	slot, sum := t.slot(opaque)
	if v := sum | uint32(f); slot.Load() != v {
		slot.Store(v)
	}
}

func (t *tags) form(opaque string) form {
	slot, sum := t.slot(opaque)
	if v := slot.Load(); v&^forms == sum {
		return form(v & forms)
	}
	return unknown
}

// weaken makes the entity tag of a response that is encoded a weak one.
func (t *tags) weaken(x *exchange.Exchange) {
	tag, ok := x.Response.Header.Lookup("ETag")
	if !ok {
		return
	}
	if opaque, is := strings.CutPrefix(tag, "W/"); is {
		t.remember(opaque, weak)
		return
	}
	t.remember(tag, strong)
	setWeak(x, tag)
}

func setWeak(x *exchange.Exchange, tag string) {
	start := len(x.Texts)
	x.Texts = append(append(x.Texts, "W/"...), tag...)
	x.Response.Header.Set("ETag", x.Text(start))
}

// notModified makes the fields of a 304 those of the response that the client has (RFC 9110 section 15.4.5). Its
// media type is not known, but whether a response with this tag was encoded is, or that the client has one that was.
func (t *tags) notModified(x *exchange.Exchange, s *step) {
	tag, ok := x.Response.Header.Lookup("ETag")
	if !ok || strings.HasPrefix(tag, "W/") {
		return
	}
	validated := t.form(tag) == strong && x.Accepts.Choose(s.codings) != exchange.Identity
	fields := x.Request.Header.Fields()
	for i := range fields {
		validated = validated || exchange.EqualFold(fields[i].Name, "If-None-Match") && hasWeak(fields[i].Value, tag)
	}
	if validated || t.form(tag) == strong {
		x.Vary("Accept-Encoding")
	}
	if validated {
		setWeak(x, tag)
	}
}

// hasWeak reports whether a list has a tag as a weak one.
func hasWeak(list, tag string) bool {
	for {
		i := strings.Index(list, tag)
		if i < 0 {
			return false
		}
		if strings.HasSuffix(list[:i], "W/") {
			return true
		}
		list = list[i+len(tag):]
	}
}

// maxTranslated is the longest If-None-Match that is brought into another form: it may become twice as long.
const maxTranslated = 4 << 10

// translate brings a request's If-None-Match into a form that the service knows. What is no list of entity tags stays
// as it is.
func (t *tags) translate(x *exchange.Exchange) {
	h := &x.Request.Header
	length, any := 0, false
	fields := h.Fields()
	for i := range fields {
		if f := &fields[i]; len(f.Name) == len("If-None-Match") && exchange.EqualFold(f.Name, "If-None-Match") {
			length += len(f.Value)
			any = any || strings.Contains(f.Value, `W/"`)
		}
	}
	if !any || length > maxTranslated || x.Request.Method != "GET" && x.Request.Method != "HEAD" {
		return
	}
	start := len(x.Texts)
	for i := range fields {
		f := &fields[i]
		if !exchange.EqualFold(f.Name, "If-None-Match") {
			continue
		}
		if !t.appendKnown(x, start, f.Value) {
			x.Texts = x.Texts[:start]
			return
		}
	}
	h.Set("If-None-Match", x.Text(start))
}

// appendKnown appends the items of a list to what x.Texts has from start on, and reports whether it is a list of
// entity tags.
func (t *tags) appendKnown(x *exchange.Exchange, start int, list string) bool {
	put := func(prefix, opaque string) {
		if len(x.Texts) > start {
			x.Texts = append(x.Texts, ", "...)
		}
		x.Texts = append(append(x.Texts, prefix...), opaque...)
	}
	for {
		list = strings.TrimLeft(list, " \t,")
		if list == "" {
			return true
		}
		rest, isWeak := strings.CutPrefix(list, "W/")
		end := -1
		if strings.HasPrefix(rest, `"`) {
			end = strings.IndexByte(rest[1:], '"')
		}
		if end < 0 {
			return false
		}
		opaque := rest[:end+2]
		list = rest[end+2:]
		f := weak
		if isWeak {
			f = t.form(opaque)
		}
		if isWeak && f != strong {
			put("W/", opaque)
		}
		if !isWeak || f != weak {
			put("", opaque)
		}
	}
}

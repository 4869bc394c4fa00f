package exchange

import (
	"iter"
	"slices"
)

// Header is an ordered list of fields; names are compared without case and may repeat (RFC 9110 section 5).
// The zero value is empty and ready. It is not safe for concurrent use; see [Exchange.Fork].
type Header struct {
	fields []Field
	// decided are the names that Set and Del were called for: what stands in the trailers is not to undo it. See
	// Request.Trailers.
	decided []string
	// log records the changes that are made, when it is wanted; see Fork.
	log *[]headerChange
}

type headerChange struct {
	op          byte // 's'et, 'a'dd, 'd'elete, delete what is 'u'ndecided
	name, value string
}

// Reset empties the header and keeps its memory.
func (h *Header) Reset() { h.fields, h.decided = h.fields[:0], h.decided[:0] }

// emptied returns an empty header with this one's memory.
func (h *Header) emptied() Header { return Header{fields: h.fields[:0], decided: h.decided[:0]} }

// Append adds a parsed field. Codecs use it; middleware uses Add.
func (h *Header) Append(f Field) { h.fields = append(h.fields, f) }

// Next adds a parsed field, which is empty, and returns it for its codec to fill in where it is: that costs less than
// Append. It is not valid once another one is added.
func (h *Header) Next() *Field {
	if len(h.fields) == cap(h.fields) {
		h.fields = slices.Grow(h.fields, 1)
	}
	h.fields = h.fields[:len(h.fields)+1]
	f := &h.fields[len(h.fields)-1]
	*f = Field{}
	return f
}

// Fields returns the fields in order. The slice is the header's own: it is not to be changed.
func (h *Header) Fields() []Field { return h.fields }

// Len returns the number of fields.
func (h *Header) Len() int { return len(h.fields) }

// All yields names and values in order.
func (h *Header) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for i := range h.fields {
			if !yield(h.fields[i].Name, h.fields[i].Value) {
				return
			}
		}
	}
}

// Get returns the first value of a field, or "" when it is absent.
func (h *Header) Get(name string) string {
	v, _ := h.Lookup(name)
	return v
}

// Lookup returns the first value of a field and whether it is there.
func (h *Header) Lookup(name string) (string, bool) {
	for i := range h.fields {
		if f := &h.fields[i]; len(f.Name) == len(name) && EqualFold(f.Name, name) {
			return f.Value, true
		}
	}
	return "", false
}

// LookupFrom returns the first value of a field at or behind a place among the fields, and the place behind it.
func (h *Header) LookupFrom(place int, name string) (value string, next int, ok bool) {
	for i := place; i < len(h.fields); i++ {
		if f := &h.fields[i]; len(f.Name) == len(name) && EqualFold(f.Name, name) {
			return f.Value, i + 1, true
		}
	}
	return "", 0, false
}

// Known returns the first value of a known field and whether it is there.
func (h *Header) Known(name Name) (string, bool) {
	for i := range h.fields {
		if h.fields[i].Known == name {
			return h.fields[i].Value, true
		}
	}
	return "", false
}

// Values yields all values of a field in order.
func (h *Header) Values(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range h.fields {
			if f := &h.fields[i]; len(f.Name) == len(name) && EqualFold(f.Name, name) && !yield(f.Value) {
				return
			}
		}
	}
}

// Set replaces all values of a field by one, and with it the fields that services may take for it; see SameField. The
// field keeps the place of the first, or goes to the end. A field of that name in the trailers that come later is not
// passed on. The strings have to live as long as the exchange. Framing is the codec's: Set, Add and Del of
// Content-Length, Transfer-Encoding and hop-by-hop fields have no effect on what is sent.
func (h *Header) Set(name, value string) {
	h.record('s', name, value)
	h.decided = append(h.decided, name)
	found := false
	kept := h.fields[:0]
	for _, f := range h.fields {
		if len(f.Name) == len(name) && SameField(f.Name, name) {
			if found {
				continue
			}
			found = true
			f = Field{Name: name, Value: value, Known: KnownName(name), Odd: OddName(name)}
		}
		kept = append(kept, f)
	}
	h.fields = kept
	if !found {
		h.fields = append(h.fields, Field{Name: name, Value: value, Known: KnownName(name), Odd: OddName(name)})
	}
}

// Add appends a field. The strings have to live as long as the exchange.
func (h *Header) Add(name, value string) {
	h.record('a', name, value)
	h.fields = append(h.fields, Field{Name: name, Value: value, Known: KnownName(name), Odd: OddName(name)})
}

// Del removes all fields of a name, and those that services may take for it; see SameField. A field of that name in the
// trailers that come later is not passed on.
func (h *Header) Del(name string) {
	h.record('d', name, "")
	h.remove(name)
}

// DelUndecided is Del where no field of the name was set or removed yet, so that what there is comes from the client.
func (h *Header) DelUndecided(name string) {
	h.record('u', name, "") // a step before, which runs at the same time, may have decided
	if !h.Decides(name) {
		h.remove(name)
	}
}

func (h *Header) remove(name string) {
	h.decided = append(h.decided, name)
	h.fields = slices.DeleteFunc(h.fields, func(f Field) bool {
		return len(f.Name) == len(name) && SameField(f.Name, name)
	})
}

// Map replaces each value of a field by what change makes of it. The strings have to live as long as the exchange.
func (h *Header) Map(name string, change func(value string) string) {
	for i := range h.fields {
		f := &h.fields[i]
		if len(f.Name) != len(name) || !EqualFold(f.Name, name) {
			continue
		}
		if v := change(f.Value); v != f.Value {
			*f = Field{Name: f.Name, Value: v, Known: f.Known, Odd: f.Odd}
		}
	}
}

// Decides reports whether a field of this name, or one that services may take for it, was set or removed.
func (h *Header) Decides(name string) bool {
	for _, d := range h.decided {
		if SameField(d, name) {
			return true
		}
	}
	return false
}

// Take removes all fields of a name and returns the first one's value. It is for codecs that say it in another way:
// unlike Del it says nothing about trailers.
func (h *Header) Take(name string) (value string, found bool) {
	value, found = h.Lookup(name)
	if found {
		h.fields = slices.DeleteFunc(h.fields, func(f Field) bool { return len(f.Name) == len(name) && EqualFold(f.Name, name) })
	}
	return value, found
}

// Drop removes the fields whose names f picks. It is for the codecs and what comes before middleware.
func (h *Header) Drop(f func(Name) bool) {
	h.fields = slices.DeleteFunc(h.fields, func(field Field) bool { return f(field.Known) })
}

func (h *Header) record(op byte, name, value string) {
	if h.log != nil {
		*h.log = append(*h.log, headerChange{op, name, value})
	}
}

// replay makes the recorded changes of a fork on h.
func (h *Header) replay(log []headerChange) {
	for _, c := range log {
		switch c.op {
		case 's':
			h.Set(c.name, c.value)
		case 'a':
			h.Add(c.name, c.value)
		case 'd':
			h.Del(c.name)
		case 'u':
			h.DelUndecided(c.name)
		}
	}
}

func (h *Header) copyFrom(src *Header) {
	h.fields = append(h.fields[:0], src.fields...)
	h.decided = append(h.decided[:0], src.decided...)
}

package cel

import (
	"net/url"
	"reflect"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"gateway.internal/dataplane/internal/exchange"
)

// names are the lists of names of a principal.
type names struct{ groups, scopes list }

// list is a list of texts. What is asked for most, whether something is in it, is answered without making a list of
// CEL's; everything else is left to one.
type list struct{ items []string }

func (l *list) whole() traits.Lister { return types.NewStringList(types.DefaultTypeAdapter, l.items) }

// Contains implements traits.Container.
func (l *list) Contains(v ref.Val) ref.Val {
	s, ok := v.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(v)
	}
	for _, item := range l.items {
		if item == string(s) {
			return types.True
		}
	}
	return types.False
}

// Size implements traits.Sizer.
func (l *list) Size() ref.Val { return types.Int(len(l.items)) }

// Add implements traits.Adder.
func (l *list) Add(v ref.Val) ref.Val { return l.whole().Add(v) }

// Get implements traits.Indexer.
func (l *list) Get(i ref.Val) ref.Val { return l.whole().Get(i) }

// Iterator implements traits.Iterable.
func (l *list) Iterator() traits.Iterator { return l.whole().Iterator() }

// ConvertToNative implements ref.Val.
func (l *list) ConvertToNative(t reflect.Type) (any, error) { return l.whole().ConvertToNative(t) }

// ConvertToType implements ref.Val.
func (l *list) ConvertToType(t ref.Type) ref.Val { return l.whole().ConvertToType(t) }

// Equal implements ref.Val.
func (l *list) Equal(v ref.Val) ref.Val { return l.whole().Equal(v) }

// Type implements ref.Val.
func (*list) Type() ref.Type { return types.ListType }

// Value implements ref.Val.
func (l *list) Value() any { return l.items }

// table is a map of texts to texts, of which only what is asked for is looked up.
type table interface {
	// find returns the value of a key.
	find(key string) (value string, found bool)
	// all returns all keys with their values.
	all() map[string]string
}

// mapping makes a table a map of CEL's.
type mapping struct {
	v *values
	table
}

func (m mapping) whole() traits.Mapper {
	return types.NewStringStringMap(types.DefaultTypeAdapter, m.all())
}

// Find implements traits.Mapper.
func (m mapping) Find(key ref.Val) (ref.Val, bool) {
	s, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), false
	}
	value, found := m.find(string(s))
	if !found {
		return nil, false
	}
	return m.v.text(value).(ref.Val), true
}

// Get implements traits.Indexer.
func (m mapping) Get(key ref.Val) ref.Val {
	v, found := m.Find(key)
	if !found {
		return types.ValOrErr(v, "no such key")
	}
	return v
}

// Contains implements traits.Container.
func (m mapping) Contains(key ref.Val) ref.Val {
	v, found := m.Find(key)
	if !found && types.IsUnknownOrError(v) {
		return v
	}
	return types.Bool(found)
}

// Size implements traits.Sizer.
func (m mapping) Size() ref.Val { return types.Int(len(m.all())) }

// Iterator implements traits.Iterable.
func (m mapping) Iterator() traits.Iterator { return m.whole().Iterator() }

// ConvertToNative implements ref.Val.
func (m mapping) ConvertToNative(t reflect.Type) (any, error) { return m.whole().ConvertToNative(t) }

// ConvertToType implements ref.Val.
func (m mapping) ConvertToType(t ref.Type) ref.Val { return m.whole().ConvertToType(t) }

// Equal implements ref.Val.
func (m mapping) Equal(v ref.Val) ref.Val { return m.whole().Equal(v) }

// Type implements ref.Val.
func (mapping) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (m mapping) Value() any { return m.all() }

// fields are the request's header fields.
type fields values

func (f *fields) find(name string) (value string, found bool) {
	var b strings.Builder // of a field that is there several times
	for v := range f.x.Request.Header.Values(name) {
		switch {
		case !found:
			value, found = v, true
			continue
		case b.Len() == 0:
			b.WriteString(value)
		}
		b.WriteString(separator(name))
		b.WriteString(v)
	}
	if b.Len() > 0 {
		value = b.String()
	}
	return value, found
}

// separator is what stands between the values of a field (RFC 9110 section 5.3, RFC 6265 section 5.4).
func separator(name string) string {
	if exchange.EqualFold(name, "cookie") {
		return "; "
	}
	return ", "
}

func (f *fields) all() map[string]string {
	all := map[string]string{}
	for _, field := range f.x.Request.Header.Fields() {
		name := strings.ToLower(field.Name)
		if before, there := all[name]; there {
			all[name] = before + separator(name) + field.Value
		} else {
			all[name] = field.Value
		}
	}
	return all
}

// parameters are those of the request's query.
type parameters values

// maxScans is how many looks for a parameter read the query from its beginning. For those after them it is read once:
// a loop over a query that looks into it each time would cost the square of what a client sends.
const maxScans = 4

func (p *parameters) find(name string) (value string, found bool) {
	if p.scans == maxScans {
		value, found = p.all()[name]
		return value, found
	}
	p.scans++
	var b strings.Builder // of a parameter that is there several times
	for key, v := range p.each {
		switch {
		case decoded(key) != name:
		case !found:
			value, found = decoded(v), true
		default:
			if b.Len() == 0 {
				b.WriteString(value)
			}
			b.WriteByte(',')
			b.WriteString(decoded(v))
			value = b.String()
		}
	}
	return value, found
}

func (p *parameters) all() map[string]string {
	if p.parsed != nil {
		return p.parsed
	}
	lists := map[string][]string{}
	for key, v := range p.each {
		key = decoded(key)
		lists[key] = append(lists[key], decoded(v))
	}
	p.parsed = make(map[string]string, len(lists))
	for key, list := range lists {
		p.parsed[key] = strings.Join(list, ",")
	}
	return p.parsed
}

// each calls yield with the names and values of the query, as they were sent.
func (p *parameters) each(yield func(key, value string) bool) {
	for pair := range strings.SplitSeq(p.x.Request.RawQuery, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if pair != "" && !yield(key, value) {
			return
		}
	}
}

func decoded(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

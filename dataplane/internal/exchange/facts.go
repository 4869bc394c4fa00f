package exchange

import (
	"encoding"
	"strconv"
)

// Fact is something that a step has found out about an exchange besides its principal, such as a tenant. Later steps
// read it by a [FactKey]; texts with variables, and the access log, show it by its name. It is immutable, and has
// memory of its own: many exchanges may share it.
type Fact struct {
	// Name is what the fact is known by.
	Name string
	// Value is of any type; see Append for those that can be shown.
	Value any
}

// FactKey is the name of facts whose values are of type T. What has the name and a value of another type is not found
// by it: a type that a package does not export makes facts that are its own.
type FactKey[T any] string

// Of returns the value of an exchange's fact; found is false where no step has put one.
func (k FactKey[T]) Of(x *Exchange) (v T, found bool) {
	for i := len(x.facts) - 1; i >= 0; i-- {
		if f := &x.facts[i]; f.Name == string(k) {
			if v, found = f.Value.(T); found {
				return v, true
			}
		}
	}
	return v, false
}

// Values calls yield with the values of type T of all facts, whatever their names, in the order in which they were put.
func Values[T any](x *Exchange, yield func(T) bool) {
	for i := range x.facts {
		if v, is := x.facts[i].Value.(T); is && !yield(v) {
			return
		}
	}
}

// Fact returns the fact with a value. It is made where the value is found, once, if many exchanges are going to have
// it.
func (k FactKey[T]) Fact(v T) Fact { return Fact{string(k), v} }

// Put puts a fact on the exchange, in the place of one that has its name. In a parallel pipeline later steps see it,
// and of several the one whose step is last.
func (x *Exchange) Put(f Fact) { x.facts = append(x.facts, f) }

// Fact returns the fact of a name that can be shown.
func (x *Exchange) Fact(name string) (f Fact, found bool) {
	for i := len(x.facts) - 1; i >= 0; i-- {
		if f = x.facts[i]; f.Name == name && f.shows() {
			return f, true
		}
	}
	return Fact{}, false
}

// Facts calls yield with all facts that can be shown, in the order in which they were put, each name once.
func (x *Exchange) Facts(yield func(Fact) bool) {
	for i, f := range x.facts {
		if f.shows() && !x.replaced(i) && !yield(f) {
			return
		}
	}
}

// replaced reports whether a later fact that can be shown has the name of one.
func (x *Exchange) replaced(i int) bool {
	for j := i + 1; j < len(x.facts); j++ {
		if x.facts[j].Name == x.facts[i].Name && x.facts[j].shows() {
			return true
		}
	}
	return false
}

// shows reports whether the value is of a type that can be shown.
func (f *Fact) shows() bool {
	switch f.Value.(type) {
	case string, []string, bool, int, int64, float64, encoding.TextAppender:
		return true
	}
	return false
}

// Append appends the value as text: texts, numbers and truth values as they are, several texts with "," between them,
// and what is an encoding.TextAppender as that says. A value of another type has no text.
func (f *Fact) Append(b []byte) []byte {
	switch v := f.Value.(type) {
	case string:
		return append(b, v...)
	case []string:
		for i, s := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, s...)
		}
		return b
	case bool:
		return strconv.AppendBool(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case float64:
		return strconv.AppendFloat(b, v, 'g', -1, 64)
	case encoding.TextAppender:
		if with, err := v.AppendText(b); err == nil {
			return with
		}
	}
	return b
}

// Text returns the value as text. It allocates for what is no string.
func (f *Fact) Text() string {
	if s, is := f.Value.(string); is {
		return s
	}
	return string(f.Append(nil))
}

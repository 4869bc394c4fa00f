package config

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// EnvironmentValue is a value of the environment, and the text that a file has in its place.
type EnvironmentValue struct{ Value, Text string }

const (
	// shortestHidden is how long a value has to be to be hidden in messages: shorter ones are words of every message.
	shortestHidden = 6
	// shortestStart is how many bytes at the start of a value are known as those of it: messages cut long values.
	shortestStart = 16
)

// Hide puts the texts of files in the place of values of the environment in a message, also where it quotes them or
// has only their start. It leaves taken as it is.
func Hide(message string, taken []EnvironmentValue) string {
	if len(taken) == 0 {
		return message
	}
	// The longest goes first, since it may have others in it.
	taken = slices.Clone(taken)
	slices.SortStableFunc(taken, func(a, b EnvironmentValue) int { return len(b.Value) - len(a.Value) })
	for _, t := range taken {
		if len(t.Value) < shortestHidden {
			continue
		}
		message = hideOne(message, t.Value, t.Text)
		if quoted := strconv.Quote(t.Value); quoted[1:len(quoted)-1] != t.Value {
			message = hideOne(message, quoted[1:len(quoted)-1], t.Text)
		}
	}
	return message
}

// hideOne hides a value and whatever of shortestStart bytes or more it begins with.
func hideOne(message, value, text string) string {
	start := value[:min(len(value), shortestStart)]
	var b strings.Builder
	for {
		i := strings.Index(message, start)
		if i < 0 {
			break
		}
		b.WriteString(message[:i])
		b.WriteString(text)
		n := 0
		for n < len(value) && i+n < len(message) && message[i+n] == value[n] {
			n++
		}
		message = message[i+n:]
	}
	if b.Len() == 0 {
		return message
	}
	b.WriteString(message)
	return b.String()
}

// variable is how a file refers to the environment.
var variable = regexp.MustCompile(`\$\{env:[^}]*\}`)

// environmentValues returns what a resource has of the environment: whole texts, and the values of the variables in
// them.
func environmentValues(m Message) []EnvironmentValue {
	var all []EnvironmentValue
	for path, value := range texts(m) {
		text, ok := m.GetEnvironment()[path]
		if !ok || value == text {
			continue
		}
		all = append(all, EnvironmentValue{value, text})
		var pattern strings.Builder
		end := 0
		for _, at := range variable.FindAllStringIndex(text, -1) {
			pattern.WriteString(regexp.QuoteMeta(text[end:at[0]]) + "(.*?)")
			end = at[1]
		}
		whole, err := regexp.Compile("(?s)^" + pattern.String() + regexp.QuoteMeta(text[end:]) + "$")
		if err != nil {
			continue // a text that is no UTF-8
		}
		if parts := whole.FindStringSubmatch(value); parts != nil {
			for i, name := range variable.FindAllString(text, -1) {
				all = append(all, EnvironmentValue{parts[i+1], name})
			}
		}
	}
	return all
}

// hideTaken hides in problems what their resources took from the environment, and what of them is write-only. find
// returns nil where there is none.
func hideTaken(ps Problems, find func(k Kind, name string) Message) Problems {
	type key struct {
		kind Kind
		name string
	}
	type hidden struct {
		values []EnvironmentValue
		fields map[string]string // what is shown in place of the fields' values
	}
	known := map[key]hidden{}
	for i, p := range ps {
		if p.Kind == 0 {
			continue
		}
		m := find(p.Kind, p.Name)
		if m == nil {
			continue
		}
		at := key{p.Kind, p.Name}
		taken, ok := known[at]
		if !ok {
			taken.fields = map[string]string{}
			if len(m.GetEnvironment()) > 0 {
				taken.values = environmentValues(m)
				maps.Copy(taken.fields, m.GetEnvironment())
			}
			eachWriteOnly(m, func(v writeOnlyValue) {
				taken.fields[v.path] = ""
				if v.value != "" {
					taken.values = append(taken.values, EnvironmentValue{v.value, Hidden})
				}
			})
			known[at] = taken
		}
		ps[i].Message = Hide(p.Message, taken.values)
		if text, ok := taken.fields[p.Field]; ok && p.Value != "" {
			ps[i].Value = text
		} else {
			ps[i].Value = Hide(p.Value, taken.values)
		}
	}
	return ps
}

package config

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
)

// Secret is one secret of a resource.
type Secret struct {
	// Field is its path as problems have it.
	Field string
	// Value is the secret.
	Value string
	// Hashed says that the value is a hash, which can't be used in place of what it is of.
	Hashed bool
}

// Secrets returns the secrets of a resource, by field: what is write-only, such as the key of a certificate, and what
// files took from the environment, but for certificates, which are public.
func Secrets(m Message) []Secret {
	var list []Secret
	eachWriteOnly(m, func(v writeOnlyValue) {
		if v.value != "" {
			list = append(list, Secret{v.path, v.value, isHash(v.value)})
		}
	})
	if len(m.GetEnvironment()) == 0 {
		return list
	}
	all, own := texts(m), len(list)
	for _, path := range slices.Sorted(maps.Keys(m.GetEnvironment())) {
		if path == "cert_pem" || slices.ContainsFunc(list[:own], func(s Secret) bool { return s.Field == path }) {
			continue
		}
		if value, there := all[path]; there && value != m.GetEnvironment()[path] {
			list = append(list, Secret{Field: path, Value: value})
		}
	}
	return list
}

// WithoutSecrets returns a resource without those of its secrets that are not kept, and which ones these are: what is
// write-only is absent then, and a value of the environment is the text that the file has. It is the resource itself
// when it has none of them.
func WithoutSecrets(m Message, keep map[string]bool) (bare Message, taken []Secret) {
	for _, s := range Secrets(m) {
		if !keep[s.Value] {
			taken = append(taken, s)
		}
	}
	if len(taken) == 0 {
		return m, nil
	}
	gone := map[string]bool{}
	for _, s := range taken {
		gone[s.Field] = true
	}
	bare = proto.CloneOf(m)
	eachWriteOnly(bare, func(v writeOnlyValue) {
		if gone[v.path] {
			v.set("")
		}
	})
	EachText(bare, func(path, value string) string {
		if gone[path] {
			return m.GetEnvironment()[path]
		}
		return value
	})
	return bare, taken
}

// PutValuesBack completes a resource that WithoutSecrets has taken values out of by those that now, the same resource
// as it is now, has for the same texts in the same fields. It returns the paths of those, and of those that are
// missing, sorted. now may be nil.
func PutValuesBack(m, now Message) (replaced, missing []string) {
	if len(m.GetEnvironment()) == 0 {
		return nil, nil
	}
	var values, environment map[string]string
	if now != nil {
		values, environment = texts(now), now.GetEnvironment()
	}
	EachText(m, func(path, value string) string {
		text, ok := m.GetEnvironment()[path]
		switch {
		case !ok || text != value:
			return value
		case environment[path] == text && values[path] != text:
			replaced = append(replaced, path)
			return values[path]
		}
		missing = append(missing, path)
		return value
	})
	slices.Sort(replaced)
	slices.Sort(missing)
	return replaced, missing
}

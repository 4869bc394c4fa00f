package config

// reference is one field that names another resource.
type reference struct {
	field string
	kind  Kind
	value *string // what the field holds; it may be changed in a message that is not at rest
}

// references returns every reference of a resource; empty fields are left out.
func references(m Message) []reference {
	var refs []reference
	add := func(field string, k Kind, v *string) {
		if *v != "" {
			refs = append(refs, reference{field, k, v})
		}
	}
	describe(KindOfMessage(m)).references(m, add)
	return refs
}

// EachReference calls f with every reference of a resource; f may change it where the resource is not at rest.
func EachReference(m Message, f func(k Kind, ref *string)) {
	for _, ref := range references(m) {
		f(ref.kind, ref.value)
	}
}

// referrers returns who refers to one of the given ids of a kind, as resource and target id.
func (c *Config) referrers(k Kind, ids map[string]bool) map[string][]*Entry {
	found := map[string][]*Entry{}
	for _, from := range Kinds() {
		if !from.refers(k) {
			continue
		}
		for e := range c.All(from) {
			for _, ref := range references(e.Message) {
				if ref.kind == k && ids[*ref.value] {
					found[*ref.value] = append(found[*ref.value], e)
				}
			}
		}
	}
	return found
}

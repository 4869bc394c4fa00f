package match

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Overtaken is a pair of rules of which the one is for certain hosts and for all below a path, and the other for any
// host and a longer path below that one, which therefore goes first: it takes requests for those hosts, which other
// gateways would give to the rule of the host.
type Overtaken struct {
	Rule, By *Rule
	// Host is one of the rule's hosts, and Request one for it that both match.
	Host    string
	Request Request
}

// maxExamples is how many rules below a path are tried for one that overtakes.
const maxExamples = 8

// Overtaken returns pairs of rules of the table of which one is among these, by name: one pair for each of these.
// Pairs that are told apart by priority, and rules that look at header fields or the query, are meant. It tries some
// rules of any host for each path, so that it may miss pairs; it takes time in proportion to the number of rules.
func (t *Table) Overtaken(these map[*Rule]bool) []*Overtaken {
	if t.hosts == 0 || t.hosts == len(t.rules) {
		return nil
	}
	forHosts, forAny := false, below{}
	changed := below{}
	for r := range these {
		forHosts = forHosts || r.isHostPrefix()
		changed.add(r)
	}
	if forHosts {
		for _, r := range t.rules {
			forAny.add(r)
		}
	}
	if len(forAny) == 0 && len(changed) == 0 {
		return nil
	}
	var found []*Overtaken
	var params Params
	taking := map[*Rule]*Overtaken{} // by these for any host
	for _, r := range t.rules {
		if !r.isHostPrefix() {
			continue
		}
		others := changed
		if these[r] {
			others = forAny
		}
		for _, o := range others[r.prefixKey()] {
			known := taking[o]
			if known != nil && !these[r] && Compare(known.Rule, r) < 0 {
				continue
			}
			if pair := t.overtakes(o, r, &params); pair != nil && these[r] {
				found = append(found, pair)
				break
			} else if pair != nil {
				taking[o] = pair
			}
		}
	}
	found = slices.AppendSeq(found, maps.Values(taking))
	slices.SortFunc(found, func(a, b *Overtaken) int {
		return cmp.Or(cmp.Compare(a.Rule.Name, b.Rule.Name), Compare(a.Rule, b.Rule))
	})
	return found
}

// isHostPrefix reports whether r is for all below a path of certain hosts.
func (r *Rule) isHostPrefix() bool {
	return r.form == Prefix && len(r.hosts) > 0 && len(r.params) == 0 && !r.looksAtFields()
}

// prefixKey is the path of a prefix rule as below has it.
func (r *Rule) prefixKey() string {
	var key strings.Builder
	for _, s := range r.segments {
		key.WriteByte('/')
		key.WriteString(lowerASCII(s.literal))
	}
	return key.String()
}

// below has the best rules for any host by the paths above theirs, without a final slash and in lower case.
type below map[string][]*Rule

func (b below) add(r *Rule) {
	if len(r.hosts) > 0 || r.form == Regex || r.looksAtFields() {
		return
	}
	key := ""
	for _, s := range r.segments {
		b.put(key, r)
		if s.param {
			return // what a prefix of below has there is a literal
		}
		key += "/" + lowerASCII(s.literal)
	}
	if r.form == Exact {
		b.put(key, r)
	}
}

func (b below) put(key string, r *Rule) {
	list := b[key]
	i, _ := slices.BinarySearchFunc(list, r, Compare)
	if i < maxExamples {
		list = slices.Insert(list, i, r)
		b[key] = list[:min(len(list), maxExamples)]
	}
}

// overtakes returns a request that is for r's hosts too, which o, that is for any host, takes; nil: there is none.
func (t *Table) overtakes(o, r *Rule, params *Params) *Overtaken {
	if o.rank>>32 != r.rank>>32 || Compare(o, r) > 0 {
		return nil
	}
	method, sameMethod := both(o.methods, r.methods, "GET")
	port, samePort := both(o.ports, r.ports, 0)
	if !sameMethod || !samePort || o.schemes != 0 && r.schemes != 0 && o.schemes != r.schemes {
		return nil
	}
	scheme := "http"
	if o.schemes|r.schemes == schemeBit("https") {
		scheme = "https"
	}
	host := strings.Replace(r.hosts[0].String(), "*", "any", 1)
	q := Request{Method: method, Host: host, Scheme: scheme, Port: port, Path: o.examplePath()}
	if !r.matchesPath(q.Path) || !r.matches(&q) || t.Match(&q, params) != o {
		return nil
	}
	return &Overtaken{Rule: r, By: o, Host: r.hosts[0].String(), Request: q}
}

// both returns a value that is in both lists, of which an empty one stands for all.
func both[T comparable](a, b []T, all T) (v T, ok bool) {
	switch {
	case len(a) == 0 && len(b) == 0:
		return all, true
	case len(a) == 0:
		return b[0], true
	case len(b) == 0:
		return a[0], true
	}
	i := slices.IndexFunc(a, func(v T) bool { return slices.Contains(b, v) })
	if i < 0 {
		return v, false
	}
	return a[i], true
}

// examplePath returns a path that r matches.
func (r *Rule) examplePath() string {
	if r.form == Exact {
		return r.path
	}
	var path strings.Builder
	for _, s := range r.segments {
		path.WriteByte('/')
		if s.param {
			path.WriteByte('x')
		} else {
			path.WriteString(s.literal)
		}
	}
	return path.String()
}

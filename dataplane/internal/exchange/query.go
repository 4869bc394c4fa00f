package exchange

import (
	"net/url"
	"slices"
	"strings"
)

// queryChange is what one call of ChangeQuery does.
type queryChange struct {
	gone  []string
	added string
}

// ChangeQuery changes the query that the service sees: the parameters of the names in gone, which are not encoded, are
// removed, and added, which is encoded, follows what is left. The parameters that stay keep their form and order. Both
// have to live as long as the exchange, and are not changed any more. It allocates only for names that are encoded.
func (x *Exchange) ChangeQuery(gone []string, added string) {
	if x.queries != nil {
		*x.queries = append(*x.queries, queryChange{gone, added})
	}
	start := len(x.Texts)
	keep := func(part string) {
		if len(x.Texts) > start {
			x.Texts = append(x.Texts, '&')
		}
		x.Texts = append(x.Texts, part...)
	}
	for part := range strings.SplitSeq(x.Request.RawQuery, "&") {
		name, _, _ := strings.Cut(part, "=")
		if strings.ContainsAny(name, "%+") {
			if plain, err := url.QueryUnescape(name); err == nil {
				name = plain
			}
		}
		if part != "" && !slices.Contains(gone, name) {
			keep(part)
		}
	}
	if added != "" {
		keep(added)
	}
	x.Request.RawQuery = x.Text(start)
	x.Request.HasQuery = x.Request.RawQuery != ""
}

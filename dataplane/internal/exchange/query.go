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
// have to live as long as the exchange, and are not changed any more.
func (x *Exchange) ChangeQuery(gone []string, added string) {
	if x.queries != nil {
		*x.queries = append(*x.queries, queryChange{gone, added})
	}
	var kept []string
	for part := range strings.SplitSeq(x.Request.RawQuery, "&") {
		name, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if part != "" && !slices.Contains(gone, name) {
			kept = append(kept, part)
		}
	}
	if added != "" {
		kept = append(kept, added)
	}
	x.Request.RawQuery = strings.Join(kept, "&")
	x.Request.HasQuery = x.Request.RawQuery != ""
}

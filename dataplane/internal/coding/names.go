package coding

import (
	"fmt"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/middleware"
)

// List returns the content codings of names, or, where there are none, all, in the order in which they are preferred.
func List(names []string) ([]exchange.Coding, error) {
	if len(names) == 0 {
		names = middleware.ContentCodings()
	}
	list := make([]exchange.Coding, 0, len(names))
	for _, name := range names {
		c, known := exchange.CodingOf(name)
		if !known || c == exchange.Identity {
			return nil, fmt.Errorf("algorithms: %q is no content coding that is known", name)
		}
		list = append(list, c)
	}
	return list, nil
}

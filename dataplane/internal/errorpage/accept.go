package errorpage

import (
	"strings"

	"gateway.internal/dataplane/internal/exchange"
)

// quality returns how much a client likes a media type, from 0, not at all, to exchange.MaxWeight (RFC 9110 section
// 12.5.1): what the most specific range says that has it. Parameters of a range other than q are not looked at.
func quality(h *exchange.Header, mediaType string) int {
	q, specific, said := 0, -1, false
	for value := range h.Values("Accept") {
		for item := range strings.SplitSeq(value, ",") {
			name, parameters, _ := strings.Cut(item, ";")
			name = strings.Trim(name, " \t")
			if name == "" {
				continue
			}
			said = true
			if s := specificity(name, mediaType); s > specific {
				q, specific = exchange.Weight(parameters), s
			}
		}
	}
	if !said {
		return exchange.MaxWeight
	}
	return q
}

// specificity returns how closely a range names a media type: 2 by its name, 1 by its type, 0 as any; -1: not at all.
func specificity(name, mediaType string) int {
	if name == "*/*" {
		return 0
	}
	if exchange.EqualFold(name, mediaType) {
		return 2
	}
	if kind, any := strings.CutSuffix(name, "/*"); any {
		if ofType, _, _ := strings.Cut(mediaType, "/"); exchange.EqualFold(kind, ofType) {
			return 1
		}
	}
	return -1
}

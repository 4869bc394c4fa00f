package errorpage

import (
	"strings"

	"gateway.internal/dataplane/internal/exchange"
)

// full is the quality of what a client likes most, in thousandths.
const full = 1000

// quality returns how much a client likes a media type, from 0, not at all, to full (RFC 9110 section 12.5.1): what the
// most specific range says that has it. Parameters of a range other than q are not looked at.
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
				q, specific = weight(parameters), s
			}
		}
	}
	if !said {
		return full
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

// weight returns q of a range's parameters in thousandths (RFC 9110 section 12.4.2); full where it is not said, 0 where
// it is no weight.
func weight(parameters string) int {
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.Trim(p, " \t"), "=")
		if !exchange.EqualFold(name, "q") {
			continue
		}
		return thousandths(value)
	}
	return full
}

func thousandths(s string) int {
	whole, fraction, _ := strings.Cut(s, ".")
	if len(fraction) > 3 || whole != "0" && whole != "1" {
		return 0
	}
	q := int(whole[0]-'0') * full
	for i, scale := 0, 100; i < len(fraction); i, scale = i+1, scale/10 {
		digit := fraction[i] - '0'
		if digit > 9 {
			return 0
		}
		q += int(digit) * scale
	}
	if q > full {
		return 0
	}
	return q
}

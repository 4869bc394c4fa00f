package exchange

import "strings"

// MaxWeight is the weight of what a client likes most.
const MaxWeight = 1000

// Weight returns the weight among the parameters of an item of a field such as Accept, in thousandths (RFC 9110
// section 12.4.2): MaxWeight where none is said, 0 where it is no weight.
func Weight(parameters string) int {
	for more := true; more; {
		var p string
		p, parameters, more = strings.Cut(parameters, ";")
		name, value, _ := strings.Cut(strings.Trim(p, " \t"), "=")
		if EqualFold(name, "q") {
			return thousandths(value)
		}
	}
	return MaxWeight
}

func thousandths(s string) int {
	whole, fraction, _ := strings.Cut(s, ".")
	if len(fraction) > 3 || whole != "0" && whole != "1" {
		return 0
	}
	q := int(whole[0]-'0') * MaxWeight
	for i, scale := 0, 100; i < len(fraction); i, scale = i+1, scale/10 {
		digit := fraction[i] - '0'
		if digit > 9 {
			return 0
		}
		q += int(digit) * scale
	}
	if q > MaxWeight {
		return 0
	}
	return q
}

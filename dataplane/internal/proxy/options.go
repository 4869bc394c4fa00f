package proxy

import (
	"strconv"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// options answers an OPTIONS that goes no further (RFC 9110 section 9.3.7).
func (t *transaction) options(allow string) bool {
	answerOptions(t.x, allow)
	return t.answer()
}

func answerOptions(x *exchange.Exchange, allow string) {
	x.Answer(200, "", nil)
	x.Response.Header.Add("Allow", allow)
}

// maxForwards is the largest Max-Forwards that is sent on. More than that nobody means.
const maxForwards = 255

// forwardsOn counts the Max-Forwards of an OPTIONS down, which is about how far it may go (RFC 9110 section 7.6.2).
// Where it reports false, the request is answered here, in the service's place. TRACE, the other method that the field
// is for, never gets this far.
func (t *transaction) forwardsOn() bool {
	x := t.x
	left, there := "", false
	for v := range x.Request.Header.Values("Max-Forwards") {
		if there || !isNumber(v) {
			x.Fail(fault.BadRequest, "Max-Forwards is not one decimal number")
			return false
		}
		left, there = v, true
	}
	if !there {
		return true
	}
	n, err := strconv.Atoi(left)
	if err != nil { // it is larger than an int
		n = maxForwards + 1
	}
	if n == 0 {
		answerOptions(x, t.route.Allow)
		return false
	}
	x.Request.Header.Set("Max-Forwards", strconv.Itoa(min(n-1, maxForwards)))
	return true
}

func isNumber(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

package proxy

import (
	"math/rand/v2"

	"gateway.internal/shared/fault"
)

// admit has the node serve the request, by its priority. Where it reports false, the exchange has been answered. What
// comes before, finding its route, costs less than telling the client.
func (t *transaction) admit() bool {
	c := t.p.overload
	if c == nil {
		return true
	}
	t.priority = t.backend.Priority // see admitConsumer
	if t.admitted = c.Admit(t.priority, t.x.Shard); t.admitted {
		return true
	}
	t.overloaded()
	return t.answer()
}

// admitConsumer is admit again, once the request phase has found out who the consumer is. Where it reports false, x has
// a response.
func (t *transaction) admitConsumer() bool {
	l := &t.backend.Limits
	own := l.Priority
	if l.ByGroup != nil && t.x.Principal != nil {
		own = l.ByGroup.Of(t.x.Principal.Groups, own)
	}
	if own == t.priority {
		return true
	}
	if t.admitted = t.p.overload.Stays(own, t.x.Shard); t.admitted {
		return true
	}
	t.overloaded()
	return false
}

// retryAfter are the seconds after which clients may ask again. They are left to chance, so that those who are turned
// away together do not come back together.
var retryAfter = [...]string{"1", "2", "3", "4", "5"}

func (t *transaction) overloaded() {
	t.x.Fail(fault.Overloaded, "this node has too much to do; ask again later")
	t.x.Response.Header.Add("Retry-After", retryAfter[rand.IntN(len(retryAfter))])
}

// leave makes room for another request.
func (t *transaction) leave() {
	if t.admitted {
		t.admitted = false
		t.p.overload.Leave(t.x.Shard)
	}
}

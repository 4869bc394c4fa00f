package proxy

import (
	"gateway.internal/dataplane/internal/attempt"
	"gateway.internal/dataplane/internal/exchange"
)

// serve takes the exchange from its head to its end.
func (t *transaction) serve() {
	if t.find() {
		t.deliver()
	}
}

// deliver takes the exchange from the backend that was found to its end.
func (t *transaction) deliver() {
	if t.prepare() == ready {
		t.send()
	}
}

// send asks the service, and answers the client.
func (t *transaction) send() {
	l := &t.backend.Limits
	if l.BufferBytes > 0 && t.x.RPC == exchange.NoRPC && t.x.Request.Upgrade == "" &&
		!t.attempt.Gather(l.BufferBytes, l.LargerStreams) {
		t.respondLocally()
		return
	}
	if t.attempt.Send() {
		t.respond()
	} else {
		t.respondLocally()
	}
}

// respond sends the service's response.
func (t *transaction) respond() {
	x, a, b := t.x, &t.attempt, t.backend
	if !a.Agreed() {
		t.respondLocally()
		return
	}
	t.done.Upstream = a.Took()
	t.route.Reverse(x)
	t.tellCookies()
	t.tellVary()
	t.rates.Tell(x)
	b.Chain.Response(x, &t.at)
	if x.Response.Local { // a step has answered in the service's place
		a.Answered = x.Now
		a.StopUpload()
		t.answer()
		a.Finish()
		return
	}
	if x.Response.Tunnel {
		a.Tell()
		t.leave() // it may be idle for hours
		t.p.tunnel(a, b.Limits.StreamIdleOr(), &t.done)
	} else {
		a.BeginStream(&b.Limits)
		t.done.ResponseBytes = a.Stream()
	}
	a.Finish()
}

// tellCookies gives the client the cookies by which it is to be known from now on. No shared cache may keep the
// response then, which would give one client's to all (RFC 9111 section 7.3).
func (t *transaction) tellCookies() {
	x, before := t.x, t.clientID != 0
	if before {
		t.route.Introduce(x, t.clientID)
	}
	if cookie := x.Affinity().SetCookie; cookie != "" {
		x.Response.Header.Add("Set-Cookie", cookie)
	} else if !before {
		return
	}
	for v := range x.Response.Header.Values("Cache-Control") {
		if exchange.ListHas(v, "private") || exchange.ListHas(v, "no-store") {
			return
		}
	}
	x.Response.Header.Add("Cache-Control", "private")
}

// tellVary tells caches which fields of the request the choice of the backend has looked at, also where it is the one
// that others get: they would give the response of one backend to all (RFC 9110 section 12.5.5).
func (t *transaction) tellVary() {
	x := t.x
	if len(t.route.Split.Vary) == 0 || x.RPC != exchange.NoRPC || x.Response.Tunnel {
		return
	}
	for _, name := range t.route.Split.Vary {
		x.Vary(name)
	}
}

// respondLocally sends the gateway's own response instead of the service's.
func (t *transaction) respondLocally() {
	t.rates.Tell(t.x)
	t.backend.Chain.Response(t.x, &t.at)
	t.done.ResponseBytes = attempt.WriteLocal(t.x, t.pages())
	t.attempt.Finish()
}

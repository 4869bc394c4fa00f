// Package identity is what all middleware that finds out who a request comes from has in common: which requests it lets
// alone, what it answers to those without credentials and to those with wrong ones, and how what several steps have
// found comes together. It knows no kind of credentials.
//
// Steps that must all be satisfied stand in one pipeline, each of them required. Where any of several will do, each of
// them is optional, and a last step refuses who is anonymous still: see [Refuse].
package identity

import (
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pathrule"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/shared/fault"
)

// Settings are those that all types have.
type Settings interface {
	GetOptional() bool
	GetExcludePaths() []string
}

// Guard decides for one step. It is immutable, and safe for concurrent use.
type Guard struct {
	optional  bool
	excluded  *pathrule.List
	challenge challenge
	asked     exchange.Fact // the challenge, for later steps
	strips    []string

	accepted, anonymous, refused, left *telemetry.Counter
}

// challenge is one of RFC 9110 section 11.3, as a field has it.
type challenge struct {
	text   string
	bearer bool
}

// New returns the guard of a step. scheme and params are the challenge that clients are told in WWW-Authenticate, such
// as "Bearer" and `realm="shop"`; empty: none. strips are the fields that the step sets of who the client is: what
// clients send in them never passes.
func New(s Settings, env *pipeline.Environment, scheme, params string, strips ...string) (*Guard, error) {
	excluded, err := pathrule.CompileList("exclude_paths", s.GetExcludePaths())
	if err != nil {
		return nil, err
	}
	g := &Guard{optional: s.GetOptional(), excluded: excluded, strips: strips}
	if g.challenge = (challenge{scheme, scheme == "Bearer"}); params != "" {
		g.challenge.text += " " + params
	}
	g.asked = exchange.FactKey[*challenge]("challenge of " + env.Name).Fact(&g.challenge)
	results := func(result string) *telemetry.Counter {
		return env.Metrics.Counter("requests_total",
			"Requests whose client was to be found out: accepted, anonymous where they went on without credentials, "+
				"refused, or excluded by their path.", "result", result)
	}
	g.accepted, g.anonymous, g.refused, g.left =
		results("accepted"), results("anonymous"), results("refused"), results("excluded")
	return g, nil
}

// Excluded reports whether the request is let alone by its path. Where it is, what clients may not say of themselves
// has been taken out.
func (g *Guard) Excluded(x *exchange.Exchange) bool {
	if !g.excluded.Has(x) {
		return false
	}
	g.left.Add(1)
	g.Strip(x)
	return true
}

// Absent is what becomes of a request without credentials of the step's kind: it goes on where they are optional, as
// whoever an earlier step has found, and is refused otherwise.
func (g *Guard) Absent(x *exchange.Exchange, code fault.Code, message string) exchange.Verdict {
	if g.optional {
		g.anonymous.Add(1)
		g.Strip(x)
		if g.challenge.text != "" {
			x.Put(g.asked)
		}
		return exchange.Continue
	}
	g.refused.Add(1)
	x.Fail(code, message)
	g.challenges(x, "")
	return exchange.Stop
}

// Wrong refuses a request whose credentials don't hold. The message is for the client: it has no part of them.
func (g *Guard) Wrong(x *exchange.Exchange, code fault.Code, message string) exchange.Verdict {
	g.refused.Add(1)
	x.Fail(code, message)
	g.challenges(x, message)
	return exchange.Stop
}

// Accept puts a principal on the exchange, together with whom an earlier step has found. Two steps that find different
// consumers refuse the request.
func (g *Guard) Accept(x *exchange.Exchange, p *exchange.Principal) exchange.Verdict {
	if x.Identify(p) == exchange.Stop {
		g.refused.Add(1)
		return exchange.Stop
	}
	g.accepted.Add(1)
	for _, name := range g.strips {
		x.Request.Header.Del(name)
	}
	return exchange.Continue
}

// Strip takes out of the request what clients say in the fields that only the step may say of them, also what services
// may take for these, and among the trailers: but not what an earlier step has set. Excluded and Absent have done so.
func (g *Guard) Strip(x *exchange.Exchange) {
	for _, name := range g.strips {
		x.Request.Header.DelUndecided(name)
	}
}

// challenges adds those of all steps so far, this one's last. wrong says what is wrong with credentials; empty: there
// were none.
func (g *Guard) challenges(x *exchange.Exchange, wrong string) {
	Challenge(x)
	own := g.challenge.text
	if own == "" {
		return
	}
	if wrong != "" && g.challenge.bearer {
		start := len(x.Texts)
		x.Texts = append(x.Texts, own...)
		if len(own) > len("Bearer") {
			x.Texts = append(x.Texts, ',')
		}
		x.Texts = append(x.Texts, ` error="invalid_token", error_description="`...)
		for _, c := range []byte(wrong) {
			if c < 0x20 || c > 0x7e || c == '"' || c == '\\' { // RFC 6750 section 3
				c = '?'
			}
			x.Texts = append(x.Texts, c)
		}
		x.Texts = append(x.Texts, '"')
		own = x.Text(start)
	}
	x.Response.Header.Add("WWW-Authenticate", own)
}

// Challenge adds to the response what optional steps before would have taken, each challenge in a field of its own.
func Challenge(x *exchange.Exchange) {
	exchange.Values(x, func(c *challenge) bool {
		x.Response.Header.Add("WWW-Authenticate", c.text)
		return true
	})
}

// Refuse answers a request that has to come from somebody known and does not, with the challenges of the optional steps
// before.
func Refuse(x *exchange.Exchange, message string) exchange.Verdict {
	x.Fail(fault.Unauthenticated, message)
	Challenge(x)
	return exchange.Stop
}

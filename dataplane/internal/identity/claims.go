package identity

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/jose"
	"gateway.internal/shared/middleware"
)

// Mapping says what of claims becomes the principal, and fields of the request. It is immutable.
type Mapping struct {
	claims, names           []string // of fields
	groups, scope, consumer string
}

// NewMapping returns a mapping. headers are names of fields by claims; groups and scope are the claims of these, empty:
// "groups" and "scope"; consumer is that of the consumer's name, empty: none.
func NewMapping(headers map[string]string, groups, scope, consumer string) *Mapping {
	m := &Mapping{groups: groups, scope: scope, consumer: consumer}
	for _, claim := range slices.Sorted(maps.Keys(headers)) {
		m.claims = append(m.claims, claim)
		m.names = append(m.names, headers[claim])
	}
	if m.groups == "" {
		m.groups = "groups"
	}
	if m.scope == "" {
		m.scope = "scope"
	}
	return m
}

// Fields returns the names of the fields that claims become.
func (m *Mapping) Fields() []string { return m.names }

// Client is whom claims name. It is immutable: all requests that show the same token share it.
type Client struct {
	// Principal is whom the exchange gets.
	Principal *exchange.Principal
	fields    []field
	bound     string // see boundTo
	known     atomic.Pointer[known]
}

// known is a client that is a consumer of the configuration: with its groups.
type known struct {
	consumer  *consumer.Consumer
	principal *exchange.Principal
}

type field struct{ name, value string }

// Client returns whom claims name, which are as jose.ParseObject has them and are the Client's from now on. scheme is
// how they have come.
func (m *Mapping) Client(claims map[string]any, scheme string) *Client {
	c := &Client{Principal: &exchange.Principal{
		Consumer: textOf(find(claims, m.consumer)), Groups: textsOf(find(claims, m.groups), false),
		Scopes: textsOf(find(claims, m.scope), true), Scheme: scheme,
	}}
	for i, claim := range m.claims {
		if value, ok := fieldOf(find(claims, claim)); ok {
			c.fields = append(c.fields, field{m.names[i], value})
		}
	}
	c.bound = boundTo(claims)
	jose.Floats(claims)
	c.Principal.Claims = claims
	return c
}

// principal returns whom an exchange gets, with the groups that the consumer has now; nil: the configuration has
// consumers, and none of that name. Where it has none at all, names of consumers are what claims say.
func (c *Client) principal(consumers func() *consumer.Set) *exchange.Principal {
	if c.Principal.Consumer == "" || consumers == nil {
		return c.Principal
	}
	all := consumers()
	one := all.ByName(c.Principal.Consumer)
	switch {
	case one == nil && all.Len() > 0:
		return nil
	case one == nil || len(one.Groups()) == 0:
		return c.Principal
	}
	if k := c.known.Load(); k != nil && k.consumer == one {
		return k.principal
	}
	both, _ := one.Principal(c.Principal.Scheme).With(c.Principal)
	c.known.Store(&known{one, both})
	return both
}

// Accept lets a request go on as the client, with the fields that its claims are. consumers has those of the
// configuration. A client that names a consumer which is not among them is refused: other credentials of a consumer
// that was removed count no more either.
func (c *Client) Accept(g *Guard, x *exchange.Exchange, consumers func() *consumer.Set) exchange.Verdict {
	p := c.principal(consumers)
	if p == nil {
		g.refused.Add(1)
		x.Fail(fault.Forbidden, "there is no consumer of the name that the credentials say")
		return exchange.Stop
	}
	if g.Accept(x, p) == exchange.Stop {
		return exchange.Stop
	}
	for i := range c.fields {
		x.Request.Header.Set(c.fields[i].name, c.fields[i].value)
	}
	return exchange.Continue
}

// find returns the value of a claim: the member of that name, or else that of an object within, by dots.
func find(claims map[string]any, name string) any {
	if v, ok := claims[name]; ok || name == "" {
		return v
	}
	for at := strings.IndexByte(name, '.'); at >= 0; {
		if inner, ok := claims[name[:at]].(map[string]any); ok {
			if v := find(inner, name[at+1:]); v != nil {
				return v
			}
		}
		next := strings.IndexByte(name[at+1:], '.')
		if next < 0 {
			break
		}
		at += 1 + next
	}
	return nil
}

// textOf returns a text; empty where it is none.
func textOf(v any) string {
	s, _ := v.(string)
	return s
}

// textsOf returns the texts of a list, or a text itself; blanks part it where parts is set.
func textsOf(v any, parts bool) []string {
	switch v := v.(type) {
	case string:
		if parts {
			return strings.Fields(v)
		}
		if v != "" {
			return []string{v}
		}
	case []any:
		var all []string
		for _, item := range v {
			if s, ok := item.(string); ok && s != "" {
				all = append(all, s)
			}
		}
		return all
	}
	return nil
}

// fieldOf returns a claim's value as a field has it: texts, numbers and truth values as they are, a list of such with
// "," between them, and an object, or another list, as JSON. ok is false where it can't be one: a text with control
// characters, or one of a list with a comma, which would be two.
func fieldOf(v any) (text string, ok bool) {
	switch v := v.(type) {
	case nil:
		return "", false
	case []any:
		texts := make([]string, 0, len(v))
		for _, item := range v {
			text, simple := scalar(item)
			if !simple {
				return asJSON(v)
			}
			if !middleware.ValidFieldValue(text) || strings.Contains(text, ",") || strings.TrimSpace(text) != text ||
				text == "" {
				return "", false
			}
			texts = append(texts, text)
		}
		return strings.Join(texts, ","), len(texts) > 0
	case map[string]any:
		return asJSON(v)
	}
	text, _ = scalar(v)
	return text, text != "" && middleware.ValidFieldValue(text) && strings.TrimSpace(text) == text
}

func scalar(v any) (text string, ok bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return v.String(), true
	}
	return "", false
}

// asJSON returns a value as JSON of ASCII alone.
func asJSON(v any) (string, bool) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", false
	}
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r < 0x7f:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			for _, half := range [...]rune{0xd800 + r>>10, 0xdc00 + r&0x3ff} {
				b.WriteString(`\u` + strconv.FormatInt(int64(half), 16))
			}
		default:
			s := strconv.FormatInt(int64(r), 16)
			b.WriteString(`\u` + strings.Repeat("0", 4-len(s)) + s)
		}
	}
	return b.String(), true
}

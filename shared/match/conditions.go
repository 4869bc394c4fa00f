package match

import (
	"fmt"
	"slices"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// Conditions say which requests go to a backend before any are shared out by weight; see [configv1.BackendMatch], whose
// share in percent they leave to the caller. They are immutable.
type Conditions struct {
	headers, cookies  []valueMatch
	consumers, groups []string
}

// ParseConditions compiles a backend's conditions, and reports everything that is wrong with them. field is where they
// stand, such as "backends[1].match". They are nil where there are none but the share in percent.
func ParseConditions(field string, m *configv1.BackendMatch) (*Conditions, []FieldError) {
	p := parser{}
	c := &Conditions{consumers: m.GetConsumers(), groups: m.GetGroups()}
	for i, h := range m.GetHeaders() {
		c.headers = append(c.headers, p.header(fmt.Sprintf("%s.headers[%d]", field, i), h))
	}
	for i, k := range m.GetCookies() {
		c.cookies = append(c.cookies, p.cookie(fmt.Sprintf("%s.cookies[%d]", field, i), k))
	}
	if len(c.headers)+len(c.cookies)+len(c.consumers)+len(c.groups) == 0 {
		return nil, p.errs
	}
	return c, p.errs
}

// ByConsumer reports whether the conditions look at the consumer.
func (c *Conditions) ByConsumer() bool { return len(c.consumers)+len(c.groups) > 0 }

// Fields returns the names of the header fields that the conditions look at.
func (c *Conditions) Fields() (names []string) {
	for i := range c.headers {
		names = append(names, c.headers[i].name)
	}
	if len(c.cookies) > 0 {
		names = append(names, "Cookie")
	}
	return names
}

// Hold reports whether one of the conditions is true of a request, and of its consumer, which is empty where it is not
// known, and that one's groups.
func (c *Conditions) Hold(q *Request, consumer string, groups []string) bool {
	for i := range c.headers {
		if c.headers[i].matchesHeader(q) {
			return true
		}
	}
	for i := range c.cookies {
		if c.cookies[i].matchesCookie(q) {
			return true
		}
	}
	if consumer != "" && slices.Contains(c.consumers, consumer) {
		return true
	}
	for _, g := range c.groups {
		if slices.Contains(groups, g) {
			return true
		}
	}
	return false
}

package config

import (
	"fmt"
	"math/bits"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/middleware"
	"gateway.internal/shared/suggest"
)

// The defaults of absent fields of retries.
const (
	DefaultRetryAttempts  = 2
	DefaultRetryBackoff   = 25 * time.Millisecond
	DefaultMaxRetryAfter  = time.Second
	DefaultBudgetPercent  = 20
	DefaultMinRetries     = 10
	DefaultRetryBodyBytes = 64 << 10
	DefaultHedgeAttempts  = 2
)

// The most that fields of retries may say.
const (
	maxRetryAttempts  = 10
	maxHedgeAttempts  = 5
	maxRetryStatuses  = 32
	maxRetryMethods   = 16
	maxRetryBodyBytes = 16 << 20
	maxMinRetries     = 10_000
)

// RetryConditions is a set of what may be retried, a bit for each.
type RetryConditions uint16

// The conditions.
const (
	RetryConnectFailure RetryConditions = 1 << iota
	RetryReset
	RetryRefusedStream
	RetryGatewayError
	Retry5xx
	RetryStatuses
	RetryPerTryTimeout
	RetryCancelled
	RetryDeadlineExceeded
	RetryInternal
	RetryResourceExhausted
	RetryUnavailable
)

// RetryGRPC has the conditions that are about a grpc-status.
const RetryGRPC = RetryCancelled | RetryDeadlineExceeded | RetryInternal | RetryResourceExhausted | RetryUnavailable

const defaultRetryOn = RetryConnectFailure | RetryReset | RetryRefusedStream | RetryGatewayError | RetryPerTryTimeout |
	RetryUnavailable

// retryNames are the conditions' names, in the order of their bits.
var retryNames = [...]string{
	"connect_failure", "reset", "refused_stream", "gateway_error", "5xx", "retriable_statuses", "per_try_timeout",
	"cancelled", "deadline_exceeded", "internal", "resource_exhausted", "unavailable",
}

// RetryReasons returns the names of all conditions, in the order of their bits.
func RetryReasons() []string { return slices.Clone(retryNames[:]) }

// Index returns the position of one condition among RetryReasons.
func (c RetryConditions) Index() int { return bits.TrailingZeros16(uint16(c)) }

// Has reports whether one of several conditions is in the set.
func (c RetryConditions) Has(any RetryConditions) bool { return c&any != 0 }

// Retries are what the policies say of further attempts of a request.
type Retries struct {
	// Attempts is how many there may be, the first one included; 1: only hedges.
	Attempts int
	// On is what is retried.
	On RetryConditions
	// PerTry is the longest time to a response's head; 0: any.
	PerTry time.Duration
	// BackoffBase and BackoffMax are the longest waits before the first retry and before any.
	BackoffBase, BackoffMax time.Duration
	// MaxRetryAfter is the longest Retry-After that is waited for; negative: it is not looked at.
	MaxRetryAfter time.Duration
	// BudgetPercent is the share of retries and hedges, MinPerSecond how many there may be in any case.
	BudgetPercent, MinPerSecond uint32
	// Methods are those that are retried; nil: the idempotent ones. AnyMethod stands for all.
	Methods   []string
	AnyMethod bool
	// KeptBytes is how much of a body is kept.
	KeptBytes int
	// HedgeAttempts is how many may be under way at once; 1: one.
	HedgeAttempts int
	// HedgeDelay is how long there is no response before the next one begins; 0: until HedgeQuantile is known.
	HedgeDelay time.Duration
	// HedgeQuantile is the share of responses that come within the delay; 0: HedgeDelay holds.
	HedgeQuantile float64

	statuses [4]uint64 // from 400 on
}

// Status reports whether a status is one of retriable_statuses.
func (r *Retries) Status(status int) bool {
	n := uint(status) - 400
	return n < 200 && r.statuses[n/64]&(1<<(n%64)) != 0
}

// Hedges reports whether there may be several attempts at once.
func (r *Retries) Hedges() bool { return r.HedgeAttempts > 1 }

// RetriesOf merges a route's policy over its service's, field by field. Either may be nil. nil: there is one attempt.
func RetriesOf(route, service *configv1.Policy) *Retries {
	retry, hedge := &configv1.RetryPolicy{}, &configv1.HedgePolicy{}
	retries, hedges := false, false
	for _, p := range []*configv1.Policy{service, route} {
		if m := p.GetRetry(); m != nil {
			retries = true
			if len(m.GetMethods()) > 0 || m.AnyMethod != nil { // these two are one thing
				retry.Methods, retry.AnyMethod = nil, nil
			}
			overlay(retry.ProtoReflect(), m.ProtoReflect())
		}
		if m := p.GetHedge(); m != nil {
			hedges = true
			overlay(hedge.ProtoReflect(), m.ProtoReflect())
		}
	}
	r := &Retries{Attempts: 1, HedgeAttempts: 1}
	if retries {
		r.Attempts = numberOr(retry.GetAttempts(), DefaultRetryAttempts)
	}
	if hedges && (hedge.GetDelay() != "" || hedge.GetQuantile() > 0) {
		r.HedgeAttempts = numberOr(hedge.GetAttempts(), DefaultHedgeAttempts)
		r.HedgeDelay, r.HedgeQuantile = durationOr(hedge.GetDelay(), 0), hedge.GetQuantile()
	}
	if r.Attempts < 2 && r.HedgeAttempts < 2 && retry.GetPerTryTimeout() == "" {
		return nil
	}
	r.set(retry)
	return r
}

// set takes over what a merged policy says.
func (r *Retries) set(m *configv1.RetryPolicy) {
	r.On = defaultRetryOn
	if len(m.GetRetriableStatuses()) > 0 {
		r.On |= RetryStatuses
	}
	if list := m.GetOn(); len(list) > 0 {
		r.On = 0
		for _, name := range list {
			if i := slices.Index(retryNames[:], name); i >= 0 {
				r.On |= 1 << i
			}
		}
	}
	for _, s := range m.GetRetriableStatuses() {
		if n := s - 400; n < 200 {
			r.statuses[n/64] |= 1 << (n % 64)
		}
	}
	r.PerTry = durationOr(m.GetPerTryTimeout(), 0)
	r.BackoffBase = durationOr(m.GetBackoff().GetBase(),
		min(DefaultRetryBackoff, durationOr(m.GetBackoff().GetMax(), DefaultRetryBackoff)))
	r.BackoffMax = max(durationOr(m.GetBackoff().GetMax(), 10*r.BackoffBase), r.BackoffBase)
	r.MaxRetryAfter = durationOr(m.GetMaxRetryAfter(), DefaultMaxRetryAfter)
	if m.RespectRetryAfter != nil && !m.GetRespectRetryAfter() {
		r.MaxRetryAfter = -1
	}
	r.BudgetPercent, r.MinPerSecond, r.KeptBytes = DefaultBudgetPercent, DefaultMinRetries, DefaultRetryBodyBytes
	if m.BudgetPercent != nil {
		r.BudgetPercent = m.GetBudgetPercent()
	}
	if m.MinRetriesPerSecond != nil {
		r.MinPerSecond = m.GetMinRetriesPerSecond()
	}
	if m.MaxBodyBytes != nil {
		r.KeptBytes = int(m.GetMaxBodyBytes())
	}
	r.Methods, r.AnyMethod = m.GetMethods(), m.GetAnyMethod()
}

// overlay sets the fields of a message that another one has.
func overlay(on, m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() != nil && !f.IsList() {
			overlay(on.Mutable(f).Message(), v.Message())
		} else {
			on.Set(f, v)
		}
		return true
	})
}

// fieldName is a token of up to 64 characters (RFC 9110 section 5.6.2).
var fieldName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$")

// notForDeadlines are fields that mean something else to those that a request passes, besides those of the gateway.
var notForDeadlines = []string{"content-type", "grpc-timeout", "cookie", "authorization"}

// retries checks what a policy says of retries, hedges and the time for them.
func (c *checker) retries(m *configv1.Policy) {
	if r := m.GetRetry(); r != nil {
		c.retry(r)
	}
	if h := m.GetHedge(); h != nil {
		c.hedge(h)
	}
	name := m.GetDeadlineHeader()
	switch lower := strings.ToLower(name); {
	case name == "":
	case !fieldName.MatchString(name):
		c.fail("deadline_header", name, `has to be the name of a field, such as "X-Request-Timeout"`)
	case slices.Contains(notForDeadlines, lower), strings.HasPrefix(lower, "x-forwarded-"),
		middleware.FramesMessages(lower), middleware.IsWritten(lower):
		c.fail("deadline_header", name, `means something else: take a name of its own, such as "X-Request-Timeout"`)
	}
	c.duration("response_header_timeout", m.GetResponseHeaderTimeout(), time.Millisecond, 24*time.Hour)
}

func (c *checker) retry(m *configv1.RetryPolicy) {
	c.number("retry.attempts", m.GetAttempts(), 0, maxRetryAttempts)
	for i, name := range m.GetOn() {
		field := fmt.Sprintf("retry.on[%d]", i)
		switch {
		case !slices.Contains(retryNames[:], name):
			c.fail(field, name, "is nothing that can be retried%s", suggest.Hint(name, slices.Values(retryNames[:])))
		case slices.Contains(m.GetOn()[:i], name):
			c.fail(field, name, "is there twice")
		}
	}
	if n := len(m.GetRetriableStatuses()); n > maxRetryStatuses {
		c.fail("retry.retriable_statuses", "", "has %d entries; %d are allowed", n, maxRetryStatuses)
	}
	for i, s := range m.GetRetriableStatuses() {
		c.number(fmt.Sprintf("retry.retriable_statuses[%d]", i), s, 400, 599)
	}
	named := slices.Contains(m.GetOn(), retryNames[RetryStatuses.Index()])
	if len(m.GetRetriableStatuses()) > 0 && len(m.GetOn()) > 0 && !named {
		c.fail("retry.retriable_statuses", "", `holds only where retry.on names "retriable_statuses"`)
	}
	c.duration("retry.per_try_timeout", m.GetPerTryTimeout(), time.Millisecond, time.Hour)
	base, hasBase := c.duration("retry.backoff.base", m.GetBackoff().GetBase(), 0, time.Minute)
	longest, hasMax := c.duration("retry.backoff.max", m.GetBackoff().GetMax(), 0, 5*time.Minute)
	if hasBase && hasMax && longest < base {
		c.fail("retry.backoff.max", m.GetBackoff().GetMax(), "is below base %s", m.GetBackoff().GetBase())
	}
	c.duration("retry.max_retry_after", m.GetMaxRetryAfter(), 0, 5*time.Minute)
	c.number("retry.budget_percent", m.GetBudgetPercent(), 0, 100)
	c.number("retry.min_retries_per_second", m.GetMinRetriesPerSecond(), 0, maxMinRetries)
	c.number("retry.max_body_bytes", m.GetMaxBodyBytes(), 0, maxRetryBodyBytes)
	c.retryMethods(m)
}

func (c *checker) retryMethods(m *configv1.RetryPolicy) {
	list := m.GetMethods()
	if n := len(list); n > maxRetryMethods {
		c.fail("retry.methods", "", "has %d entries; %d are allowed", n, maxRetryMethods)
	}
	if len(list) > 0 && m.GetAnyMethod() {
		c.fail("retry.methods", "", "can't be together with any_method, which stands for all")
	}
	for i, method := range list {
		field := fmt.Sprintf("retry.methods[%d]", i)
		switch {
		case !fieldName.MatchString(method) || len(method) > 32:
			c.fail(field, method, `has to be a method such as "GET", or leave it to any_method`)
		case method == "CONNECT":
			c.fail(field, method, "opens a tunnel, which can't be opened again")
		case method != strings.ToUpper(method):
			c.fail(field, method, "has to be %q: methods are told apart by case", strings.ToUpper(method))
		case slices.Contains(list[:i], method):
			c.fail(field, method, "is there twice")
		}
	}
}

func (c *checker) hedge(m *configv1.HedgePolicy) {
	c.duration("hedge.delay", m.GetDelay(), time.Millisecond, time.Minute)
	if m.Quantile != nil && !(m.GetQuantile() >= 0.5 && m.GetQuantile() <= 0.999) {
		c.fail("hedge.quantile", strconv.FormatFloat(m.GetQuantile(), 'g', -1, 64), "has to be from 0.5 to 0.999")
	}
	c.number("hedge.attempts", m.GetAttempts(), 0, maxHedgeAttempts)
	if m.GetDelay() == "" && m.Quantile == nil && m.GetAttempts() == 0 {
		c.fail("hedge", "", `says nothing: give a delay such as "100ms", or a quantile such as 0.95`)
	}
}

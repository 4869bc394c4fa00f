package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gateway.internal/controlplane/internal/catalog"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/ratelimit"
)

// limits serves what is left of rate limits.
type limits struct {
	adminv1.UnimplementedLimitServiceServer
	*Server
}

// answerWait is how long nodes are waited for, and maxKeyBytes how long the parts of a key may be together.
const (
	answerWait  = 2 * time.Second
	maxKeyBytes = 8 << 10
)

// ListLimits returns the limits of policies and middleware.
func (s limits) ListLimits(_ context.Context, r *adminv1.ListLimitsRequest) (*adminv1.ListLimitsResponse, error) {
	v, err := s.version()
	if err != nil {
		return nil, err
	}
	part, meta, err := cut(configuredLimits(v), r, v.Revision)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListLimitsResponse{Limits: part, Meta: meta}, nil
}

// configuredLimits returns all limits of a configuration.
func configuredLimits(v *catalog.Version) (list []*adminv1.ConfiguredLimit) {
	for _, e := range v.Config.Sorted(config.Policy) {
		if p, ok := e.Message.(*configv1.Policy); ok {
			for _, m := range p.GetRateLimits() {
				list = append(list, configuredLimit(m, &adminv1.ConfiguredLimit{Policy: e.Name(), Limit: m.GetName()}))
			}
		}
	}
	for _, e := range v.Config.Sorted(config.Middleware) {
		if m, ok := e.Settings.(*configv1.RateLimit); ok {
			c := &adminv1.ConfiguredLimit{Middleware: e.Name(), Limit: cmp.Or(m.GetName(), e.Name())}
			list = append(list, configuredLimit(m, c))
		}
	}
	return list
}

func configuredLimit(m *configv1.RateLimit, c *adminv1.ConfiguredLimit) *adminv1.ConfiguredLimit {
	set := ratelimit.Of(m)
	c.Algorithm, c.Requests, c.Store = set.Algorithm.String(), m.GetLimit(), cmp.Or(m.GetStore(), "local")
	c.Window = m.GetWindow()
	if c.Window == "" && set.Window > 0 {
		c.Window = set.Window.String()
	}
	for _, p := range set.Key {
		c.Key = append(c.Key, p.Text)
	}
	return c
}

// asked is what requests about a limit have in common.
type asked interface {
	GetLimit() string
	GetPolicy() string
	GetMiddleware() string
	GetKey() []string
}

// limitOf returns the limit that a request names.
func (s limits) limitOf(v *catalog.Version, r asked) (*adminv1.ConfiguredLimit, error) {
	all := configuredLimits(v)
	var found []*adminv1.ConfiguredLimit
	for _, c := range all {
		if c.GetLimit() == r.GetLimit() && (r.GetPolicy() == "" || r.GetPolicy() == c.GetPolicy()) &&
			(r.GetMiddleware() == "" || r.GetMiddleware() == c.GetMiddleware()) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 1:
	case 0:
		return nil, failure(fault.NotFound, fmt.Sprintf("there is no limit %q; %s", r.GetLimit(), namesOfLimits(all)))
	default:
		return nil, invalid("limit", r.GetLimit(), "is the name of several: give policy or middleware; "+namesOfLimits(found))
	}
	c := found[0]
	if len(c.GetKey()) != len(r.GetKey()) {
		return nil, invalid("key", strings.Join(r.GetKey(), " "), fmt.Sprintf(
			"has %d parts; the limit counts %s apart", len(r.GetKey()), cmp.Or(strings.Join(c.GetKey(), ", "), "nothing")))
	}
	if n := len(strings.Join(r.GetKey(), "")); n > maxKeyBytes {
		return nil, invalid("key", "", fmt.Sprintf("has %d bytes; %d are allowed", n, maxKeyBytes))
	}
	return c, nil
}

func namesOfLimits(list []*adminv1.ConfiguredLimit) string {
	if len(list) == 0 {
		return "no policy and no middleware has one"
	}
	var names []string
	for _, c := range list[:min(len(list), maxNamed)] {
		if c.GetPolicy() != "" {
			names = append(names, c.GetLimit()+" of policy "+c.GetPolicy())
		} else {
			names = append(names, c.GetLimit()+" of middleware "+c.GetMiddleware())
		}
	}
	there := "there are " + strings.Join(names, ", ")
	if more := len(list) - maxNamed; more > 0 {
		there += fmt.Sprintf(" and %d more", more)
	}
	return there
}

// ask has the nodes say what is left.
func (s limits) ask(
	ctx context.Context, c *adminv1.ConfiguredLimit, key []string, reset bool,
) ([]*adminv1.NodeLimit, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	answers, ok := s.fleet.AskLimit(ctx, &streamv1.LimitDirective{
		Policy: c.GetPolicy(), Middleware: c.GetMiddleware(), Limit: c.GetLimit(), Key: key, Reset_: reset,
	})
	if !ok {
		return nil, failure(fault.InvalidArgument, "as many questions about limits as may be are under way: ask again later")
	}
	var list []*adminv1.NodeLimit
	for id, a := range answers {
		list = append(list, &adminv1.NodeLimit{
			NodeId: id, Left: a.GetLeft(), ResetMs: (a.GetResetMicros() + 999) / 1000, Error: a.GetError(),
		})
	}
	slices.SortFunc(list, func(a, b *adminv1.NodeLimit) int { return cmp.Compare(a.GetNodeId(), b.GetNodeId()) })
	return list, nil
}

// GetLimit returns what is left for a key.
func (s limits) GetLimit(ctx context.Context, r *adminv1.GetLimitRequest) (*adminv1.GetLimitResponse, error) {
	v, err := s.version()
	if err != nil {
		return nil, err
	}
	c, err := s.limitOf(v, r)
	if err != nil {
		return nil, err
	}
	nodes, err := s.ask(ctx, c, r.GetKey(), false)
	if err != nil {
		return nil, err
	}
	return &adminv1.GetLimitResponse{Limit: c, Nodes: nodes, Meta: &adminv1.ReplyMeta{Revision: v.Revision}}, nil
}

// ResetLimit has what was counted for a key forgotten.
func (s limits) ResetLimit(ctx context.Context, r *adminv1.ResetLimitRequest) (*adminv1.ResetLimitResponse, error) {
	v, err := s.version()
	if err != nil {
		return nil, err
	}
	c, err := s.limitOf(v, r)
	if err != nil {
		return nil, err
	}
	of := v.Config.ByName(config.Middleware, c.GetMiddleware())
	if c.GetPolicy() != "" {
		of = v.Config.ByName(config.Policy, c.GetPolicy())
	}
	if err := checkScope(ctx, of.Message); err != nil {
		return nil, err
	}
	nodes, err := s.ask(ctx, c, r.GetKey(), true)
	if err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "a rate limit was reset", "author", author(ctx), "message", message(ctx),
		"policy", c.GetPolicy(), "middleware", c.GetMiddleware(), "limit", c.GetLimit(), "nodes", len(nodes))
	return &adminv1.ResetLimitResponse{Limit: c, Nodes: nodes, Meta: &adminv1.ReplyMeta{Revision: v.Revision}}, nil
}

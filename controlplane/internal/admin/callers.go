package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"

	"gateway.internal/controlplane/internal/access"
	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/store"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// caller is where a call comes from, and who makes it.
type caller struct {
	identity *access.Identity
	// address is the client's, without its port.
	address string
	// requestID is the call's name in logs and the audit trail.
	requestID string
	// browser is what the call has to do with sessions; nil over gRPC.
	browser *browser
}

type callerKey struct{}

// callerOf returns who makes the call of a context; the zero value for none.
func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

func withCaller(ctx context.Context, c caller) context.Context {
	return access.With(context.WithValue(ctx, callerKey{}, c), c.identity)
}

func requestID(ctx context.Context) string { return callerOf(ctx).requestID }

var saneID = regexp.MustCompile(`^[A-Za-z0-9._:/+=-]{1,128}$`)

// idOf returns the name of a request: its own, where that is usable.
func idOf(given string) string {
	if saneID.MatchString(given) {
		return given
	}
	return strings.ToLower(rand.Text())
}

// hostOf is an address without its port.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// restCall is the metadata that leads a call which REST makes of the gRPC server to what REST knows of its caller. It
// is a random text that is valid for one call, over the connection in memory alone.
const restCall = "gateway-rest-call"

type restCallKey struct{}

// passCaller makes metadata of the call of REST that is under way.
func passCaller(ctx context.Context, _ *http.Request) metadata.MD {
	handle, _ := ctx.Value(restCallKey{}).(string)
	return metadata.Pairs(restCall, handle)
}

// tap lets in who may make a call, before anything of a message is read. Asking for the health is open to all, but not
// watching it: streams that never end are for those who are known.
func (s *Server) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	if info.FullMethodName == healthv1.Health_Check_FullMethodName {
		return ctx, nil
	}
	c, err := s.callerOf(ctx, info)
	if err != nil {
		return nil, err
	}
	if err := s.permit(c.identity, info.FullMethodName); err != nil {
		s.refused(ctx, c, info.FullMethodName, err)
		return nil, err
	}
	return withCaller(ctx, c), nil
}

// callerOf returns who makes a call over gRPC, which may be REST on behalf of whom it has let in.
func (s *Server) callerOf(ctx context.Context, info *tap.Info) (caller, error) {
	c := caller{requestID: idOf(strings.Join(info.Header.Get("x-request-id"), ""))}
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		if p.Addr.Network() == "bufconn" {
			for _, handle := range info.Header.Get(restCall) {
				if known, ok := s.restCalls.Load(handle); ok {
					return known.(caller), nil
				}
			}
		}
		c.address = s.proxies.client(hostOf(p.Addr.String()), info.Header.Get("x-forwarded-for"))
	}
	var err error
	c.identity, err = s.authenticate(ctx, c, info.FullMethodName, info.Header.Get("authorization"))
	return c, err
}

// authenticate returns whom the Authorization field of a call lets in.
func (s *Server) authenticate(ctx context.Context, c caller, call string, fields []string) (*access.Identity, error) {
	token := ""
	if len(fields) == 1 { // RFC 9110 section 11.6.2
		if scheme, rest, _ := strings.Cut(fields[0], " "); strings.EqualFold(scheme, "Bearer") {
			token = strings.Trim(rest, " ")
		}
	}
	// What nobody can guess is always looked at: who is at the same address as somebody who guesses is not locked out.
	wait := s.throttle.Wait(c.address)
	id, err := (*access.Identity)(nil), access.ErrNobody
	if wait == 0 || !access.IsGuessable(token) {
		id, err = s.tokens.Lookup(ctx, token)
	}
	switch {
	case err == nil:
		return id, nil
	case !errors.Is(err, access.ErrNobody):
		return nil, translate(ctx, s.log, err)
	}
	err = failure(fault.Unauthenticated,
		`the token is missing or wrong, or has ended: send "authorization: Bearer TOKEN"`)
	switch {
	case wait > 0:
		seconds := uint32(wait/time.Second) + 1
		err = withDetail(fault.RateLimited, &adminv1.ErrorDetail{
			Code: string(fault.RateLimited), RetryAfterSeconds: seconds,
			Message: fmt.Sprintf("there were too many wrong tokens from %s: wait for %d seconds", c.address, seconds),
		})
	case token != "" || len(fields) > 0:
		s.throttle.Failed(c.address)
	}
	s.refusals.Inc()
	s.refused(ctx, c, call, err)
	return nil, err
}

// refused tells the log and the audit trail that a call was refused.
func (s *Server) refused(ctx context.Context, c caller, call string, err error) {
	d, ok := errorOf(err)
	if !ok {
		d = detailOf(err)
	}
	name := ""
	if c.identity != nil {
		name = c.identity.Name
	}
	s.log.WarnContext(ctx, "admin call refused", "call", call, "actor", name, "address", c.address,
		"request_id", c.requestID, "code", d.GetCode(), "reason", d.GetMessage())
	s.audit.refused(c, call, fault.Code(d.GetCode()), d.GetMessage())
}

// commit commits what a call asks for, within the scope of who makes it.
func (s *Server) commit(ctx context.Context, req catalog.CommitRequest) (*catalog.Committed, error) {
	id := access.Of(ctx)
	if id == nil {
		return nil, failure(fault.Unauthenticated, "nobody is known to make this change")
	}
	edits := req.Edits
	req.Edits = func(v *catalog.Version) ([]config.Edit, error) {
		list, err := edits(v)
		if err != nil {
			return nil, err
		}
		return list, checkSecrets(ctx, v, list)
	}
	req.Check = func(plan *config.Plan) error { return id.Check(plan.Changes) }
	noteOf(ctx).done = true // with the commit, where there is one
	req.Audit = func(before *config.Config, plan *config.Plan) *store.AuditEntry {
		return changesEntry(ctx, req.Message, before, plan)
	}
	return s.catalog.Commit(ctx, req)
}

// checkScope refuses what is done to a resource, and is no change of the configuration, outside of the caller's scope.
func checkScope(ctx context.Context, m config.Message) error {
	id := access.Of(ctx)
	if id == nil {
		return failure(fault.Unauthenticated, "nobody is known to do this")
	}
	k := config.KindOfMessage(m)
	if why := id.Scope.Holds(k, m.GetLabels()); why != "" {
		return &access.Outside{Kind: k, Name: m.GetName(), Why: why, Who: id.Name}
	}
	noteOf(ctx).about(k.String(), m.GetName())
	return nil
}

// outside makes a status of a change outside of its author's scope.
func outside(e *access.Outside) error {
	text := e.Error()
	return failure(fault.Forbidden, fmt.Sprintf("%s; nothing was changed", text),
		problemsOf(config.Problems{{Kind: e.Kind, Name: e.Name, Message: e.Why}})...)
}

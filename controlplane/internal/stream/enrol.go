package stream

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"gateway.internal/controlplane/internal/authority"
	"gateway.internal/controlplane/internal/store"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/identity"
	"gateway.internal/shared/nodeid"
)

// maxEnrolments is how many nodes are enrolled at a time; others wait.
const maxEnrolments = 16

// enrolment gives nodes their certificates.
type enrolment struct {
	streamv1.UnimplementedEnrolmentServiceServer
	*Server
}

// Enrol implements streamv1.EnrolmentServiceServer.
func (e enrolment) Enrol(ctx context.Context, r *streamv1.EnrolRequest) (*streamv1.EnrolResponse, error) {
	select {
	case e.enrolling <- struct{}{}:
		defer func() { <-e.enrolling }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	admission, proof, err := e.admission(ctx, r)
	if err != nil {
		return nil, e.refuse(ctx, r.GetNodeId(), err)
	}
	to, err := e.gate.Admit(ctx, admission, enrolled(ctx, admission))
	if err != nil {
		return nil, e.refuse(ctx, r.GetNodeId(), err)
	}
	name := identity.Name{ID: admission.NodeID, Group: to.Group}
	issued, err := e.gate.Issue(ctx, name, to.Generation, r.GetCertificateRequest())
	if err != nil {
		return nil, e.refuse(ctx, r.GetNodeId(), err)
	}
	e.log.Info("node enrolled", "node", name.ID, "group", name.Group, "address", addressOf(ctx),
		"token", admission.TokenID, "serial", issued.Serial, "expires", issued.NotAfter)
	return &streamv1.EnrolResponse{Credentials: credentialsOf(issued), Proof: proof}, nil
}

// enrolled is the audit trail's entry of a node that is let in. The token that it has shown is named by its id; the
// static one has none.
func enrolled(ctx context.Context, a store.Admission) store.AuditEntry {
	address := addressOf(ctx)
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	e := store.AuditEntry{
		At: time.Now().UTC().Truncate(time.Microsecond), Actor: a.NodeID, Method: "join_token", Address: address,
		Call: "EnrolmentService/Enrol", Outcome: store.AuditDone, Count: 1,
		Resources: []store.AuditResource{{Kind: "node", Name: a.NodeID}},
	}
	if a.TokenID != "" {
		e.Resources = append(e.Resources, store.AuditResource{Kind: "join_token", Name: a.TokenID})
	}
	return e
}

// admission checks what a node shows, and returns what the store is asked for, and the proof that the node is owed.
func (e enrolment) admission(ctx context.Context, r *streamv1.EnrolRequest) (store.Admission, []byte, error) {
	a := store.Admission{NodeID: r.GetNodeId(), Group: r.GetGroup()}
	if err := nodeid.Check(a.NodeID); err != nil {
		return a, nil, status.Error(codes.InvalidArgument, "node_id "+err.Error())
	}
	if err := identity.CheckGroup(a.Group); err != nil {
		return a, nil, status.Error(codes.InvalidArgument, err.Error())
	}
	key, err := authority.KeyOf(r.GetCertificateRequest())
	if err != nil {
		return a, nil, status.Error(codes.InvalidArgument, err.Error())
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return a, nil, status.Error(codes.InvalidArgument, err.Error())
	}
	a.Key = sha256.Sum256(der)
	proof, err := e.gate.Prove(ctx, r.GetProof())
	if t := r.GetMade(); t != nil {
		a.TokenID, a.Hash = t.GetId(), sha256.Sum256(t.GetSecret())
		if a.TokenID == "" {
			return a, nil, status.Error(codes.InvalidArgument, "made needs an id")
		}
		proof, err = nil, e.gate.MayEnrol(ctx)
	}
	return a, proof, err
}

// Renew implements streamv1.EnrolmentServiceServer.
func (e enrolment) Renew(ctx context.Context, r *streamv1.RenewRequest) (*streamv1.RenewResponse, error) {
	p, err := e.gate.Authenticate(ctx)
	if err != nil {
		return nil, e.refuse(ctx, "", err)
	}
	if !p.Certified || p.Generation == 0 {
		return nil, status.Error(codes.FailedPrecondition, "there is nothing to renew here: the node's certificate is "+
			"not of this authority")
	}
	if _, err := authority.KeyOf(r.GetCertificateRequest()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	issued, err := e.gate.Issue(ctx, p.Name, p.Generation, r.GetCertificateRequest())
	if err != nil {
		return nil, e.refuse(ctx, p.ID, err)
	}
	p.Extend(issued.NotAfter)
	e.log.Info("node's certificate "+
		"renewed", "node", p.ID, "address", addressOf(ctx), "serial", issued.Serial, "expires", issued.NotAfter)
	return &streamv1.RenewResponse{Credentials: credentialsOf(issued)}, nil
}

func credentialsOf(i *authority.Issued) *streamv1.Credentials {
	return &streamv1.Credentials{Chain: i.Chain, Authorities: i.Authorities}
}

func addressOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

// refuse logs and counts why a node is not let in, and returns it as a status.
func (s *Server) refuse(ctx context.Context, node string, err error) error {
	refusal, refused := errors.AsType[*authority.Refusal](err)
	if t, is := errors.AsType[*store.JoinTokenError](err); is {
		refusal, refused = &authority.Refusal{Reason: authority.ReasonToken, Message: t.Error()}, true
	}
	if r, is := errors.AsType[*store.RevokedError](err); is {
		refusal, refused = &authority.Refusal{Reason: authority.ReasonRevoked, Message: r.Error(), Node: r.NodeID,
			Final: true}, true
	}
	switch {
	case refused:
		if refusal.Node != "" {
			node = refusal.Node
		}
		s.gate.Count(refusal.Reason)
		s.log.Warn("node refused", "node", node, "address", addressOf(ctx), "reason", refusal.Message)
		code := codes.Unauthenticated
		if refusal.Reason == authority.ReasonIdentity || refusal.Reason == authority.ReasonRevoked && refusal.Final {
			code = codes.PermissionDenied
		}
		return status.Error(code, refusal.Message)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, authority.ErrNotReady):
		return status.Error(codes.Unavailable, err.Error())
	}
	if _, is := status.FromError(err); is {
		return err
	}
	s.log.Error("a node can't be let in", "node", node, "address", addressOf(ctx), "error", err.Error())
	return status.Error(codes.Internal, "the control plane failed; its log says more")
}

package authority

import (
	"context"
	"crypto/hmac"

	"google.golang.org/grpc/peer"

	"gateway.internal/controlplane/internal/store"
)

// MayEnrol returns why nobody is enrolled over a connection, or nil.
func (a *Authority) MayEnrol(ctx context.Context) error {
	info, ok := peer.FromContext(ctx)
	if !ok {
		return &Refusal{Reason: ReasonPlaintext, Message: "there is no connection"}
	}
	if _, ok := info.AuthInfo.(secured); !ok {
		return &Refusal{Reason: ReasonPlaintext, Message: "nodes are enrolled over TLS only"}
	}
	if a.TakesOutside() {
		return &Refusal{Reason: ReasonToken, Message: "nodes are not enrolled here: the control plane takes " +
			"certificates of an outside " +
			"authority only (--stream-client-ca), which a node has as --tls-cert"}
	}
	return nil
}

// Prove looks at a proof of the static token, and returns the proof that the control plane has it too.
func (a *Authority) Prove(ctx context.Context, proof []byte) ([]byte, error) {
	if err := a.MayEnrol(ctx); err != nil {
		return nil, err
	}
	if a.set.StaticToken == "" {
		return nil, &Refusal{Reason: ReasonToken, Message: "only join tokens of gatewayctl join-token create are good here"}
	}
	key, err := a.proofKey()
	if err != nil {
		return nil, err
	}
	info, _ := peer.FromContext(ctx)
	state := info.AuthInfo.(secured).State
	node, control, err := key.Proofs(&state)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(node, proof) {
		return nil, &Refusal{Reason: ReasonToken, Message: "the join token is missing or wrong: GATEWAY_JOIN_TOKEN has " +
			"to be the " +
			"control plane's, or one of gatewayctl join-token create; and nothing may end TLS between node and control plane"}
	}
	return control, nil
}

// Admit asks the store whether a node is let in by a token. The audit trail has an entry where it is.
func (a *Authority) Admit(
	ctx context.Context, admission store.Admission, audit store.AuditEntry,
) (store.Admitted, error) {
	return a.store.Admit(ctx, admission, audit)
}

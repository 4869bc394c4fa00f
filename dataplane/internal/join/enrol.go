package join

import (
	"context"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/backoff"
	"gateway.internal/shared/identity"
)

// enrol gets the node its first certificate, and keeps it. The key is kept before it is used: when the answer is lost,
// the next attempt is the same to the control plane, and uses a token up once.
func (k *Keeper) enrol(ctx context.Context, address string) (*held, error) {
	ctx, cancel := context.WithTimeout(ctx, enrolTimeout)
	defer cancel()
	key, err := pendingKey(k.set.Dir)
	if err != nil {
		return nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	conn, err := k.meet(ctx, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // nothing is left to send
	ask := &streamv1.EnrolRequest{CertificateRequest: request, NodeId: k.set.NodeID, Group: k.set.Group}
	var expected []byte
	if t := k.set.Token; t.Static == "" {
		ask.Token = &streamv1.EnrolRequest_Made{Made: &streamv1.JoinToken{Id: t.ID, Secret: t.Secret[:]}}
	} else {
		proofKey, err := k.proofKey()
		if err != nil {
			return nil, err
		}
		state := conn.ConnectionState()
		proof, control, err := proofKey.Proofs(&state)
		if err != nil {
			return nil, err
		}
		ask.Token, expected = &streamv1.EnrolRequest_Proof{Proof: proof}, control
	}
	reply, err := call(ctx, conn, ask)
	if err != nil {
		return nil, err
	}
	if expected != nil && !hmac.Equal(expected, reply.GetProof()) {
		return nil, status.Error(codes.Unauthenticated, "the control plane does not prove that it has the join token: "+
			"it is "+
			"another one, or something between takes part in the connection")
	}
	has, err := k.keep(key, reply.GetCredentials())
	if err != nil {
		return nil, err
	}
	forgetPending(k.set.Dir)
	k.log.Info("the node is "+
		"enrolled", "node", k.set.NodeID, "address", address, "expires", has.leaf.NotAfter.Format(time.RFC3339))
	return has, nil
}

// meet connects to a control plane that the node has no certificate for yet. Whom it speaks to is known by the
// authorities that it was given, or by the pin of its token, or else only by the proof that the control plane answers.
func (k *Keeper) meet(ctx context.Context, address string) (*tls.Conn, error) {
	verify := func([]*x509.Certificate) error { return nil }
	if given := k.authorities(); given != nil {
		verify = k.trust(address, &held{})
	} else if t := k.set.Token; t.Static == "" {
		verify = func(shown []*x509.Certificate) error {
			_, err := identity.VerifyPinned(shown, t.Pin, time.Now())
			return err
		}
	}
	var refused error
	config := identity.Client(func(shown []*x509.Certificate) error {
		refused = verify(shown)
		return refused
	}, nil)
	dialer := &net.Dialer{Timeout: connectTimeout}
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		if refused != nil {
			return nil, status.Error(codes.Unauthenticated, refused.Error())
		}
		return nil, status.Error(codes.Unavailable, "TLS: "+err.Error())
	}
	return conn, nil
}

// call enrols over a connection that is open.
func call(ctx context.Context, conn *tls.Conn, ask *streamv1.EnrolRequest) (*streamv1.EnrolResponse, error) {
	var used atomic.Bool
	client, err := grpc.NewClient("passthrough:///enrol", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if used.Swap(true) {
				return nil, errors.New("the connection has ended")
			}
			return conn, nil
		}))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return streamv1.NewEnrolmentServiceClient(client).Enrol(ctx, ask)
}

// keep checks what the control plane has given, and writes it to the data folder.
func (k *Keeper) keep(key *ecdsa.PrivateKey, given *streamv1.Credentials) (*held, error) {
	has, err := assemble(key, given.GetChain(), given.GetAuthorities())
	if err != nil {
		return nil, err
	}
	if name, err := identity.NameIn(has.leaf); err != nil || name.ID != k.set.NodeID {
		return nil, errNotOurs
	}
	return has, save(k.set.Dir, has, given.GetAuthorities())
}

// renew asks for the next certificate when two thirds of the life of the one that is held are over, again and again
// until ctx ends. The connection stays as it is; the next one shows what was given.
func (k *Keeper) renew(ctx context.Context, conn *grpc.ClientConn, has *held) {
	for failed := false; ; {
		if !backoff.Sleep(ctx, time.Until(renewAt(has.leaf)), nil) {
			return
		}
		retry := backoff.Exponential{Least: time.Second, Most: max(time.Second, life(has.leaf)/30)}
		for {
			next, err := k.renewOnce(ctx, conn)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				k.log.Info("the node's certificate is "+
					"renewed", "node", k.set.NodeID, "expires", next.leaf.NotAfter.Format(time.RFC3339))
				has, failed = next, false
				break
			}
			if !failed {
				k.log.Warn("the node's certificate is not renewed; it is tried again", "node", k.set.NodeID,
					"expires", has.leaf.NotAfter.Format(time.RFC3339), "error", err.Error())
			}
			failed = true
			if !retry.Wait(ctx, nil) {
				return
			}
		}
	}
}

func (k *Keeper) renewOnce(ctx context.Context, conn *grpc.ClientConn) (*held, error) {
	ctx, cancel := context.WithTimeout(ctx, enrolTimeout)
	defer cancel()
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	reply, err := streamv1.NewEnrolmentServiceClient(conn).Renew(ctx, &streamv1.RenewRequest{CertificateRequest: request})
	if err != nil {
		return nil, err
	}
	return k.keep(key, reply.GetCredentials())
}

func life(c *x509.Certificate) time.Duration { return c.NotAfter.Sub(c.NotBefore) }

// renewAt is a little before two thirds of a certificate's life are over, by the certificate's number, so that nodes
// which were enrolled at once do not all come at once.
func renewAt(c *x509.Certificate) time.Time {
	spread := new(big.Int).Mod(c.SerialNumber, big.NewInt(1000)).Int64()
	early := life(c) / 20 * time.Duration(spread) / 1000
	return c.NotBefore.Add(life(c)*2/3 - early)
}

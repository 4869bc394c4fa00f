package stream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"gateway.internal/controlplane/internal/authority"
	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/internal/store/sql"
	"gateway.internal/controlplane/testserver"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/identity"
	"gateway.internal/shared/waittest"
)

// newSecurePlane is newPlane whose nodes need certificates.
func newSecurePlane(t *testing.T) *plane {
	t.Helper()
	s, err := sql.Open(t.Context(), "embedded:"+filepath.Join(t.TempDir(), "g.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return startPlaneWith(t, s, authority.Settings{StaticToken: token, NodeTTL: time.Hour})
}

// applicant is a node that has no certificate yet.
type applicant struct {
	t   *testing.T
	key *ecdsa.PrivateKey
	ask *streamv1.EnrolRequest
}

func newApplicant(t *testing.T, id string) *applicant {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &applicant{t, key, &streamv1.EnrolRequest{CertificateRequest: request, NodeId: id}}
}

// shows has it show a token of the store.
func (a *applicant) shows(j store.JoinToken, secret [32]byte) *applicant {
	a.ask.Token = &streamv1.EnrolRequest_Made{Made: &streamv1.JoinToken{Id: j.ID, Secret: secret[:]}}
	return a
}

// enrol asks a control plane; prove makes the proof of the static token for its connection, nil: there is none.
func (a *applicant) enrol(p *plane, prove func(*tls.ConnectionState) []byte) (*tls.Certificate, error) {
	a.t.Helper()
	var conn *tls.Conn
	raw, err := net.Dial("tcp", p.address)
	if err != nil {
		a.t.Fatal(err)
	}
	conn = tls.Client(raw, identity.Client(func([]*x509.Certificate) error { return nil }, nil))
	if err := conn.Handshake(); err != nil {
		a.t.Fatal(err)
	}
	client, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return conn, nil }))
	if err != nil {
		a.t.Fatal(err)
	}
	defer client.Close()
	if prove != nil {
		state := conn.ConnectionState()
		a.ask.Token = &streamv1.EnrolRequest_Proof{Proof: prove(&state)}
	}
	reply, err := streamv1.NewEnrolmentServiceClient(client).Enrol(a.t.Context(), a.ask)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: reply.GetCredentials().GetChain(), PrivateKey: a.key}, nil
}

// must is enrol with the static token.
func (a *applicant) must(p *plane) *tls.Certificate {
	a.t.Helper()
	c, err := a.enrol(p, proofOf(a.t, token))
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

func proofOf(t *testing.T, static string) func(*tls.ConnectionState) []byte {
	t.Helper()
	key, err := identity.NewProofKey(static)
	if err != nil {
		t.Fatal(err)
	}
	return func(s *tls.ConnectionState) []byte {
		proof, _, err := key.Proofs(s)
		if err != nil {
			t.Fatal(err)
		}
		return proof
	}
}

// secure returns what shows a certificate.
func secure(certificate *tls.Certificate) credentials.TransportCredentials {
	return credentials.NewTLS(identity.Client(func([]*x509.Certificate) error { return nil }, certificate))
}

// says opens a stream, says hello and returns how that went, as far as the first message.
func says(t *testing.T, p *plane, by credentials.TransportCredentials, hello *streamv1.Hello) (
	grpc.BidiStreamingClient[streamv1.StreamRequest, streamv1.StreamResponse], *grpc.ClientConn, error) {
	t.Helper()
	conn, err := grpc.NewClient(p.address, grpc.WithTransportCredentials(by))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s, err := streamv1.NewSnapshotServiceClient(conn).Stream(t.Context())
	if err != nil {
		return nil, conn, err
	}
	hello.InstanceId = "i"
	_ = s.Send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Hello{Hello: hello}})
	_, err = s.Recv()
	return s, conn, err
}

// madeToken keeps a token in a store.
func madeToken(t *testing.T, p *plane, j store.JoinToken, ttl time.Duration) (store.JoinToken, [32]byte) {
	t.Helper()
	secret := [32]byte{1, byte(len(j.ID))}
	j.Hash = identity.Token{Secret: secret}.Hash()
	kept, err := p.store.CreateJoinToken(t.Context(), j, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return kept, secret
}

// refused fails the test unless an error is a refusal that says something.
func refused(t *testing.T, what string, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v; it has to be %s with %q", what, err, code, text)
	}
}

func TestJoinTokens(t *testing.T) {
	p := newSecurePlane(t)
	p.commit(route("a"))
	once, secret := madeToken(t, p, store.JoinToken{ID: "once", Group: "edge", Uses: 1}, time.Hour)
	first := newApplicant(t, "n1").shows(once, secret)
	certificate, err := first.enrol(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := says(t, p, secure(certificate), &streamv1.Hello{NodeId: "n1", Group: "edge"}); err != nil {
		t.Errorf("a node that is enrolled: %v", err)
	}
	if _, err := first.enrol(p, nil); err != nil {
		t.Errorf("the same node, which the answer did not reach: %v", err)
	}
	_, err = newApplicant(t, "n1").shows(once, secret).enrol(p, nil)
	refused(t, "a replayed token", err, codes.Unauthenticated, "used already")
	_, err = newApplicant(t, "n2").shows(once, secret).enrol(p, nil)
	refused(t, "another node with it", err, codes.Unauthenticated, "used already")
	old, secret := madeToken(t, p, store.JoinToken{ID: "old"}, 0)
	_, err = newApplicant(t, "n1").shows(old, secret).enrol(p, nil)
	refused(t, "an expired token", err, codes.Unauthenticated, "expired")
	_, err = newApplicant(t, "n1").shows(once, secret).enrol(p, nil)
	refused(t, "a wrong secret", err, codes.Unauthenticated, "wrong")
	_, err = newApplicant(t, "n1").enrol(p, nil)
	refused(t, "no token", err, codes.Unauthenticated, "join token")
	stolen := newApplicant(t, "n1")
	stolen.ask.CertificateRequest[len(stolen.ask.CertificateRequest)-1] ^= 1
	_, err = stolen.shows(once, secret).enrol(p, nil)
	refused(t, "a key that the node has not", err, codes.InvalidArgument, "certificate_request")
	bad := newApplicant(t, "a b")
	_, err = bad.enrol(p, proofOf(t, token))
	refused(t, "an id with spaces", err, codes.InvalidArgument, "node_id")
}

func TestTheStaticTokenIsProved(t *testing.T) {
	p := newSecurePlane(t)
	p.commit(route("a"))
	certificate := newApplicant(t, "n1").must(p)
	if _, _, err := says(t, p, secure(certificate), &streamv1.Hello{NodeId: "n1"}); err != nil {
		t.Errorf("a node that is enrolled: %v", err)
	}
	_, err := newApplicant(t, "n2").enrol(p, proofOf(t, token+"x"))
	refused(t, "another token", err, codes.Unauthenticated, "GATEWAY_JOIN_TOKEN")
	var seen []byte
	if _, err := newApplicant(t, "n2").enrol(p, func(s *tls.ConnectionState) []byte {
		seen = proofOf(t, token)(s)
		return seen
	}); err != nil {
		t.Error(err)
	}
	_, err = newApplicant(t, "n3").enrol(p, func(*tls.ConnectionState) []byte { return seen })
	refused(t, "a proof of another connection", err, codes.Unauthenticated, "GATEWAY_JOIN_TOKEN")

	strict := startPlaneWith(t, p.store, authority.Settings{NodeTTL: time.Hour})
	_, err = newApplicant(t, "n2").enrol(strict, proofOf(t, ""))
	refused(t, "where there is no static token", err, codes.Unauthenticated, "join-token create")
}

// foreign is a certificate with a node's name by an authority of its own.
func foreign(t *testing.T, name identity.Name) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{SerialNumber: "1"}, URIs: []*url.URL{name.URI()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "gateway stream authority"}}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestANodeIsWhoItsCertificateSays(t *testing.T) {
	p := newSecurePlane(t)
	p.commit(route("a"))
	in := newApplicant(t, "n1")
	in.ask.Group = "edge"
	own := in.must(p)
	for what, c := range map[string]struct {
		by    credentials.TransportCredentials
		hello *streamv1.Hello
		code  codes.Code
		text  string
	}{
		"another's id": {secure(own), &streamv1.Hello{NodeId: "n2", Group: "edge"}, codes.PermissionDenied, `of node "n1"`},
		"another group": {secure(own), &streamv1.Hello{NodeId: "n1", Group: "core"}, codes.PermissionDenied,
			`of group "edge"`},
		"no group": {secure(own), &streamv1.Hello{NodeId: "n1"}, codes.PermissionDenied, `of group "edge"`},
		"of another " +
			"authority": {secure(foreign(t, identity.Name{ID: "n1"})), &streamv1.Hello{NodeId: "n1"},
			codes.Unauthenticated, "authority"},
		"no certificate":           {secure(nil), &streamv1.Hello{NodeId: "n1"}, codes.Unauthenticated, "no certificate"},
		"plain text":               {insecure.NewCredentials(), &streamv1.Hello{NodeId: "n1"}, codes.Unavailable, ""},
		"its own, as it has to be": {secure(own), &streamv1.Hello{NodeId: "n1", Group: "edge"}, codes.OK, ""},
	} {
		if _, _, err := says(t, p, c.by, c.hello); c.code == codes.OK && err != nil {
			t.Errorf("%s: %v", what, err)
		} else if c.code != codes.OK {
			refused(t, what, err, c.code, c.text)
		}
	}
}

// TestRevokedOnAllReplicas has two control planes on one PostgreSQL: a node is revoked at one of them.
func TestRevokedOnAllReplicas(t *testing.T) {
	server := testserver.NewPostgreSQL(t)
	var planes []*plane
	for range 2 {
		s, err := sql.Open(t.Context(), server.URL, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		planes = append(planes, startPlaneWith(t, s, authority.Settings{StaticToken: token, NodeTTL: time.Hour}))
	}
	planes[0].commit(route("a"))
	first := newApplicant(t, "n1").must(planes[0]) // all control planes have one authority
	other := newApplicant(t, "n2").must(planes[1])
	stream, _, err := says(t, planes[1], secure(first), &streamv1.Hello{NodeId: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	stays, _, err := says(t, planes[1], secure(other), &streamv1.Hello{NodeId: "n2"})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, err := planes[0].store.RevokeNode(t.Context(), "n1", "stolen"); err != nil {
		t.Fatal(err)
	}
	for err = nil; err == nil; {
		_, err = stream.Recv()
	}
	refused(t, "an open stream", err, codes.PermissionDenied, "revoked")
	if took := time.Since(begun); took > 20*time.Second { // far above the poll's interval, on a busy machine
		t.Errorf("it took %s", took)
	} else {
		t.Logf("the stream at the other control plane ended after %s", took)
	}
	for i, p := range planes {
		waittest.UntilNil(t, "the revocation", func() error {
			if p.gate.CheckID("n1", 0) == nil {
				return fmt.Errorf("control plane %d knows nothing of it", i)
			}
			return nil
		})
		_, _, err := says(t, p, secure(first), &streamv1.Hello{NodeId: "n1"})
		refused(t, "its certificate", err, codes.PermissionDenied, "revoked")
		_, err = newApplicant(t, "n1").enrol(p, proofOf(t, token))
		refused(t, "a join token", err, codes.PermissionDenied, "revoked")
	}
	if _, err := planes[0].store.ReadmitNode(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	again := newApplicant(t, "n1").must(planes[0])
	waittest.UntilNil(t, "the readmission", func() error { return planes[1].gate.CheckID("n1", 2) })
	_, _, err = says(t, planes[1], secure(first), &streamv1.Hello{NodeId: "n1"})
	refused(t, "the certificate from before", err, codes.Unauthenticated, "certificate")
	if _, _, err := says(t, planes[1], secure(again), &streamv1.Hello{NodeId: "n1"}); err != nil {
		t.Errorf("the new certificate: %v", err)
	}
	report := &streamv1.StreamRequest{Message: &streamv1.StreamRequest_Report{Report: &streamv1.Report{}}}
	if err := stays.Send(report); err != nil {
		t.Errorf("another node's stream: %v", err)
	}
}

// TestRenewal has two nodes whose certificates last for five seconds, one of which renews its own: its stream goes on.
func TestRenewal(t *testing.T) {
	t.Parallel()
	s, err := sql.Open(t.Context(), "embedded:"+filepath.Join(t.TempDir(), "g.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	short := startPlaneWith(t, s, authority.Settings{StaticToken: token, NodeTTL: 5 * time.Second})
	p := startPlaneWith(t, s, authority.Settings{StaticToken: token, NodeTTL: time.Hour})
	p.commit(route("a"))
	renews := newApplicant(t, "renews")
	kept, conn, err := says(t, p, secure(renews.must(short)), &streamv1.Hello{NodeId: "renews"})
	if err != nil {
		t.Fatal(err)
	}
	renew := &streamv1.RenewRequest{CertificateRequest: renews.ask.GetCertificateRequest()}
	reply, err := streamv1.NewEnrolmentServiceClient(conn).Renew(t.Context(), renew)
	if err != nil {
		t.Fatal(err)
	}
	ends, over, err := says(t, p, secure(newApplicant(t, "lapses").must(short)), &streamv1.Hello{NodeId: "lapses"})
	if err != nil {
		t.Fatal(err)
	}
	for err = nil; err == nil; {
		_, err = ends.Recv()
	}
	refused(t, "a certificate that was not renewed", err, codes.Unauthenticated, "expired")
	_, err = streamv1.NewEnrolmentServiceClient(over).Renew(t.Context(), renew)
	refused(t, "a renewal that comes too late", err, codes.Unauthenticated, "not valid now")
	// The first certificate of this connection has expired by now, and the second has not been shown.
	if _, err := streamv1.NewEnrolmentServiceClient(conn).Renew(t.Context(), renew); err != nil {
		t.Errorf("the next renewal over the same connection: %v", err)
	}
	report := &streamv1.StreamRequest{Message: &streamv1.StreamRequest_Report{Report: &streamv1.Report{}}}
	if err := kept.Send(report); err != nil {
		t.Errorf("the stream of a node that has renewed its certificate: %v", err)
	}
	next := &tls.Certificate{Certificate: reply.GetCredentials().GetChain(), PrivateKey: renews.key}
	kept, _, err = says(t, p, secure(next), &streamv1.Hello{NodeId: "renews"})
	if status.Code(err) == codes.AlreadyExists || err == nil { // who it is was not questioned
		return
	}
	t.Errorf("the next certificate, on a stream of its own: %v, %v", kept, err)
}

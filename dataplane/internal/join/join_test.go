package join

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
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/identity"
	"gateway.internal/shared/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// control is a control plane with an authority, which enrols whoever asks.
type control struct {
	streamv1.UnimplementedEnrolmentServiceServer
	t       *testing.T
	address string
	ca      *x509.Certificate
	caKey   *ecdsa.PrivateKey
	static  string        // what it proves
	ttl     time.Duration // of what it issues

	mu     sync.Mutex
	asked  []*streamv1.EnrolRequest
	renews int
	lose   int // answers that get lost
}

func newControl(t *testing.T) *control {
	t.Helper()
	c := &control{t: t, static: "a-token-of-both-planes", ttl: time.Hour}
	c.caKey = key(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour)}
	c.ca = c.sign(template, template, &c.caKey.PublicKey)
	own := key(t)
	shown := c.sign(&x509.Certificate{SerialNumber: big.NewInt(2), URIs: []*url.URL{identity.ControlPlaneURI()},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour)}, c.ca, &own.PublicKey)
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{shown.Raw, c.ca.Raw}, PrivateKey: own}},
		ClientAuth:   tls.RequestClientCert,
	})))
	streamv1.RegisterEnrolmentServiceServer(g, c)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.address = ln.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() { _ = g.Serve(ln) })
	t.Cleanup(func() { g.Stop(); serving.Wait() })
	return c
}

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (c *control) sign(template, by *x509.Certificate, of any) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, by, of, c.caKey)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert
}

func (c *control) issue(request []byte, name identity.Name) *streamv1.Credentials {
	r, err := x509.ParseCertificateRequest(request)
	if err != nil {
		c.t.Error(err)
		return nil
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<40))
	if err != nil {
		c.t.Error(err)
	}
	cert := c.sign(&x509.Certificate{SerialNumber: serial, URIs: []*url.URL{name.URI()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(c.ttl),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, c.ca, r.PublicKey)
	return &streamv1.Credentials{Chain: [][]byte{cert.Raw}, Authorities: [][]byte{c.ca.Raw}}
}

// Enrol implements streamv1.EnrolmentServiceServer.
func (c *control) Enrol(ctx context.Context, r *streamv1.EnrolRequest) (*streamv1.EnrolResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, r)
	if c.lose > 0 {
		c.lose--
		return nil, status.Error(codes.Unavailable, "lost")
	}
	name := identity.Name{ID: r.GetNodeId(), Group: "edge"}
	reply := &streamv1.EnrolResponse{Credentials: c.issue(r.GetCertificateRequest(), name)}
	if r.GetProof() != nil {
		p, _ := peer.FromContext(ctx)
		state := p.AuthInfo.(credentials.TLSInfo).State
		proofs, err := identity.NewProofKey(c.static)
		if err != nil {
			return nil, err
		}
		_, reply.Proof, err = proofs.Proofs(&state)
		if err != nil {
			return nil, err
		}
	}
	return reply, nil
}

// Renew implements streamv1.EnrolmentServiceServer.
func (c *control) Renew(ctx context.Context, r *streamv1.RenewRequest) (*streamv1.RenewResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, _ := peer.FromContext(ctx)
	name, err := identity.NameIn(p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0])
	if err != nil {
		return nil, err
	}
	c.renews++
	c.ttl = time.Hour
	return &streamv1.RenewResponse{Credentials: c.issue(r.GetCertificateRequest(), name)}, nil
}

func (c *control) requests() []*streamv1.EnrolRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func (c *control) pinned() *identity.Token {
	return &identity.Token{ID: "t1", Secret: [32]byte{7}, Pin: identity.PinOf(c.ca)}
}

// works connects, makes a call, and returns what is wrong with that.
func works(t *testing.T, k *Keeper, address string) error {
	t.Helper()
	c, err := k.Connect(t.Context(), address)
	if err != nil {
		return err
	}
	defer c.Close()
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = streamv1.NewEnrolmentServiceClient(c).Renew(t.Context(), &streamv1.RenewRequest{CertificateRequest: request})
	if err != nil {
		return c.Explain(err)
	}
	return nil
}

func keeper(dir string, token *identity.Token) *Keeper {
	return New(Settings{Dir: dir, Token: token, NodeID: "n1"}, slog.New(slog.DiscardHandler))
}

func says(t *testing.T, what string, err error, text string) {
	t.Helper()
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v; it has to say %q", what, err, text)
	}
}

func TestANodeJoinsOnce(t *testing.T) {
	for what, token := range map[string]func(c *control) *identity.Token{
		"by a token with a pin": (*control).pinned,
		"by the static token":   func(c *control) *identity.Token { return &identity.Token{Static: c.static} },
	} {
		t.Run(what, func(t *testing.T) {
			c, dir := newControl(t), t.TempDir()
			says(t, "without a token", works(t, keeper(dir, nil), c.address), "no join token")
			c.mu.Lock()
			c.lose = 1
			c.mu.Unlock()
			if err := works(t, keeper(dir, token(c)), c.address); status.Code(err) != codes.Unavailable {
				t.Errorf("an answer that is lost: %v", err)
			}
			k := keeper(dir, token(c))
			for range 2 {
				if err := works(t, k, c.address); err != nil {
					t.Fatal(err)
				}
			}
			if k.Group() != "edge" {
				t.Errorf("the group is %q", k.Group())
			}
			if err := works(t, keeper(dir, nil), c.address); err != nil { // started anew, the token is used up
				t.Error(err)
			}
			asked := c.requests()
			if len(asked) != 2 || asked[0].GetNodeId() != "n1" {
				t.Fatalf("it asked %d times: %v", len(asked), asked)
			}
			if keyIn(t, asked[0]) != keyIn(t, asked[1]) {
				t.Error("the second attempt has another key: a token would be used twice")
			}
			files, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 || f.Name() != identityFile {
					t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
				}
			}
		})
	}
}

func keyIn(t *testing.T, r *streamv1.EnrolRequest) string {
	t.Helper()
	request, err := x509.ParseCertificateRequest(r.GetCertificateRequest())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(request.PublicKey)
}

func TestWhomANodeDoesNotJoin(t *testing.T) {
	c, other := newControl(t), newControl(t)
	says(t, "another authority than the pinned one", works(t, keeper(t.TempDir(), other.pinned()), c.address), "pins")
	if n := len(c.requests()); n != 0 {
		t.Errorf("the token was sent to it %d times", n)
	}
	other.static = "another-token-of-theirs"
	dir := t.TempDir()
	says(t, "a control plane without the "+
		"token", works(t, keeper(dir, &identity.Token{Static: c.static}), other.address), "prove")
	if Has(dir) {
		t.Error("what it gave is kept")
	}
	// Another one takes the address of the one that was joined.
	dir = t.TempDir()
	if err := works(t, keeper(dir, c.pinned()), c.address); err != nil {
		t.Fatal(err)
	}
	before := len(other.requests())
	k := keeper(dir, c.pinned())
	says(t, "another one later", works(t, k, other.address), "authority")
	says(t, "again, with the token", works(t, k, other.address), "pins")
	if n := len(other.requests()); n != before {
		t.Error("the token was sent to it")
	}
	if err := works(t, k, c.address); err != nil {
		t.Errorf("the right one, afterwards: %v", err)
	}
}

// TestTheControlPlanesStoreIsLost has another authority at the same control plane: a node with the static token joins
// again by itself.
func TestTheControlPlanesStoreIsLost(t *testing.T) {
	c, dir := newControl(t), t.TempDir()
	if err := works(t, keeper(dir, &identity.Token{Static: c.static}), c.address); err != nil {
		t.Fatal(err)
	}
	next := newControl(t)
	k := keeper(dir, &identity.Token{Static: c.static})
	says(t, "at first", works(t, k, next.address), "authority")
	if err := works(t, k, next.address); err != nil {
		t.Error(err)
	}
}

func TestADamagedCertificate(t *testing.T) {
	c, dir := newControl(t), t.TempDir()
	path := filepath.Join(dir, identityFile)
	if err := os.WriteFile(path, []byte("\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, "without a token", works(t, keeper(dir, nil), c.address), path+" has no key")
	if err := works(t, keeper(dir, c.pinned()), c.address); err != nil {
		t.Errorf("with a token: %v", err)
	}
}

func TestWhatIsOfNoUseAnyMore(t *testing.T) {
	c, dir := newControl(t), t.TempDir()
	c.ttl = -time.Minute
	own := key(t)
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, own)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keeper(dir, nil).keep(own, c.issue(request, identity.Name{ID: "n1", Group: "edge"})); err != nil {
		t.Fatal(err)
	}
	says(t, "an expired certificate", works(t, keeper(dir, nil), c.address), "expired")
	c.ttl = time.Hour
	if err := works(t, keeper(dir, c.pinned()), c.address); err != nil {
		t.Error(err)
	}
	another := New(Settings{Dir: dir, NodeID: "n2"}, slog.New(slog.DiscardHandler))
	says(t, "another id", works(t, another, c.address), `of node "n1"`)
	another = New(Settings{Dir: dir, NodeID: "n1", Group: "core"}, slog.New(slog.DiscardHandler))
	says(t, "another group", works(t, another, c.address), `of group "edge"`)
	path := filepath.Join(dir, identityFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text[:len(text)/3], 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, "a file that is cut off", works(t, keeper(dir, nil), c.address), "no join token")
}

// TestACertificateIsRenewedWhileAConnectionIsOpen renews a short-lived certificate.
func TestACertificateIsRenewedWhileAConnectionIsOpen(t *testing.T) {
	c, dir := newControl(t), t.TempDir()
	c.ttl = time.Minute // of which more than two thirds are over
	conn, err := keeper(dir, c.pinned()).Connect(t.Context(), c.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	first, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the next certificate is in the data folder", func() bool {
		next, err := load(dir)
		return err == nil && next.leaf.NotAfter.Sub(first.leaf.NotAfter) > time.Minute
	})
	next, err := load(dir)
	if err != nil || next.certificate.PrivateKey.(*ecdsa.PrivateKey).Equal(first.certificate.PrivateKey) {
		t.Errorf("the key is the same, %v", err)
	}
}

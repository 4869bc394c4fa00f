// Package join gets a node its certificate and connects it to control planes by that: it enrols with a join token,
// keeps key and certificate in the data folder, and renews the certificate while a connection is open. Instead the
// certificate may come from files of an outside authority.
package join

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gateway.internal/shared/identity"
)

const (
	connectTimeout = 5 * time.Second
	enrolTimeout   = 15 * time.Second
	// maxMessageBytes is the largest message that is taken: far above what control planes send.
	maxMessageBytes = 16 << 20
)

// Settings say as whom a node connects, and whom it trusts.
type Settings struct {
	// Dir is the data folder.
	Dir string
	// Token is a join token; nil: there is none.
	Token *identity.Token
	// NodeID and Group are what the node asks for; an empty group is that of its certificate.
	NodeID, Group string
	// Files has a certificate of an outside authority, or authorities of control planes' certificates, or both; nil:
	// neither.
	Files *identity.Reloader
	// ServerName is what control planes' certificates of those authorities have to name; empty: the host of the address
	// that is connected to.
	ServerName string
	// Plaintext has the node connect without TLS, and send its token.
	Plaintext bool
}

// Keeper connects a node. It is used by one goroutine, while Group may be called by any.
type Keeper struct {
	set Settings
	log *slog.Logger

	group atomic.Pointer[string] // of the certificate that was shown last
	// again are the addresses where what the node has was of no use: it enrols there first.
	again    map[string]bool
	proofKey func() (identity.ProofKey, error)
}

// New returns a keeper. Nothing is read or connected yet.
func New(set Settings, log *slog.Logger) *Keeper {
	proofKey := sync.OnceValues(func() (identity.ProofKey, error) {
		return identity.NewProofKey(set.Token.Static)
	})
	return &Keeper{set: set, log: log, again: map[string]bool{}, proofKey: proofKey}
}

// Group returns the group that the node is of.
func (k *Keeper) Group() string {
	if g := k.group.Load(); g != nil && k.set.Group == "" {
		return *g
	}
	return k.set.Group
}

// Connection is a connection to one control plane.
type Connection struct {
	*grpc.ClientConn
	keeper  *Keeper
	address string
	// distrusted is what was wrong with the control plane's certificate; nil: nothing was.
	distrusted atomic.Pointer[error]
	stop       context.CancelFunc
	renewing   sync.WaitGroup
}

// Close ends the connection.
func (c *Connection) Close() {
	c.stop()
	c.renewing.Wait()
	_ = c.ClientConn.Close()
}

// Explain returns why a call over the connection failed, in words that help, and notes what that means for the next
// one. A certificate that the control plane does not take, or an authority that is not the one which is known, may be
// of the time before its store was replaced: with a join token the node enrols again, which tells who it speaks to.
func (c *Connection) Explain(err error) error {
	if wrong := c.distrusted.Load(); wrong != nil {
		c.keeper.again[c.address] = true
		return status.Error(codes.Unauthenticated, (*wrong).Error())
	}
	if status.Code(err) == codes.Unauthenticated {
		c.keeper.again[c.address] = true
	}
	return err
}

// Outgoing returns a context for calls over the connection: in plain text they carry the token.
func (c *Connection) Outgoing(ctx context.Context) context.Context {
	if !c.keeper.set.Plaintext {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.keeper.set.Token.String())
}

// Connect returns a connection, over which nothing has been sent but what it took to enrol the node.
func (k *Keeper) Connect(ctx context.Context, address string) (*Connection, error) {
	c := &Connection{keeper: k, address: address}
	if k.set.Plaintext {
		return c.open(ctx, insecure.NewCredentials(), nil)
	}
	has, err := k.credentials(ctx, address)
	if err != nil {
		return nil, err
	}
	verify := k.trust(address, has)
	config := identity.Client(func(shown []*x509.Certificate) error {
		err := verify(shown)
		if err != nil {
			c.distrusted.Store(&err)
		}
		return err
	}, has.certificate)
	return c.open(ctx, credentials.NewTLS(config), has)
}

// open opens the connection, and renews the node's certificate while it is open.
func (c *Connection) open(ctx context.Context, by credentials.TransportCredentials, has *held) (*Connection, error) {
	conn, err := grpc.NewClient(c.address, grpc.WithTransportCredentials(by),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: grpcbackoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)))
	if err != nil {
		return nil, err
	}
	c.ClientConn = conn
	ctx, c.stop = context.WithCancel(ctx)
	if has != nil && !has.outside {
		c.renewing.Go(func() { c.keeper.renew(ctx, conn, has) })
	}
	return c, nil
}

// trust returns what tells a control plane by its certificate.
func (k *Keeper) trust(address string, has *held) func(shown []*x509.Certificate) error {
	roots, name := has.authorities, identity.ControlPlaneURI().String()
	if given := k.authorities(); given != nil {
		roots, name = given, k.serverName(address)
	}
	return func(shown []*x509.Certificate) error {
		return identity.VerifyControlPlane(shown, roots, name, time.Now())
	}
}

func (k *Keeper) authorities() *x509.CertPool {
	if k.set.Files == nil {
		return nil
	}
	return k.set.Files.Current().Authorities
}

func (k *Keeper) serverName(address string) string {
	if k.set.ServerName != "" {
		return k.set.ServerName
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// held is what the node shows.
type held struct {
	certificate *tls.Certificate
	leaf        *x509.Certificate
	authorities *x509.CertPool
	outside     bool
}

// credentials returns what the node shows to a control plane; the first time, and where it has nothing that is of use,
// it enrols there.
func (k *Keeper) credentials(ctx context.Context, address string) (*held, error) {
	if k.set.Files != nil {
		if c := k.set.Files.Current().Certificate; c != nil {
			leaf, err := x509.ParseCertificate(c.Certificate[0])
			return &held{certificate: c, leaf: leaf, outside: true}, err
		}
	}
	has, err := load(k.set.Dir)
	if err != nil {
		k.log.Error("the node's certificate can't be used: it has to be enrolled again", "error", err.Error())
	}
	why := k.useless(has)
	if err != nil {
		why = err.Error()
	}
	if k.again[address] && k.set.Token != nil {
		why = "the control plane did not take it"
	}
	delete(k.again, address)
	if why == "" {
		k.shows(has)
		return has, nil
	}
	if k.set.Token == nil {
		return nil, status.Error(codes.Unauthenticated, "this node has no certificate: "+why+", and it has no join token")
	}
	if has, err = k.enrol(ctx, address); err != nil {
		return nil, err
	}
	k.shows(has)
	return has, nil
}

// shows notes the group of what is shown.
func (k *Keeper) shows(has *held) {
	if name, err := identity.NameIn(has.leaf); err == nil {
		k.group.Store(&name.Group)
	}
}

// useless returns why what the node has can't be shown; "": it can.
func (k *Keeper) useless(has *held) string {
	if has == nil {
		return "it was not enrolled yet"
	}
	name, err := identity.NameIn(has.leaf)
	switch now := time.Now(); {
	case err != nil:
		return err.Error()
	case name.ID != k.set.NodeID:
		return fmt.Sprintf("that in the data folder is of node %q, and this is node %q", name.ID, k.set.NodeID)
	case k.set.Group != "" && name.Group != k.set.Group:
		return fmt.Sprintf("that in the data folder is of group %q, and this node is of group %q", name.Group, k.set.Group)
	case now.After(has.leaf.NotAfter):
		return "that in the data folder expired at " + has.leaf.NotAfter.Format(time.RFC3339)
	}
	return ""
}

// Has reports whether a data folder has the file of a certificate, so that a node can start without a join token. What
// is in it may be of no use: a node that was enrolled once starts all the same, and serves its last good snapshot.
func Has(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, identityFile))
	return err == nil
}

var errNotOurs = errors.New("the control plane has given a certificate that is not what was asked for")

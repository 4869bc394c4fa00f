// Package cli is the command line's work: calls of the admin API, and what people and scripts read of them. The
// commands themselves are in cmd/gatewayctl.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config/file"
)

// The exit codes of gatewayctl.
const (
	ExitOK              = 0
	ExitDifferences     = 1
	ExitUsage           = 2
	ExitInvalid         = 3
	ExitNotFound        = 4
	ExitConflict        = 5
	ExitUnauthenticated = 6
	ExitUnavailable     = 7
	ExitOther           = 8
)

// ErrDifferences is the outcome of a diff that found some.
var ErrDifferences = errors.New("there are differences")

// ErrNoToken says that no token was given.
var ErrNoToken = errors.New("a token is required: gatewayctl login, GATEWAYCTL_TOKEN in the environment, or " +
	"--token-file")

// UsageError is a command line that can't be understood.
type UsageError struct{ Message string }

// Error implements error.
func (e *UsageError) Error() string { return e.Message }

// ExitCode returns the code for an outcome.
func ExitCode(err error) int {
	var usage *UsageError
	var files file.Errors
	var invalid *InvalidError
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, ErrDifferences):
		return ExitDifferences
	case errors.As(err, &usage):
		return ExitUsage
	case errors.Is(err, ErrNoToken):
		return ExitUnauthenticated
	case errors.As(err, &files), errors.As(err, &invalid):
		return ExitInvalid
	}
	switch d := detail(err); d.GetCode() {
	case "VALIDATION_FAILED", "INVALID_ARGUMENT":
		return ExitInvalid
	case "NOT_FOUND":
		return ExitNotFound
	case "VERSION_CONFLICT", "ALREADY_EXISTS", "RESOURCE_IN_USE", "PRECONDITION_FAILED":
		return ExitConflict
	case "STORE_UNAVAILABLE", "OUTCOME_UNKNOWN":
		return ExitUnavailable
	}
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied:
		return ExitUnauthenticated
	case codes.Unavailable, codes.DeadlineExceeded:
		return ExitUnavailable
	case codes.NotFound:
		return ExitNotFound
	}
	return ExitOther
}

// detail returns what an error of the API says; nil for others.
func detail(err error) *adminv1.ErrorDetail {
	s, ok := status.FromError(err)
	if !ok {
		return nil
	}
	for _, d := range s.Details() {
		if d, ok := d.(*adminv1.ErrorDetail); ok {
			return d
		}
	}
	return nil
}

// Settings say which control plane is called, and as whom.
type Settings struct {
	// Server is the admin API's gRPC address; see ServerAddress. Empty: as the context says, or this machine's.
	Server string
	// Context is the one of the user's contexts that is meant; empty: the current one, unless there is a Server.
	Context string
	// TLS is auto (also ""): with all servers but those of this machine; on, or off.
	TLS string
	// CACert is a file with the authorities that the server's certificate may be from; empty: the system's. It turns TLS
	// on.
	CACert string
	// Insecure takes any certificate. It turns TLS on.
	Insecure bool
	// TokenFile is where the token is when it is not in GATEWAYCTL_TOKEN.
	TokenFile string
	// Timeout is the longest that a call may take.
	Timeout time.Duration

	token string // of a context
}

// maxMessageBytes is the largest configuration that is sent or received.
const maxMessageBytes = 64 << 20

// Client calls the admin API.
type Client struct {
	Config adminv1.ConfigurationServiceClient
	Fleet  adminv1.FleetServiceClient
	Health adminv1.HealthServiceClient
	// Limits asks what is left of rate limits.
	Limits adminv1.LimitServiceClient
	Access adminv1.AccessServiceClient
	// Enrolment is who may join the fleet.
	Enrolment adminv1.EnrolmentServiceClient
	Audit     adminv1.AuditServiceClient
	// Message is why changes are made; it may be empty.
	Message string

	conn    *grpc.ClientConn
	token   string
	timeout time.Duration
}

// defaultTokenFiles are where a control plane on this machine leaves its token.
func defaultTokenFiles() []string {
	return []string{"data/controlplane/admin-token", "data/dev/controlplane/admin-token"}
}

// Connect prepares calls; nothing is sent yet.
func Connect(set Settings) (*Client, error) {
	set, err := set.Resolve()
	if err != nil {
		return nil, err
	}
	token := cmp.Or(os.Getenv("GATEWAYCTL_TOKEN"), set.token)
	files := defaultTokenFiles()
	if set.TokenFile != "" {
		files = []string{set.TokenFile}
	}
	for _, path := range files {
		if token != "" && set.TokenFile == "" {
			break
		}
		text, err := os.ReadFile(path)
		if err == nil {
			token = strings.TrimSpace(string(text))
			break
		}
		if set.TokenFile != "" {
			return nil, &UsageError{"token file: " + err.Error()}
		}
	}
	if token == "" {
		return nil, ErrNoToken
	}
	return set.connect(token)
}

// ConnectAs prepares calls with a token that is known.
func ConnectAs(server, token string, timeout time.Duration) (*Client, error) {
	return Settings{Server: server, Timeout: timeout}.connect(token)
}

// ConnectTo prepares calls of a context's control plane, with its token.
func ConnectTo(c Context, timeout time.Duration) (*Client, error) {
	set := Settings{Server: c.Server, TLS: c.TLS, CACert: c.CACert, Insecure: c.Insecure, Timeout: timeout}
	return set.connect(c.Token)
}

func (set Settings) connect(token string) (*Client, error) {
	server, err := ServerAddress(set.Server)
	if err != nil {
		return nil, err
	}
	security, err := set.transport(server)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(security),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)))
	if err != nil {
		return nil, &UsageError{"server: " + err.Error()}
	}
	return &Client{Config: adminv1.NewConfigurationServiceClient(conn), Fleet: adminv1.NewFleetServiceClient(conn),
		Health: adminv1.NewHealthServiceClient(conn), Access: adminv1.NewAccessServiceClient(conn),
		Limits:    adminv1.NewLimitServiceClient(conn),
		Enrolment: adminv1.NewEnrolmentServiceClient(conn),
		Audit:     adminv1.NewAuditServiceClient(conn), conn: conn,
		token: token, timeout: set.Timeout}, nil
}

// Close ends the connection.
func (c *Client) Close() { _ = c.conn.Close() }

// Context returns the context for one call.
func (c *Client) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	// Binary metadata, since gRPC's text is ASCII.
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token, "gateway-author-bin", Author())
	if c.Message != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "gateway-message-bin", c.Message)
	}
	return context.WithTimeout(ctx, c.timeout)
}

// Export returns the whole configuration at a revision, the newest where that is 0. It comes in parts, so that it may
// be of any size.
func (c *Client) Export(ctx context.Context, revision uint32) (*configv1.Configuration, error) {
	stream, err := c.Config.StreamConfiguration(ctx, &adminv1.StreamConfigurationRequest{Revision: revision})
	if err != nil {
		return nil, err
	}
	whole := &configv1.Configuration{}
	for {
		part, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return whole, nil
		case status.Code(err) == codes.Unimplemented: // a control plane that is older than this program
			reply, err := c.Config.ExportConfiguration(ctx, &adminv1.ExportConfigurationRequest{Revision: revision})
			return reply.GetConfiguration(), err
		case err != nil:
			return nil, err
		}
		proto.Merge(whole, part.GetConfiguration())
	}
}

// Author returns who runs the command: "user@host".
func Author() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return strings.ToValidUTF8(fmt.Sprintf("%s@%s", name, host), "\uFFFD")
}

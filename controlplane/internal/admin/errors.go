package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gateway.internal/controlplane/internal/access"
	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/store"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// maxProblems is how many problems, or warnings, one reply names at most, and maxProblemText how many bytes of each
// text: an error has to fit into the fields of a gRPC response.
const (
	maxProblems    = 100
	maxProblemText = 1000
)

// failure returns a gRPC status that carries an error of the API.
func failure(code fault.Code, message string, problems ...*adminv1.Problem) error {
	d := &adminv1.ErrorDetail{Code: string(code), Message: message, Problems: problems}
	if len(problems) > 0 {
		d.Field = problems[0].GetField()
	}
	return withDetail(code, d)
}

func withDetail(code fault.Code, d *adminv1.ErrorDetail) error {
	s, err := status.New(code.GRPC(), d.GetMessage()).WithDetails(d)
	if err != nil {
		return status.Error(code.GRPC(), d.GetMessage())
	}
	return s.Err()
}

func invalid(field, value, message string) error {
	return failure(fault.InvalidArgument, field+" "+message, &adminv1.Problem{Field: field, Value: value, Message: message})
}

// ifMatchFailed marks a version conflict that an If-Match header asked for.
type ifMatchFailed struct{ error }

func (e ifMatchFailed) Unwrap() error { return e.error }

// translate is the one place where errors become statuses.
func translate(ctx context.Context, log *slog.Logger, err error) error {
	if err == nil {
		return nil
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown {
		return err
	}
	var (
		problems config.Problems
		conflict *config.VersionConflict
		missing  *config.NotFound
		exists   *config.Exists
		inUse    *config.InUse
		revision *catalog.RevisionConflict
		header   ifMatchFailed
		unknown  *store.NotFoundError
		pruned   *store.PrunedError
		scope    *access.Outside
	)
	switch {
	case errors.As(err, &problems):
		message := problems[0].String()
		if len(problems) > 1 {
			message = "the configuration has " + plural(len(problems), "problem")
		}
		return failure(fault.ValidationFailed, message, problemsOf(problems)...)
	case errors.As(err, &conflict):
		code := fault.VersionConflict
		if errors.As(err, &header) {
			code = fault.PreconditionFailed
		}
		return withDetail(code, &adminv1.ErrorDetail{Code: string(code), Message: conflict.Error(), Field: "version", CurrentVersion: conflict.Current})
	case errors.As(err, &missing):
		return failure(fault.NotFound, missing.Error())
	case errors.As(err, &exists):
		return failure(fault.AlreadyExists, exists.Error(), &adminv1.Problem{Kind: exists.Kind.String(), Name: exists.Name, Field: "name", Value: exists.Name, Message: "is taken"})
	case errors.As(err, &inUse):
		return failure(fault.ResourceInUse, inUse.Error())
	case errors.As(err, &revision):
		return withDetail(fault.VersionConflict, &adminv1.ErrorDetail{Code: string(fault.VersionConflict), Message: revision.Error(), Field: "expected_revision", CurrentVersion: revision.Current})
	case errors.As(err, &pruned):
		return failure(fault.NotFound, pruned.Error())
	case errors.As(err, &unknown):
		return failure(fault.NotFound, unknown.Error())
	case errors.As(err, &scope):
		return outside(scope)
	case errors.Is(err, access.ErrProviderAway):
		return failure(fault.UpstreamUnavailable, err.Error())
	case errors.Is(err, store.ErrTokenExists):
		return failure(fault.AlreadyExists, err.Error(), &adminv1.Problem{Field: "name", Message: "is taken"})
	case errors.Is(err, store.ErrNoToken):
		return failure(fault.NotFound, err.Error())
	case errors.Is(err, store.ErrTooManyTokens):
		return failure(fault.InvalidArgument, err.Error())
	case errors.Is(err, store.ErrUnknown):
		return failure(fault.OutcomeUnknown, "the store broke off at the commit; look at the revisions before you repeat the change")
	case errors.Is(err, store.ErrUnavailable):
		return failure(fault.StoreUnavailable, err.Error())
	case errors.Is(err, store.ErrEpochChanged):
		return failure(fault.StoreUnavailable, "the store's content was replaced; repeat the change in a moment")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return failure(fault.DeadlineExceeded, "the call took longer than its caller allowed")
	}
	log.ErrorContext(ctx, "admin call failed", "error", err.Error())
	return failure(fault.Internal, "the control plane failed; its log says more")
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return itoa(n) + " " + word + "s"
}

func problemsOf(list config.Problems) []*adminv1.Problem {
	var out []*adminv1.Problem
	for _, p := range list[:min(len(list), maxProblems)] {
		kind := ""
		if p.Kind != 0 {
			kind = p.Kind.String()
		}
		out = append(out, &adminv1.Problem{
			Kind: kind, Name: short(p.Name), Field: short(p.Field), Value: short(p.Value), Message: short(p.Message), Location: short(p.Location),
		})
	}
	if more := len(list) - len(out); more > 0 {
		out = append(out, &adminv1.Problem{Message: fmt.Sprintf("%d more are not named here", more)})
	}
	return out
}

func short(s string) string {
	if len(s) <= maxProblemText {
		return s
	}
	return strings.ToValidUTF8(s[:maxProblemText], "") + "..."
}

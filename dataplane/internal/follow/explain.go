package follow

import (
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 10 * time.Second
	// maxRefused is for nodes that are refused, which only an operator can change.
	maxRefused = 30 * time.Second
)

// advice is what an operator can do about a refusal.
func advice(code codes.Code) (string, bool) {
	switch code {
	case codes.PermissionDenied: // no join token changes it
		return "a revoked node is let in again by gatewayctl nodes readmit; otherwise give it the --node-id and --group of " +
			"its certificate", true
	case codes.Unauthenticated:
		return "set GATEWAY_JOIN_TOKEN or --join-token-file to the control plane's join token, or to one of gatewayctl " +
			"join-token create", true
	case codes.AlreadyExists:
		return "give each node a --node-id and a --data-dir of its own; a process that was killed loses its id within 15 seconds", true
	case codes.InvalidArgument, codes.Unimplemented:
		return "let the control plane and this node be of versions that go together", true
	}
	return "", false
}

// explain logs why a stream ended, once for each kind of reason until it works again, and tells whether the node was
// refused.
func (f *Follower) explain(address string, err error) (refused bool) {
	code, reason := status.Code(err), status.Convert(err).Message()
	switch {
	case errors.Is(err, errStale):
		code = codes.DataLoss
	case errors.Is(err, io.EOF):
		code, reason = codes.Unavailable, "the control plane ended the stream"
	}
	help, refused := advice(code)
	if last, known := f.outcomes[address]; known && last == code {
		return refused
	}
	f.outcomes[address] = code
	attrs := []any{"address", address, "node", f.set.NodeID, "revision", f.state.revision, "reason", reason}
	switch {
	case refused:
		f.log.Error("the control plane refuses this node; it goes on with what it has", append(attrs, "help", help)...)
	case errors.Is(err, errStale):
		f.log.Warn("asking the control plane for a full snapshot", attrs...)
	default:
		f.log.Warn("no control plane; the node goes on with what it has", attrs...)
	}
	return refused
}

// works notes that a stream is good.
func (f *Follower) works(address string) {
	if last, known := f.outcomes[address]; !known || last != codes.OK {
		f.outcomes[address] = codes.OK
		f.log.Info("following the control plane", "address", address, "revision", f.state.revision)
	}
}

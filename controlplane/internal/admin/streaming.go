package admin

import (
	"context"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"

	"gateway.internal/shared/fault"
)

// holdsInterval is how often it is looked at whether who has opened a stream may still do so.
const holdsInterval = time.Second

// streaming is unary for calls that are answered in parts, or go on. One ends when what its caller was let in by does
// not hold any more; reflection and health, which have nothing else of the API, too.
func (s *Server) streaming(
	srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	of := &streamOf{stream, ctx}
	done := make(chan error, 1)
	go func() { done <- s.serveStream(srv, of, info, handler) }()
	look := time.NewTicker(holdsInterval)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-look.C:
			if id := callerOf(ctx).identity; id != nil && !s.tokens.Holds(id) {
				// With this the stream ends, and so do the handler's calls of it, wherever they wait.
				return failure(fault.Unauthenticated, "the token or session that the call was made with has ended")
			}
		}
	}
}

// streamOf is a stream whose context ends with its interceptor.
type streamOf struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // as grpc.ServerStream has it
}

// Context implements grpc.ServerStream.
func (s *streamOf) Context() context.Context { return s.ctx }

func (s *Server) serveStream(
	srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s.log.ErrorContext(stream.Context(), "admin call panicked", "method", info.FullMethod, "panic", r,
				"stack", string(debug.Stack()))
			err = failure(fault.Internal, "the control plane failed; its log says more")
		}
	}()
	if !strings.HasPrefix(info.FullMethod, apiPackage) {
		return handler(srv, stream)
	}
	one := &grpc.UnaryServerInfo{FullMethod: info.FullMethod}
	_, err = s.unary(stream.Context(), nil, one, func(context.Context, any) (any, error) {
		return nil, handler(srv, stream)
	})
	return err
}

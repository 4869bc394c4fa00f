package admin

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"gateway.internal/controlplane/internal/store"
	api "gateway.internal/proto"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/fault"
)

// REST serves the API over HTTP. Close it after the last request.
type REST struct {
	http.Handler
	conn *grpc.ClientConn
	own  net.Listener
}

// Close ends the connection to the gRPC server.
func (r *REST) Close() error { return errors.Join(r.conn.Close(), r.own.Close()) }

// NewREST returns a handler that turns REST calls into calls of a gRPC server, in memory, so that what a call takes is
// asked in one place.
func (s *Server) NewREST(ctx context.Context, g *grpc.Server) (*REST, error) {
	ln := bufconn.Listen(1 << 20)
	go func() { _ = g.Serve(ln) }()
	conn, err := grpc.NewClient("passthrough:///admin", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxRequestBytes), grpc.MaxCallSendMsgSize(MaxRequestBytes)))
	if err != nil {
		return nil, fmt.Errorf("REST: %w", err)
	}
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newMarshaler()),
		runtime.WithForwardResponseRewriter(envelopeOf),
		runtime.WithForwardResponseOption(setHeaders),
		runtime.WithErrorHandler(func(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
			writeError(ctx, w, brokenOff(r, err))
		}),
		runtime.WithRoutingErrorHandler(func(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
			routingError(ctx, w, r, code)
		}),
		runtime.WithIncomingHeaderMatcher(func(name string) (string, bool) {
			switch name {
			case "If-Match", "If-None-Match", "Gateway-Author-Bin", "Gateway-Message-Bin":
				return strings.ToLower(name), true
			}
			return runtime.DefaultHeaderMatcher(name)
		}),
		runtime.WithMetadata(passCaller),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
	)
	handlers := []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		adminv1.RegisterConfigurationServiceHandler, adminv1.RegisterFleetServiceHandler,
		adminv1.RegisterHealthServiceHandler, adminv1.RegisterLimitServiceHandler, adminv1.RegisterAccessServiceHandler,
		adminv1.RegisterEnrolmentServiceHandler,
		adminv1.RegisterAuditServiceHandler,
	}
	for _, o := range offers() {
		handlers = append(handlers, o.rest)
	}
	for _, register := range handlers {
		if err := register(ctx, mux, conn); err != nil {
			return nil, fmt.Errorf("REST: %w", err)
		}
	}
	known, err := callsOf(api.OpenAPI)
	if err != nil {
		return nil, err
	}
	return &REST{Handler: s.around(known, mux), conn: conn, own: ln}, nil
}

// around does what every REST call needs, whatever becomes of it.
func (s *Server) around(known calls, next http.Handler) http.Handler {
	large := make(chan struct{}, largeBodies)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := caller{requestID: idOf(r.Header.Get("X-Request-Id")), browser: &browser{},
			address: s.proxies.client(hostOf(r.RemoteAddr), r.Header.Values("X-Forwarded-For"))}
		ctx := context.WithValue(r.Context(), callerKey{}, from)
		w.Header().Set("X-Request-Id", from.requestID)
		w.Header().Set("Cache-Control", "no-store")
		defer func() {
			if p := recover(); p == http.ErrAbortHandler {
				panic(p)
			} else if p != nil {
				s.log.ErrorContext(ctx, "admin call panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				writeError(ctx, w, failure(fault.Internal, "the control plane failed; its log says more"))
			}
		}()
		if err := versionOf(r); err != nil {
			writeError(ctx, w, err)
			return
		}
		switch allowed := known.allowed(r.URL.Path); {
		case len(allowed) > 0 && r.Method == http.MethodOptions:
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			w.WriteHeader(http.StatusNoContent)
			return
		case len(allowed) > 0 && !slices.Contains(allowed, r.Method):
			w.Header().Set("Allow", strings.Join(allowed, ", ")) // RFC 9110 section 15.5.6
			writeError(ctx, w, failure(fault.MethodNotAllowed, r.Method+" is not possible at "+r.URL.Path+"; there is "+strings.Join(allowed, ", ")))
			return
		case r.Method == http.MethodHead:
			w = headless{w}
		}
		if text := described()[r.URL.Path]; text != nil {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(text)
			return
		}
		if err := checkUTF8(r); err != nil {
			writeError(ctx, w, err)
			return
		}
		// Before the body, which may be large, is read for anybody.
		var err error
		from.identity, err = s.letIn(ctx, from, r)
		if err != nil {
			writeError(ctx, w, err)
			return
		}
		handle := rand.Text()
		s.restCalls.Store(handle, from)
		defer s.restCalls.Delete(handle)
		ctx = context.WithValue(withCaller(ctx, from), restCallKey{}, handle)
		if err := passTexts(r.Header); err != nil {
			writeError(ctx, w, err)
			return
		}
		r = r.WithContext(ctx)
		if r.Method == http.MethodHead {
			r.Method = http.MethodGet
		}
		if c, ok := known.find(r.Method, r.URL.Path); ok {
			if r.ContentLength < 0 || r.ContentLength > largeBody {
				select {
				case large <- struct{}{}:
					defer func() { <-large }()
				case <-ctx.Done():
					return
				}
			}
			if err := c.check(w, r); err != nil {
				writeError(ctx, w, err)
				return
			}
		}
		if r.URL.Path == exportPath {
			const call = adminv1.ConfigurationService_ExportConfiguration_FullMethodName
			if err := s.permit(from.identity, call); err != nil {
				s.refused(ctx, from, call, err)
				writeError(ctx, w, err)
				return
			}
			s.export(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// A body above largeBody bytes is one of largeBodies at a time, since reading it into messages takes several times its
// size.
const (
	largeBody   = 4 << 20
	largeBodies = 2
)

// check reads a request's query and body, and refuses what the call does not take.
func (c call) check(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodPut && c.query[allowMissing] && !r.URL.Query().Has(allowMissing) {
		r.URL.RawQuery = strings.TrimPrefix(r.URL.RawQuery+"&"+allowMissing+"=true", "&")
	}
	if err := c.checkQuery(r); err != nil {
		return err
	}
	// Read here, since a body that is too large has an answer of its own.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequestBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return failure(fault.RequestTooLarge, "the body is larger than "+itoa(MaxRequestBytes>>20)+" MiB")
	case err != nil:
		return failure(fault.InvalidArgument, "the body broke off")
	}
	if body, r.URL.RawQuery, err = c.checkBody(body, r.URL.RawQuery); err != nil {
		return err
	}
	r.Form = nil
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return nil
}

// allowMissing is the parameter of updates that makes them create what is not there; PUT has it by default.
const allowMissing = "allow_missing"

// described are the descriptions of the API by their paths. They are no secrets.
func described() map[string][]byte {
	return map[string][]byte{"/api/v1/openapi.json": api.OpenAPI, "/api/v1/openapi-3.0.json": api.OpenAPI30}
}

// headless drops what is written: the response to HEAD has no content.
type headless struct{ http.ResponseWriter }

// Write implements http.ResponseWriter.
func (h headless) Write(p []byte) (int, error) { return len(p), nil }

// Unwrap is for http.ResponseController.
func (h headless) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// Flush implements http.Flusher.
func (h headless) Flush() { _ = http.NewResponseController(h.ResponseWriter).Flush() }

// versionOf checks the version that a call asks for, in its path or a header.
func versionOf(r *http.Request) error {
	asked := ""
	if rest, ok := strings.CutPrefix(r.URL.Path, "/api/"); ok {
		asked, _, _ = strings.Cut(rest, "/")
	}
	for _, v := range []string{asked, r.Header.Get("X-Api-Version"), r.Header.Get("Accept-Version")} {
		if v != "" && v != "v1" && (v != "1" || v == asked) {
			return failure(fault.UnsupportedVersion, fmt.Sprintf("version %q of the API is not served; there is v1", v))
		}
	}
	return nil
}

func routingError(ctx context.Context, w http.ResponseWriter, r *http.Request, code int) {
	switch code {
	case http.StatusNotFound:
		writeError(ctx, w, failure(fault.NotFound, "there is nothing at "+r.URL.Path))
	case http.StatusMethodNotAllowed:
		writeError(ctx, w, failure(fault.MethodNotAllowed, r.Method+" is not possible at "+r.URL.Path))
	default:
		writeError(ctx, w, failure(fault.InvalidArgument, http.StatusText(code)))
	}
}

// Ready returns why the control plane can't do all of its work; "" when it can.
func (s *Server) Ready() string {
	switch err := s.catalog.StoreError(); {
	case errors.Is(err, store.ErrUnavailable):
		return err.Error()
	case err != nil:
		return "the store can't be read: " + err.Error()
	case s.catalog.Current() == nil:
		return "the configuration has not been loaded yet"
	}
	return ""
}

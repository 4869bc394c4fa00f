// Package fault names what can go wrong, once for both planes: every error that a client of the proxy or of the admin
// API sees carries one of these codes. It knows no transport; HTTP and gRPC statuses are tables here.
package fault

import (
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
)

// Code is an error code of the gateway. The set is closed and part of the public contract.
type Code string

// What the proxy answers.
const (
	// BadRequest is a request that is malformed or ambiguous.
	BadRequest Code = "BAD_REQUEST"
	// RouteNotFound is a request that no route matches.
	RouteNotFound Code = "ROUTE_NOT_FOUND"
	// InvalidRoute is a route that can't be followed, though the configuration was accepted.
	InvalidRoute Code = "INVALID_ROUTE"
	// ServiceNotFound is a route whose service is not there.
	ServiceNotFound Code = "SERVICE_NOT_FOUND"
	// NoHealthyEndpoints is a service without an endpoint that could be asked.
	NoHealthyEndpoints Code = "NO_HEALTHY_ENDPOINTS"
	// UpstreamUnavailable is an endpoint that could not be reached, or that broke off.
	UpstreamUnavailable Code = "UPSTREAM_UNAVAILABLE"
	// UpstreamTLS is an endpoint that TLS could not be agreed on with: its certificate is not valid for it, it refused
	// the node's, or it does not speak TLS.
	UpstreamTLS Code = "UPSTREAM_TLS"
	// UpstreamInvalid is a response that is malformed or ambiguous.
	UpstreamInvalid Code = "UPSTREAM_INVALID_RESPONSE"
	// UpstreamTimeout is an endpoint that took too long.
	UpstreamTimeout Code = "UPSTREAM_TIMEOUT"
	// UpstreamOverloaded is a service whose connection limit is reached.
	UpstreamOverloaded Code = "UPSTREAM_OVERLOADED"
	// CircuitOpen is a service whose circuit keeps requests from it.
	CircuitOpen Code = "CIRCUIT_OPEN"
	// Overloaded is a request that the node has turned away, since it has too much to do.
	Overloaded Code = "OVERLOADED"
	// Injected is an error that the configuration asks for.
	Injected Code = "FAULT_INJECTED"
	// RequestTooLarge is a body above the policy's limit.
	RequestTooLarge Code = "REQUEST_TOO_LARGE"
	// HeadersTooLarge is a head above the node's limits.
	HeadersTooLarge Code = "HEADERS_TOO_LARGE"
	// URITooLong is a request target above the node's limit.
	URITooLong Code = "URI_TOO_LONG"
	// RequestTimeout is a client that did not finish its request in time.
	RequestTimeout Code = "REQUEST_TIMEOUT"
	// PipelineTimeout is a pipeline that did not finish its request phase in time.
	PipelineTimeout Code = "PIPELINE_TIMEOUT"
	// ExpectationFailed is an Expect that is not 100-continue.
	ExpectationFailed Code = "EXPECTATION_FAILED"
	// VersionNotSupported is an HTTP version that is not spoken.
	VersionNotSupported Code = "HTTP_VERSION_NOT_SUPPORTED"
	// NotImplemented is something that HTTP allows and the gateway does not do.
	NotImplemented Code = "NOT_IMPLEMENTED"
	// LoopDetected is a request that would come back to where it is, or has passed the node too often already.
	LoopDetected Code = "LOOP_DETECTED"
	// Misdirected is a request for a host that asks for a client certificate, on a connection that did not prove it.
	Misdirected Code = "MISDIRECTED_REQUEST"
	// NotReady is a node without a configuration.
	NotReady Code = "NOT_READY"
	// Forbidden is a client that may not do this.
	Forbidden Code = "FORBIDDEN"
	// Unauthenticated is a client that did not show who it is.
	Unauthenticated Code = "UNAUTHENTICATED"
	// MissingAPIKey is a request without the API key that it needs.
	MissingAPIKey Code = "MISSING_API_KEY"
	// InvalidAPIKey is an API key that no consumer has.
	InvalidAPIKey Code = "INVALID_API_KEY" //nolint:gosec // no key
	// InactiveAPIKey is an API key that is switched off, or whose time is over.
	InactiveAPIKey Code = "INACTIVE_API_KEY" //nolint:gosec // no key
	// InvalidToken is a token that is malformed, not to be trusted, or whose time is over.
	InvalidToken Code = "INVALID_TOKEN"
	// RateLimited is a request above a limit of how many there may be in a time.
	RateLimited Code = "RATE_LIMIT_EXCEEDED"
	// Internal is a defect of the gateway.
	Internal Code = "INTERNAL_ERROR"
	// ClientClosed is a client that went away before its response was complete. It is counted, never sent.
	ClientClosed Code = "CLIENT_CLOSED_REQUEST"
)

// What the admin API answers, besides Unauthenticated, Forbidden and Internal.
const (
	// ValidationFailed is a configuration that breaks rules; the details list every problem.
	ValidationFailed Code = "VALIDATION_FAILED"
	// InvalidArgument is a request whose own parameters are wrong.
	InvalidArgument Code = "INVALID_ARGUMENT"
	// NotFound is a resource that is not there.
	NotFound Code = "NOT_FOUND"
	// AlreadyExists is a resource whose name is taken.
	AlreadyExists Code = "ALREADY_EXISTS"
	// VersionConflict is a change of a resource that somebody else changed meanwhile.
	VersionConflict Code = "VERSION_CONFLICT"
	// PreconditionFailed is an If-Match that does not hold.
	PreconditionFailed Code = "PRECONDITION_FAILED"
	// ResourceInUse is a delete of a resource that others refer to.
	ResourceInUse Code = "RESOURCE_IN_USE"
	// UnsupportedVersion is an API version that is not served.
	UnsupportedVersion Code = "UNSUPPORTED_VERSION"
	// MethodNotAllowed is an HTTP method that a path does not have.
	MethodNotAllowed Code = "METHOD_NOT_ALLOWED"
	// StoreUnavailable is a store that can't be reached; reads go on, writes don't.
	StoreUnavailable Code = "STORE_UNAVAILABLE"
	// OutcomeUnknown is a write whose store broke off at the commit.
	OutcomeUnknown Code = "OUTCOME_UNKNOWN"
	// DeadlineExceeded is a call that took longer than its caller allowed.
	DeadlineExceeded Code = "DEADLINE_EXCEEDED"
)

type status struct {
	http int
	grpc codes.Code
}

var statuses = map[Code]status{
	BadRequest:          {400, codes.InvalidArgument},
	RouteNotFound:       {404, codes.Unimplemented},
	InvalidRoute:        {500, codes.Internal},
	ServiceNotFound:     {503, codes.Unavailable},
	NoHealthyEndpoints:  {503, codes.Unavailable},
	UpstreamUnavailable: {502, codes.Unavailable},
	UpstreamTLS:         {502, codes.Unavailable},
	UpstreamInvalid:     {502, codes.Unavailable},
	UpstreamTimeout:     {504, codes.DeadlineExceeded},
	UpstreamOverloaded:  {503, codes.ResourceExhausted},
	CircuitOpen:         {503, codes.Unavailable},
	Overloaded:          {503, codes.Unavailable},
	Injected:            {503, codes.Unavailable},
	RequestTooLarge:     {413, codes.ResourceExhausted},
	HeadersTooLarge:     {431, codes.ResourceExhausted},
	URITooLong:          {414, codes.ResourceExhausted},
	RequestTimeout:      {408, codes.DeadlineExceeded},
	PipelineTimeout:     {504, codes.DeadlineExceeded},
	ExpectationFailed:   {417, codes.InvalidArgument},
	VersionNotSupported: {505, codes.InvalidArgument},
	NotImplemented:      {501, codes.Unimplemented},
	LoopDetected:        {508, codes.FailedPrecondition},
	Misdirected:         {421, codes.Unauthenticated},
	NotReady:            {503, codes.Unavailable},
	Forbidden:           {403, codes.PermissionDenied},
	Unauthenticated:     {401, codes.Unauthenticated},
	MissingAPIKey:       {401, codes.Unauthenticated},
	InvalidAPIKey:       {401, codes.Unauthenticated},
	InactiveAPIKey:      {401, codes.Unauthenticated},
	InvalidToken:        {401, codes.Unauthenticated},
	RateLimited:         {429, codes.ResourceExhausted},
	Internal:            {500, codes.Internal},
	ClientClosed:        {499, codes.Canceled},

	ValidationFailed:   {422, codes.InvalidArgument},
	InvalidArgument:    {400, codes.InvalidArgument},
	NotFound:           {404, codes.NotFound},
	AlreadyExists:      {409, codes.AlreadyExists},
	VersionConflict:    {409, codes.Aborted},
	PreconditionFailed: {412, codes.FailedPrecondition},
	ResourceInUse:      {409, codes.FailedPrecondition},
	UnsupportedVersion: {400, codes.InvalidArgument},
	MethodNotAllowed:   {405, codes.Unimplemented},
	StoreUnavailable:   {503, codes.Unavailable},
	OutcomeUnknown:     {503, codes.Unknown},
	DeadlineExceeded:   {504, codes.DeadlineExceeded},
}

// Codes returns all codes in order.
func Codes() []Code { return slices.Sorted(maps.Keys(statuses)) }

// HTTP returns the HTTP status of a code; 500 for one that is not of the set.
func (c Code) HTTP() int {
	if s, ok := statuses[c]; ok {
		return s.http
	}
	return 500
}

// GRPC returns the gRPC status of a code; Internal for one that is not of the set.
func (c Code) GRPC() codes.Code {
	if s, ok := statuses[c]; ok {
		return s.grpc
	}
	return codes.Internal
}

// Error is an error with its code. Reason is one sentence that may be shown to clients.
type Error struct {
	Code   Code
	Reason string
}

// Error implements error.
func (e *Error) Error() string { return e.Reason }

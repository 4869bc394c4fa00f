package codec

import (
	"strconv"
	"strings"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// MaxMethodLength is the longest method that is accepted, in bytes.
const MaxMethodLength = 32

// The refusals, made once so that an attack costs no allocation.
var (
	ErrMethod       = bad("the method is not a token")
	ErrMethodLength = &fault.Error{Code: fault.NotImplemented, Reason: "the method is longer than 32 characters"}
	ErrTarget       = bad("the request target has characters that it may not have")
	ErrNoHost       = bad("Host is missing")
	ErrHost         = bad("Host is not a host with an optional port")

	errTargetForm = bad("the request target is not an absolute path, an absolute http URI or *")
	errUserinfo   = bad("the request target carries user information")
	errTrace      = &fault.Error{Code: fault.NotImplemented, Reason: "TRACE is not supported"}
	errConnect    = &fault.Error{Code: fault.NotImplemented, Reason: "CONNECT is not supported in HTTP/1.0"}
	errAuthority  = bad("the target of CONNECT is not a host and a port from 1 to 65535")
)

func bad(reason string) *fault.Error { return &fault.Error{Code: fault.BadRequest, Reason: reason} }

// TargetTooLong refuses a target for its length.
func TargetTooLong(maxBytes int) *fault.Error {
	reason := "the request target is longer than " + strconv.Itoa(maxBytes) + " bytes"
	return &fault.Error{Code: fault.URITooLong, Reason: reason}
}

// A target may have any visible ASCII character but "#". RFC 3986 has some of them escaped, but the URL standard of the
// WHATWG, by which browsers go, lets them stand: { } ^ ` | \ in queries, ^ and | in paths; others send more of them.
// Queries are passed on as they are, since nothing here goes by what they mean. What may stand in paths is for package
// pathnorm to say.

// ReadTarget sets what a request's method and target say, for versions of HTTP that send them by themselves. Host is
// set, and checked, before where the version sends it apart.
func ReadTarget(req *exchange.Request, method, target string, maxBytes int) *fault.Error {
	switch {
	case len(target) > maxBytes:
		return TargetTooLong(maxBytes)
	case method == "" || !AllOf(method, CharToken):
		return ErrMethod
	case len(method) > MaxMethodLength:
		return ErrMethodLength
	case method == "CONNECT":
		req.Method = method
		return parseConnect(req.Host, req)
	case target == "" || !AllOf(target, CharTarget):
		return ErrTarget
	case target[0] != '/' && target != "*":
		return errTargetForm
	case req.Host == "":
		return ErrNoHost
	case !ValidHost(req.Host):
		return ErrHost
	}
	req.Method = method
	return ParseTarget(target, req)
}

// ParseTarget sets what a target says (RFC 9112 section 3.2). It is not empty, and has only CharTarget characters. The
// method is set before.
func ParseTarget(target string, req *exchange.Request) *fault.Error {
	switch req.Method {
	case "CONNECT":
		return parseConnect(target, req)
	case "TRACE":
		return errTrace // it would show the client what the gateway adds for services only
	}
	switch {
	case target[0] == '/':
	case len(target) == 1 && target[0] == '*':
		if req.Method != "OPTIONS" {
			return errTargetForm
		}
		req.Path = "*"
		return nil
	default:
		rest, err := parseAbsolute(target, req)
		if err != nil {
			return err
		}
		if len(rest) == 0 || rest[0] == '?' {
			req.Path = "/"
			if len(rest) > 0 {
				req.RawQuery, req.HasQuery = rest[1:], true
			} else if req.Method == "OPTIONS" {
				req.Path = "*"
			}
			return nil
		}
		target = rest
	}
	if q := strings.IndexByte(target, '?'); q >= 0 {
		req.RawQuery, req.HasQuery = target[q+1:], true
		target = target[:q]
	}
	req.Path = target
	return nil
}

// parseAbsolute reads "http://authority" off an absolute-form target and returns what follows.
func parseAbsolute(target string, req *exchange.Request) (string, *fault.Error) {
	i := strings.Index(target, "://")
	if i < 0 {
		return "", errTargetForm
	}
	if s := target[:i]; !exchange.EqualFold(s, "http") && !exchange.EqualFold(s, "https") {
		return "", errTargetForm
	}
	rest := target[i+3:]
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	if strings.IndexByte(rest[:end], '@') >= 0 {
		return "", errUserinfo
	}
	if !ValidHost(rest[:end]) {
		return "", ErrHost
	}
	req.Host = rest[:end]
	return rest[end:], nil
}

// parseConnect reads the target of a CONNECT: a host and a port and nothing else (RFC 9112 section 3.2.3, RFC 9113
// section 8.5). It has no path.
func parseConnect(target string, req *exchange.Request) *fault.Error {
	switch {
	case req.Version == exchange.HTTP10:
		return errConnect // it knows no such method
	case strings.IndexByte(target, '@') >= 0:
		return errUserinfo
	case !validAuthority(target):
		return errAuthority
	}
	req.Host, req.Upgrade, req.ContentLength = target, exchange.Connect, 0
	return nil
}

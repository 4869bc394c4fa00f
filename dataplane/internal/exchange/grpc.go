package exchange

import (
	"strconv"
	"time"

	"gateway.internal/shared/fault"
)

// RPC is which form of gRPC a request has. Its client then expects errors as a grpc-status.
type RPC uint8

// The forms; the zero value is no gRPC at all.
const (
	NoRPC RPC = iota
	// GRPC is gRPC over HTTP/2.
	GRPC
	// GRPCWeb is gRPC-Web: trailers are a part of the body.
	GRPCWeb
	// GRPCWebText is gRPC-Web in base64.
	GRPCWebText
)

const (
	grpcType    = "application/grpc"
	grpcWebType = "application/grpc-web"
)

// RPC returns the request's form of gRPC, by its method and media type.
func (r *Request) RPC() RPC {
	if r.Method != "POST" {
		return NoRPC
	}
	v, _ := r.Header.Known(ContentType)
	return rpcOf(v)
}

// RPC returns the response's form of gRPC, by its media type.
func (r *Response) RPC() RPC {
	v, _ := r.Header.Known(ContentType)
	return rpcOf(v)
}

func rpcOf(mediaType string) RPC {
	if len(mediaType) < len(grpcType) || !EqualFold(mediaType[:len(grpcType)], grpcType) {
		return NoRPC
	}
	switch rest := mediaType[len(grpcType):]; {
	case startsType(rest):
		return GRPC
	case len(rest) < 4 || !EqualFold(rest[:4], "-web"):
		return NoRPC
	case startsType(rest[4:]):
		return GRPCWeb
	case len(rest) >= 9 && EqualFold(rest[4:9], "-text") && startsType(rest[9:]):
		return GRPCWebText
	}
	return NoRPC
}

// startsType reports whether what follows a media type's name leaves it that type: nothing, a suffix such as "+proto",
// or parameters.
func startsType(rest string) bool {
	return rest == "" || rest[0] == '+' || rest[0] == ';' || rest[0] == ' '
}

// ContentType returns the media type of answers in this form.
func (r RPC) ContentType() string {
	switch r {
	case GRPC:
		return grpcType
	case GRPCWeb:
		return grpcWebType + "+proto"
	case GRPCWebText:
		return grpcWebType + "-text+proto"
	default:
		return ""
	}
}

// maxTimeoutDigits is how many digits a grpc-timeout may have (gRPC over HTTP2, "Timeout").
const maxTimeoutDigits = 8

// RPCTimeout returns how long a gRPC client waits; 0 where it did not say, or not in the form that gRPC wants.
func (r *Request) RPCTimeout() time.Duration {
	v := r.Header.Get("grpc-timeout")
	if len(v) < 2 || len(v) > maxTimeoutDigits+1 {
		return 0
	}
	n, err := strconv.ParseUint(v[:len(v)-1], 10, 32)
	if err != nil {
		return 0
	}
	unit := time.Duration(0)
	switch v[len(v)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	}
	if unit > time.Minute && n > 1<<20 {
		return 0 // more than a century: as good as never
	}
	return max(time.Duration(n)*unit, min(unit, time.Nanosecond))
}

// SetRPCTimeout makes the service see d as the time that its caller waits.
func (r *Request) SetRPCTimeout(d time.Duration) {
	d = max(d, 0)
	text := strconv.FormatInt(int64(d/time.Microsecond), 10) + "u"
	if d >= 99*time.Second {
		text = strconv.FormatInt(int64(d/time.Millisecond), 10) + "m"
	}
	if len(text) > maxTimeoutDigits+1 {
		text = strconv.FormatInt(int64(d/time.Minute), 10) + "M"
	}
	r.Header.Set("grpc-timeout", text)
}

// failRPC sets an error as a response of trailers only.
func (x *Exchange) failRPC(code fault.Code, message string) {
	x.Answer(200, x.RPC.ContentType(), nil)
	x.AddStatus(&x.Response.Header, code, message)
	x.Response.Code = code
}

// AddStatus adds an error's grpc-status and grpc-message, which begins with the gateway's code, to a header, or to
// trailers.
func (x *Exchange) AddStatus(h *Header, code fault.Code, message string) {
	h.Add("grpc-status", strconv.Itoa(int(code.GRPC())))
	h.Add("grpc-message", string(appendPercent(append([]byte(code), ": "...), message)))
}

// appendPercent appends a message as gRPC wants it: percent-encoded but for printable ASCII.
func appendPercent(b []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c >= 0x20 && c < 0x7f && c != '%' {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
